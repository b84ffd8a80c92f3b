#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# All tests: installs what is needed (apt-get), builds into build/, runs the unit tests and the bats files, and ends with
# the line "tests: N passed, N failed, N skipped". Root runs them as an ordinary user and then, those that matter, as root.
#
#   tests/run.sh [BATS FILE OR DIRECTORY...]     all of them when none is given
#
# With CI set a skipped test is a failure unless its reason begins with "needs:".

set -uo pipefail
# shellcheck source=SCRIPTDIR/prepare.sh
. "$(dirname "$0")/prepare.sh"

AS_ROOT_TOO=(walls hog locks)       # what differs between root and others
AS_ROOT_SET=(failure first_light)   # and of these, the named set; all of them: STASIS_TEST_AS=root tests/run.sh tests/first_light.bats
PATIENCE=1500 # seconds for all bats files of one user: a test that hangs is a failure, not a wait
PASSED=0
FAILED=0
SKIPPED=0
LOG=$(mktemp "${TMPDIR:-/tmp}/stasis-tests.XXXXXX")
trap 'rm -f "$LOG"' EXIT

headline() {
    printf '\n# %s\n' "$*"
}

# Counts what meson says at its end: "Ok: 5", "Fail: 1" and so on.
count_meson() {
    local ok bad skipped
    ok=$(awk -F: '/^ *(Ok|Expected Fail)[ :]/ { sum += $2 } END { print sum + 0 }' "$LOG")
    bad=$(awk -F: '/^ *(Fail|Unexpected Pass|Timeout)[ :]/ { sum += $2 } END { print sum + 0 }' "$LOG")
    skipped=$(awk -F: '/^ *Skipped[ :]/ { sum += $2 } END { print sum + 0 }' "$LOG")
    PASSED=$((PASSED + ok))
    FAILED=$((FAILED + bad))
    SKIPPED=$((SKIPPED + skipped))
    echo $((bad))
}

unit_tests() {
    local status=0 bad
    headline "unit tests"
    meson test -C "$BUILD" --no-rebuild --print-errorlogs 2>&1 | tee "$LOG" || status=$?
    count_meson >"$LOG.bad"
    bad=$(cat "$LOG.bad")
    rm -f "$LOG.bad"
    if [ "$status" != 0 ] && [ "$bad" = 0 ]; then FAILED=$((FAILED + 1)); fi
}

# Counts lines of TAP. A test that was planned and never told is a failure.
count_tap() {
    local planned ok bad skipped forbidden=0
    planned=$(awk -F'[.]+' '/^1\.\.[0-9]+$/ { sum += $2 } END { print sum + 0 }' "$LOG")
    skipped=$(grep -cE '^ok .* # skip' "$LOG")
    ok=$(($(grep -c '^ok ' "$LOG") - skipped))
    bad=$(grep -c '^not ok ' "$LOG")
    if [ -n "${CI:-}" ]; then forbidden=$(grep -E '^ok .* # skip' "$LOG" | grep -cv '# skip needs: '); fi
    if [ $((ok + bad + skipped)) -lt "$planned" ]; then bad=$((bad + planned - ok - bad - skipped)); fi
    if [ "$planned" = 0 ]; then bad=$((bad + 1)); fi
    PASSED=$((PASSED + ok))
    FAILED=$((FAILED + bad + forbidden))
    SKIPPED=$((SKIPPED + skipped - forbidden))
}

# What is before `bats`: a command that makes a place for it.
PLACE=()

# bats_files AS [OPTION...] FILE...
bats_files() {
    local as=$1 jobs=()
    shift
    headline "as $as: ${*#"$ROOT"/}"
    if command -v parallel >/dev/null && parallel --version 2>/dev/null | grep -q '^GNU'; then jobs=(--jobs 4); fi
    STASIS_BUILD=$BUILD STASIS_TEST_AS=$as timeout -k 10 "$PATIENCE" "${PLACE[@]}" bats --formatter tap -T --print-output-on-failure "${jobs[@]}" "$@" 2>&1 | tee "$LOG"
    count_tap
}

# shellcheck disable=SC2086
install $TO_BUILD $TO_TEST || exit 1
build || { echo "tests: 0 passed, 1 failed, 0 skipped"; exit 1; }

if [ $# -gt 0 ]; then
    bats_files "${STASIS_TEST_AS:-user}" "$@"
else
    unit_tests
    OTHERS=()
    for file in "$ROOT"/tests/*.bats; do [ "$file" = "$ROOT/tests/host.bats" ] || OTHERS+=("$file"); done
    bats_files user "$ROOT/tests/house" "${OTHERS[@]}"
    if [ "$(id -u)" = 0 ]; then PLACE=(unshare --pid --ipc --fork --mount-proc --kill-child env STASIS_TEST_OWN_PIDS=1); fi
    bats_files user "$ROOT/tests/host.bats" # skipped elsewhere
    PLACE=()
    if [ "$(id -u)" = 0 ]; then
        AS_ROOT_TOO=("${AS_ROOT_TOO[@]/#/$ROOT/tests/}")
        bats_files root "${AS_ROOT_TOO[@]/%/.bats}"
        AS_ROOT_SET=("${AS_ROOT_SET[@]/#/$ROOT/tests/}")
        bats_files root --filter-tags set "${AS_ROOT_SET[@]/%/.bats}"
        bats_files root --filter-tags root "$ROOT"/tests/*.bats # what nobody else can do
    else
        headline "root's pass is left out: needs root"
    fi
fi

printf '\ntests: %d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
[ "$FAILED" = 0 ]
