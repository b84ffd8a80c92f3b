#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A named set of tests again and again, beside a machine that is kept busy by stress-ng. Ends with the counts; the status
# is 0 when nothing failed. The sets are the tests with one tag:
#
#   set      two programs, hog, one failure of each sort
#   tree     processes of each sort that come back together
#   notice   one of each sort of thing that a single process may hold or be doing
#
#   tests/repeat.sh [TIMES [SET...]]     default: 50 set

set -uo pipefail
# shellcheck source=SCRIPTDIR/prepare.sh
. "$(dirname "$0")/prepare.sh"

TIMES=${1:-50}
SETS=("${@:2}")
[ ${#SETS[@]} -gt 0 ] || SETS=(set)
FILTERS=()
for set in "${SETS[@]}"; do FILTERS+=(--filter-tags "$set"); done
PASSED=0
FAILED=0
LOG=$(mktemp "${TMPDIR:-/tmp}/stasis-repeat.XXXXXX")

# shellcheck disable=SC2086
install $TO_BUILD $TO_TEST || exit 1
build >/dev/null || exit 1

# bats would read all files for what is in a few
mapfile -t FILES < <(printf ' test_tags=%s$\n' "${SETS[@]}" | grep -lf - "$ROOT"/tests/*.bats)

stress-ng --quiet --cpu 4 --vm 1 >/dev/null 2>&1 &
STRESS=$!
# stress-ng ends its own workers when it is told to end
trap 'kill -TERM "$STRESS" 2>/dev/null; wait "$STRESS" 2>/dev/null; rm -f "$LOG"' EXIT

for ((i = 1; i <= TIMES; i++)); do
    begin=$EPOCHSECONDS
    STASIS_BUILD=$BUILD bats --jobs 8 --formatter tap --print-output-on-failure "${FILTERS[@]}" "${FILES[@]}" >"$LOG" 2>&1
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

printf '%s, %d times beside stress-ng: %d passed, %d failed\n' "${SETS[*]}" "$TIMES" "$PASSED" "$FAILED"
[ "$FAILED" = 0 ]
