# Sets the variables of a run.sh from its options: `--stop-stage 3` sets stop_stage, which must have a default already.
# To be sourced after the defaults; reads "$@" of the script. A default of true or false accepts nothing else.

refuse() {
  printf '%s: %s\n' "$0" "$1" >&2
  exit 2
}

while (($#)); do
  if [[ $1 == --help ]]; then
    sed -n '2,/^[^#]/ s/^# \{0,1\}//p' "$(basename "$0")"
    exit 0
  fi
  [[ $1 =~ ^--[a-z][a-z0-9-]*$ ]] || refuse "$1: expected an option such as --stage 2; see --help"
  name=${1#--} name=${name//-/_}
  [[ -v $name && $name != name ]] || refuse "$1: no such option; see --help"
  (($# > 1)) || refuse "$1: needs a value"
  if [[ ${!name} =~ ^(true|false)$ && ! $2 =~ ^(true|false)$ ]]; then refuse "$1: true or false, not '$2'"; fi
  if [[ ${!name} =~ ^[0-9]+$ && ! $2 =~ ^(0|[1-9][0-9]*)$ ]]; then refuse "$1: a whole number, not '$2'"; fi
  printf -v "$name" '%s' "$2"
  shift 2
done
