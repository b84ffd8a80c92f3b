# SPDX-License-Identifier: MIT
# Locks on files: the guest `locks` looks at its own through other descriptors.

load helpers

# bats test_tags=notice
@test "locks come back: after a checkpoint, a restart, and another" {
    survives locks "$GUESTS/locks" 1
    stasis show "$IMAGE" | grep -q 'record lock, exclusive, bytes 3 to 6$'
}

@test "locks of parent and child, on files that both have open" {
    all_lives locks "$GUESTS/locks" 1 family
}

@test "a lock on the file that is the program's output, and the restart command's" {
    local program='import fcntl,os,sys,time
fcntl.lockf(1, fcntl.LOCK_EX, 4, 987654)
open(os.environ["GUEST_READY"], "w").close()
while os.path.exists("hold"): time.sleep(0.01)
print(sum(line.split()[6:] == ["987654", "987657"] for line in open("/proc/locks")), flush=True)'
    : >"$T/hold"
    start_guest output /usr/bin/python3 -c "$program"
    take "$PID"
    kill_hard "$PID"
    rm "$T/hold"
    restart output "$IMAGE"
    wait_exit "$PID"
    [ "$(cat "$T/output.out")" = 1 ]
}

@test "a lock that somebody else holds refuses the restart by name, before anything is changed" {
    start_guest locks "$GUESTS/locks" 2
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    start holder flock --no-fork flocked sh -c 'touch holds; exec sleep 300'
    wait_for_file "$T/holds"
    restart_refused 'R-LOCK-HELD*/flocked' --check "$IMAGE"
    kill_hard "$PID"
    restart locks "$IMAGE"
    ends_well locks
    says_ok locks
}

@test "two restarts of one image do not both hold its locks" {
    local first file
    start_guest locks "$GUESTS/locks" 5
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    restart_back locks "$IMAGE"
    first=$PID
    restart_refused R- "$IMAGE"
    for file in flocked recorded described; do
        [[ "$stderr" == *R-LOCK-HELD*/$file* ]] || fail "nothing on $file in: $stderr"
    done
    PID=$first
    ends_well locks
    says_ok locks
}

@test "locks are looked for where the files have been moved" {
    mkdir "$T/moved"
    own "$T/moved"
    start_guest locks "$GUESTS/locks" 2
    take "$PID"
    kill_hard "$PID"
    until_true 60 no_processes
    mv "$T/flocked" "$T/recorded" "$T/described" "$T/moved/"
    start holder flock --no-fork moved/flocked sh -c 'touch holds; exec sleep 300'
    wait_for_file "$T/holds"
    restart_refused 'R-LOCK-HELD*/moved/flocked' --check "--path-map=$T/flocked=$T/moved/flocked" \
        "--path-map=$T/recorded=$T/moved/recorded" "--path-map=$T/described=$T/moved/described" "$IMAGE"
}
