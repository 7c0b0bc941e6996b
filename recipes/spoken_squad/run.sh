#!/usr/bin/env bash
# Spoken SQuAD: spoken here, or as published -> recogniser -> retriever -> measures. Results: README.md.
# Usage: ./run.sh --corpus DIR [--pairs sentences|one-to-one|all] [--extra-text TSV] [--human DIR] [--stage N] [--stop-stage N]
#                 [--text-encoder REF] [--start REF] [--train-text true] [--post true] [--baselines "NAME ..."] [--released REF]
#                 [--seed N] [--data DIR] [--exp DIR] [--smoke true]
# sentences: the corpus is squad_sent.train.jsonl and squad_sent.dev.jsonl; extra text (table: utt_id, reference) is
# spoken for the recogniser too. one-to-one, all: it is the publisher's. Human speech (a Kaldi data directory) is only
# measured. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
. ../../tools/training_stages.sh      # the options and stages that recipes share
corpus=corpus pairs=sentences extra_text='' human=''  # README.md says from where
. ../../tools/parse_options.sh        # an unknown option stops here
. ../../tools/recipe.sh               # log, begin, run, finish
voices=(en-us+f2 en-us+m3 en-gb-x-rp+f4 en-gb-x-rp+m1) more=()
declare -A names=([sentences]=squad_sentences [one-to-one]=spoken_squad_filtered [all]=spoken_squad)  # of clsr tables
[[ -v names[$pairs] ]] || refuse "--pairs $pairs: sentences, one-to-one or all"
if $smoke; then smoke_run && corpus=local/smoke extra_text=local/smoke/extra.tsv; fi
if [[ $pairs != sentences ]]; then data+=/$pairs exp+=/$pairs from_nothing+=" published"; fi
if [[ $pairs == sentences ]]; then asr=$data/asr; else asr=$data/pairs; fi
if ((seed)); then exp+=/seed$seed; fi
texts=("$data/text/train.jsonl")
if [[ $extra_text ]]; then more=(--extra-text "$extra_text") texts+=("$data/text/extra.jsonl"); fi
if [[ $human ]]; then more+=(--exclude "$human"); fi

if [[ $pairs != sentences ]] && begin 0 "$data/pairs" "find the recording that answers each question"; then
  run local/prepare_published.py "$corpus" "$data/pairs" --pairs "$pairs"
  for split in train dev test; do run clsr data validate "$data/pairs/$split"; done
  finish
elif [[ $pairs == sentences ]] && begin 0 "$data/text" "split by title"; then
  run local/prepare_data.py "$corpus" "$data/text" "${more[@]}"
  finish
fi
if [[ $pairs == sentences ]] && begin 1 "$data/pairs" "speak the passages"; then
  for split in train dev test; do
    run clsr data synthesize "$data/text/$split.jsonl" "$data/pairs/$split" --voices "${voices[@]}"
    run clsr data validate "$data/pairs/$split"
  done
  finish
fi
if [[ $pairs == sentences ]] && begin 1 "$data/asr" "speak all text by two voices for the recogniser"; then
  cat "${texts[@]}" > "$data/asr/train.jsonl"
  run clsr data synthesize "$data/asr/train.jsonl" "$data/asr/train" --voices "${voices[@]}" \
    --voices-per-text 2 --passages-only
  run clsr data synthesize "$data/text/dev.jsonl" "$data/asr/dev" --voices "${voices[@]}" --passages-only
  finish
fi
prepare_start "$data/pairs"
train_recogniser "$asr"
train_joint "$data/pairs"
train_baselines "$data/pairs" "$asr"
measure test "$data/pairs/test" dataset="${names[$pairs]}" split=test  # articles never trained on
if [[ $human ]]; then measure human "$human" dataset="${names[$pairs]}" split=human; fi
write_report test
