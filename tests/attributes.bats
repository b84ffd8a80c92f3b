# SPDX-License-Identifier: MIT
# What process and threads have for themselves: scheduling, CPUs, personality, memory policies, rights, limits.

load helpers

traits() {
    survives "$1" "$GUESTS/traits" "$1" 1
}

# can THING: a guest can have it on this machine.
can() {
    as_user "$GUESTS/traits" "$1" 0 >"$T/can" || skip "needs: $(cat "$T/can")"
}

needs_rights() {
    [ "${STASIS_TEST_AS:-user}" = root ] && [ "$(id -u)" = 0 ] || skip "needs: root's pass"
}

@test "policies, niceness, slices and I/O priorities of threads that anybody may set" {
    traits ordinary
}

@test "personality of each thread: with executable memory, an old kernel's name" {
    traits personality
}

@test "time stamp counter, speculation, parent-death signal, OOM score and core filter" {
    traits prctl
}

@test "a program without a time stamp counter takes an image by itself" {
    start_guest blind "$GUESTS/traits" blind 1
    kill -USR2 "$PID"
    wait_for_file "$IMAGES/blind.0.ckpt" 30
    kill_hard "$PID"
    restart_back blind "$IMAGES/blind.0.ckpt"
    ends_well blind
    says_ok blind
}

@test "memory policies of threads and of ranges" {
    can memory
    traits memory
}

@test "a thread that bound itself to a CPU is bound again" {
    traits bound
    traits bound-main
}

# bats test_tags=root
@test "what only root may set: real time, deadlines, secure bits and ambient capabilities" {
    needs_rights
    can real-time
    traits real-time
    can rights
    traits rights
}

# bats test_tags=root
@test "what takes more rights than root has in some containers: spared from the OOM killer, flusher of I/O" {
    needs_rights
    can spared
    traits spared
    can flusher
    traits flusher
}

# restart_with WORD... : the restart of the last image by a command that stands before stasis; returns when the program is back.
restart_with() {
    hold
    start "$NAME" "$@" "$STASIS" restart "$IMAGE"
    until_true 60 is_back_or_gone
    is_alive "$PID" || fail "the restart ended at once: $(cat "$T/$NAME.err")"
    PROGRAM=$(find_processes | awk '$2 == "traits" { print $1; exit }')
}

# field KEY: of the restarted program's status.
field() {
    awk -v key="$1:" '$1 == key { print $2; exit }' "/proc/$PROGRAM/status"
}

@test "a policy that the restart may not set is said, and left; --strict refuses" {
    local NAME=fifo
    needs_root "to give a user's program a real-time policy"
    [ -n "${BECOME[*]}" ] || skip "needs: another user than root"
    start_guest fifo "$GUESTS/traits" nothing 1
    chrt -f -p 5 "$PID" || skip "needs: real-time policies"
    ionice -c 1 -n 2 -p "$PID"
    take "$PID"
    chrt -o -p 0 "$PID"
    kill_hard "$PID"
    restart_refused 'R-SCHEDULING*SCHED_FIFO*--strict' --check --strict "$IMAGE"
    restart_with env
    [[ $(cat "$T/fifo.err") == *SCHED_FIFO*"I/O priority 2 of class 1"* ]]
    [[ $(chrt -p "$PROGRAM") == *SCHED_OTHER* ]]
    : >"$T/fifo.err"
    ends_well fifo
    says_ok fifo
}

@test "CPUs: a program that was bound by its command line gives way to that of the restart, an unbound one has all" {
    local NAME=given last
    last=$(($(nproc --all) - 1))
    [ "$last" -gt 0 ] || skip "needs: two CPUs"
    start_guest given taskset -c 0 "$GUESTS/traits" nothing 1
    take "$PID"
    kill_hard "$PID"
    restart_with env
    [ "$(field Cpus_allowed_list)" = 0 ]
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    restart_with taskset -c "$last"
    [ "$(field Cpus_allowed_list)" = "$last" ]
    ends_well given
    start_guest given "$GUESTS/traits" nothing 1
    take "$PID"
    kill_hard "$PID"
    restart_with taskset -c "$last"
    [ "$(field Cpus_allowed_list)" = "$last" ]
    ends_well given
}

# A control group that has CPU 0 alone: GROUP is what a process must be written to.
small_cpuset() {
    local place
    needs_root "for a control group of one CPU"
    for place in /sys/fs/cgroup/cpuset /sys/fs/cgroup; do
        if grep -qs "cpuset" "$place/cgroup.controllers" || [ -e "$place/cpuset.cpus" ]; then
            mkdir "$place/stasis-test-$$" || continue
            CONTROL_GROUPS+=("$place/stasis-test-$$")
            GROUP=$place/stasis-test-$$/cgroup.procs
            echo 0 >"$place/stasis-test-$$/cpuset.cpus" && echo 0 >"$place/stasis-test-$$/cpuset.mems" && return 0
        fi
    done
    skip "needs: control groups with cpusets"
}

@test "CPUs: a thread that bound itself where the restart has no CPU is said, and bound to none; --strict refuses" {
    local NAME=bound
    small_cpuset
    [ "$(nproc --all)" -gt 1 ] || skip "needs: two CPUs"
    start_guest bound "$GUESTS/traits" bound-elsewhere 1
    take "$PID"
    kill_hard "$PID"
    hold
    # shellcheck disable=SC2016
    run sh -c 'echo $$ >"$1" && shift && exec "$@"' - "$GROUP" "${BECOME[@]}" "$STASIS" restart --check --strict "$IMAGE"
    [ "$status" = 69 ] || fail "status $status: $output"
    [[ $output == *R-SCHEDULING*none\ is\ here*--strict* ]]
    start bound sh -c 'kill -STOP $$; exec "$@"' - "$STASIS" restart "$IMAGE"
    until_true 60 is_stopped "$PID"
    echo "$PID" >"$GROUP"
    kill -CONT "$PID"
    until_true 60 is_back_or_gone
    [[ $(cat "$T/bound.err") == *"none is here"* ]]
    : >"$T/bound.err"
    ends_well bound
    says_ok bound
}

# Few machines have them: what the program answers is made up here.
@test "core scheduling and tagged addresses: refused by name, and the program runs on" {
    local word
    for word in core-cookie:R-CORE-SCHEDULING tagged-addresses:R-TAGGED-ADDRESSES; do
        start_guest odd "$GUESTS/stdio" 1
        VARIABLES=("STASIS_TEST_FAIL=${word%:*}")
        refused "$PID" 69
        VARIABLES=()
        [[ $stderr == *"${word#*:}:"* ]] || fail "another name: $stderr"
        take "$PID"
        ends_well odd
    done
}

@test "a keyring of its own, a filter of one thread, a memory policy of relative nodes: refused by name, and the program runs on" {
    can keyring
    start_guest keyring "$GUESTS/traits" keyring 1
    refused "$PID" 69
    [[ $stderr == *R-KEYRING* ]]
    ends_well keyring
    start_guest filter "$GUESTS/traits" filter 1
    refused "$PID" 69
    [[ $stderr == *R-SECCOMP* ]]
    ends_well filter
    can relative
    start_guest relative "$GUESTS/traits" relative 1
    refused "$PID" 69
    [[ $stderr == *R-MEMORY-POLICY* ]]
    ends_well relative
}

# bats test_tags=root
@test "threads of two users: refused by name" {
    needs_rights
    start_guest users "$GUESTS/traits" other-user 1
    refused "$PID" 69
    [[ $stderr == *R-CREDENTIALS* ]]
    ends_well users
}
