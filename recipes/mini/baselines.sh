#!/usr/bin/env bash
# Baselines: Whisper with a text encoder, fine-tuned on its transcripts or not, CLAP and SpeechDPR, each trained here from
# random weights (SpeechDPR: from the recogniser's encoder). What each is: ../../docs/guides/baselines.md.
# Usage: ./baselines.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--data DIR] [--exp DIR] [--smoke true]
# Run ./run.sh with each seed to its stage 2 first. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=5 seeds="0 1 2" smoke=false
data=data exp=exp                  # as in run.sh; the baselines are written to DIR/baselines
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
small=() few=() splits="test test_unseen noise"
if $smoke; then
  data+=/smoke exp+=/smoke seeds=0 splits=test small=(conf/smoke.yaml)
  few=(--optimizer.max_steps 2 --trainer.validate_every 2)
fi

for seed in $seeds; do
  at=$exp/baselines/seed$seed recogniser=$exp/asr
  if ((seed)); then recogniser=$exp/seed$seed/asr; fi

  if begin 1 "$at/whisper" "train Whisper, seed $seed"; then
    run clsr train-whisper conf/whisper.yaml "${small[@]}" --data "$data" --seed "$seed" --output "$at/whisper"
    finish
  fi

  if begin 2 "$at/clap" "train CLAP, seed $seed"; then
    run clsr train-clap conf/clap.yaml "${small[@]}" "${few[@]}" --data "$data" --seed "$seed" --output "$at/clap"
    finish
  fi

  for teacher in whisper recogniser; do
    model=$recogniser
    if [[ $teacher == whisper ]]; then model=$at/whisper; fi
    if begin 3 "$at/transcribed/$teacher" "let the $teacher write the training set down, seed $seed"; then
      for split in train dev; do
        run clsr data transcribed --model "$model" --set "$data/$split" --output "$at/transcribed/$teacher/$split"
      done
      finish
    fi
  done

  if begin 4 "$at/text" "fine-tune the text encoder on Whisper's transcripts, seed $seed"; then
    run clsr train-text conf/text.yaml "${small[@]}" "${few[@]}" --data "$at/transcribed/whisper" --seed "$seed" \
      --output "$at/text"
    finish
  fi
  if begin 4 "$at/speechdpr" "teach SpeechDPR from the recogniser's transcripts, seed $seed"; then
    run clsr train-speechdpr conf/speechdpr.yaml "${small[@]}" "${few[@]}" --data "$at/transcribed/recogniser" \
      --seed "$seed" --start "$recogniser" --output "$at/speechdpr"
    finish
  fi

  for split in $splits; do
    tags=(dataset=mini split="${split/noise/test}" seed="$seed") how=(--set "$data/${split/noise/test}")
    if [[ $split == noise ]]; then how+=(--snr-db 10); fi
    if begin 5 "$at/measures/$split" "measure them on $split, seed $seed"; then
      run clsr evaluate --model "$at"/{whisper,clap,speechdpr} --output "$at/measures/$split" "${how[@]}" \
        --tag "${tags[@]}"
      finish
    fi
    if begin 5 "$at/noisy/$split" "measure the fine-tuned text encoder on $split, seed $seed"; then
      run clsr evaluate --model "whisper-noisy:$at/whisper" --text-encoder "$at/text/text_encoder" \
        --output "$at/noisy/$split" "${how[@]}" --tag "${tags[@]}"
      finish
    fi
  done
done
