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

# Reads the lists of packages, where there are none, or not within the last hour: a fresh machine has none, and each step
# of CI may install something.
apt_update() {
  local stamp=$root/target/ci-apt-update
  if [[ -n $(find "$stamp" -mmin -60 2>/dev/null) ]] && compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
    return
  fi
  if as_root apt-get update >&2; then
    mkdir -p "${stamp%/*}"
    touch "$stamp"
  else
    say 'apt-get update failed; going on with what is known'
  fi
}

# apt_install PACKAGE...
apt_install() {
  has apt-get || fail "this needs $*, named as on Debian, and there is no apt-get: install that, and run this again"
  apt_update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" >&2
}

# Programs that are built from crates are kept here, between checkouts too: a build of one takes a minute.
rust_tools=${CAUSEWAY_CI_TOOLS:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/causeway-ci}

# rust_tool CRATE VERSION [OPTION...]: makes sure that a program of a crate is on the path, in this version.
rust_tool() {
  local crate=$1 version=$2 place
  shift 2
  place=$rust_tools/$crate-$version
  if [[ ! -x $place/bin/$crate ]]; then
    say "building $crate $version"
    # In debug mode, because it runs for a second and builds for a minute.
    cargo install --quiet --locked --debug --root "$place" --target-dir "$place/build" "$@" "$crate@$version" >&2 \
      || fail "$crate $version could not be built"
    rm -rf "$place/build"
  fi
  PATH=$place/bin:$PATH
}
