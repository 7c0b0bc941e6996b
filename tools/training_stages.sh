# The stages that recipes share: training, and the report. To be sourced after recipe.sh by a run.sh that has set exp,
# seed and small (settings of a smoke run, else empty). N is the number of the stage in that recipe.

# train_recogniser N DATA [OPTION...]
train_recogniser() {
  begin "$1" "$exp/asr" "train the recogniser" || return 0
  run clsr train-asr conf/asr.yaml "${small[@]}" --data "$2" --output "$exp/asr" --seed "$seed" "${@:3}"
  finish
}

# train_joint N DATA [OPTION...]
train_joint() {
  begin "$1" "$exp/joint" "train recogniser and retrieval together" || return 0
  run clsr train-joint conf/joint.yaml "${small[@]}" --data "$2" --output "$exp/joint" --start "$exp/asr" --seed "$seed" \
    "${@:3}"
  finish
}

# train_recogniser_as_long N DATA [OPTION...]: the steps of joint training without its contrastive loss
train_recogniser_as_long() {
  begin "$1" "$exp/recogniser" "train the recogniser alone for as long: the compute-matched baseline" || return 0
  run clsr train-joint conf/joint.yaml "${small[@]}" --data "$2" --output "$exp/recogniser" --start "$exp/asr" \
    --seed "$seed" --loss.nll_weight 0 "${@:3}"
  finish
}

# train_parabge N DATA [OPTION...]
train_parabge() {
  begin "$1" "$exp/parabge" "train the baseline without a recogniser" || return 0
  run clsr train-parabge conf/parabge.yaml "${small[@]}" --data "$2" --output "$exp/parabge" --start "$exp/asr" \
    --seed "$seed" "${@:3}"
  finish
}

# write_report N SET...: of measures/SET; the first is the report of the recipe
write_report() {
  begin "$1" "$exp/report" "report" || return 0
  local measures=("${@:2}")
  measures=("${measures[@]/#/"$exp/measures/"}")
  run clsr report "${measures[@]}"
  run clsr plot learning "$exp"/{asr,joint}/logs/csv/metrics.csv --output "$exp/report/learning.png"
  run clsr plot recall "${measures[@]}" --output "$exp/report/recall.png"
  run cp "${measures[0]}"/report.{json,md} "$exp"
  finish
}
