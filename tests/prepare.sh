# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# Sourced by demo.sh and run.sh: makes a fresh Debian machine able to build and test, and builds into $BUILD.

# shellcheck source=SCRIPTDIR/descriptors.bash
. "$(dirname "${BASH_SOURCE[0]}")/descriptors.bash"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${STASIS_BUILD:-$ROOT/build}
TO_BUILD='meson ninja-build gcc libc6-dev pkg-config libxxhash-dev libjson-c-dev libcmocka-dev'
TO_TEST='bats binutils python3 gawk tmux less vim-tiny xz-utils util-linux diffutils procps stress-ng parallel'
# what slurm.bats runs, and its plugin is built with
TO_TEST+=' munge slurmctld slurmd slurm-client libslurm-dev slurm-wlm-basic-plugins-dev'
# what runtimes.bats runs
TO_TEST+=' perl bc default-jre-headless ecj r-base-core octave gfortran python3-numpy libopenblas0-pthread sqlite3 luajit sbcl nodejs golang-go'
# and workflows.bats and mpi.bats
TO_TEST+=' snakemake mpich libmpich-dev openmpi-bin libopenmpi-dev'

# Those of the packages that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

# install PACKAGE...: what is missing, by apt-get, with sudo where one is not root. Elsewhere than on Debian: says what
# is needed and hopes that it is there under another name; meson says so if not.
install() {
    local missing=() as_root=()
    if ! command -v dpkg-query >/dev/null; then
        echo "This is no Debian: please see to it that these are here: $*"
        return 0
    fi
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; }; then
        echo "Please install: ${missing[*]}" >&2
        return 1
    fi
    echo "Installing: ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}"
}

build() {
    if [ ! -f "$BUILD/build.ninja" ]; then
        meson setup "$BUILD" "$ROOT" || return 1
    fi
    meson compile -C "$BUILD"
}
