#!/usr/bin/env bash
# Open vocabulary on an accelerator: more speech, a larger recogniser, joint training and the baseline ParaBGE over seeds,
# all measured by seen and unseen voices and in noise of 10, 5 and 0 dB. Results: README.md.
# Usage: ./large.sh --corpus DIR [--extra-text "TSV ..."] [--human DIR] [--stage N] [--stop-stage N] [--seeds "0 1 2"]
#                   [--splits "test unseen noise10 noise5 noise0"] [--device cpu] [--data DIR] [--exp DIR] [--smoke true]
# Corpus, extra text and human speech as for ./run.sh. Training takes the accelerator that is there; the device is that of
# the measures. The recogniser is trained once, joint training with each seed. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=4 seeds="0 1 2" splits="test unseen noise10 noise5 noise0" device=cuda smoke=false
corpus=corpus extra_text='' human=''
data=data/large exp=exp/large         # all that this run writes
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
voices=(en-us+f2 en-us+m3 en-gb-x-rp+f4 en-gb-x-rp+m1) unseen_voice=en-us+m7 more=(--word-lists 6) small=()
if $smoke; then
  corpus=local/smoke extra_text=local/smoke/extra.tsv data+=/smoke exp+=/smoke seeds=0 splits="test noise5" device=cpu
  more=() small=(conf/smoke.yaml --trainer.precision 32-true --data.workers 0)
fi
# shellcheck disable=SC2206 # several tables
if [[ $extra_text ]]; then more+=(--extra-text $extra_text); fi
if [[ $human ]]; then more+=(--exclude "$human"); fi

if begin 0 "$data/text" "split by title, and make lists of words"; then
  run local/prepare_data.py "$corpus" "$data/text" "${more[@]}"
  finish
fi
if begin 1 "$data/pairs" "speak the passages: those to train on by two voices, those of the test also by an unseen one"; then
  # Every third text without a question is in joint training too, so that their words are not forgotten.
  for text in "$data"/text/{extra,lists}.jsonl; do
    if [[ -e $text ]]; then awk 'NR % 3 == 1' "$text"; fi
  done > "$data/pairs/others.jsonl"
  run clsr data synthesize "$data/text/train.jsonl" "$data/pairs/train" --voices "${voices[@]}" --voices-per-text 2 \
    --also "$data/pairs/others.jsonl"
  for split in dev test; do
    run clsr data synthesize "$data/text/$split.jsonl" "$data/pairs/$split" --voices "${voices[@]}"
  done
  run clsr data synthesize "$data/text/test.jsonl" "$data/pairs/unseen" --voices "$unseen_voice"
  finish
fi
if begin 1 "$data/asr" "speak all text by two voices for the recogniser"; then
  for text in "$data"/text/{train,extra,lists}.jsonl; do
    if [[ -e $text ]]; then cat "$text"; fi
  done > "$data/asr/train.jsonl"
  run clsr data synthesize "$data/asr/train.jsonl" "$data/asr/train" --voices "${voices[@]}" --voices-per-text 2 \
    --passages-only
  run clsr data synthesize "$data/text/dev.jsonl" "$data/asr/dev" --voices "${voices[@]}" --passages-only
  finish
fi
if begin 2 "$exp/asr" "train the recogniser"; then
  run clsr train-asr conf/asr.yaml conf/sizes.yaml conf/large.yaml "${small[@]}" --data "$data/asr" --output "$exp/asr"
  finish
fi

for seed in $seeds; do
  at=$exp/seed$seed
  if begin 3 "$at/joint" "train recogniser and retrieval together, seed $seed"; then
    run clsr train-joint conf/budget.yaml conf/joint.yaml conf/large_joint.yaml "${small[@]}" --data "$data/pairs" --output "$at/joint" \
      --start "$exp/asr" --seed "$seed"
    finish
  fi
  if begin 3 "$at/parabge" "train the baseline without a recogniser, seed $seed"; then
    run clsr train-parabge conf/budget.yaml ../../conf/parabge.yaml "${small[@]}" --data "$data/pairs" --output "$at/parabge" \
      --start "$exp/asr" --seed "$seed"
    finish
  fi
  for split in $splits; do
    if begin 4 "$at/measures/$split" "measure on $split, seed $seed"; then
      how=(--set "$data/pairs/${split/noise*/test}" --device "$device")
      if [[ $split == noise* ]]; then how+=(--snr-db "${split#noise}"); fi
      run clsr evaluate --model "$at"/{joint,parabge} "${how[@]}" --output "$at/measures/$split" \
        --tag dataset=squad_open split="${split/noise*/test}" seed="$seed"
      finish
    fi
  done
  if [[ $human ]] && begin 4 "$at/measures/human" "measure on people's speech, seed $seed"; then
    run clsr evaluate --model "$at/joint" --set "$human" --device "$device" --output "$at/measures/human" \
      --tag dataset=squad_open split=human seed="$seed"
    finish
  fi
done
