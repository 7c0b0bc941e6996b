#!/usr/bin/env bash
# Figures: recall against word error rate, noise over passages and over spoken questions, and alignments.
# Results: ../../docs/results/reproduction.md.
# Usage: ./figures.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--corpus DIR] [--data DIR] [--exp DIR]
#                     [--smoke true]
# Run ./run.sh with each seed first. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=3 seeds="0 1 2" smoke=false
corpus=corpus data=data exp=exp    # as in run.sh; what is new is written to DIR/figures and DIR/test_spoken
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
voices=(en-us+f2 en-us+m3 en-gb-x-rp+f4)
small=() ages="150 300 600" ratios="20 10 5 0"  # passages at 10 dB: run.sh has measured them
short=(--optimizer.max_steps 60 --optimizer.warmup_steps 20 --trainer.validate_every 60)
if $smoke; then
  corpus+=/smoke data+=/smoke exp+=/smoke seeds=0 small=(conf/smoke.yaml) ages="2 4" ratios="10 0" short=()
fi
rows=(--rows text cascade cascade-8best clsr-soft)

if begin 1 "$data/test_spoken" "speak the questions of the test set too"; then
  run clsr data synthesize "$corpus/test.jsonl" "$data/test_spoken" --voices "${voices[@]}" --speak-questions
  finish
fi

for seed in $seeds; do
  from=$exp at=$exp/figures/seed$seed
  if ((seed)); then from=$exp/seed$seed; fi
  tags=(dataset=mini seed="$seed")

  for age in $ages; do
    if begin 2 "$at/age$age/asr" "a recogniser trained for $age steps, seed $seed"; then
      run clsr train-asr conf/asr.yaml "${small[@]}" --optimizer.max_steps "$age" --trainer.validate_every "$age" \
        --data "$data" --seed "$seed" --output "$at/age$age/asr"
      finish
    fi
    if begin 2 "$at/age$age/joint" "and a little together with retrieval, as the model that noise is added to"; then
      run clsr train-joint conf/joint.yaml conf/study.yaml "${small[@]}" "${short[@]}" --data "$data" --seed "$seed" \
        --start "$at/age$age/asr" --output "$at/age$age/joint"
      finish
    fi
    if begin 2 "$at/age$age/test" "measure it"; then
      run clsr evaluate --model "$at/age$age/joint" --set "$data/test" "${rows[@]}" --output "$at/age$age/test" \
        --tag "${tags[@]}" split=test step="$age"
      finish
    fi
  done

  for ratio in ${ratios/10/}; do
    if begin 3 "$at/passages$ratio" "noise over the passages, $ratio dB, seed $seed"; then
      run clsr evaluate --model "$from/joint" --set "$data/test" "${rows[@]}" --output "$at/passages$ratio" \
        --tag "${tags[@]}" split=test --snr-db "$ratio"
      finish
    fi
  done

  for ratio in clean $ratios; do
    if begin 3 "$at/questions$ratio" "noise over spoken questions, $ratio, seed $seed"; then
      how=(--question-snr-db "$ratio")
      if [[ $ratio == clean ]]; then how=(question_snr_db=clean); fi  # one more tag: the questions are spoken
      run clsr evaluate --model "$from/joint" --set "$data/test_spoken" "${rows[@]}" --output "$at/questions$ratio" \
        --tag "${tags[@]}" split=test_spoken "${how[@]}"
      finish
    fi
  done
done
