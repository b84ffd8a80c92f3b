# SPDX-License-Identifier: MIT
# Memory comes back exactly: every sort of mapping, address spaces out of the ordinary, another kernel's vDSO.

load helpers

# generations NAME COMMAND...: three images, each of the life before; every restart with the words in WORDS.
generations() {
    local name=$1 life
    shift
    start_guest "$name" "$@"
    for life in 1 2 3; do
        VARIABLES=()
        take "$PID"
        kill_hard "$PID"
        until_true 10 no_processes
        VARIABLES=("STASIS_TEST_FAIL=$WORDS")
        if [ "$life" = 3 ]; then restart "$name" "$IMAGE"; else restart_back "$name" "$IMAGE"; fi
    done
    ends_well "$name" 200
    says_ok "$name"
}

@test "every sort of mapping, three generations (PIE)" {
    generations mappings "$GUESTS/mappings" 4
}

@test "every sort of mapping, three generations (not PIE)" {
    generations mappings "$GUESTS/mappings-nopie" 4
}

@test "every sort of mapping, while the program stands still; and without PAGEMAP_SCAN" {
    local word
    for word in memory pagemap_scan; do
        VARIABLES=("STASIS_TEST_FAIL=$word")
        start_guest "$word" "$GUESTS/mappings" 2
        take "$PID"
        kill_hard "$PID"
        VARIABLES=()
        restart "$word" "$IMAGE"
        ends_well "$word"
        says_ok "$word"
    done
}

@test "every sort of mapping survives its checkpoints" {
    local life
    start_guest mappings "$GUESTS/mappings" 3
    for life in 1 2 3; do take "$PID"; done
    ends_well mappings
    says_ok mappings
}

@test "64 TB of room, few pages of it used: three generations" {
    generations room "$GUESTS/wide" room 2
    [ "$(size_of "$IMAGE")" -lt $((64 << 20)) ] || fail "the image has $(size_of "$IMAGE") bytes"
}

@test "30000 mappings: three generations" {
    generations many "$GUESTS/wide" many 3
}

@test "no address space is left (RLIMIT_AS): three generations" {
    generations limit "$GUESTS/wide" limit 2
}

@test "memory that is locked as soon as it is there (mlockall): three generations" {
    generations locked "$GUESTS/wide" locked 2
}

@test "more locked memory than a restart may lock is refused by name" {
    [ "${STASIS_TEST_AS:-user}" != root ] || skip "needs: an ordinary user"
    start_guest mappings "$GUESTS/mappings" 3 locked
    take "$PID"
    kill_hard "$PID"
    run --separate-stderr as_user sh -c "ulimit -l 64; exec $STASIS restart $IMAGE"
    [ "$status" = 69 ] || fail "status $status: $stderr"
    named "$stderr"
    restart mappings "$IMAGE"
    ends_well mappings
    says_ok mappings
}

# refused_as NAME WHAT: the checkpoint of `wide WHAT` is refused by that name, and the program runs on.
refused_as() {
    start_guest "$2" "$GUESTS/wide" "$2" 2 2>/dev/null || :
    ! grep NONE "$T/$2.out" || skip "needs: a machine with $2"
    refused "$PID" 69
    [[ "$stderr" == *"$1:"* ]] || fail "another name: $stderr"
    ends_well "$2"
    says_ok "$2"
}

@test "guard pages in memory that a fork does not copy are refused by name" {
    refused_as R-GUARD-PAGE unseen
}

@test "memory of the pool of huge pages is refused by name" {
    local had
    needs_root "for huge pages"
    had=$(cat /proc/sys/vm/nr_hugepages)
    [ "$had" -gt 0 ] || echo 2 >/proc/sys/vm/nr_hugepages
    refused_as R-HUGETLB pool
    echo "$had" >/proc/sys/vm/nr_hugepages
}

@test "memory under userfaultfd is refused by name" {
    refused_as R-USERFAULTFD watched
}

@test "protection keys are refused by name" {
    grep -qw ospke /proc/cpuinfo || skip "needs: a CPU with protection keys"
    refused_as R-PROTECTION-KEY key
}

# ---- another kernel's vDSO ----

@test "another vDSO: every entry leads to the new one, for threads that were inside of it; three generations" {
    WORDS=vdso generations clock "$GUESTS/wide" clock 3
    grep -qx jumps "$T/clock.out" || fail "the entries are: $(cat "$T/clock.out")"
}

@test "another vDSO: every sort of mapping, threads, sleeps" {
    WORDS=vdso generations mappings "$GUESTS/mappings" 3
    WORDS=vdso generations threads "$GUESTS/threads" 9 3
}

@test "the own vDSO is left as it is" {
    generations clock "$GUESTS/wide" clock 2
    grep -qx own "$T/clock.out" || fail "the entries are: $(cat "$T/clock.out")"
}

@test "a kernel that seals its system mappings: refused by name" {
    start_guest stdio "$GUESTS/stdio" 3
    take "$PID"
    kill_hard "$PID"
    VARIABLES=(STASIS_TEST_FAIL=vdso_sealed)
    run --separate-stderr stasis restart "$IMAGE"
    [ "$status" = 69 ] || fail "status $status: $stderr"
    named "$stderr"
    VARIABLES=()
    restart stdio "$IMAGE"
    ends_well stdio
    says_ok stdio
}
