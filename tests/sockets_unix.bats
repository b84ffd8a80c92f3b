# SPDX-License-Identifier: MIT
# Unix sockets: each row in the program that an image was taken of, in the lives after it, and in one after those.

load helpers
load programs

@test "unix sockets: a pair of streams, with bytes in flight both ways" {
    all_lives unix "$GUESTS/unix" stream
}

@test "unix sockets: on a standard stream, with both ends in the program" {
    all_lives unix "$GUESTS/unix" stdin
}

@test "unix sockets: datagrams and packets keep their borders, empty ones too" {
    all_lives unix "$GUESTS/unix" datagram
    all_lives unix "$GUESTS/unix" packet
}

@test "unix sockets: an empty message that was looked at is not lost in the next image" {
    start_guest unix "$GUESTS/unix" datagram
    take "$PID"
    refused "$PID" 69
    [[ "$stderr" == *'an empty message may wait'* ]]
    ends_well unix
    says_ok unix
}

@test "unix sockets: ends that are shut down in one direction or both" {
    all_lives unix "$GUESTS/unix" shut
}

@test "unix sockets: the other end is closed: what is left, then the end or ECONNRESET" {
    all_lives unix "$GUESTS/unix" closed
}

@test "unix sockets: one that listens at a path, with connections that it has not accepted" {
    all_lives unix "$GUESTS/unix" listens
}

# Bytes of the first block: nothing of it is read before the sockets are made.
@test "unix sockets: a damaged image leaves their files as they are" {
    local before
    start_guest unix "$GUESTS/unix" listens
    take "$PID"
    kill_hard "$PID"
    before=$(stat -c '%n %i %z' "$T"/*.sock)
    flip "$IMAGE" 4200 3
    run --separate-stderr stasis restart "$IMAGE"
    [ "$status" = 65 ] || fail "status $status: $output $stderr"
    [[ $stderr == *"block "* ]] || fail "another reason: $stderr"
    [ "$(stat -c '%n %i %z' "$T"/*.sock)" = "$before" ] || fail "the files have changed"
    flip "$IMAGE" 4200 3
    restart unix "$IMAGE"
    ends_well unix
    says_ok unix
}

@test "unix sockets: one that listens at an abstract address" {
    all_lives unix "$GUESTS/unix" abstract
}

@test "unix sockets: senders of datagrams, also of one that is gone" {
    all_lives unix "$GUESTS/unix" addresses
}

@test "unix sockets: files deleted, renamed, bound by a relative path" {
    all_lives unix "$GUESTS/unix" paths
    all_lives unix "$GUESTS/unix" datagram-paths
}

@test "unix sockets: options" {
    all_lives unix "$GUESTS/unix" options
}

@test "unix sockets: who made a connection, and who sent a byte, also children that are gone" {
    all_lives unix "$GUESTS/unix" makers
}

@test "unix sockets: twelve hundred, nearly all descriptors there may be; not dumpable; without a twin" {
    ulimit -n 1300
    all_lives unix "$GUESTS/unix" many
    VARIABLES=(GUEST_UNDUMPABLE=1)
    all_lives unix "$GUESTS/unix" stream
    VARIABLES=(GUEST_UNDUMPABLE=1 STASIS_TEST_FAIL=memory)
    all_lives unix "$GUESTS/unix" packet
}

# The other program, and the one that talks to it.
with_another() {
    start other "$GUESTS/unix" serve
    OTHER=$PID
    wait_for_file "$T/ready"
    start_guest unix "$GUESTS/unix" "$1"
}

end_other() {
    kill -KILL "$OTHER"
    rm -f "$T"/*.sock
}

@test "unix sockets: the other end is another program: as after a broken connection, and said so" {
    local OTHER
    with_another outside
    take "$PID"
    ends_well unix
    says_ok unix
    restart_refused 'R-SOCKET-OUTSIDE*outside.sock' --check --strict "$IMAGE"
    end_other
    : >"$T/cut"
    restart_back unix "$IMAGE"
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    grep -x 'stasis: restart: descriptor 3, a unix socket that was connected to another program at outside.sock, is cut off' "$T/unix.err"
    restart unix "$IMAGE"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    says_ok unix
}

@test "unix sockets: datagrams to another program go there again, if somebody is there" {
    local OTHER
    with_another logs
    take "$PID"
    ends_well unix
    restart_back unix "$IMAGE"
    take "$PID"
    kill_hard "$PID"
    until_true 60 lone_process
    restart unix "$IMAGE"
    ends_well unix
    says_ok unix
    until_true 60 logged abb
    end_other
    : >"$T/cut"
    restart unix "$IMAGE"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    grep -q 'log.sock, is cut off' "$T/unix.err"
    says_ok unix
}

lone_process() {
    [ "$(find_processes | wc -l)" = 1 ]
}

logged() {
    [ "$(cat "$T/log.txt")" = "$1" ]
}

@test "unix sockets: what is refused, by name, and the program goes on" {
    local mode wanted
    for mode in rights:R-SCM-RIGHTS urgent:R-SOCKET early:R-SOCKET-BACKLOG early-closed:R-SOCKET-BACKLOG relative:R-SOCKET-PATH netlink:R-SOCKET; do
        wanted=${mode#*:}
        start_guest unix "$GUESTS/unix" "${mode%:*}"
        [ "$(cat "$T/unix.out")" != none ] || continue
        refused "$PID" 69
        grep -qE "$wanted\b[^-]" <<<"$stderr" || fail "$mode: $stderr"
        refused "$PID" 69
        ends_well unix
        says_ok unix
        rm -f "$T/server.sock"
    done
    [[ "$stderr" == *'a netlink socket'* ]]
}

@test "unix sockets: an address that a living program has, and a place that holds something else" {
    start_guest unix "$GUESTS/unix" listens
    take "$PID"
    restart_refused 'R-SOCKET-IN-USE*server.sock' --check "$IMAGE"
    kill_hard "$PID"
    stasis restart --check "$IMAGE"
    rm "$T/server.sock"
    echo precious >"$T/server.sock"
    restart_refused 'R-SOCKET-PATH*server.sock' "$IMAGE"
    [ "$(cat "$T/server.sock")" = precious ]
    rm "$T/server.sock"
    restart unix "$IMAGE"
    ends_well unix
    says_ok unix
}

make_loop() {
    WORK=("$PYTHON" "$APPS/loop.py" "$1")
}

@test "program: python3 with an event loop, unix sockets and an executor" {
    ENOUGH=4000
    work_for loop 20 make_loop
    images_at loop $((RANDOM % 10 + 10)) $((RANDOM % 20 + 40))
    restart loop "${TAKEN[1]}"
    come_to_end loop
    start_again loop "${TAKEN[0]}"
    moment_at loop $((RANDOM % 20 + 40))
    kill_hard "$PID"
    until_true 60 no_processes
    restart loop "$IMAGE"
    come_to_end loop
}
