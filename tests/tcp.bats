# SPDX-License-Identifier: MIT
# TCP sockets: listeners, connections within the program, and those that lead out. `tcp` looks at every tick.

load helpers

sort_lives() {
    survives "$1" "$GUESTS/tcp" "$@"
}

@test "tcp: connections with bytes both ways, and their listeners" {
    sort_lives pairs
}

@test "tcp: the program that had its image taken runs on" {
    start_guest pairs "$GUESTS/tcp" pairs
    take "$PID"
    take "$PID"
    ends_well pairs
    says_ok pairs
}

@test "tcp: two hundred connections" {
    sort_lives many
}

@test "tcp: IPv4 through IPv6, other addresses, copies of descriptors, flags" {
    sort_lives odd
}

@test "tcp: a socket that is connected with itself" {
    sort_lives self
}

@test "tcp: queues that are full, with buffers of all sizes" {
    sort_lives full
}

@test "tcp: queues that are full flow on in the program that had its image taken" {
    start_guest full "$GUESTS/tcp" full
    take "$PID"
    take "$PID"
    ends_well full
    says_ok full
}

@test "tcp: half closed, closed and reset, with bytes that were not read" {
    sort_lives halves
}

@test "tcp: connections that wait to be accepted" {
    sort_lives backlog
}

@test "tcp: not connected, failed, and connecting" {
    sort_lives unconnected
}

@test "tcp: options" {
    sort_lives options
}

@test "tcp: calls that block go on" {
    sort_lives blocked
}

@test "tcp: a connection between parent and child, and a listener of both" {
    sort_lives family
}

@test "tcp: connections that lead out are cut, and said to be; --strict refuses" {
    local port
    start server "$GUESTS/tcp" server "$T/port"
    wait_for_file "$T/port"
    port=$(cat "$T/port")
    start_guest outside "$GUESTS/tcp" outside "$port"
    take "$PID"
    kill_hard "$PID"
    restart_refused "R-SOCKET-OUTSIDE*127.0.0.1:$port" --strict "$IMAGE"
    restart_back outside "$IMAGE"
    [ "$(grep -c "a connection with 127.0.0.1:$port, comes back cut" "$T/outside.err")" = 2 ] || fail "it says: $(cat "$T/outside.err")"
    : >"$T/outside.err"
    take "$PID" # one has been looked at by now, the other waits to be
    kill_hard "$PID"
    until_true 60 no_guests outside
    restart outside "$IMAGE"
    ends_well outside 200
    says_ok outside
}

no_guests() {
    ! find_processes | grep -v " tcp$" | grep -q . && [ "$(find_processes | wc -l)" = 1 ]
}

@test "tcp: a port that somebody else has is named before anything is changed" {
    local port
    start_guest pairs "$GUESTS/tcp" pairs
    take "$PID"
    kill_hard "$PID"
    port=$(stasis show "$IMAGE" | sed -nE 's/^  3: TCP, listening, at 127\.0\.0\.1:([0-9]+),.*/\1/p')
    [ -n "$port" ]
    restart_back pairs "$IMAGE" # has it now
    restart_refused "R-PORT-IN-USE: 127.0.0.1:$port, where descriptor 3 was, is in use by process [0-9]" --check "$IMAGE"
    ends_well pairs 200
    says_ok pairs
}

@test "tcp: a port of connections that have just been closed is waited for" {
    local program='import os, socket, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
for number in range(2):
    caller = socket.create_connection(listener.getsockname())
    listener.accept()[0].close() # first: the port is on this side
    assert not caller.recv(1)
    caller.close()
    open(os.environ["GUEST_READY"], "w").close()
    while os.path.exists(os.environ["GUEST_READY"] + ".hold"): time.sleep(0.01)
print("OK")'
    start_guest closed /usr/bin/python3 -c "$program"
    take "$PID"
    kill_hard "$PID"
    restart_refused 'R-PORT-IN-USE: 127.0.0.1:*is in use by closed connections' --check "$IMAGE"
    restart closed "$IMAGE"
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "$(cat "$T/closed.err")"
    says_ok closed
}

@test "tcp: urgent data, and bytes that nobody has accepted, are refused by name" {
    local sort
    for sort in urgent:R-SOCKET-QUEUE unaccepted-bytes:R-SOCKET-BACKLOG closed-caller:R-SOCKET-BACKLOG; do
        refused_as "${sort#*:}" "$GUESTS/tcp" "${sort%:*}"
    done
}
