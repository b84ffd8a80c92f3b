# SPDX-License-Identifier: MIT
# Timers, waiting signals, handlers and clocks of CPU time: after the checkpoint that a program survives, after a restart, and
# in the third generation.

load helpers

# bats test_tags=notice
@test "POSIX timers of every clock and sort, with their ids, in three lives" {
    survives timers "$GUESTS/timers" posix
    survives timers-nopie "$GUESTS/timers-nopie" posix
}

@test "POSIX timers come through checkpoints" {
    runs_on timers "$GUESTS/timers" posix
}

@test "POSIX timers get their ids on kernels that cannot be asked for one, too" {
    VARIABLES=(STASIS_TEST_FAIL=timer-ids)
    survives timers "$GUESTS/timers" posix
}

@test "interval timers in three lives" {
    survives interval "$GUESTS/timers" interval
    survives interval-nopie "$GUESTS/timers-nopie" interval
}

@test "an alarm, and a repeating timer whose signal waits, in three lives" {
    survives alarm "$GUESTS/timers" alarm
    start_guest late "$GUESTS/timers" alarm 15
    rm "$T/ready"
    release
    wait_for_file "$T/ready" || fail "the alarm is not set; late said: $(cat "$T/late.out")"
    take "$PID"
    kill_hard "$PID"
    restart late "$IMAGE"
    ends_well late
    says_ok late
}

# bats test_tags=notice
@test "waiting signals of process and threads, queued ones in order, in three lives" {
    survives waiting "$GUESTS/waiting"
    survives waiting-nopie "$GUESTS/waiting-nopie"
}

@test "waiting signals come through checkpoints" {
    runs_on waiting "$GUESTS/waiting"
}

# bats test_tags=notice
@test "clocks of CPU time never run backwards, in three lives" {
    survives cputime "$GUESTS/cputime"
    survives cputime-nopie "$GUESTS/cputime-nopie"
}

# bats test_tags=notice
@test "handlers with every flag, set in every way, one of them running on its stack, in three lives" {
    survives handlers "$GUESTS/handlers"
    survives handlers-nopie "$GUESTS/handlers-nopie"
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
    ends_well waiting
}
