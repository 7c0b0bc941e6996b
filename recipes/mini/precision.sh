#!/usr/bin/env bash
# Precision: what int8 and bfloat16 change in word errors and recall. Results: ../../docs/results/speed.md.
# Usage: ./precision.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--models DIR] [--data DIR] [--human DIR]
#                       [--exp DIR] [--smoke true]
# Run ./run.sh with each seed to its stage 3 first. --human is a data directory of people's speech, --models the folder of
# experiments to take the models of other seeds and corpora from. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=2 seeds="0 1 2" smoke=false human=""
data=data models=exp exp=exp       # as in run.sh; the measures are written to DIR/precision
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
kinds=(float32 int8 bf16) splits="test test_unseen noise"
if $smoke; then data+=/smoke models+=/smoke exp+=/smoke seeds=0 splits=test; fi

for seed in $seeds; do
  model=$models/joint
  if ((seed)); then model=$models/seed$seed/joint; fi
  for kind in "${kinds[@]}"; do
    at=$exp/precision/$kind/seed$seed/measures
    for split in $splits ${human:+human}; do
      if begin 1 "$at/$split" "$kind, seed $seed: measure on $split"; then
        how=(--set "$data/${split/noise/test}" --rows cascade clsr clsr-soft)
        if [[ $split == noise ]]; then how+=(--snr-db 10); fi
        if [[ $split == human ]]; then how=(--set "$human"); fi
        run clsr evaluate --model "$model" "${how[@]}" --precision "$kind" --output "$at/$split" \
          --tag dataset=mini split="${split/noise/test}" seed="$seed"
        finish
      fi
    done
  done
done

if begin 2 "$exp/precision/table" "table"; then
  run ../../tools/study_table.py "$exp/precision" "${kinds[@]}" --against float32
  finish
fi
