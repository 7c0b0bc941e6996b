#!/usr/bin/env bash
# Your own recordings: a table -> retrieval sets -> fine-tuned recogniser -> retriever -> report. Results: README.md.
# Usage: ./run.sh --table FILE [--start CHECKPOINT] [--lora true] [--augment true] [--dev-share SHARE]
#                 [--test-share SHARE] [--stage N] [--stop-stage N] [--seed N] [--data DIR] [--exp DIR] [--smoke true]
# The table is CSV, TSV or JSONL: id, audio, transcript and, if wanted, start_s, end_s, question, speaker. Without
# --start a recogniser is trained from nothing, which takes hours of speech. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=5 seed=0 smoke=false
table='' start='' lora=false augment=false
dev_share=0.1 test_share=0.1
data=data exp=exp                     # all that this run writes
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
sizes=() more=() small=() from=()
if $smoke; then
  table=data/smoke/recordings/table.csv data+=/smoke exp+=/smoke small=(conf/smoke.yaml) dev_share=0.2 test_share=0.3
fi
if [[ $start ]]; then from=(--start "$start"); else sizes=(conf/scratch.yaml); fi
if $lora; then more+=(conf/lora.yaml) exp+=/lora; fi
if $augment; then more+=(conf/augment.yaml) exp+=/augment; fi
if ((seed)); then exp+=/seed$seed; fi

if $smoke && begin 0 "$data/recordings" "read a few sentences aloud: recordings and a table such as yours"; then
  run local/prepare_data.py local/smoke.jsonl "$data/recordings"
  finish
fi

if begin 1 "$data/sets" "make retrieval sets of the table"; then
  run clsr data make "$table" "$data/sets" --dev-share "$dev_share" --test-share "$test_share" --seed 0
  for split in train dev test; do run clsr data validate "$data/sets/$split"; done
  finish
fi

if [[ $start ]] && begin 2 "$exp/before" "measure the model to start from"; then
  run clsr evaluate --model "$start" --set "$data/sets/test" --output "$exp/before" \
    --tag dataset=template split=test training=before
  finish
fi

if begin 3 "$exp/asr" "train the recogniser"; then
  run clsr train-asr conf/asr.yaml "${sizes[@]}" "${more[@]}" "${small[@]}" --data "$data/sets" --output "$exp/asr" \
    "${from[@]}" --seed "$seed"
  finish
fi

if begin 3 "$exp/joint" "train recogniser and retrieval together"; then
  run clsr train-joint conf/joint.yaml "${more[@]}" "${small[@]}" --data "$data/sets" --output "$exp/joint" \
    --start "$exp/asr" --seed "$seed"
  finish
fi

if begin 4 "$exp/after" "measure what came of it"; then
  run clsr evaluate --model "$exp/joint" --set "$data/sets/test" --output "$exp/after" \
    --tag dataset=template split=test training=after seed="$seed"
  finish
fi

if begin 5 "$exp/report" "report"; then
  if [[ $start ]]; then run clsr report "$exp/before" "$exp/after"; fi
  run clsr plot learning "$exp"/{asr,joint}/logs/csv/metrics.csv --output "$exp/report/learning.png"
  run cp "$exp"/after/report.{json,md} "$exp"
  finish
fi
