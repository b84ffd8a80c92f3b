#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Which classes of stress-ng come back: each with one worker, as an ordinary user; after two seconds a checkpoint that ends it (--stop),
# so that its files stay as they were, then a restart, which must end well. A line for each class: its name, and "comes back", "refused"
# with the name of the refusal, or what went wrong. Classes that do not end well by themselves, without us, are left out: "not here".
#
#   tests/stress_ng.sh [CLASS...]     all of them when none is given; root only, as it becomes another user

set -uo pipefail
# some leave queues of the kernel's behind, and some fill their file system
[ -n "${STASIS_APART:-}" ] || exec env STASIS_APART=1 unshare --ipc --mount "$0" "$@"
ROOT=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${STASIS_BUILD:-$ROOT/build}
USER_ID=$((690000 + $$ % 10000))
BECOME=(setpriv "--reuid=$USER_ID" "--regid=$USER_ID" --clear-groups)
SECONDS_OF_WORK=6
T=$(mktemp -d /var/tmp/stasis-stress.XXXXXX)
trap 'umount -l "$T"; rmdir "$T"' EXIT
mount -t tmpfs -o size=4G,mode=755 none "$T"
mkdir -p "$T"/{files,product/tools,product/preload/shim,product/libexec}
cp "$BUILD/tools/stasis" "$T/product/tools/"
cp "$BUILD/preload/shim/libstasis.so" "$T/product/preload/shim/"
cp "$BUILD"/libexec/stasis-{saver,restorer} "$T/product/libexec/"
chmod -R a+rX "$T"
chown "$USER_ID:$USER_ID" "$T/files"

# as_user LIMIT COMMAND...
as_user() {
    local limit=$1
    shift
    (cd "$T/files" && exec "${BECOME[@]}" env -i PATH=/usr/bin:/bin HOME="$T/files" timeout -k 5 "$limit" "$@") </dev/null
}

kill_all() {
    "${BECOME[@]}" bash -c 'kill -KILL -1' 2>/dev/null
}

work() {
    echo stress-ng --"$1" 1 --timeout $SECONDS_OF_WORK --temp-path "$T/files"
}

ended_well() {
    grep -q 'successful run completed' "$@" && ! grep -qiE 'fail:|error:' "$@"
}

# The name of the refusal in a file, behind the words given; without one its last line.
refusal() {
    grep -oE 'R-[A-Z0-9-]+' "$1" | head -n 1 | sed "s/^/$2, /" | grep . || tail -n 1 "$1"
}

# try CLASS: says how it went
try() {
    local image status
    rm -rf "$T"/files/* "$T"/*.err
    touch "$T"/files/{out,err}
    chown "$USER_ID:$USER_ID" "$T"/files/{out,err}
    as_user 30 $(work "$1") >"$T/golden.err" 2>&1
    ended_well "$T/golden.err" || { echo "not here"; return; }
    as_user 60 "$T/product/tools/stasis" run --job-id=stress -- $(work "$1") >>"$T/files/out" 2>>"$T/files/err" &
    sleep 2
    image=$(as_user 60 "$T/product/tools/stasis" checkpoint stress.0 --stop --max-wait=40 2>"$T/checkpoint.err")
    kill_all
    wait
    [ -n "$image" ] || { refusal "$T/checkpoint.err" refused; return; }
    as_user 60 "$T/product/tools/stasis" restart "$image" >"$T/restart.out" 2>"$T/restart.err"
    status=$?
    kill_all
    if [ $status = 0 ] && ended_well "$T"/files/{out,err}; then echo "comes back"; return; fi
    if [ $status = 69 ]; then refusal "$T/restart.err" "refused at the restart"; return; fi
    echo "FAILS: status $status: $(cat "$T"/restart.{out,err} "$T"/files/{out,err} | grep -vE 'dispatching|setting to|run completed' | tail -n 2 | tr '\n' ' ')"
}

[ $# -gt 0 ] || mapfile -t classes < <(stress-ng --stressors | tr ' ' '\n' | grep .)
for class in "$@" "${classes[@]-}"; do
    [ -z "$class" ] || printf '%-18s %s\n' "$class" "$(try "$class")"
done
