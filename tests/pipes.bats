# SPDX-License-Identifier: MIT
# Named pipes: with both ends in the program, and to others.

load helpers

# lives NAME WORD...: an image that the program survives, and two restarts, the second from an image of the first.
lives() {
    local name=$1 life
    start_guest "$name" "$GUESTS/fifos" "$@"
    take "$PID"
    for life in 1 2; do
        take "$PID"
        kill_hard "$PID"
        until_true 10 no_processes
        restart_back "$name" "$IMAGE"
    done
    ends_well "$name"
    says_ok "$name"
    rm -f "$T/fifo"
}

@test "named pipes with both ends in the program: bytes in flight, flags, room; opened for both at once; without a name" {
    lives both 1
    lives single 1
    lives gone 1
}

# The rest comes from, or goes to, another program.
@test "a named pipe that is read from another program: what was not read yet, and what is written after the restart" {
    mkfifo "$T/fifo"
    own "$T/fifo"
    start_guest reader "$GUESTS/fifos" reader 1
    printf abcdefgh >"$T/fifo" 3>&-
    take "$PID"
    kill_hard "$PID"
    hold
    run --separate-stderr stasis restart --check --strict "$IMAGE"
    [ "$status" = 69 ] && [[ $stderr == *R-PIPE*fifo* ]]
    restart_back reader "$IMAGE"
    [[ $(cat "$T/reader.err") == *"named pipe $T/fifo led to another program"* ]]
    : >"$T/reader.err"
    ends_well reader
    says_ok reader
}

@test "a named pipe that is written to another program: opened again without waiting; gone: refused" {
    mkfifo "$T/fifo"
    own "$T/fifo"
    cat "$T/fifo" >"$T/lines" 3>&- &
    STARTED+=("$!")
    start_guest writer "$GUESTS/fifos" writer 1
    until_true 30 grep -q line "$T/lines"
    take "$PID"
    kill_hard "$PID"
    rm "$T/fifo"
    run --separate-stderr stasis restart --check "$IMAGE"
    [ "$status" = 69 ] && [[ $stderr == *R-FILE-MISSING*fifo* ]]
    : >"$T/fifo"
    run --separate-stderr stasis restart --check "$IMAGE"
    [ "$status" = 69 ] && [[ $stderr == *R-FILE-CHANGED*fifo* ]]
    rm "$T/fifo"
    mkfifo "$T/fifo"
    own "$T/fifo"
    : >"$T/lines"
    cat "$T/fifo" >"$T/lines" 3>&- &
    STARTED+=("$!")
    restart_back writer "$IMAGE"
    until_true 30 grep -q line "$T/lines"
    : >"$T/writer.err"
    ends_well writer
    says_ok writer
}
