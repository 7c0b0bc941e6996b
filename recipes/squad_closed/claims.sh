#!/usr/bin/env bash
# Claims: is joint training as published better than the recogniser alone, VQ than none, the sampler a help? And how much of the
# answer is ours: the rate, the temperature? On real text, at three word error rates. Results: ../../docs/results/reproduction.md.
# Usage: ./claims.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--only "NAME ..."] [--data DIR] [--exp DIR]
#                    [--smoke true]
# Run ./run.sh to its stage 2 first. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=3 seeds="0 1 2" only="" smoke=false
data=data exp=exp                  # as in run.sh; what is new is written to DIR/claims
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
small=()
if $smoke; then data+=/smoke exp+=/smoke seeds=0 small=(conf/smoke.yaml); fi

published="../../conf/paper.yaml conf/small_corpus.yaml"
declare -A settings=(
  [recogniser]="--loss.nll_weight 0 --loss.mae_weight 0.6 --model.adaptor.passage_projection false"
  [published-recogniser]="$published --loss.nll_weight 0 --loss.mae_weight 0.5"
  [paper]="../../conf/paper.yaml"
  [published]="$published"
  [published-0.05]="$published --loss.temperature 0.05"
  [no-vq]="$published --model.adaptor.codes soft"
  [no-sampler]="$published --model.sampler.ratio 0"
  [no-map]="--model.adaptor.passage_projection false"
)
order=(recogniser published-recogniser paper published published-0.05 no-vq no-sampler no-map)

for seed in $seeds; do
  for name in ${only:-"${order[@]}"}; do
    to=$exp/claims/$name/seed$seed
    if begin 1 "$to/model" "$name, seed $seed"; then
      # shellcheck disable=SC2086 # several options
      run clsr train-joint conf/budget.yaml conf/joint.yaml "${small[@]}" ${settings[$name]} --data "$data/pairs" \
        --output "$to/model" --start "$exp/asr" --seed "$seed"
      finish
    fi
    for split in test unseen noise; do
      if begin 2 "$to/measures/$split" "measure $name on $split, seed $seed"; then
        how=(--set "$data/pairs/${split/noise/test}")
        if [[ $split == noise ]]; then how+=(--snr-db 10); fi
        rows=(text cascade clsr clsr-soft)
        if [[ $name == no-vq ]]; then rows+=(clsr-unquantised); fi
        run clsr evaluate --model "$to/model" "${how[@]}" --output "$to/measures/$split" --rows "${rows[@]}" \
          --tag dataset=squad_closed training="$name" split="${split/noise/test}" seed="$seed"
        finish
      fi
    done
  done
done

if begin 3 "$exp/claims/table" "table"; then
  run ../../tools/study_table.py "$exp/claims" "${order[@]}" --against published-recogniser
  finish
fi
