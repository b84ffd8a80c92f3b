# SPDX-License-Identifier: MIT
# Trees of processes. Guests check themselves after a checkpoint that they survived, after three restarts of one image, and in a
# second generation; real programs are compared with an undisturbed run.

load helpers
load programs

# All that this test has started, parents first.
kill_family() {
    kill -KILL "$PID" 2>/dev/null || :
    until_true 60 nobody_is_left
    wait_exit "$PID"
}

nobody_is_left() {
    end_processes
    no_processes
}

# bats test_tags=tree
@test "trees: parent and child, two full pipes, a file with one position" {
    all_lives pipes "$GUESTS/family" pipes 2
}

# bats test_tags=tree
@test "trees: workers with shared memory, robust mutexes and condition variables" {
    all_lives workers "$GUESTS/family" workers 2
}

# bats test_tags=tree
@test "trees: children that have ended and that nobody has waited for" {
    all_lives ended "$GUESTS/family" ended 2
}

# bats test_tags=tree
@test "trees: sessions and process groups, with and without leaders" {
    all_lives places "$GUESTS/family" places 2
}

# bats test_tags=tree
@test "trees: a daemon, and a parent that ignores SIGCHLD" {
    all_lives orphan "$GUESTS/family" orphan 2
}

# bats test_tags=tree
@test "trees: what stands for events is one thing for parent and child" {
    all_lives events "$GUESTS/inherited" events 2
}

# bats test_tags=tree
@test "trees: handles of processes: a parent, children, one that has ended, inherited ones" {
    all_lives pidfds "$GUESTS/inherited" pidfds 2
}

@test "trees: five hundred processes, deep and wide, all come back below their parents" {
    start_guest grove "$GUESTS/grove" 500 1
    take "$PID" --stop
    wait_exit "$PID"
    [ "$STATUS" = 75 ]
    until_true 60 no_processes
    restart_back grove "$IMAGE"
    ends_well grove
    says_ok grove
}

@test "trees: a subreaper is told of its own orphans alone, also when they have images taken of them" {
    local program='import ctypes, os, signal, time
hold = os.environ["GUEST_READY"] + ".hold"
told = []
signal.signal(signal.SIGCHLD, lambda number, frame: told.append(number))
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
down, up = os.pipe()
child = os.fork()
if not child:
    if not os.fork():
        os.close(up)
        os.read(down, 1)
        os._exit(9)
    os._exit(4)
assert os.waitpid(child, 0)[1] == 4 << 8
told.clear()
open(os.environ["GUEST_READY"], "w").close()
while os.path.exists(hold): time.sleep(0.01)
assert not told, told
os.close(up)
assert os.wait()[1] == 9 << 8
try:
    print("BAD", os.wait())
except ChildProcessError:
    print("OK", len(told))'
    all_lives subreaper "$PYTHON" -c "$program"
}

@test "trees: a child of the system call comes back like any other" {
    all_lives raw "$GUESTS/family" raw 1
}

@test "trees: a child without the shim is refused by name" {
    refused_as R-CHILD "$GUESTS/family" stranger 1
}

@test "trees: processes that share their table of descriptors are refused by name" {
    refused_as R-CLONE "$GUESTS/family" table 1
}

@test "trees: an inherited epoll or inotify with what only the child has added is refused by name" {
    refused_as R-EPOLL "$GUESTS/inherited" epoll
    refused_as R-INOTIFY "$GUESTS/inherited" inotify
}

@test "trees: a child that has dumped its core is refused by name" {
    become() { # with cores, which the others have not
        close_foreign_descriptors
        cd "$T" || exit 1
        ulimit -c unlimited
        exec "${BECOME[@]}" env -i PATH=/usr/bin:/bin "HOME=$T" "STASIS_TEST_MARK=$T/" "GUEST_READY=$T/ready" "GUEST_FREE=$GUEST_FREE" "$@"
    }
    STATUS=0
    as_user "$GUESTS/family" core 0 || STATUS=$?
    [ "$STATUS" != 77 ] || skip "needs: a machine that writes cores"
    refused_as R-ENDED-CHILD "$GUESTS/family" core 1
}

# twice_back NAME COMMAND...: golden, then killed at a random moment and brought back from its image, twice.
twice_back() {
    local name=$1 percent
    shift
    WORK=("$@")
    clear_files
    golden "$name" "$@"
    if [ -n "$FILES" ]; then keep_files golden; fi
    for percent in $(moments 2); do
        IMAGE=
        hold
        run_it "$name"
        moment_at "$name" "$percent"
        kill_family
        come_back "$name" "$IMAGE"
        rm "$IMAGE"
    done
}

# bats test_tags=tree
@test "trees: a script of bash with pipelines, jobs, subshells, traps and xargs" {
    twice_back bash bash "$APPS/jobs.sh" 12
}

@test "trees: the same script in dash" {
    twice_back dash dash "$APPS/jobs.sh" 12
}

@test "trees: python3 with a pool of processes" {
    twice_back pool /usr/bin/python3 "$APPS/pool.py" 80
}

@test "trees: python3 with concurrent.futures, whose workers run programs" {
    twice_back futures /usr/bin/python3 "$APPS/futures.py" 24
}

@test "trees: R with children of mclapply" {
    needs Rscript
    twice_back cores Rscript "$APPS/cores.R" 12
}

@test "trees: GNU parallel" {
    local job='while [ {} = 24 ] && [ -e "$GUEST_READY.hold" ]; do sleep 0.02; done; seq {} 20000 | tac | sort -n | cksum'
    needs parallel
    # shellcheck disable=SC2046
    twice_back parallel env "TMPDIR=$T" parallel --will-cite -j 3 -k "$job" ::: $(seq 24)
}

# A child of sort's is there, of which it has one for each file of its own.
is_compressing() {
    local children=
    is_gone "$PID" || read -r children 2>/dev/null <"/proc/$PID/task/$PID/children" || [ -n "$children" ]
}

@test "trees: sort with children that compress its files" {
    FILES=data
    reach() {
        until_true 300 is_compressing
        is_alive "$PID" || fail "sort has ended"
    }
    seq 1 400000 | tac >"$T/lines"
    twice_back sort sort -g -S 2M --parallel=2 --compress-program=gzip -T data "$T/lines"
}

@test "trees: two writers of one database of sqlite3" {
    needs sqlite3
    FILES=data
    come_to_end() { # who of the two was first with a row is not the same in each run
        ends_well "$1" 300
        same "$1"
    }
    twice_back writers sh "$APPS/writers.sh" 20
}

@test "trees: a shell with job control at a terminal of its own" {
    twice_back control script -qec "bash --norc -m '$APPS/control.sh' 15" /dev/null
}

@test "trees: a server of tmux with a program in its window, which a client finds again" {
    local work='for i in $(seq 60); do echo $i; sleep 0.02; done; while [ -e "$GUEST_READY.hold" ]; do sleep 0.02; done'
    needs tmux
    seq 60 >"$T/window.golden"
    hold
    start server "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=server -- \
        tmux -S "$T/tmux" -f /dev/null new-session -d "exec >'$T/window.out'; $work"
    wait_exit_held "$PID"
    wait_for_file "$T/window.out"
    until_true 60 has_grown "$T/window.out" 20
    take server.0
    until_true 60 nobody_is_left
    restart_back server "$IMAGE"
    [ "$(as_user tmux -S "$T/tmux" display -p '#{session_windows}')" = 1 ]
    ends_well server
    same window
}

@test "trees: processes are born and die while images are taken, and the last image comes back" {
    local pid
    golden storm bash "$APPS/jobs.sh" 10
    hold
    start storm "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=storm -- bash "$APPS/jobs.sh" 10
    reach storm 5
    pid=$PID
    take "$pid" # on a busy machine it would have ended before
    release
    while is_alive "$pid"; do
        run --separate-stderr stasis checkpoint "$pid"
        case $status in 0) IMAGE=$output ;; 66) ;; *) fail "status $status: $stderr" ;; esac
    done
    ends_well storm
    same storm
    restart storm "$IMAGE"
    ends_well storm
    same storm
}

# STASIS_TEST_LONG=1: for two minutes.
@test "trees: a storm of children of all sorts, with an image every twentieth of a second" {
    local seconds=3 end
    [ -z "${STASIS_TEST_LONG:-}" ] || seconds=120
    start_guest storm "$GUESTS/storm" - 1
    end=$(($(now_ms) + seconds * 1000))
    while [ "$(now_ms)" -lt "$end" ]; do
        take "$PID"
        pause 0.05
    done
    kill_family
    restart_back storm "$IMAGE"
    take "$PID"
    ends_well storm
    says_ok storm
}

# As wait_exit, but guests stay held.
wait_exit_held() {
    until_true 60 is_ended "$1"
    wait "$1" || :
    forget_started "$1"
}

# ---- job control ----

# bats test_tags=tree
@test "trees: children that job control has stopped stay so, and their parents are told nothing, in the first life and in others" {
    survives jobs "$GUESTS/jobs" 2
}

@test "trees: stopped children after a checkpoint, and after three restarts of one image" {
    all_lives jobs "$GUESTS/jobs" 2
}

# The saver stands while everybody waits in the handler, and is killed.
@test "trees: stopped children stay so when the saver dies while they are awake" {
    local asked
    VARIABLES=(STASIS_TEST_FAIL=memory,stand)
    start_guest jobs "$GUESTS/jobs" 2
    stasis checkpoint "$PID" >"$T/answer" 2>"$T/reason" 3>&- &
    asked=$!
    until_true 60 find_saver
    until_true 60 is_job_stopped "$SAVER"
    kill -KILL "$SAVER"
    wait "$asked" || :
    VARIABLES=()
    take "$PID"
    ends_well jobs
    says_ok jobs
}

@test "trees: a program that was stopped as a whole runs when it comes back" {
    local child
    start_guest whole "$GUESTS/family" pipes 2
    child=$(pgrep -P "$PID")
    kill -STOP "$PID" "$child"
    until_true 60 is_job_stopped "$child"
    take "$PID"
    until_true 60 is_job_stopped "$child"
    kill -KILL "$PID" "$child"
    wait_exit_held "$PID"
    restart whole "$IMAGE"
    ends_well whole
    says_ok whole
}

is_job_stopped() {
    grep -qs '^State:.*T (stopped)' "/proc/$1/status"
}

# ---- the interval ----

# later_than GENERATION NAME: there is a newer image.
later_than() {
    [ -e "$IMAGES/$2.0.ckpt" ] && [ "$(generation "$IMAGES/$2.0.ckpt")" -gt "$1" ]
}

@test "trees: the interval goes on when the first process has ended at once, also after a restart" {
    local child image=$IMAGES/heir.0.ckpt life
    hold
    start heir "$STASIS" run --checkpoint=0:01 "--checkpoint-dir=$IMAGES" --job-id=heir -- bash -c '"$1" 2 & echo $!' - "$GUESTS/stdio"
    wait_exit_held "$PID"
    child=$(grep -xE '[0-9]+' "$T/heir.out")
    until_true 60 later_than 1 heir
    kill -KILL "$child"
    until_true 20 no_processes
    life=$(generation "$image")
    restart_back heir "$image"
    until_true 60 later_than $((life + 1)) heir
    ends_well heir
    says_ok heir
}

@test "trees: the interval goes on when the first process was killed" {
    local child life
    hold
    start killed "$STASIS" run --checkpoint=0:01 "--checkpoint-dir=$IMAGES" --job-id=killed -- bash -c '"$1" 60 & echo $!; wait' - "$GUESTS/stdio"
    until_true 60 later_than 1 killed
    child=$(grep -xE '[0-9]+' "$T/killed.out")
    kill -KILL "$PID"
    wait_exit_held "$PID"
    life=$(generation "$IMAGES/killed.0.ckpt")
    until_true 60 later_than $((life + 2)) killed
    is_alive "$child"
    silent killed
    kill -KILL "$child"
}

@test "trees: the interval goes on when the first process was killed before its first image, and nobody waits for it" {
    local child
    hold
    start zombie perl -e 'exec @ARGV unless fork; sleep 1000' "$STASIS" run --checkpoint=0:02 "--checkpoint-dir=$IMAGES" --job-id=zombie -- \
        bash -c 'echo $$; "$1" 60 & echo $!; wait' - "$GUESTS/stdio"
    until_true 60 has_lines 2 "$T/zombie.out"
    kill -KILL "$(sed -n 1p "$T/zombie.out")"
    child=$(grep -xE '[0-9]+' "$T/zombie.out" | sed -n 2p) # the child's own lines may come before
    until_true 60 later_than 1 zombie
    is_alive "$child"
    silent zombie
    kill -KILL "$child" "$PID"
}

has_lines() {
    [ "$(grep -cxE '[0-9]+' "$2")" -ge "$1" ]
}

# As a batch script of Slurm has its sruns: neither in the image nor in the way of it.
@test "stasis outside: a shell comes back where it was, and the command that was left out is run again" {
    cat >"$T/script" <<END
#!/bin/bash
for i in 1 2 3; do
    $STASIS outside --again AGAIN=1 -- sh -c 'echo "begin \$AGAIN" >>$T/log; while [ ! -e $T/go ]; do sleep 0.05; done; echo said; exit 7'
    echo "\$i: \$?"
done
END
    chmod a+x "$T/script"
    start batch "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=batch -- "$T/script"
    until_true 60 has_begun 1
    take "$PID"
    kill_hard "$PID"
    kill_rest
    for life in 2 3; do
        restart batch "$IMAGE"
        until_true 60 has_begun "$life"
        until_true 60 is_back
        take "$PID"
        [ "$life" = 3 ] || kill_hard "$PID"
    done
    touch "$T/go"
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/batch.err")"
    diff <(printf '%s\n' said "1: 7" said "2: 7" said "3: 7") "$T/batch.out"
    diff <(printf '%s\n' "begin " "begin 1" "begin 1" "begin " "begin ") "$T/log"
}

has_begun() {
    [ -e "$T/log" ] && [ "$(wc -l <"$T/log")" -ge "$1" ]
}

# The stand-in, which was not killed with its shell.
kill_rest() {
    local pid
    for pid in $(find_processes | awk '{ print $1 }'); do kill -KILL "$pid" 2>/dev/null || :; done
    until_true 60 no_processes
}
