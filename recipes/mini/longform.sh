#!/usr/bin/env bash
# Long recordings: the statements of the test set inside recordings of half an hour and more, and how well the windows that
# answer a question are found. Measures and formats: ../../docs/guides/long-form.md.
# Usage: ./longform.sh [--stage N] [--stop-stage N] [--seeds "0 1 2"] [--data DIR] [--exp DIR] [--smoke true]
# Run ./run.sh with each seed to its stage 3 first. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=3 seeds="0 1 2" smoke=false
data=data exp=exp                  # as in run.sh; what is new is written to DIR/test_long and DIR/longform
. ../../tools/parse_options.sh     # an unknown option stops here
. ../../tools/recipe.sh            # log, begin, run, finish
minutes=30
if $smoke; then data+=/smoke exp+=/smoke seeds=0 minutes=0.25; fi

if begin 1 "$data/test_long" "place the test set's statements inside recordings of $minutes minutes"; then
  run clsr data lengthen --set "$data/test" --output "$data/test_long" --minutes "$minutes"
  finish
fi

for seed in $seeds; do
  from=$exp
  if ((seed)); then from=$exp/seed$seed; fi
  if begin 2 "$exp/longform/seed$seed" "find what answers the questions, seed $seed"; then
    # Statements take 4 to 5 s: a window holds one, and half of the next.
    run clsr longform --model "$from/joint" --set "$data/test_long" --output "$exp/longform/seed$seed" \
      --window-s 8 --hop-s 4 --tag dataset=mini split=test seed="$seed"
    finish
  fi
done

if begin 3 "$exp/longform/table" "table"; then
  run clsr tables "$exp"/longform --only 5
  finish
fi
