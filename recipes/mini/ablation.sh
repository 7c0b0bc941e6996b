#!/usr/bin/env bash
# Ablation: the eight rows of the paper's Table 3, then the choices of the adaptor (study.sh), over seeds. The same command
# resumes where it was stopped. Results: ../../docs/results/reproduction.md.
# Usage: ./ablation.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--data DIR] [--exp DIR] [--smoke true]
# Run ./run.sh with each seed to its stage 2 first. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=4 seeds="0 1 2" smoke=false
data=data exp=exp                  # as in run.sh; the ablation is written to DIR/ablation
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
small=() few=() study=(--seeds "$seeds" --data "$data" --exp "$exp")
if $smoke; then
  study=(--smoke true --only base) data+=/smoke exp+=/smoke seeds=0 small=(conf/smoke.yaml)
  few=(--optimizer.max_steps 2 --trainer.validate_every 2)
fi

for seed in $seeds; do
  at=$exp/ablation/seed$seed recogniser=$exp/asr
  if ((seed)); then recogniser=$exp/seed$seed/asr; fi
  common=(--data "$data" --seed "$seed")

  if begin 1 "$at/text" "pre-train the text encoder, seed $seed"; then
    run clsr train-text conf/budget.yaml ../../conf/text.yaml "${small[@]}" "${few[@]}" "${common[@]}" --output "$at/text"
    finish
  fi

  # row: pre-trained ASR, pre-trained text encoder, VQ, sampler, and the row that post-training starts from
  while read -r row asr text vq sampler from; do
    how=(train-joint conf/budget.yaml conf/joint.yaml ../../conf/paper.yaml conf/small_corpus.yaml)
    if [[ $asr == yes ]]; then start=(--start "$recogniser"); else how+=(conf/scratch.yaml) start=(); fi
    how+=("${small[@]}")
    if [[ $text == yes ]]; then how+=(--text_encoder "$at/text/text_encoder"); fi
    rows=(text cascade clsr clsr-soft)
    if [[ $vq == no ]]; then how+=(--model.adaptor.codes soft) rows+=(clsr-unquantised); fi
    if [[ $sampler == no ]]; then how+=(--model.sampler.ratio 0); fi
    if [[ $from != - ]]; then
      how=(train-post conf/budget.yaml ../../conf/post.yaml "${small[@]}" "${few[@]}") start=(--start "$at/row$from/model")
    fi
    if [[ $from != - && $text == yes ]]; then how+=(--text_encoder "$at/text/text_encoder"); fi
    post=yes
    if [[ $from == - ]]; then post=no; fi

    if begin 2 "$at/row$row/model" "row $row, seed $seed"; then
      run clsr "${how[@]}" "${common[@]}" "${start[@]}" --output "$at/row$row/model"
      finish
    fi
    if begin 3 "$at/row$row/test" "measure row $row, seed $seed"; then
      run clsr evaluate --model "$at/row$row/model" --set "$data/test" --output "$at/row$row/test" \
        --rows "${rows[@]}" --tag dataset=mini split=test seed="$seed" \
        pretrain_asr="$asr" pretrain_text="$text" vq="$vq" sampler="$sampler" post=$post
      finish
    fi
  done <<- END
	1 no  no  no  no  -
	2 no  no  yes no  -
	3 no  no  yes no  2
	4 no  yes yes no  -
	5 no  yes yes no  4
	6 yes yes yes no  -
	7 yes yes yes yes -
	8 yes yes yes yes 7
	END
done

if ((stage <= 4 && stop_stage >= 4)); then ./study.sh "${study[@]}"; fi
