# SPDX-License-Identifier: MIT
# Descriptors: their owners and signals, high numbers, many of them.

load helpers

# restart_says_what_it_needs NAME LIMIT: with so few descriptors it is refused, and with the number that it says it works.
restart_says_what_it_needs() {
    local number
    run --separate-stderr as_user bash -c "ulimit -n $2; exec $STASIS restart $IMAGE"
    [ "$status" = 69 ] && [[ $stderr == *R-DESCRIPTOR-LIMIT* ]] || fail "status $status: $stderr"
    number=${stderr##* }
    run --separate-stderr as_user bash -c "ulimit -n $number; exec $STASIS restart $IMAGE"
    [ "$status" = 0 ] || fail "status $status with $number: $stderr"
    says_ok "$1"
}

@test "owners of descriptors, their signals, O_ASYNC: to the process and to a thread" {
    survives owners "$GUESTS/owners" inside 1
}

@test "a descriptor whose owner is another program, a directory that tells by signals: refused by name, and the program runs on" {
    refused_as R-DESCRIPTOR-OWNER "$GUESTS/owners" outside 1
    refused_as R-DIRECTORY-NOTIFY "$GUESTS/owners" directory 1
}

@test "two thousand descriptors: one file opened again and again, files, pipes; the highest number there may be, with gaps" {
    local what
    for what in same files pipes; do
        survives "$what" "$GUESTS/many" "$what" 2000 1
    done
    survives sparse "$GUESTS/many" sparse 20 1
}

@test "nearly as many pipes as there may be descriptors; and, of a tree, more than a restart has room for: refused by name" {
    [ "${STASIS_TEST_AS:-user}" != root ] || skip "needs: an ordinary user"
    ulimit -n 3000
    survives pipes "$GUESTS/many" pipes 2900 1
    start_guest tree "$GUESTS/many" tree 500 1
    take "$PID"
    ends_well tree
    until_true 60 no_processes
    restart_says_what_it_needs tree 1200
}

@test "more sockets than a restart has room for: refused by name, with the number that it needs" {
    [ "${STASIS_TEST_AS:-user}" != root ] || skip "needs: an ordinary user"
    start_guest sockets "$GUESTS/many" sockets 600 1
    take "$PID"
    ends_well sockets
    until_true 60 no_processes
    restart_says_what_it_needs sockets 900
}

@test "more threads than the restart may have: refused by name" {
    [ "${STASIS_TEST_AS:-user}" != root ] || skip "needs: an ordinary user"
    start_guest threads "$GUESTS/threads" 30 1
    take "$PID"
    kill_hard "$PID"
    run --separate-stderr as_user bash -c "ulimit -u 10; exec $STASIS restart --check $IMAGE"
    [ "$status" = 69 ] && [[ $stderr == *R-THREAD-LIMIT* ]] || fail "status $status: $stderr"
}
