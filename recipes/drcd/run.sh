#!/usr/bin/env bash
# DRCD: Chinese questions and passages, both spoken -> text encoder -> recogniser -> retriever -> measures.
# Results: README.md.
# Usage: ./run.sh --corpus DIR [--text-encoder REFERENCE] [--human DIR] [--stage N] [--stop-stage N] [--seed N]
#                 [--data DIR] [--exp DIR] [--smoke true]
# The corpus is DRCD_training.json and DRCD_dev.json, or drcd.train.jsonl and drcd.dev.jsonl; odsqa_zh.jsonl, if it is
# there, is spoken and only measured. Without --text-encoder a small one is trained. Human speech (a retrieval set) is
# only measured. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=6 seed=0 smoke=false
corpus=corpus text_encoder='' human=''  # README.md says from where
data=data exp=exp                       # all that this run writes
. ../../tools/parse_options.sh          # an unknown option stops here
. ../../tools/recipe.sh                 # log, begin, run, finish
. ../../tools/training_stages.sh        # the stages that recipes share
voices=(cmn+f2 cmn+m3 cmn+f4 cmn+m1) speed=(200 260)  # words a minute, 4 to 5.5 characters a second
small=()
if $smoke; then corpus=local/smoke data+=/smoke exp+=/smoke small=(conf/smoke.yaml); fi
if ((seed)); then exp+=/seed$seed; fi
sets=(train dev test) tags=(dataset=drcd)
if [[ -f $corpus/odsqa_zh.jsonl ]]; then sets+=(odsqa); fi
if [[ -f $corpus/drcd.train.jsonl ]]; then tags=(dataset=drcd_selection question_snr_db=clean); fi  # not the paper's sets

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
if [[ -z $text_encoder ]] && begin 2 "$exp/text" "train a small text encoder, which bounds everything"; then
  run local/make_text_encoder.py "$data/text/train.jsonl" "$data/text/asr.train.jsonl" --output "$exp/text/start"
  run clsr train-text conf/text.yaml "${small[@]}" --data "$data/pairs" --output "$exp/text" --seed "$seed" \
    --text_encoder "$exp/text/start"
  finish
fi
text_encoder=${text_encoder:-$(realpath -m "$exp/text/text_encoder")}  # models name it by its path
train_recogniser 3 "$data/asr" --text_encoder "$text_encoder"
train_joint 4 "$data/pairs"
for split in "${sets[@]:2}"; do
  if begin 5 "$exp/measures/$split" "measure on articles never trained on"; then
    run clsr evaluate --model "$exp/joint" --set "$data/pairs/$split" --output "$exp/measures/$split" \
      --tag "${tags[@]}" split="$split" seed="$seed"
    finish
  fi
done
if [[ $human ]] && begin 5 "$exp/measures/human" "measure on people's speech"; then
  run clsr evaluate --model "$exp/joint" --set "$human" --output "$exp/measures/human" \
    --tag "${tags[@]}" split=human seed="$seed"
  finish
fi
write_report 6 test
