#!/usr/bin/env bash
# The models of run.sh where it is harder: an unseen voice, noise of 10 dB in passages, questions in
# writing; models trained on these; and models trained on without the contrastive loss. Results: README.md.
# Usage: ./conditions.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--sets "test odsqa"] [--data DIR] [--exp DIR]
#                        [--smoke true]
# Run ./run.sh with each seed first. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=3 seeds="0 1 2" sets="test odsqa" smoke=false
data=data exp=exp                  # as in run.sh
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
voices=(cmn+f2 cmn+m3 cmn+f4 cmn+m1) unseen_voice=cmn+m7 speed=(200 260) small=()
if $smoke; then data+=/smoke exp+=/smoke seeds=0 small=(conf/smoke.yaml); fi

for set in $sets; do
  if begin 1 "$data/unseen/$set" "speak $set by a voice never trained on"; then
    run clsr data synthesize "$data/text/$set.jsonl" "$data/unseen/$set" --voices "$unseen_voice" --rate-wpm "${speed[@]}" \
      --speak-questions
    finish
  fi
done
for set in train dev $sets; do
  if begin 1 "$data/typed/$set" "speak $set but for its questions"; then
    run clsr data synthesize "$data/text/$set.jsonl" "$data/typed/$set" --voices "${voices[@]}" --rate-wpm "${speed[@]}"
    finish
  fi
done

for seed in $seeds; do
  from=$exp
  if ((seed)); then from+=/seed$seed; fi
  if begin 2 "$from/typed" "joint training with typed questions, seed $seed"; then
    run clsr train-joint conf/budget.yaml conf/joint.yaml "${small[@]}" --model.adaptor.passage_projection true --data "$data/typed" \
      --output "$from/typed" --start "$from/asr" --seed "$seed"
    finish
  fi
  if begin 2 "$from/recogniser" "as much training without the contrastive loss, seed $seed"; then
    run clsr train-joint conf/budget.yaml conf/joint.yaml "${small[@]}" --data.questions spoken --loss.nll_weight 0 --loss.mae_weight 0.6 --data "$data/pairs" \
      --output "$from/recogniser" --start "$from/asr" --seed "$seed"
    finish
  fi
  for set in $sets; do
    for name in unseen noise typed trained recogniser; do
      if begin 3 "$from/conditions/$set-$name" "measure on $set, $name, seed $seed"; then
        model=$from/joint
        case $name in
          unseen) how=(--set "$data/unseen/$set") tags=(split="${set}_unseen" question_snr_db=clean) ;;
          noise) how=(--set "$data/pairs/$set" --snr-db 10) tags=(split="$set" question_snr_db=clean) ;;
          typed) how=(--set "$data/typed/$set") tags=(split="${set}_typed") ;;
          trained) how=(--set "$data/typed/$set") tags=(split="${set}_typed" training=typed) model=$from/typed ;;
          recogniser) how=(--set "$data/pairs/$set") tags=(split="$set" question_snr_db=clean training=recogniser)
                      model=$from/recogniser ;;
        esac
        run clsr evaluate --model "$model" "${how[@]}" --output "$from/conditions/$set-$name" \
          --tag dataset=drcd_selection "${tags[@]}" seed="$seed"
        finish
      fi
    done
  done
done
