#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The main job, for real: an unmodified python3 program that knows nothing of checkpoints is killed in mid-flight and
# brought back from its image; its result is compared with that of an undisturbed run.
#
#   tests/demo.sh        installs what is needed (apt-get), builds into build/, and shows it

set -euo pipefail
# shellcheck source=SCRIPTDIR/prepare.sh
. "$(dirname "$0")/prepare.sh"

# shellcheck disable=SC2086
install $TO_BUILD python3
build >"${TMPDIR:-/tmp}/stasis-demo-build.$$" 2>&1 || { cat "${TMPDIR:-/tmp}/stasis-demo-build.$$"; exit 1; }
rm -f "${TMPDIR:-/tmp}/stasis-demo-build.$$"

close_foreign_descriptors
PYTHON=/usr/bin/python3
[ -x "$PYTHON" ] || PYTHON=$(command -v python3)
PROGRAM=$ROOT/tests/apps/sieve.py
STASIS=$BUILD/tools/stasis
SEGMENTS=2500
DIRECTORY=$(mktemp -d "${TMPDIR:-/tmp}/stasis-demo.XXXXXX")
PID=''

clean_up() {
    if [ -n "$PID" ]; then kill -KILL "$PID" 2>/dev/null || :; fi
    rm -rf "$DIRECTORY"
}
trap clean_up EXIT

say() {
    printf '\n== %s\n' "$*"
}

lines() {
    wc -l <"$1"
}

cd "$DIRECTORY"
say "1. $PYTHON counts primes, undisturbed, to have something to compare with."
"$PYTHON" "$PROGRAM" "$SEGMENTS" >expected
tail -n 2 expected

say "2. The same program again, with an image every second:
   stasis run --checkpoint=0:01 -- python3 sieve.py $SEGMENTS"
"$STASIS" run --checkpoint=0:01 --job-id=primes -- "$PYTHON" "$PROGRAM" "$SEGMENTS" >result </dev/null &
PID=$!
until [ -e primes.0.ckpt ] && [ "$(lines result)" -gt $((SEGMENTS / 3)) ]; do
    kill -0 "$PID" 2>/dev/null || { echo "The program ended before its first image."; exit 1; }
    sleep 0.05
done

say "3. In mid-flight it is killed with SIGKILL, which no program can catch."
kill -KILL "$PID"
wait "$PID" 2>/dev/null || :
PID=''
echo "It had written $(lines result) of $(lines expected) lines. What is left of it:"
"$STASIS" list

say "4. It comes back from its image, and goes on to its end:
   stasis restart primes.0.ckpt"
"$STASIS" restart primes.0.ckpt >>result </dev/null
tail -n 2 result

say "5. Is the result that of the undisturbed run?"
if cmp expected result; then
    echo "Yes: both are the same, byte by byte ($(lines result) lines, checksum $(cksum <result | cut -d' ' -f1))."
else
    echo "No."
    exit 1
fi
