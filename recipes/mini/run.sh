#!/usr/bin/env bash
# Mini: made-up statements -> speech -> recogniser -> retriever -> measures -> search. Results: README.md.
# Usage: ./run.sh [--stage N] [--stop-stage N] [--seed N] [--corpus DIR] [--data DIR] [--exp DIR] [--smoke true]
# Paths are relative to this folder. The seed is that of training; the report is left at DIR/report.json.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=6 seed=0 smoke=false
corpus=corpus data=data exp=exp    # all that this run writes
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
. ../../tools/training_stages.sh   # the stages that recipes share
voices=(en-us+f2 en-us+m3 en-gb-x-rp+f4) unseen_voice=en-us+m7
questions=3 size=() small=()
if $smoke; then corpus+=/smoke data+=/smoke exp+=/smoke questions=1 size=(--smoke) small=(conf/smoke.yaml); fi
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

train_recogniser 2 "$data"
train_joint 3 "$data"
train_parabge 3 "$data"

for split in test test_unseen noise; do
  if begin 4 "$exp/measures/$split" "measure on $split"; then
    how=(--set "$data/${split/noise/test}")
    if [[ $split == noise ]]; then how+=(--snr-db 10); fi
    run clsr evaluate --model "$exp/joint" "$exp/parabge" "${how[@]}" --output "$exp/measures/$split" \
      --tag dataset=mini split="${split/noise/test}" seed="$seed"
    finish
  fi
done

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

write_report 6 test test_unseen noise
