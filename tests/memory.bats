# SPDX-License-Identifier: MIT
# Memory comes back exactly: every sort of mapping, address spaces out of the ordinary, another kernel's vDSO.

load helpers

# generations NAME COMMAND...: the guest survives, with the words in WORDS for its restarts.
generations() {
    start_guest "$@"
    VARIABLES=("STASIS_TEST_FAIL=$WORDS")
    lives_on "$1"
}

@test "every sort of mapping, three generations (PIE)" {
    generations mappings "$GUESTS/mappings" 1
}

# bats test_tags=notice
@test "every sort of mapping, three generations (not PIE)" {
    generations mappings "$GUESTS/mappings-nopie" 1
}

@test "every sort of mapping, while the program stands still; and without PAGEMAP_SCAN" {
    VARIABLES=(STASIS_TEST_FAIL=memory)
    survives memory "$GUESTS/mappings" 1
    VARIABLES=(STASIS_TEST_FAIL=pagemap_scan)
    survives scan "$GUESTS/mappings" 1
}

@test "every sort of mapping survives its checkpoints" {
    runs_on mappings "$GUESTS/mappings" 1
}

@test "64 TB of room, few pages of it used: three generations" {
    generations room "$GUESTS/wide" room 1
    [ "$(size_of "$IMAGE")" -lt $((64 << 20)) ] || fail "the image has $(size_of "$IMAGE") bytes"
}

@test "30000 mappings: three generations" {
    generations many "$GUESTS/wide" many 1
}

@test "no address space is left (RLIMIT_AS): three generations" {
    generations limit "$GUESTS/wide" limit 1
}

@test "the same, when the program starts the saver itself" {
    start_guest limit "$GUESTS/wide" limit 1
    kill -USR2 "$PID"
    wait_for_file "$IMAGES/limit.0.ckpt"
    kill_hard "$PID"
    restart limit "$IMAGES/limit.0.ckpt"
    ends_well limit
    says_ok limit
}

@test "memory that is locked as soon as it is there (mlockall): three generations" {
    generations locked "$GUESTS/wide" locked 1
}

@test "more locked memory than a restart may lock is refused by name" {
    [ "${STASIS_TEST_AS:-user}" != root ] || skip "needs: an ordinary user"
    start_guest mappings "$GUESTS/mappings" 1 locked
    take "$PID"
    kill_hard "$PID"
    run --separate-stderr as_user sh -c "ulimit -l 64; exec $STASIS restart $IMAGE"
    [ "$status" = 69 ] || fail "status $status: $stderr"
    named "$stderr"
    restart mappings "$IMAGE"
    ends_well mappings
    says_ok mappings
}

@test "guard pages in memory that a fork does not copy are refused by name" {
    refused_as R-GUARD-PAGE "$GUESTS/wide" unseen 1
}

@test "memory of the pool of huge pages is refused by name" {
    local had
    needs_root "for huge pages"
    had=$(cat /proc/sys/vm/nr_hugepages)
    [ "$had" -gt 0 ] || echo 2 >/proc/sys/vm/nr_hugepages
    refused_as R-HUGETLB "$GUESTS/wide" pool 1
    echo "$had" >/proc/sys/vm/nr_hugepages
}

@test "memory under userfaultfd is refused by name" {
    refused_as R-USERFAULTFD "$GUESTS/wide" watched 1
}

@test "protection keys that protect nothing come back, three generations" {
    grep -qw ospke /proc/cpuinfo || skip "needs: a CPU with protection keys"
    generations keys "$GUESTS/wide" keys 1
}

@test "protection keys of memory come back, three generations" {
    grep -qw ospke /proc/cpuinfo || skip "needs: a CPU with protection keys"
    generations key "$GUESTS/wide" key 1
}

@test "protection keys beside memory that may only be executed come back, three generations" {
    grep -qw ospke /proc/cpuinfo || skip "needs: a CPU with protection keys"
    generations execute "$GUESTS/wide" execute 1
}

# ---- another kernel's vDSO ----

# bats test_tags=notice
@test "another vDSO: every entry leads to the new one, for threads that were inside of it; three generations" {
    WORDS=vdso generations clock "$GUESTS/wide" clock 1
    grep -qx jumps "$T/clock.out" || fail "the entries are: $(cat "$T/clock.out")"
}

@test "another vDSO: every sort of mapping" {
    WORDS=vdso generations mappings "$GUESTS/mappings" 1
}

@test "the own vDSO is left as it is" {
    generations clock "$GUESTS/wide" clock 1
    grep -qx own "$T/clock.out" || fail "the entries are: $(cat "$T/clock.out")"
}

@test "limits of memory that the program does not fit in: refused by name; soft ones do not matter" {
    local option
    [ "${STASIS_TEST_AS:-user}" != root ] || skip "needs: an ordinary user"
    start hog "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=hog -- "$HOG" -m 100 -p rand -s 2 -o "$T/log"
    until_true 60 grep -qs ready "$T/log"
    take "$PID"
    kill_hard "$PID"
    for option in v d; do
        run --separate-stderr as_user bash -c "ulimit -$option 60000; exec $STASIS restart --check $IMAGE"
        [ "$status" = 69 ] && [[ $stderr == *R-ADDRESS-SPACE*"ulimit -$option"* ]] || fail "status $status: $stderr"
        named "$stderr"
    done
    run --separate-stderr as_user bash -c "ulimit -Sv 60000; ulimit -Sd 60000; exec $STASIS restart $IMAGE"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    says_ok hog
}

@test "a kernel that seals its system mappings: refused by name" {
    start_guest stdio "$GUESTS/wide" clock 1
    take "$PID"
    kill_hard "$PID"
    VARIABLES=(STASIS_TEST_FAIL=vdso_sealed)
    restart_refused R- "$IMAGE"
    VARIABLES=()
    restart stdio "$IMAGE"
    ends_well stdio
    says_ok stdio
}
