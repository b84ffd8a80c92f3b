# SPDX-License-Identifier: MIT
# Blocking system calls go on as if there had been no checkpoint: by libc and bare, under checkpoints without pause between
# them, and after restarts. Lateness is compared with that of the same program without us, at the same time.

load helpers

PAUSE=0 # the longest that the program stood still, in ms

# checkpoints_until_gone PID [STATUS...]: one after the other, as fast as they come; TAKEN of them gave an image.
checkpoints_until_gone() {
    local pid=$1 still
    shift
    TAKEN=0
    if [ -z "${WANTED:-}" ]; then release; fi
    while is_still_ours "$pid"; do
        if [ "$TAKEN" = "${WANTED:-}" ]; then release; fi
        run --separate-stderr stasis checkpoint --verbose "$pid"
        if [ "$status" = 77 ] && ! is_still_ours "$pid"; then break; fi
        case " 0 66 $* " in *" $status "*) ;; *) fail "status $status: $stderr" ;; esac
        if [ "$status" = 0 ]; then TAKEN=$((TAKEN + 1)); fi
        still=$(sed -nE 's/.*stood still for ([0-9]+).*/\1/p' <<<"$stderr")
        if [ "${still:-0}" -gt "$PAUSE" ]; then PAUSE=$still; fi
    done
}

late_of() {
    awk '{ print $1 }' "$1"
}

# not_later NAME CONTROL: no more than the control was, the longest pause, and what a scheduler may do to one and not the other.
not_later() {
    local late control
    late=$(late_of "$1")
    control=$(late_of "$2")
    [ "$late" -le $((control + PAUSE + 1500)) ] ||
        fail "late by $(cat "$1"); without us $(cat "$2"); longest pause $PAUSE ms"
}

@test "nothing gives EINTR, nothing is early, and all end at their first deadline, whatever the number of checkpoints" {
    local pid control
    start control "$GUESTS/blocking" 6 "$T/control"
    wait_for_file "$T/ready" # which is the other's afterwards
    control=$PID
    start_guest blocking "$GUESTS/blocking" 6 "$T/late"
    pid=$PID
    checkpoints_until_gone "$pid"
    ends_well blocking
    says_ok blocking
    PID=$control ends_well control
    [ "$TAKEN" -gt 10 ] || fail "only $TAKEN checkpoints: $stderr"
    not_later "$T/late" "$T/control"
}

# bats test_tags=notice
@test "the same over three lives" {
    local life
    start control "$GUESTS/blocking" 6 "$T/control"
    wait_exit "$PID"
    start_guest blocking "$GUESTS/blocking" 6 "$T/late"
    for life in 2 3; do
        sleep "1.$((RANDOM % 9))"
        take "$PID"
        kill_hard "$PID"
        until_true 60 no_processes
        restart_back blocking "$IMAGE"
    done
    ends_well blocking
    says_ok blocking
    not_later "$T/late" "$T/control"
}

# STASIS_TEST_LOOKS: how many checkpoints; 500 for a release.
@test "a program that looks for us every millisecond finds nothing, and no longer gap than it stood still" {
    local pid gap control WANTED=${STASIS_TEST_LOOKS:-40}
    start_ready control "$GUESTS/hide" 1 "$T/control"
    control=$PID
    start_guest hide "$GUESTS/hide" 1 "$T/gap"
    pid=$PID
    checkpoints_until_gone "$pid" 69 # a file in /proc that it has open just then is refused
    ends_well hide
    says_ok hide
    PID=$control ends_well control
    [ "$TAKEN" -ge "$WANTED" ] || fail "only $TAKEN checkpoints: $stderr"
    gap=$(cat "$T/gap")
    control=$(cat "$T/control")
    [ "$gap" -le $((control + PAUSE + 1500)) ] || fail "time jumped by $gap ms; without us $control; longest pause $PAUSE ms"
    restart hide "$IMAGES/hide.0.ckpt"
    ends_well hide
    says_ok hide
}
