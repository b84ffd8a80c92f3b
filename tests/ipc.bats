# SPDX-License-Identifier: MIT
# Shared memory of all sorts, and System V and POSIX IPC: guests check themselves after a checkpoint that they survived, after
# three restarts of one image, and in a second generation.

load helpers

# lives NAME COMMAND...: the original runs to its end after its checkpoint; then its image is brought back three times, the third
# time with an image of its own, from which it comes to its end.
lives() {
    local name=$1 life
    start_guest "$@"
    take "$PID"
    ends_well "$name"
    says_ok "$name"
    for life in 2 3 4; do
        restart_back "$name" "$IMAGE"
        [ "$life" != 4 ] || take "$PID"
        kill_hard "$PID"
    done
    restart_back "$name" "$IMAGE"
    ends_well "$name"
    says_ok "$name"
}

# The bubble's /dev/shm is its own: nothing of it shows outside.
no_shm() {
    [ -z "$(find /dev/shm -name '*guest-*' -user "$USER_ID")" ] || fail "left in /dev/shm: $(ls /dev/shm)"
}

# refused_as NAME COMMAND...: the checkpoint is refused by that name, and the program runs on.
refused_as() {
    local name=$1
    shift
    start_guest refused "$@" || skip "needs: a machine that has it: $(cat "$T/refused.out")"
    refused "$PID" 69
    [[ "$stderr" == *"$name:"* ]] || fail "another name: $stderr"
    ends_well refused
    says_ok refused
}

@test "memfds in every state (PIE)" {
    lives memfds "$GUESTS/memfds" 0.3
}

@test "memfds in every state (not PIE)" {
    lives memfds "$GUESTS/memfds-nopie" 0.3
}

@test "memfds in every state, while the program stands still" {
    VARIABLES=(STASIS_TEST_FAIL=memory)
    lives memfds "$GUESTS/memfds" 0.3
}

@test "POSIX shared memory and named semaphores (PIE)" {
    lives posix_shm "$GUESTS/posix_shm" 0.3
    no_shm
}

@test "POSIX shared memory and named semaphores (not PIE)" {
    lives posix_shm "$GUESTS/posix_shm-nopie" 0.3
    no_shm
}

@test "memory that a process outside has open or mapped is refused by name" {
    local guest holder
    start_guest posix_shm "$GUESTS/posix_shm" 0.3
    guest=$PID
    # shellcheck disable=SC2016
    start holder bash -c 'exec 5<"$1"; : >"$2"; exec sleep 600' bash "/dev/shm/guest-shm-0-$guest" "$T/holds"
    holder=$PID
    wait_for_file "$T/holds"
    refused "$guest" 69
    [[ "$stderr" == *"R-SHARED-MEMORY:"*"process $holder"* ]] || fail "another name: $stderr"
    kill -KILL "$holder"
    until_true 10 is_ended "$holder"
    take "$guest"
    PID=$guest
    ends_well posix_shm
    says_ok posix_shm
}

@test "secret memory is refused by name" {
    refused_as R-SECRET-MEMORY "$GUESTS/refuse" secret-memory 1.5
}

@test "Linux AIO is refused by name" {
    refused_as R-AIO "$GUESTS/refuse" aio 1.5
}

@test "files that are written to by their mappings: what was written after the checkpoint is taken back" {
    lives mapped_files "$GUESTS/mapped_files" 0.3
    rm "$T/mapped-open" "$T/mapped-closed"
    restart mapped_files "$IMAGE"
    ends_well mapped_files
    says_ok mapped_files
}

@test "a deleted file that is mapped shared" {
    lives mapped_files "$GUESTS/mapped_files" 0.3 deleted
    ! ls "$T"/mapped-* || fail "a deleted file has a name"
}
