#!/usr/bin/env bash
# DRCD: Chinese questions and passages, both spoken -> text encoder -> recogniser -> retriever -> measures.
# Results: README.md.
# Usage: ./run.sh --corpus DIR [--human DIR] [--questions spoken|typed] [--stage N] [--stop-stage N] [--seed N] [--data DIR]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
#                 [--exp DIR] [--smoke true]
# The corpus is DRCD_training.json and DRCD_dev.json, or drcd.train.jsonl and drcd.dev.jsonl; odsqa_zh.jsonl, if it is there, is
# spoken and only measured. Without --text-encoder a small one is trained. Questions are spoken in training, or typed. Human
# speech (a retrieval set) is only measured. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh        # the options and stages that recipes share
corpus=corpus text_encoder='' human='' questions=spoken baselines=''  # README.md says from where
. ../../tools/parse_options.sh          # an unknown option stops here
. ../../tools/recipe.sh                 # log, begin, run, finish
voices=(cmn+f2 cmn+m3 cmn+f4 cmn+m1) speed=(200 260)  # words a minute, 4 to 5.5 characters a second
if $smoke; then smoke_run && corpus=local/smoke; fi
if ((seed)); then exp+=/seed$seed; fi
if [[ $questions != spoken ]]; then exp+=/${questions}_questions; fi
sets=(train dev test) tags=(dataset=drcd_dev) human_tags=(dataset=drcd)  # the paper's set is read by people
if [[ -f $corpus/odsqa_zh.jsonl ]]; then sets+=(odsqa); fi
if [[ -f $corpus/drcd.train.jsonl ]]; then
  tags=(dataset=drcd_selection question_snr_db=clean) human_tags=("${tags[@]}")  # not the paper's sets
fi

if begin 0 "$data/text" "find short passages, one to one, and split by title"; then
  run local/prepare_data.py "$corpus" "$data/text" --rest
  finish
fi
if begin 1 "$data/pairs" "speak passages and questions"; then
  for split in "${sets[@]}"; do
    run clsr data synthesize "$data/text/$split.jsonl" "$data/pairs/$split" --voices "${voices[@]}" \
      --rate-wpm "${speed[@]}" --speak-questions
    run clsr data validate "$data/pairs/$split"
  done
  finish
fi
if begin 1 "$data/asr" "speak these and the rest of the paragraphs for the recogniser"; then
  for split in train dev; do
    run clsr data synthesize "$data/text/asr.$split.jsonl" "$data/asr/$split" --voices "${voices[@]}" \
      --rate-wpm "${speed[@]}" --passages-only --seed 1
  done
  finish
fi
if [[ ! $text_encoder ]]; then
  if begin 1 "$exp/small_text" "make a small text encoder with random weights, which bounds everything"; then
    run local/make_text_encoder.py "$data/text/train.jsonl" "$data/text/asr.train.jsonl" --output "$exp/small_text/start"
    finish
  fi
  text_encoder=$exp/small_text/start train_text=true
fi

prepare_start "$data/pairs"
train_recogniser "$data/asr"
train_joint "$data/pairs" --data.questions "$questions"
train_baselines "$data/pairs" "$data/asr" --data.questions "$questions"
for split in "${sets[@]:2}"; do measure "$split" "$data/pairs/$split" "${tags[@]}" split="$split"; done
if [[ $human ]]; then measure human "$human" "${human_tags[@]}" split=human; fi
write_report test
