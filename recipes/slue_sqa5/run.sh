#!/usr/bin/env bash
# SLUE-SQA-5: spoken questions, spoken documents -> recogniser -> retriever -> measures. Results: README.md.
# Usage: ./run.sh --corpus DIR [--questions spoken|typed] [--stage N] [--stop-stage N] [--seed N] [--data DIR] [--exp DIR]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
#                 [--smoke true]
# The corpus is slue-sqa5 as unpacked. Questions are spoken in training, or typed; measures are of spoken ones. Paths are
# relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh      # the options and stages that recipes share
corpus=corpus questions=spoken        # README.md says from where
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
if $smoke; then smoke_run && corpus=data/smoke_corpus; fi
if ((seed)); then exp+=/seed$seed; fi
if [[ $questions != spoken ]]; then exp+=/${questions}_questions; fi

if $smoke && begin 0 "$corpus" "read a few sentences aloud, in the publisher's layout"; then
  run local/make_miniature.py local/smoke.tsv "$corpus"
  finish
fi

if begin 1 "$data" "find the documents and questions of each part"; then
  run local/prepare_data.py "$corpus" "$data"
  for split in train dev test; do run clsr data validate "$data/sets/$split"; done
  finish
fi

prepare_start "$data/sets"
train_recogniser "$data/asr"
train_joint "$data/sets" --data.questions "$questions"
train_baselines "$data/sets" "$data/asr" --data.questions "$questions"
measure test "$data/sets/test" dataset=slue_sqa5 split=test
write_report test
