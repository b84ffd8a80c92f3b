# SPDX-License-Identifier: MIT
# Awkward moments and awkward programs: stopped just then they come back, or are refused by name; and none is harmed.

load helpers
load programs

# start_awkward NAME WHAT SECONDS: as start_guest, when the thing is made.
start_awkward() {
    rm -f "$T/ready.hold.made"
    start_guest "$1" "$GUESTS/awkward" "$2" "$3"
    until_true 60 test -e "$T/ready.hold.made"
}

awkward_lives() {
    start_awkward "$1" "$1" 1
    lives_on "$1"
}

# bats test_tags=notice
@test "locks, conditions, barriers and semaphores of many threads, over three lives" {
    survives sync "$GUESTS/sync" 1
}

# bats test_tags=notice
@test "handlers within handlers, on another stack, left by longjmp" {
    awkward_lives handlers
}

# bats test_tags=notice
@test "threads that come and go at full speed" {
    awkward_lives threads
}

@test "inside malloc; inside dlopen and dlclose" {
    awkward_lives malloc
    awkward_lives dlopen
}

@test "a program that brings its own malloc" {
    survives allocator "$GUESTS/allocator" 1
}

@test "64 threads that never sleep" {
    awkward_lives spin
}

@test "a program that closes every descriptor it does not know; one that has none left" {
    awkward_lives close
    awkward_lives descriptors
}

@test "more descriptors than the restart may have: refused by name" {
    [ "${STASIS_TEST_AS:-user}" != root ] || skip "needs: an ordinary user"
    start_awkward descriptors descriptors 1
    take "$PID"
    kill_hard "$PID"
    run --separate-stderr as_user sh -c "ulimit -n 40; exec $STASIS restart $IMAGE"
    [ "$status" = 69 ] || fail "status $status: $stderr"
    named "$stderr"
}

@test "small limits of memory, files, processes" {
    awkward_lives limits
}

@test "a limit of files that is smaller than what we need: one line, and the program runs" {
    start_ready small sh -c 'ulimit -f 100 && exec "$@"' - "$STASIS" run "--checkpoint-dir=$IMAGES" -- "$GUESTS/stdio" 1
    kill -USR2 "$PID"
    until_true 60 test -s "$T/small.err"
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/small.err")"
    says_ok small
    [ "$(grep -c 'no checkpoint' "$T/small.err")" = 1 ]
}

@test "all handlers reset and all signals blocked" {
    awkward_lives reset
}

@test "environment replaced, arguments overwritten" {
    awkward_lives environment
}

@test "small stacks, contexts, rounding upwards; not dumpable" {
    awkward_lives contexts
    awkward_lives undumpable
}

# at_full_speed NAME STATUS...: checkpoints until the program has ended, each with one of these.
at_full_speed() {
    local name=$1 pid=$PID
    shift
    TAKEN=0
    release
    while is_still_ours "$pid"; do
        run --separate-stderr stasis checkpoint "$pid"
        if [ "$status" = 77 ] && ! is_still_ours "$pid"; then break; fi
        case " 0 66 $* " in *" $status "*) ;; *) fail "$name: status $status: $stderr" ;; esac
        if [ "$status" = 69 ]; then named "$stderr"; fi
        if [ "$status" = 0 ]; then TAKEN=$((TAKEN + 1)); fi
    done
}

# bats test_tags=notice
@test "fork, vfork, posix_spawn and system during checkpoints" {
    start_awkward children children 3
    at_full_speed children 69
    ends_well children
    says_ok children
}

@test "a program that crashes during checkpoints ends as it would, and leaves nothing" {
    start_awkward crash crash 9
    at_full_speed crash 71
    wait_exit "$PID"
    [ "$STATUS" = 139 ] || fail "status $STATUS"
}

@test "the main thread has ended: refused by name, at once" {
    start_awkward alone alone 4
    refused "$PID" 69
    [[ $stderr == *R-MAIN-THREAD* ]]
    ends_well alone
    says_ok alone
}

@test "the stop signal's handler taken away: refused by name, and the program lives" {
    start_awkward taken taken 3
    take "$PID"
    : >"$T/now"
    own "$T/now"
    release
    until_true 60 test -e "$T/taken"
    hold
    refused "$PID" 69
    [[ $stderr == *R-SIGNAL-TAKEN* ]]
    ends_well taken
    says_ok taken
}

@test "system calls that a program has dispatched to itself: refused by name, and the program lives" {
    start_awkward dispatch dispatch 3
    refused "$PID" 69
    [[ $stderr == *R-SIGNAL-TAKEN* ]]
    kill -USR2 "$PID"
    ends_well dispatch
    says_ok dispatch
}

@test "a thread that blocks the stop signal: refused by name, and the others do not wait for it" {
    start_awkward blocked blocked 9
    release
    refused "$PID" 69
    [[ $stderr == *R-SIGNAL-BLOCKED* ]]
    refused "$PID" 69
    ends_well blocked
    says_ok blocked
}

@test "working directory deleted: refused by name" {
    mkdir "$T/gone"
    own "$T/gone"
    start_ready gone "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=gone -- sh -c 'cd gone && exec "$@"' - "$GUESTS/stdio" 4
    rmdir "$T/gone"
    refused "$PID" 69
    ends_well gone
    says_ok gone
}

@test "Ctrl-Z and SIGSTOP: woken, taken, and stopped again" {
    local signal
    start_awkward stopped malloc 3
    for signal in TSTP STOP; do
        kill "-$signal" "$PID"
        until_true 60 is_stopped "$PID"
        take "$PID"
        until_true 60 is_stopped "$PID"
        kill -CONT "$PID"
    done
    ends_well stopped
    says_ok stopped
    restart stopped "$IMAGE"
    ends_well stopped
    says_ok stopped
}

# traced COMMAND...: the tracer may hold the program stopped, or let it run; it must not come to harm.
traced() {
    start_guest traced "$GUESTS/stdio" 6
    (close_foreign_descriptors; exec "$@" -p "$PID") >"$T/tracer" 2>&1 &
    local tracer=$!
    STARTED+=("$tracer")
    until_true 60 grep -qs "^TracerPid:.*[1-9]" "/proc/$PID/status"
    refused "$PID" 69
    [[ $stderr == *R-TRACED* || $stderr == *R-STOPPED* ]] || fail "$stderr"
    kill -KILL "$tracer" 2>/dev/null || : # the kernel lets its program go
    wait "$tracer" || :
    forget_started "$tracer"
    until_true 60 grep -qs "^TracerPid:.*[^0-9]0$" "/proc/$PID/status"
    take "$PID"
    ends_well traced
    says_ok traced
}

@test "held by a debugger: refused by name, and good again without" {
    [ -x /usr/bin/gdb ] || skip "needs: gdb"
    mkfifo "$T/commands"
    traced sh -c 'exec 3<>"$1"; shift; exec gdb -q -nx "$@" <&3' - "$T/commands"
}

@test "under strace: refused by name, and good again without" {
    [ -x /usr/bin/strace ] || skip "needs: strace"
    traced strace -f -o "$T/trace"
}

has_image() {
    [ -e "$IMAGES/execer.0.ckpt" ] || is_gone "$PID"
}

# bats test_tags=notice
@test "a program that execs more often than its interval has images all the same" {
    OPTIONS=(--checkpoint=0:01)
    start_guest execer "$GUESTS/execer" 20
    release
    until_true 60 has_image
    [ -e "$IMAGES/execer.0.ckpt" ] || fail "no image: $(cat "$T/execer.err")"
}

@test "what a program holds for a moment only is waited for, and refused by name when it stays" {
    local what taking
    for what in proc:R-PROC-FILE backlog:R-SOCKET-BACKLOG rights:R-SCM-RIGHTS; do
        rm -f "$T"/pass "$T"/end
        start_guest "${what%:*}" "$PYTHON" "$APPS/passing.py" "${what%:*}"
        refused "$PID" 69
        [[ "$stderr" == *"${what#*:}:"* ]] || fail "another name: $stderr"
        stasis checkpoint "$PID" >"$T/taken" 2>&1 3>&- &
        taking=$!
        sleep 0.3
        : >"$T/pass"
        wait "$taking" || fail "$what: $(cat "$T/taken")"
        IMAGE=$(cat "$T/taken")
        kill_hard "$PID"
        : >"$T/end"
        restart "${what%:*}" "$IMAGE"
        wait_exit "$PID"
        [ "$STATUS" = 0 ]
        tail -n 1 "$T/${what%:*}.out" | grep -x "${what%:*} has passed"
    done
}
