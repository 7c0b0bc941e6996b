#!/usr/bin/env bash
# Closed SQuAD: real questions and sentences within a vocabulary that trains on two cores. Results: README.md.
# Usage: ./run.sh --corpus DIR [--extra-text "TSV ..."] [--stage N] [--stop-stage N] [--seed N] [--data DIR] [--exp DIR]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
#                 [--smoke true]
# The corpus is squad_sent.train.jsonl and squad_sent.dev.jsonl; extra text (tables with a column reference) is spoken for the
# recogniser too. Each seed trains its own recogniser. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh      # the options and stages that recipes share
corpus=corpus extra_text=''           # README.md says from where
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
voices=(en-us+f2 en-us+m3 en-gb-x-rp+f4 en-gb-x-rp+m1) unseen_voice=en-us+m7 size=()
if $smoke; then smoke_run && corpus=local/smoke extra_text=local/smoke/extra.tsv size=(--test 8 --dev 6 --times 2); fi
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

prepare_start "$data/pairs"
train_recogniser "$data/asr"
train_joint "$data/pairs"
train_baselines "$data/pairs" "$data/asr"
measure test "$data/pairs/test" dataset=squad_closed split=test
measure unseen "$data/pairs/unseen" dataset=squad_closed split=unseen
measure noise "$data/pairs/test" dataset=squad_closed split=test -- --snr-db 10
write_report test unseen noise
