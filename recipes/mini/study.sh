#!/usr/bin/env bash
# Study: one setting of training changed at a time, three seeds, two development sets. Results: ../../docs/results/ablations.md.
# Usage: ./study.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--only "NAME ..."|grid] [--data DIR] [--exp DIR]
#                   [--smoke true]
# grid: the paper's joint training at five temperatures and three weights of the contrastive loss, and without that loss.
# Run ./run.sh with each seed to its stage 2 first. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=3 seeds="0 1 2" only="" smoke=false
data=data exp=exp                  # as in run.sh; the study is written to DIR/study of both
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
size=(--seed 7 --statements 1) small=()
if $smoke; then data+=/smoke exp+=/smoke seeds=0 size=(--seed 7 --smoke) small=(conf/smoke.yaml); fi

# Cross entropy : contrastive loss is 1 : 0.5 in conf/joint.yaml; the quantity loss stays at about nine tenths.
published="../../conf/paper.yaml conf/small_corpus.yaml"
declare -A change=(
  [base]=""
  [no-nll]="--loss.nll_weight 0 --loss.mae_weight 0.9"
  [nll-0.15]="--loss.nll_weight 0.0147 --loss.mae_weight 0.887"
  [nll-2]="--loss.nll_weight 0.144 --loss.mae_weight 0.784"
  [ramp]="--loss.nll_ramp_steps 150"
  [soft]="--model.adaptor.codes soft"
  [straight-through]="--model.adaptor.codes straight_through"
  [straight-through-0.1]="--model.adaptor.codes straight_through --model.adaptor.gamma 0.1"
  [probabilities-0.1]="--model.adaptor.input probabilities --model.adaptor.gamma 0.1"
  [gamma-1]="--model.adaptor.gamma 1"
  [batch]="--loss.negatives batch"
  [map]=""
  [map-hard]="--model.adaptor.codes hard"
  [paper]="../../conf/paper.yaml"
  [published]="$published"
  [published-no-vq]="$published --model.adaptor.codes soft"
  [published-no-sampler]="$published --model.sampler.ratio 0"
)
# What more training of the recogniser alone gives, by cross entropy and by expected word errors.
declare -A more=(
  [asr-ce]="--loss.mwer_weight 0"
  [asr-mwer-mask]="--loss.mwer_weight 1 --loss.mwer_draw mask"
  [asr-mwer-sample]="--loss.mwer_weight 1 --loss.mwer_draw sample"
)
# The paper's training, twice as long: cross entropy and quantity loss share what the contrastive loss leaves.
longer="--optimizer.max_steps 600" grid=(published-recogniser)
if $smoke; then longer=''; fi
change[published-recogniser]="$published $longer --loss.nll_weight 0 --loss.mae_weight 0.5"
for temperature in 1 0.5 0.2 0.1 0.05; do
  for weights in 0.333/0.333 0.1/0.45 0.03/0.485; do
    name=temperature-$temperature-nll-${weights%/*}
    grid+=("$name")
    change[$name]="$published $longer --loss.temperature $temperature --loss.nll_weight ${weights%/*} --loss.mae_weight ${weights#*/}"
  done
done
if [[ $only == grid ]]; then only=${grid[*]}; fi
order=(base no-nll soft straight-through straight-through-0.1 probabilities-0.1 gamma-1 nll-0.15 nll-2 ramp batch
  map map-hard paper published published-no-vq published-no-sampler asr-ce asr-mwer-mask asr-mwer-sample)

if begin 0 "$data/study" "make and speak two development sets: an unseen voice, and noise at 10 dB"; then
  run local/prepare_data.py "$data/study/corpus" "${size[@]}"
  pairs=$data/study/corpus/test.jsonl
  run clsr data synthesize "$pairs" "$data/study/unseen" --voices en-us+f3
  run clsr data synthesize "$pairs" "$data/study/noise" --voices en-us+f2 en-us+m3 en-gb-x-rp+f4 --noise-snr-db 10
  finish
fi

for seed in $seeds; do
  from=$exp
  if ((seed)); then from+=/seed$seed; fi
  for name in ${only:-"${order[@]}"}; do
    to=$exp/study/$name/seed$seed
    if begin 1 "$to/model" "$name, seed $seed"; then
      # shellcheck disable=SC2206 # several options each
      if [[ -v more[$name] ]]; then
        how=(train-asr conf/asr.yaml conf/more.yaml "${small[@]}" ${more[$name]})
      else
        how=(train-joint conf/joint.yaml conf/study.yaml "${small[@]}" ${change[$name]})
        if [[ $name != map* ]]; then how+=(--model.adaptor.passage_projection false); fi
      fi
      run clsr "${how[@]}" --data "$data" --output "$to/model" --start "$from/asr" --seed "$seed"
      finish
    fi
    for split in unseen noise; do
      if begin 2 "$to/measures/$split" "measure on $split"; then
        rows=(text cascade clsr clsr-soft)
        if [[ ${change[$name]-} == *"codes soft"* ]]; then rows+=(clsr-unquantised); fi
        run clsr evaluate --model "$to/model" --set "$data/study/$split" --output "$to/measures/$split" \
          --rows "${rows[@]}"
        finish
      fi
    done
  done
done

if begin 3 "$exp/study/table" "table"; then
  run ../../tools/study_table.py "$exp/study" "${order[@]}" "${grid[@]}"
  finish
fi
