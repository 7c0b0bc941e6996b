#!/usr/bin/env bash
# Closed SQuAD: real questions and sentences within a vocabulary that trains on two cores. Results: README.md.
# Usage: ./run.sh --corpus DIR [--extra-text "TSV ..."] [--stage N] [--stop-stage N] [--seed N]
#                 [--data DIR] [--exp DIR] [--smoke true]
# The corpus is squad_sent.train.jsonl and squad_sent.dev.jsonl; extra text (tables with a column reference) is spoken
# for the recogniser too. Each seed trains its own recogniser. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=4 seed=0 smoke=false
corpus=corpus extra_text=''           # README.md says from where
data=data exp=exp                     # all that this run writes
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
. ../../tools/training_stages.sh      # the stages that recipes share
voices=(en-us+f2 en-us+m3 en-gb-x-rp+f4 en-gb-x-rp+m1) unseen_voice=en-us+m7
small=() size=()
if $smoke; then
  corpus=local/smoke extra_text=local/smoke/extra.tsv data+=/smoke exp+=/smoke
  small=(conf/smoke.yaml) size=(--test 8 --dev 6 --times 2)
fi
if ((seed)); then exp+=/seed$seed; fi
# shellcheck disable=SC2206 # several tables
if [[ $extra_text ]]; then size+=(--extra-text $extra_text); fi

if begin 0 "$data/text" "choose the vocabulary"; then
  run local/prepare_data.py "$corpus" "$data/text" "${size[@]}"
  finish
fi

if begin 1 "$data/asr" "speak texts for the recogniser"; then
  run clsr data synthesize "$data/text/asr.jsonl" "$data/asr/train" --voices "${voices[@]}" --passages-only
  run clsr data synthesize "$data/text/dev.jsonl" "$data/asr/dev" --voices "${voices[@]}" --passages-only
  finish
fi

if begin 1 "$data/pairs" "speak the passages, those of the test also by a voice never trained on"; then
  for split in train dev test; do
    run clsr data synthesize "$data/text/$split.jsonl" "$data/pairs/$split" --voices "${voices[@]}" --seed 1
    run clsr data validate "$data/pairs/$split"
  done
  run clsr data synthesize "$data/text/test.jsonl" "$data/pairs/unseen" --voices "$unseen_voice"
  finish
fi

train_recogniser 2 "$data/asr"
train_joint 3 "$data/pairs"
train_parabge 3 "$data/pairs"

for split in test unseen noise; do
  if begin 4 "$exp/measures/$split" "measure on $split"; then
    how=(--set "$data/pairs/${split/noise/test}")
    if [[ $split == noise ]]; then how+=(--snr-db 10); fi
    run clsr evaluate --model "$exp/joint" "$exp/parabge" "${how[@]}" --output "$exp/measures/$split" \
      --tag dataset=squad_closed split="${split/noise/test}" seed="$seed"
    if [[ $split == test ]]; then run cp "$exp"/measures/test/report.{json,md} "$exp"; fi
    finish
  fi
done
