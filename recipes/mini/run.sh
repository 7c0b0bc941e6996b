#!/usr/bin/env bash
# Mini: made-up statements -> speech -> recogniser -> retriever -> measures -> search. Results: README.md.
# Usage: ./run.sh [--stage N] [--stop-stage N] [--seed N] [--corpus DIR] [--data DIR] [--exp DIR] [--smoke true]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
# Paths are relative to this folder. The seed is that of training; the report is left at DIR/report.json.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh   # the options and stages that recipes share
corpus=corpus
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
voices=(en-us+f2 en-us+m3 en-gb-x-rp+f4) unseen_voice=en-us+m7
questions=3 size=()
if $smoke; then smoke_run && corpus+=/smoke questions=1 size=(--smoke); fi
if $smoke && $post; then baselines="parabge speechdpr clap whisper"; fi
if ((seed)); then exp+=/seed$seed; fi

if begin 0 "$corpus" "write the corpus"; then
  run local/prepare_data.py "$corpus" "${size[@]}"
  finish
fi

if begin 1 "$data" "speak it: three voices, one never trained on, and a long recording"; then
  for split in train dev test; do
    run clsr data synthesize "$corpus/$split.jsonl" "$data/$split" --voices "${voices[@]}"
  done
  run clsr data synthesize "$corpus/test.jsonl" "$data/test_unseen" --voices "$unseen_voice"
  run clsr data synthesize "$corpus/long.jsonl" "$data/long.wav" --voices "${voices[@]}" --recording
  for split in train dev test test_unseen; do run clsr data validate "$data/$split"; done
  finish
fi

prepare_start "$data"
train_recogniser "$data"
train_joint "$data"
train_baselines "$data" "$data"

measure test "$data/test" dataset=mini split=test
measure test_unseen "$data/test_unseen" dataset=mini split=test_unseen
measure noise "$data/test" dataset=mini split=test -- --snr-db 10

if begin 5 "$exp/index" "index a long recording of statements never trained on"; then
  run clsr index --model "$exp/joint" --index "$exp/index" --windows 6/3 "$data/long.wav"
  finish
fi

if begin 5 "$exp/search" "search it"; then
  head -n "$questions" "$corpus/long.jsonl" | sed 's/.*"question": "\(.*\)", "context": "\([^"]*\)".*/\1\t\2/' |
    while IFS=$'\t' read -r question statement; do
      run clsr search --index "$exp/index" --top-k 3 "$question"
      log "  what was said: $statement" | tee -a "$exp/search/log.txt"
    done
  finish
fi

write_report test test_unseen noise
