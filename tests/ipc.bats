# SPDX-License-Identifier: MIT
# Shared memory of all sorts, and System V and POSIX IPC: guests check themselves after a checkpoint that they survived, after
# three restarts of one image, and in a second generation.

load helpers
load programs

# System V objects of this test's user.
objects() {
    local sort
    for sort in m s q; do ipcs "-$sort" | awk -v user="$USER_ID" -v sort="$sort" '$3 == user || $3 == "user" user { print "-" sort, $2 }'; done
}

eval "$(declare -f teardown | sed '1s/teardown/teardown_common/')"

teardown() {
    local sort id
    if [ ${#BECOME[@]} -gt 0 ]; then
        while read -r sort id; do ipcrm "$sort" "$id"; done < <(objects)
    fi
    teardown_common
}

# The bubble's /dev/shm is its own: nothing of it shows outside.
no_shm() {
    [ -z "$(find /dev/shm -name '*guest-*' -user "$USER_ID")" ] || fail "left in /dev/shm: $(ls /dev/shm)"
}

@test "memfds in every state (PIE)" {
    all_lives memfds "$GUESTS/memfds" 0.3
}

@test "memfds in every state (not PIE)" {
    all_lives memfds "$GUESTS/memfds-nopie" 0.3
}

@test "memfds in every state, while the program stands still" {
    VARIABLES=(STASIS_TEST_FAIL=memory)
    all_lives memfds "$GUESTS/memfds" 0.3
}

@test "POSIX shared memory and named semaphores (PIE)" {
    all_lives posix_shm "$GUESTS/posix_shm" 0.3
    no_shm
}

@test "POSIX shared memory and named semaphores (not PIE)" {
    all_lives posix_shm "$GUESTS/posix_shm-nopie" 0.3
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
    until_true 60 is_ended "$holder"
    take "$guest"
    PID=$guest
    ends_well posix_shm
    says_ok posix_shm
}

@test "a memfd of huge pages is refused by name" {
    refused_as R-HUGETLB "$GUESTS/refuse" huge-memfd 1.5
}

@test "secret memory is refused by name" {
    refused_as R-SECRET-MEMORY "$GUESTS/refuse" secret-memory 1.5
}

@test "Linux AIO is refused by name" {
    refused_as R-AIO "$GUESTS/refuse" aio 1.5
}

@test "files that are written to by their mappings: what was written after the checkpoint is taken back" {
    all_lives mapped_files "$GUESTS/mapped_files" 0.3
    rm "$T/mapped-open" "$T/mapped-closed"
    restart mapped_files "$IMAGE"
    ends_well mapped_files
    says_ok mapped_files
}

@test "a deleted file that is mapped shared" {
    all_lives mapped_files "$GUESTS/mapped_files" 0.3 deleted
    ! ls "$T"/mapped-* || fail "a deleted file has a name"
}

# The ids of before are somebody else's by now, in the namespace outside.
system_v_lives() {
    all_lives "$@"
    [ -z "$(objects)" ] || fail "objects are left outside: $(objects)"
}

@test "System V IPC (PIE)" {
    system_v_lives system_v "$GUESTS/system_v" 0.3
}

@test "System V IPC (not PIE)" {
    system_v_lives system_v "$GUESTS/system_v-nopie" 0.3
}

@test "System V IPC, while the program stands still" {
    VARIABLES=(STASIS_TEST_FAIL=memory)
    system_v_lives system_v "$GUESTS/system_v" 0.3
}

@test "System V objects of others are refused by name, and so is a segment that others have attached" {
    local id key=$((0x6f000000 + $$)) code='$| = 1; open(F, ">", $ENV{GUEST_READY}); close(F); sleep 600'
    # shellcheck disable=SC2016
    as_user perl -e 'semget($ARGV[0], 1, 0x200 | 0600) // die $!' "$key"
    start_guest others perl -e "semop(semget($key, 1, 0), pack('s3', 0, 1, 0)) or die; $code"
    refused "$PID" 69
    [[ "$stderr" == *"R-SYSTEM-V:"* ]] || fail "another name: $stderr"
    kill_hard "$PID"
    start_guest attached perl -e "\$id = shmget($key, 4096, 0x200 | 0600) // die; shmwrite(\$id, 'abc', 0, 3) or die; $code"
    take "$PID"
    # shellcheck disable=SC2016
    start attacher perl -MIPC::SharedMem -e '$m = IPC::SharedMem->new($ARGV[0], 4096, 0600)->attach // die; open(F, ">", $ARGV[1]); sleep 600' "$key" "$T/attached"
    wait_for_file "$T/attached"
    refused "${STARTED[-2]}" 69
    [[ "$stderr" == *"R-SYSTEM-V:"* ]] || fail "another name: $stderr"
}

@test "memory, semaphores and messages between two processes" {
    system_v_lives ipc_tree "$GUESTS/ipc_tree" 1
}

@test "asynchronous I/O of libc: a request that waits, and others at every tick" {
    all_lives posix_aio "$GUESTS/posix_aio" 0.8
}

make_shared() {
    WORK=("$PYTHON" "$APPS/shared.py" "$1")
}

make_system_v() {
    WORK=(perl "$APPS/system_v.pl" "$1")
}

# A database of its own for each run: with its log, and the index of that, which it maps.
make_wal() {
    rm -rf "${T:?}/data"
    mkdir "$T/data"
    own "$T/data"
    gawk -v "rounds=$1" -f "$APPS/insert.awk" | sed '1i pragma journal_mode=wal;' >"$T/insert.$1.sql"
    WORK=(sqlite3 data/items.db ".read $T/insert.$1.sql")
}

# twice NAME AMOUNT MAKE: an image of a run that is then killed, and two restarts from it to the end. What the first does to
# files does not harm the second.
twice() {
    local name=$1 ENOUGH=2000
    work_for "$@"
    "$3" "$(cat "$BATS_FILE_TMPDIR/$name.amount")"
    images_at "$name" "$(moments 1)"
    for _ in 1 2; do
        restart "$name" "${TAKEN[0]}"
        come_to_end "$name"
    done
}

@test "python3 with multiprocessing.shared_memory, and a mapped file" {
    twice shared 20 make_shared
}

@test "perl with System V IPC" {
    needs perl
    twice system_v 20 make_system_v
}

@test "sqlite3 with a write-ahead log, whose index it maps" {
    needs sqlite3
    VARIABLES=(STASIS_SAVE_FILES=1)
    twice wal 60 make_wal
}

@test "POSIX message queues" {
    all_lives posix_queue "$GUESTS/posix_queue" 0.3
}

@test "POSIX message queues with messages in them" {
    all_lives posix_queue "$GUESTS/posix_queue" 0.3 full
}

@test "a POSIX message queue with somebody to notify is refused by name" {
    refused_as R-MESSAGE-QUEUE "$GUESTS/posix_queue" 0.1 notify
}
