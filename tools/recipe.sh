# The stages of a recipe: begin, run, finish. To be sourced by a run.sh that has set stage and stop_stage.
# A stage is done when its output folder has a file .done; to redo it, delete that folder.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command -v clsr > /dev/null || PATH=$root/.venv/bin:$PATH
command -v clsr > /dev/null || { echo "$0: clsr is not installed: run 'make setup' in $root first" >&2; exit 2; }

log() { printf '%s\n' "$*"; }

# begin N OUTPUT TITLE: is stage N selected, and its output missing?
begin() {
  (($1 >= stage && $1 <= stop_stage)) || return 1
  stage_name="stage $1, $3" stage_output=$2
  if [[ -e $stage_output/.done ]]; then
    log "$stage_name: done before ($stage_output)"
    return 1
  fi
  mkdir -p "$stage_output" || exit
  log "$stage_name"
  SECONDS=0
}

# run COMMAND...: print it, run it, keep what it says in the log of the stage
run() {
  local word shown=+
  for word; do
    [[ $word =~ ^[[:alnum:]_./:=@%+,-]+$ ]] || word="'$word'"
    shown+=" $word"
  done
  log "$shown" | tee -a "$stage_output/log.txt"
  "$@" 2>&1 | tee -a "$stage_output/log.txt" || {
    local status=$?
    log "$stage_name: failed, see $(realpath "$stage_output")/log.txt; the same command resumes from here" >&2
    exit "$status"
  }
}

# finish: mark the stage as done
finish() {
  touch "$stage_output/.done"
  log "$stage_name: took $SECONDS s"
}
