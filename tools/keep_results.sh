#!/usr/bin/env bash
# Copy the reports of a recipe's experiments to where they are kept, at the same places below it: report.json and longform.json,
# not the rankings, transcripts and models beside them. Those of smoke runs stay.
# Usage: tools/keep_results.sh EXP RESULTS, as in: tools/keep_results.sh recipes/mini/exp recipes/mini/results

set -euo pipefail
if (($# != 2)) || [[ ! -d $1 ]]; then
  echo "$0: expected the folder of the experiments and that of the results" >&2
  exit 2
fi
exp=$1 results=$2
find "$exp" -path "$exp/smoke" -prune -o \( -name report.json -o -name longform.json \) -print |
  while read -r file; do
    if [[ $file == */report.json && ! -e ${file%/*}/rankings.jsonl ]]; then continue; fi  # a copy beside the models
    to=$results/${file#"$exp"/}
    mkdir -p "${to%/*}"
    cp "$file" "$to"
    echo "$to"
  done
