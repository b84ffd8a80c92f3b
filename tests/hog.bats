# SPDX-License-Identifier: MIT
# The workload bench/hog.c: every page is verified after a restart, with 1, 9, 65 and 257 threads.

load helpers

# hog THREADS SECONDS [OPTION...]: image, kill, restart. A thread's second is one of its own ticking, so many threads
# on few processors take much longer.
hog() {
    local threads=$1 seconds=$2
    shift 2
    start hog "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=hog -- \
        "$HOG" -m 64 -p rand -t "$threads" -s "$seconds" -o "$T/log" "$@"
    until_true 60 grep -qs ready "$T/log"
    pause "0.$((RANDOM % 6 + 1))"
    take "$PID"
    kill_hard "$PID"
    restart hog "$IMAGE"
    ends_well hog 200
    [ "$(cat "$T/hog.out")" = OK ]
    [ "$(tail -n 1 "$T/log")" = "OK 16384 16384" ]
}

@test "hog, 1 thread, pages that change" {
    hog 1 8 -d 30
}

# bats test_tags=set
@test "hog, 9 threads, pages that change" {
    hog 9 8 -d 30
}

@test "hog, 65 threads" {
    hog 65 0.8
}

@test "hog, 257 threads" {
    hog 257 0.5
}

@test "hog, sparse, text and zero pages" {
    hog 2 2 -p sparse -d 10
    rm "$T/log" "$T/hog.out"
    hog 2 2 -p text -d 10
    rm "$T/log" "$T/hog.out"
    hog 2 2 -p zero
    [ "$(size_of "$IMAGE")" -lt $((16 << 20)) ] || fail "pages of zeros are in the image: $(size_of "$IMAGE") bytes"
}
