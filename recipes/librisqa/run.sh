#!/usr/bin/env bash
# LibriSQA: questions about LibriSpeech -> recogniser -> retriever -> measures. Results: README.md.
# Usage: ./run.sh --corpus DIR [--stage N] [--stop-stage N] [--seed N] [--data DIR] [--exp DIR] [--smoke true]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
# The corpus is LibriSQA-PartI and LibriSpeech as unpacked. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh      # the options and stages that recipes share
corpus=corpus                         # README.md says from where
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
if $smoke; then smoke_run && corpus=data/smoke/corpus; fi
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

prepare_start "$data/sets"
train_recogniser "$data/sets"
train_joint "$data/sets"
train_baselines "$data/sets" "$data/sets"
measure test "$data/sets/test" dataset=librisqa split=test  # speakers never trained on
write_report test
