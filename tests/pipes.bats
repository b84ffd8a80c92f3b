# SPDX-License-Identifier: MIT
# Named pipes: with both ends in the program, and to others.

load helpers

@test "named pipes with both ends in the program: bytes in flight, flags, room; opened for both at once; without a name" {
    survives both "$GUESTS/fifos" both 1
    rm -f "$T/fifo"
    survives single "$GUESTS/fifos" single 1
    rm -f "$T/fifo"
    survives gone "$GUESTS/fifos" gone 1
    rm -f "$T/fifo"
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
    restart_refused 'R-PIPE*fifo' --check --strict "$IMAGE"
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
    until_true 60 grep -q line "$T/lines"
    take "$PID"
    kill_hard "$PID"
    rm "$T/fifo"
    restart_refused 'R-FILE-MISSING*fifo' --check "$IMAGE"
    : >"$T/fifo"
    restart_refused 'R-FILE-CHANGED*fifo' --check "$IMAGE"
    rm "$T/fifo"
    mkfifo "$T/fifo"
    own "$T/fifo"
    : >"$T/lines"
    cat "$T/fifo" >"$T/lines" 3>&- &
    STARTED+=("$!")
    restart_back writer "$IMAGE"
    until_true 60 grep -q line "$T/lines"
    : >"$T/writer.err"
    ends_well writer
    says_ok writer
}
