# SPDX-License-Identifier: MIT
# UDP sockets; `udp` looks at every tick.

load helpers

sort_lives() {
    survives "$1" "$GUESTS/udp" "$1"
}

@test "udp: bound, connected, with datagrams that were not read" {
    sort_lives talk
}

@test "udp: the program that had its image taken runs on" {
    runs_on talk "$GUESTS/udp" talk
}

@test "udp: members of groups, and options" {
    sort_lives group
}

@test "udp: calls that block go on" {
    sort_lives blocked
}

@test "udp: what came from outside is lost, and said to be; --strict refuses" {
    start server "$GUESTS/udp" server "$T/port"
    wait_for_file "$T/port"
    start_guest outside "$GUESTS/udp" outside "$(cat "$T/port")"
    take "$PID"
    kill_hard "$PID"
    restart_refused 'R-SOCKET-OUTSIDE: 1 datagrams from outside' --strict "$IMAGE"
    release
    restart outside "$IMAGE"
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "it ended with $STATUS: $(cat "$T/outside.out" "$T/outside.err")"
    grep -q "1 datagrams from outside" "$T/outside.err"
    says_ok outside
}

@test "udp: sockets of other protocols are refused by name" {
    refused_as R-SOCKET "$GUESTS/udp" other
}
