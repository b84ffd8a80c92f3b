# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# What the files with real programs share: run once undisturbed (golden), then stopped, killed and brought back at random
# moments. What they write must be byte by byte the same. For after helpers.bash.
#
#   STASIS_TEST_LONG   1: all programs of runtimes.bats with five seconds of computing, five images, a restart from each, and three generations
#
# A program that changes files in place, or uses files by their names, has FILES: the directory in $T where they all are.
# Its images are taken with --stop, and the files of that moment are put back before each restart.

ENOUGH=5500 # milliseconds that the golden run must compute
SHORT=1000  # the same for the named set, which is repeated
PYTHON=/usr/bin/python3 # Debian's, which is no PIE
FILES=

# needs COMMAND...: the test is skipped where one is not installed; never in continuous integration, see prepare.sh.
needs() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || skip "needs: $command"
    done
}

# work_for NAME START MAKE: finds how much work takes ENOUGH on this machine. MAKE AMOUNT puts the whole command into WORK.
# What one test has found out holds for all of its file.
work_for() {
    local name=$1 amount=$2 make=$3 known=$BATS_FILE_TMPDIR/$1.amount
    if [ -e "$known" ]; then amount=$(cat "$known"); fi
    while :; do
        "$make" "$amount"
        clear_files
        golden "$name" "${WORK[@]}"
        [ "$MILLISECONDS" -ge "$ENOUGH" ] && break
        amount=$((amount * (ENOUGH * 12 / 10) / (MILLISECONDS + 50) + 1))
    done
    echo "$amount" >"$known"
    if [ -n "$FILES" ]; then keep_files golden; fi
}

clear_files() {
    [ -n "$FILES" ] || return 0
    rm -rf "${T:?}/$FILES"
    mkdir "$T/$FILES"
    own "$T/$FILES"
}

# keep_files NAME: as they are now.
keep_files() {
    rm -rf "$T/$FILES.$1"
    cp -a "$T/$FILES" "$T/$FILES.$1"
}

# In place: SQLite writes no more to a file that is not the very inode it opened.
put_files_back() {
    local file
    [ -n "$FILES" ] || return 0
    for file in "$T/$FILES"/*; do
        [ -e "$T/$FILES.$1/${file##*/}" ] || rm -f "$file"
    done
    cp -a "$T/$FILES.$1/." "$T/$FILES/"
}

run_it() {
    clear_files
    rm -f "$T/$1.out"
    start "$1" "$STASIS" run "--checkpoint-dir=$IMAGES" "--job-id=$1" --keep=9 -- "${WORK[@]}"
}

# take_it NAME: an image at this moment. IMAGE is its path, STATE the name under which its files are kept.
take_it() {
    if [ -z "$FILES" ]; then
        take "$PID"
        return
    fi
    take "$PID" --stop || return 1
    wait_exit "$PID"
    [ "$STATUS" = 75 ] || fail "$1 ended with $STATUS after a checkpoint with --stop"
    STATE=generation.$(generation "$IMAGE")
    keep_files "$STATE"
}

# bring_back NAME IMAGE: back, or already at its end, for nobody holds these programs.
bring_back() {
    restart "$1" "$2"
    until_true 60 is_back_or_gone
}

# go_on NAME: after take_it, for the next image.
go_on() {
    if [ -n "$FILES" ]; then bring_back "$1" "$IMAGE"; fi
}

# start_again NAME IMAGE: a restart, from the files of that image.
start_again() {
    if [ -n "$FILES" ]; then put_files_back "generation.$(generation "$2")"; fi
    IMAGE=$2
    bring_back "$1" "$2"
}

# come_to_end NAME: it ends, and all it wrote is as if nothing had been.
come_to_end() {
    ends_well "$1" 300
    same "$1"
    [ -z "$FILES" ] || diff -r "$T/$FILES.golden" "$T/$FILES" || fail "the files of $1 differ"
}

# come_back NAME IMAGE: restarts it to its end.
come_back() {
    start_again "$1" "$2"
    come_to_end "$1"
}

# moment_at NAME PERCENT: reaches it and takes an image. On a busy machine the program may have come to its end before: that
# end must be the right one, and the program goes on from the image before, or begins again.
moment_at() {
    local before=$IMAGE tries=5
    until reach "$1" "$2" && take_it "$1"; do
        tries=$((tries - 1))
        if ! is_gone "$PID" || [ "$tries" = 0 ]; then fail "no image of $1 at $2 %" || return 1; fi
        come_to_end "$1"
        if [ -n "$before" ]; then
            start_again "$1" "$before"
        else
            run_it "$1"
        fi
    done
}

# images_at NAME PERCENT...: a run with an image at each of these moments, then killed. TAKEN has them, the first one first.
images_at() {
    local name=$1 percent count=0
    shift
    IMAGE=
    run_it "$name"
    for percent in "$@"; do
        [ "$count" = 0 ] || go_on "$name"
        moment_at "$name" "$percent"
        count=$((count + 1))
    done
    if [ -z "$FILES" ]; then kill_hard "$PID"; fi
    TAKEN=()
    while [ "$count" -gt 1 ]; do
        count=$((count - 1))
        TAKEN+=("$IMAGES/$name.0.ckpt.$count")
    done
    TAKEN+=("$IMAGES/$name.0.ckpt")
}

# Five images of one run at random moments; a restart from each; and two more from one of them.
five_images() {
    local name=$1 image
    # shellcheck disable=SC2046
    images_at "$name" $(moments 5)
    for image in "${TAKEN[@]}" "${TAKEN[2]}" "${TAKEN[2]}"; do
        come_back "$name" "$image"
    done
}

# next_generation NAME PERCENT COUNT: an image at that moment, the COUNTth of this run; killed, and brought back from it.
next_generation() {
    moment_at "$1" "$2"
    [ "$(generation "$IMAGE")" = "$3" ] || fail "generation $(generation "$IMAGE") instead of $3"
    [ -n "$FILES" ] || kill_hard "$PID"
    until_true 60 no_processes
    start_again "$1" "$IMAGE"
}

# An image of the program, of the program restarted from it, and of that one restarted.
three_generations() {
    local name=$1 percent count=0
    IMAGE=
    run_it "$name"
    for percent in $(moments 3); do
        count=$((count + 1))
        next_generation "$name" "$percent" "$count"
    done
    come_to_end "$name"
}

# once NAME WORK: one image, killed, brought back.
once() {
    local ENOUGH=$SHORT
    "$2" "$1"
    images_at "$1" "$(moments 1)"
    come_back "$1" "${TAKEN[0]}"
}

# Five images of one run, restarts from two of them, and two more generations behind the first; or all, when there is time.
interrupted() {
    local name=$1 percents first
    if [ -n "${STASIS_TEST_LONG:-}" ]; then
        five_images "$name"
        three_generations "$name"
        return
    fi
    mapfile -t percents < <(moments 5)
    images_at "$name" "${percents[@]}"
    come_back "$name" "${TAKEN[RANDOM % 5]}"
    come_back "$name" "${TAKEN[RANDOM % 5]}"
    start_again "$name" "${TAKEN[0]}"
    next_generation "$name" "$((percents[0] + 15 + RANDOM % 20))" 6
    next_generation "$name" "$((percents[0] + 40 + RANDOM % 20))" 7
    come_to_end "$name"
}
