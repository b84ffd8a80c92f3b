# SPDX-License-Identifier: MIT
# Restarts where the kernel gives no namespaces: a program of one process comes back among the host's processes. It needs its numbers
# back, and others who run at the same time may have them; so run.sh runs this file in a PID namespace, alone.

export BATS_NO_PARALLELIZE_WITHIN_FILE=true

load helpers
load programs

SAID='stasis: restart: no namespaces can be had here, so the program runs among the host'

# The first 300 numbers are given out once only. From Linux 6.14 on each PID namespace has a pid_max of its own, and begins with the highest.
setup_file() {
    [ -n "${STASIS_TEST_OWN_PIDS:-}" ] || return 0
    if printf '6.14\n%s\n' "$(uname -r)" | sort -CV; then { echo 32768 >/proc/sys/kernel/pid_max; } 2>/dev/null || :; fi
    while [ "$(sh -c 'echo $$')" -lt 300 ]; do :; done
}

# A restart waits for all numbers to come round: 40 s where there are four millions.
needs_numbers() {
    [ -n "${STASIS_TEST_OWN_PIDS:-}" ] || skip "needs: a PID namespace of its own: tests/run.sh makes one, as root"
    [ "$(cat /proc/sys/kernel/pid_max)" -le 100000 ] || skip "needs: a kernel.pid_max of 100000 at most, for the time it takes"
}

restart_back() {
    hold
    restart "$1" "$2"
    until_true 300 is_back_or_gone
    is_alive "$PID" || fail "the restart of $1 ended at once: $(tail -n 3 "$T/$1.out" "$T/$1.err")"
}

# Programs of this test find none when they are brought back.
forbid() {
    VARIABLES=(STASIS_TEST_FAIL=userns)
}

allow() {
    VARIABLES=()
}

# said_it NAME TIMES: by each restart of this kind.
said_it() {
    [ "$(grep -c "^$SAID" "$T/$1.err")" = "$2" ] || fail "it was not said $2 times: $(cat "$T/$1.err")"
}

# Nothing else may be said.
silent() {
    ! grep -v "^$SAID" "$T/$1.err" || fail "$1 has more on stderr"
}

# The kernel is at the program's number now, and soon at that of the command that waits for it. Bash would forget a child whose number
# another one gets before it has asked for its end.
pass_own_number() {
    local number=0
    for _ in {1..1000}; do
        number=$(echo "$BASHPID")
        [ "$number" -lt "$PID" ] || [ "$number" -gt $((PID + 1000)) ] || return 0
    done
}

# Killed, and brought back from its newest image.
again() {
    kill_hard "$PID"
    until_true 60 no_processes
    restart_back "$1" "$IMAGE"
    pass_own_number
}

# The guest `ids` has an image, and is killed.
ids_fall() {
    allow
    start_guest ids "$GUESTS/ids" 2
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
}

# comes_back NAME COMMAND...: two lives without namespaces, the second one from an image of the first; and one in a bubble.
comes_back() {
    local name=$1 life
    allow
    start_guest "$@"
    take "$PID"
    forbid
    for life in 1 2; do
        again "$name"
        said_it "$name" "$life"
        take "$PID"
        [[ "$(stasis show "$IMAGE")" == *"program $2"* ]] || fail "another program is in the image"
    done
    allow
    again "$name"
    ends_well "$name"
    says_ok "$name"
}

# refused_here SAID NAME COMMAND...: with namespaces it comes back.
refused_here() {
    local said=$1 name=$2
    shift
    allow
    start_guest "$@"
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    forbid
    restart_refused "R-USER-NAMESPACE:*$said" "$IMAGE"
    [[ $stderr == *"nothing was changed"* ]]
    allow
    restart_back "$name" "$IMAGE"
    ends_well "$name"
    says_ok "$name"
}

@test "no namespaces: PIDs, TIDs, and the mutexes that go by them" {
    needs_numbers
    comes_back ids "$GUESTS/ids" 2
}

@test "no namespaces: the same of a program that is no PIE" {
    needs_numbers
    comes_back ids "$GUESTS/ids-nopie" 2
}

@test "no namespaces: locks, waits and many threads" {
    needs_numbers
    comes_back sync "$GUESTS/sync" 2
    comes_back threads "$GUESTS/threads" 33 2
}

@test "no namespaces: memory, timers, signals, descriptors, unix sockets without names" {
    needs_numbers
    comes_back mappings "$GUESTS/mappings" 2
    comes_back timers "$GUESTS/timers" 2
    comes_back signals "$GUESTS/signals" 2
    comes_back eventfd "$GUESTS/events" eventfd
    comes_back timerfd "$GUESTS/events" timerfd
    comes_back unix "$GUESTS/unix" stream
}

@test "no namespaces: python3 with threads, and gawk" {
    needs_numbers
    local ENOUGH=$SHORT
    work_for threads 500 make_threads
    host_life threads
    work_for collatz 150 make_collatz
    host_life collatz
}

make_threads() {
    WORK=("$PYTHON" "$APPS/threads.py" "$1")
}

make_collatz() {
    WORK=(gawk -v "rounds=$1" -f "$APPS/collatz.awk")
}

host_life() {
    allow
    images_at "$1" "$(moments 1)"
    until_true 60 no_processes
    forbid
    start_again "$1" "$IMAGE"
    wait_exit "$PID" 300
    [ "$STATUS" = 0 ]
    said_it "$1" 1
    same "$1"
}

@test "no namespaces: from a life in a bubble" {
    needs_numbers
    allow
    start_guest ids "$GUESTS/ids" 2
    take "$PID"
    again ids
    take "$PID"
    forbid
    again ids
    said_it ids 1
    ends_well ids
    says_ok ids
}

@test "no namespaces: what is said, and --strict, --check" {
    needs_numbers
    ids_fall
    forbid
    run --separate-stderr stasis restart --check "$IMAGE"
    [ "$status" = 0 ]
    [[ $stderr =~ monotonic\ clocks\ have\ gone\ on\ by\ [0-9]+\ s ]]
    [[ $stderr == *"/exe is stasis-restorer"* ]]
    [ "$(wc -l <<<"$stderr")" = 1 ]
    restart_refused 'R-USER-NAMESPACE:*--strict' --strict "$IMAGE"
    allow
}

@test "no namespaces: its PID is another's" {
    needs_numbers
    allow
    start_guest ids "$GUESTS/ids" 2
    take "$PID"
    forbid
    restart_refused "R-PID-TAKEN:*$PID belongs to another one (ids)" "$IMAGE"
    allow
    ends_well ids
    says_ok ids
}

@test "no namespaces: what others would see is refused by name" {
    needs_numbers
    refused_here 'several processes' family "$GUESTS/family" pipes 1
    refused_here 'children that have ended' family "$GUESTS/family" ended 1
    refused_here 'System V IPC' system_v "$GUESTS/system_v" 1
    refused_here 'shared memory with names' posix_shm "$GUESTS/posix_shm" 1
    refused_here 'POSIX message queues' posix_queue "$GUESTS/posix_queue" 1
    refused_here 'unix sockets' unix "$GUESTS/unix" listens
    refused_here 'TCP connections' tcp "$GUESTS/tcp" pairs
}

# Processes of this test, and what stands for them.
@test "no namespaces: the command is killed, and its keeper" {
    needs_numbers
    local name whom
    for name in restorer keeper; do
        allow
        start_guest ids "$GUESTS/ids" 2
        take "$PID"
        forbid
        again ids
        if [ "$name" = keeper ]; then whom=$(pgrep -P "$PID" -x stasis-keeper); else whom=$PID; fi
        kill -KILL "$whom"
        wait_exit "$PID"
        [ "$STATUS" = 137 ]
        until_true 60 no_processes
    done
    allow
}

@test "no namespaces: a program that ends by a signal" {
    needs_numbers
    allow
    start_guest ids "$GUESTS/ids" 2
    take "$PID"
    forbid
    again ids
    kill -TERM "$PID"
    wait_exit "$PID"
    [ "$STATUS" = 143 ]
    until_true 60 no_processes
    allow
}

# A container's filter goes on to hold for the program that it has been brought back under.
@test "no namespaces: really, by a filter of system calls" {
    needs_numbers
    ids_fall
    VARIABLES=("$GUESTS/contained")
    restart_back ids "$IMAGE"
    pass_own_number
    said_it ids 1
    allow
    ends_well ids
    says_ok ids
}

# Each passes over all numbers, and neither over those of the other.
@test "no namespaces: two programs at once" {
    needs_numbers
    local other images
    allow
    start_guest ids "$GUESTS/ids" 2
    take "$PID"
    images=$IMAGE
    kill_hard "$PID"
    start_guest more "$GUESTS/threads" 9 2
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    forbid
    hold
    restart ids "$images"
    other=$PID
    restart_back more "$IMAGE"
    pass_own_number
    ends_well more
    says_ok more
    PID=$other
    ends_well ids
    says_ok ids
}

# All in one user namespace, in which there can be no other, and without rights in it. HOLDER keeps it.
@test "no namespaces: really, by sysctl" {
    needs_numbers
    local life
    start_ready holder unshare --map-current-user --keep-caps sh -c \
        'echo 0 >/proc/sys/user/max_user_namespaces && : >"$GUEST_READY" && exec sleep 600'
    HOLDER=$PID
    VARIABLES=(nsenter --user --preserve-credentials -t "$HOLDER" setpriv --inh-caps=-all)
    run as_user unshare --user true
    [ "$status" != 0 ]
    start_guest ids "$GUESTS/ids" 2
    for life in 1 2; do
        take "$PID"
        kill_hard "$PID"
        until_true 60 is_alone
        restart_back ids "$IMAGE"
        pass_own_number
        said_it ids "$life"
    done
    ends_well ids
    says_ok ids
    kill -KILL "$HOLDER"
}

is_alone() {
    [ "$(find_processes)" = "$HOLDER sleep" ]
}
