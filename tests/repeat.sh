#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The named set (two programs, hog, one failure of each sort: the tests tagged "set") again and again, beside a machine
# that is kept busy by stress-ng. Ends with the counts; the status is 0 when nothing failed.
#
#   tests/repeat.sh [TIMES]        default: 50

set -uo pipefail
# shellcheck source=SCRIPTDIR/prepare.sh
. "$(dirname "$0")/prepare.sh"

TIMES=${1:-50}
PASSED=0
FAILED=0
LOG=$(mktemp "${TMPDIR:-/tmp}/stasis-repeat.XXXXXX")

# shellcheck disable=SC2086
install $TO_BUILD $TO_TEST || exit 1
build >/dev/null || exit 1

stress-ng --quiet --cpu 4 --vm 1 >/dev/null 2>&1 &
STRESS=$!
# stress-ng ends its own workers when it is told to end
trap 'kill -TERM "$STRESS" 2>/dev/null; wait "$STRESS" 2>/dev/null; rm -f "$LOG"' EXIT

for ((i = 1; i <= TIMES; i++)); do
    begin=$EPOCHSECONDS
    STASIS_BUILD=$BUILD bats --jobs 4 --formatter tap --print-output-on-failure --filter-tags set "$ROOT"/tests/*.bats >"$LOG" 2>&1
    ok=$(grep -c '^ok ' "$LOG")
    bad=$(grep -c '^not ok ' "$LOG")
    planned=$(awk -F'[.]+' '/^1\.\.[0-9]+$/ { print $2; exit }' "$LOG")
    missed=$((${planned:-1} - ok - bad))
    if [ "$missed" -gt 0 ]; then bad=$((bad + missed)); fi
    PASSED=$((PASSED + ok))
    FAILED=$((FAILED + bad))
    printf 'turn %d of %d: %d passed, %d failed, %d s\n' "$i" "$TIMES" "$ok" "$bad" $((EPOCHSECONDS - begin))
    if [ "$bad" != 0 ]; then grep -v '^ok ' "$LOG"; fi
done

printf 'repeated %d times beside stress-ng: %d passed, %d failed\n' "$TIMES" "$PASSED" "$FAILED"
[ "$FAILED" = 0 ]
