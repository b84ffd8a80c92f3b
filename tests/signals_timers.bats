# SPDX-License-Identifier: MIT
# Timers, waiting signals, handlers and clocks of CPU time: after the checkpoint that a program survives, after a restart, and
# in the third generation.

load helpers

# image NAME: of the program last started; what that has said belongs to the failure.
image() {
    take "$PID" || fail "$1 said: $(tail -n 3 "$T/$1.out")"
}

# three_lives NAME COMMAND...: two images while it runs; killed; back; another image; killed; back from that, to the end.
three_lives() {
    local name=$1
    shift
    rm -f "$T/ready.finish"
    start_guest "$name" "$@"
    image "$name"
    image "$name"
    kill_hard "$PID" || fail "$name said: $(tail -n 3 "$T/$name.out")"
    restart_back "$name" "$IMAGE" || fail "$name said: $(tail -n 3 "$T/$name.out")"
    image "$name"
    kill_hard "$PID" || fail "$name said: $(tail -n 3 "$T/$name.out")"
    until_true 60 no_processes
    restart_back "$name" "$IMAGE" || fail "$name said: $(tail -n 3 "$T/$name.out")"
    : >"$T/ready.finish"
    ends_well "$name" 200
    says_ok "$name"
}

# survives NAME COMMAND...: images while it runs, to its end; a stop may change nothing.
survives() {
    local name=$1
    shift
    rm -f "$T/ready.finish"
    start_guest "$name" "$@"
    image "$name"
    image "$name"
    : >"$T/ready.finish"
    ends_well "$name"
    says_ok "$name"
}

# bats test_tags=notice
@test "POSIX timers of every clock and sort, with their ids, in three lives" {
    three_lives timers "$GUESTS/timers" posix
    three_lives timers-nopie "$GUESTS/timers-nopie" posix
}

@test "POSIX timers come through checkpoints" {
    survives timers "$GUESTS/timers" posix
}

@test "POSIX timers get their ids on kernels that cannot be asked for one, too" {
    VARIABLES=(STASIS_TEST_FAIL=timer-ids)
    three_lives timers "$GUESTS/timers" posix
}

@test "interval timers in three lives" {
    three_lives interval "$GUESTS/timers" interval
    three_lives interval-nopie "$GUESTS/timers-nopie" interval
}

@test "an alarm, and a repeating timer whose signal waits, in three lives" {
    three_lives alarm "$GUESTS/timers" alarm
    rm "$T/ready.finish"
    start_guest late "$GUESTS/timers" alarm 15
    rm "$T/ready"
    : >"$T/ready.finish"
    wait_for_file "$T/ready" || fail "the alarm is not set; late said: $(cat "$T/late.out")"
    take "$PID"
    kill_hard "$PID"
    restart late "$IMAGE"
    ends_well late
    says_ok late
}

# bats test_tags=notice
@test "waiting signals of process and threads, queued ones in order, in three lives" {
    three_lives waiting "$GUESTS/waiting"
    three_lives waiting-nopie "$GUESTS/waiting-nopie"
}

@test "waiting signals come through checkpoints" {
    survives waiting "$GUESTS/waiting"
}

# bats test_tags=notice
@test "clocks of CPU time never run backwards, in three lives" {
    three_lives cputime "$GUESTS/cputime"
    three_lives cputime-nopie "$GUESTS/cputime-nopie"
}

# bats test_tags=notice
@test "handlers with every flag, set in every way, one of them running on its stack, in three lives" {
    three_lives handlers "$GUESTS/handlers"
    three_lives handlers-nopie "$GUESTS/handlers-nopie"
}

@test "a signal for the process interrupts the thread that takes it, and no other" {
    local sender round
    start_guest claim "$GUESTS/claim"
    (while kill -USR1 "$PID" 2>/dev/null && kill -40 "$PID"; do sleep 0.002; done) 3>&- 4>&- &
    sender=$!
    for round in 1 2 3 4 5 6 7 8; do
        run --separate-stderr stasis checkpoint "$PID"
        [ "$status" = 0 ] || is_gone "$PID" || fail "status $status: $stderr"
    done
    : >"$T/ready.finish"
    ends_well claim
    wait "$sender" || :
    [ "$(cat "$T/claim.out")" = "OK claim" ] || fail "$(cat "$T/claim.out")"
}

@test "show names timers and waiting signals" {
    start_guest waiting "$GUESTS/waiting"
    take "$PID"
    stasis show "$IMAGE" >"$T/shown"
    grep -qE 'signal 40 for the process' "$T/shown"
    grep -qE 'signal 28 for thread' "$T/shown"
    grep -qE 'timer 0 on clock 1, signal 42' "$T/shown"
    : >"$T/ready.finish"
    ends_well waiting
}
