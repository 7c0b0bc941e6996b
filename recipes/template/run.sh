#!/usr/bin/env bash
# Your own recordings: a table -> retrieval sets -> fine-tuned recogniser -> retriever -> report. Results: README.md.
# Usage: ./run.sh --table FILE [--lora true] [--augment true] [--dev-share SHARE] [--test-share SHARE] [--stage N]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
#                 [--stop-stage N] [--seed N] [--data DIR] [--exp DIR] [--smoke true]
# The table is CSV, TSV or JSONL: id, audio, transcript and, if wanted, start_s, end_s, question, speaker. Without
# --start a recogniser is trained from nothing, which takes hours of speech. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh      # the options and stages that recipes share
table='' lora=false augment=false baselines=''
dev_share=0.1 test_share=0.1
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
from_nothing+=" scratch"
if $smoke; then smoke_run && table=data/smoke/recordings/table.csv dev_share=0.2 test_share=0.3; fi
if $lora; then extra+=(conf/lora.yaml) exp+=/lora; fi
if $augment; then extra+=(conf/augment.yaml) exp+=/augment; fi
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

prepare_start "$data/sets"
train_recogniser "$data/sets"
train_joint "$data/sets"
train_baselines "$data/sets" "$data/sets"

if [[ -e $start/meta.json ]] && begin 4 "$exp/before" "measure the model to start from"; then
  run clsr evaluate --model "$start" --set "$data/sets/test" --output "$exp/before" \
    --tag dataset=template split=test training=before
  finish
fi
measure test "$data/sets/test" dataset=template split=test training=after
if [[ -e $start/meta.json ]] && begin 6 "$exp/compared" "compare what came of it"; then
  run clsr report "$exp/before" "$exp/measures/test"
  finish
fi
write_report test
