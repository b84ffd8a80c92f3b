# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# What the house tests share: they stand in the root of the sources.

bats_require_minimum_version 1.5.0

setup() {
    ROOT=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
    BUILD=${STASIS_BUILD:-$ROOT/build}
    SHIM=$BUILD/preload/shim/libstasis.so
    cd "$ROOT" || exit 1
}

# nothing WHAT TEXT: TEXT is a list of culprits and must be empty.
nothing() {
    [ -z "$2" ] || { printf '%s:\n%s\n' "$1" "$2" >&2; return 1; }
}
