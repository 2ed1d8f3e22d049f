# What the scripts in this directory share. To be sourced; bash.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for those that source this
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Cargo may be installed but not on the path of a shell that is not a login shell.
if ! command -v cargo >/dev/null && [[ -n ${CARGO_HOME:-${HOME:-}} ]]; then
  PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
fi

say() {
  printf '%s\n' "$*" >&2
}

fail() {
  say "error: $*"
  exit 1
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# as_root COMMAND...
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif has sudo; then
    sudo "$@"
  else
    fail "this needs root, and there is no sudo: $*"
  fi
}

# apt_install PACKAGE...
apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" >&2
}
