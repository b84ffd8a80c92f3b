# SPDX-License-Identifier: MIT
# Awkward moments and awkward programs: stopped just then they come back, or are refused by name; and none is harmed.

load helpers

# three_lives NAME COMMAND...: images of the program, of its restart, and of that one's.
three_lives() {
    local name=$1 life
    shift
    rm -f "$T/enough"
    VARIABLES=("GUEST_ENOUGH=$T/enough")
    start_guest "$name" "$@"
    take "$PID"
    for life in 2 3; do
        sleep "0.$((RANDOM % 3))"
        take "$PID"
        kill_hard "$PID"
        until_true 10 no_processes
        restart_back "$name" "$IMAGE"
    done
    : >"$T/enough"
    ends_well "$name" 200
    says_ok "$name"
}

@test "locks, conditions, barriers and semaphores of many threads, over three lives" {
    three_lives sync "$GUESTS/sync" 1
}

@test "handlers within handlers, on another stack, left by longjmp" {
    three_lives handlers "$GUESTS/awkward" handlers 1
}

@test "threads that come and go at full speed" {
    three_lives threads "$GUESTS/awkward" threads 1
}

@test "inside malloc; inside dlopen and dlclose" {
    three_lives malloc "$GUESTS/awkward" malloc 1
    three_lives dlopen "$GUESTS/awkward" dlopen 1
}

@test "a program that brings its own malloc" {
    three_lives allocator "$GUESTS/allocator" 1
}

@test "64 threads that never sleep" {
    three_lives spin "$GUESTS/awkward" spin 1
}

@test "a program that closes every descriptor it does not know; one that has none left" {
    three_lives close "$GUESTS/awkward" close 1
    three_lives descriptors "$GUESTS/awkward" descriptors 1
}

@test "small limits of memory, files, processes" {
    three_lives limits "$GUESTS/awkward" limits 1
}

@test "a limit of files that is smaller than what we need: one line, and the program runs" {
    start small sh -c 'ulimit -f 100 && exec "$@"' - "$STASIS" run "--checkpoint-dir=$IMAGES" -- "$GUESTS/stdio" 1
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/small.err")"
    says_ok small
    [ "$(grep -c 'cannot take checkpoints' "$T/small.err")" = 1 ]
}

@test "all handlers reset and all signals blocked" {
    three_lives reset "$GUESTS/awkward" reset 1
}

@test "environment replaced, arguments overwritten" {
    three_lives environment "$GUESTS/awkward" environment 1
}

@test "small stacks, contexts, rounding upwards; not dumpable" {
    three_lives contexts "$GUESTS/awkward" contexts 1
    three_lives undumpable "$GUESTS/awkward" undumpable 1
}

# at_full_speed NAME STATUS...: checkpoints until the program has ended, each with one of these.
at_full_speed() {
    local name=$1 pid=$PID
    shift
    TAKEN=0
    while is_still_ours "$pid"; do
        run --separate-stderr stasis checkpoint "$pid"
        if [ "$status" = 77 ] && ! is_still_ours "$pid"; then break; fi
        case " 0 66 $* " in *" $status "*) ;; *) fail "$name: status $status: $stderr" ;; esac
        if [ "$status" = 69 ]; then named "$stderr"; fi
        if [ "$status" = 0 ]; then TAKEN=$((TAKEN + 1)); fi
    done
}

@test "fork, vfork, posix_spawn and system during checkpoints" {
    start_guest children "$GUESTS/awkward" children 3
    at_full_speed children 69
    ends_well children
    says_ok children
}

@test "a program that crashes during checkpoints ends as it would, and leaves nothing" {
    start_guest crash "$GUESTS/awkward" crash 9
    at_full_speed crash 71
    wait_exit "$PID"
    [ "$STATUS" = 139 ] || fail "status $STATUS"
}

@test "the main thread has ended: refused by name, at once" {
    start_guest alone "$GUESTS/awkward" alone 4
    refused "$PID" 69
    [[ $stderr == *R-MAIN-THREAD* ]]
    ends_well alone
    says_ok alone
}

@test "the stop signal's handler taken away: refused by name, and the program lives" {
    start_guest taken "$GUESTS/awkward" taken 3
    refused "$PID" 69
    [[ $stderr == *R-SIGNAL-TAKEN* ]]
    ends_well taken
    says_ok taken
}

@test "a thread that blocks the stop signal: refused by name, and the others do not wait for it" {
    start_guest blocked "$GUESTS/awkward" blocked 5
    refused "$PID" 69
    [[ $stderr == *R-SIGNAL-BLOCKED* ]]
    refused "$PID" 69
    ends_well blocked
    says_ok blocked
}

@test "working directory deleted: refused by name" {
    mkdir "$T/gone"
    own "$T/gone"
    rm -f "$T/ready"
    start gone "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=gone -- sh -c 'cd gone && exec "$@"' - "$GUESTS/stdio" 4
    wait_for_file "$T/ready"
    rmdir "$T/gone"
    refused "$PID" 69
    ends_well gone
    says_ok gone
}

@test "Ctrl-Z: woken, taken, and stopped again" {
    start_guest stopped "$GUESTS/awkward" malloc 3
    kill -TSTP "$PID"
    until_true 10 grep -qs '^State:.*T (stopped)' "/proc/$PID/status"
    take "$PID"
    until_true 10 grep -qs '^State:.*T (stopped)' "/proc/$PID/status"
    kill -CONT "$PID"
    ends_well stopped
    says_ok stopped
    restart stopped "$IMAGE"
    ends_well stopped
    says_ok stopped
}

# traced COMMAND...: the tracer may hold the program stopped, or let it run; it must not come to harm.
traced() {
    start_guest traced "$GUESTS/stdio" 6
    "$@" -p "$PID" >"$T/tracer" 2>&1 3>&- &
    local tracer=$!
    until_true 20 grep -qs "^TracerPid:.*[1-9]" "/proc/$PID/status"
    refused "$PID" 69
    [[ $stderr == *R-TRACED* || $stderr == *R-STOPPED* ]] || fail "$stderr"
    kill -TERM "$tracer" 2>/dev/null || :
    wait "$tracer" || :
    until_true 20 grep -qs "^TracerPid:.*[^0-9]0$" "/proc/$PID/status"
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

@test "a program that execs more often than its interval has images all the same" {
    OPTIONS=(--checkpoint=0:01)
    start_guest execer "$GUESTS/execer" 20
    until_true 60 has_image
    [ -e "$IMAGES/execer.0.ckpt" ] || fail "no image: $(cat "$T/execer.err")"
}
