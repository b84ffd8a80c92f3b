# SPDX-License-Identifier: MIT
# The walls that everything else leans on, each from the outside: agent page and registry; trigger and stop; invisible
# helpers; permission; twin; image; bubble; last stage; missing pieces of the kernel; kinds; the interval's timer.

load helpers

registry() {
    echo "/dev/shm/stasis-$USER_ID"
}

mode_of() {
    stat -c '%a %u' "$1"
}

# ---- 1 agent page and registry ----

@test "wall 1: page and directories belong to the user alone, under random names; no descriptor, thread or socket more" {
    local page
    start_guest page "$GUESTS/threads" 9 1
    # root's other tests may ask all programs just now
    [ "$USER_ID" = 0 ] || [ -z "$(page_of "$PID")" ] || fail "there is a page before anybody has asked for it"
    take "$PID"
    page=$(page_of "$PID")
    [ -n "$page" ]
    [ "$(mode_of "$(registry)")" = "700 $USER_ID" ]
    [ "$(mode_of "$(dirname "$page")")" = "700 $USER_ID" ]
    [ "$(mode_of "$page")" = "600 $USER_ID" ]
    [[ "$(dirname "$page")" =~ /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$ ]]
    [ "$(basename "$page")" != "$PID" ]
    ! readlink "/proc/$PID/fd/"* | grep -E 'stasis-|socket:' || fail "a descriptor of ours is open"
    [ "$(find "/proc/$PID/fd" -mindepth 1 | wc -l)" = 3 ]
    ! flock -n "$page" true || fail "the page of a living program is not locked"
    ends_well page
    [ ! -e "$page" ] || fail "the page stays behind a program that ended by itself"
}

@test "wall 1: two runs have two names; a restart keeps its run's" {
    local first second run
    start_guest one "$GUESTS/stdio" 8
    take "$PID"
    first=$(page_of "$PID")
    run=$(run_of "$IMAGE")
    kill_hard "$PID"
    start_guest two "$GUESTS/stdio" 3
    take "$PID"
    second=$(page_of "$PID")
    [ "$(dirname "$first")" != "$(dirname "$second")" ]
    [ "$(basename "$(dirname "$first")")" = "$run" ]
    ends_well two
    restart_back one "$IMAGES/one.0.ckpt"
    take "$PID"
    [ "$(run_of "$IMAGE")" = "$run" ]
    [ "$(generation "$IMAGE")" = 2 ]
    ends_well one
}

@test "wall 1: a deleted page is made again at the next stop" {
    local page
    start_guest page "$GUESTS/stdio" 6
    take "$PID"
    page=$(page_of "$PID")
    rm -r "$(dirname "$page")"
    kill -USR2 "$PID"
    until_true 60 test -e "$IMAGE.1"
    take "$PID"
    [ "$(generation "$IMAGE")" = 3 ]
    page=$(page_of "$PID")
    [ -f "$page" ]
    ends_well page
    says_ok page
}

@test "wall 1: a whole registry that is gone is made again" {
    start_guest page "$GUESTS/stdio" 6
    [ ${#BECOME[@]} -gt 0 ] || skip "needs: a registry of its own, which root's is not"
    take "$PID"
    rm -r "$(registry)"
    kill -USR2 "$PID"
    until_true 60 test -e "$IMAGE.1"
    rm -r "$(registry)"
    take "$PID"
    ends_well page
    says_ok page
}

@test "wall 1: a registry of somebody else is not used, and the program runs" {
    [ ${#BECOME[@]} -gt 0 ] || skip "needs: another user, and nothing is another's for root"
    mkdir -m 777 "$(registry)"
    VARIABLES=("LD_PRELOAD=$SHIM")
    start_ready foreign "$GUESTS/stdio" 5
    kill -USR2 "$PID"
    run --separate-stderr stasis checkpoint "$PID" --max-wait=1
    [ "$status" = 75 ] || fail "status $status: $stderr"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    says_ok foreign
    [ "$(wc -l <"$T/foreign.err")" = 1 ] || fail "not one line of complaint: $(cat "$T/foreign.err")"
    [ -z "$(ls -A "$(registry)")" ] || fail "something was put into the directory of another"
    rmdir "$(registry)"
}

@test "wall 1: any umask" {
    local mask
    : >"$T/ready" # with such a mask the guest could not write it
    own "$T/ready"
    for mask in 0777 0277 0; do
        rm -f "$T/umask.out"
        hold
        start umask "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=umask -- sh -c 'umask "$0"; exec "$@"' "$mask" "$GUESTS/stdio" 6
        until_true 60 has_grown "$T/umask.out" 1
        take "$PID"
        [ "$(mode_of "$(page_of "$PID")")" = "600 $USER_ID" ]
        ends_well umask
        says_ok umask
    done
}

@test "wall 1: a symbolic link in place of the registry is not followed" {
    [ ${#BECOME[@]} -gt 0 ] || skip "needs: a registry of its own, which root's is not"
    mkdir "$T/elsewhere"
    own "$T/elsewhere"
    ln -s "$T/elsewhere" "$(registry)"
    VARIABLES=("LD_PRELOAD=$SHIM")
    start_ready link "$GUESTS/stdio" 2
    kill -USR2 "$PID"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    [ -z "$(ls -A "$T/elsewhere")" ] || fail "the link was followed"
    rm "$(registry)"
}

@test "wall 1: what a killed program leaves is swept by the next command, and its PID is no program" {
    local page pid
    start_guest dead "$GUESTS/stdio" 30
    take "$PID"
    page=$(page_of "$PID")
    pid=$PID
    kill_hard "$PID"
    run --separate-stderr stasis checkpoint "$pid"
    [ "$status" = 66 ]
    until_true 60 swept "$page"
    [ ! -e "$(dirname "$page")" ] || until_true 60 swept "$(dirname "$page")"
}

swept() {
    stasis list "$IMAGES" >/dev/null 2>&1
    [ ! -e "$1" ]
}

saver_stands() {
    find_saver && is_stopped "$SAVER"
}

# Without a twin the program is parked as long as the image is written; and a saver that is stopped writes for ever.
@test "wall 1: parked threads free themselves when the saver dies" {
    local saver cpu
    VARIABLES=(STASIS_TEST_FAIL=fork,stand)
    start parked "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=parked -- \
        "$HOG" -m 30 -p rand -t 5 -s 2 -o "$T/log"
    until_true 60 grep -qs ready "$T/log"
    VARIABLES=()
    kill -USR2 "$PID"
    until_true 60 saver_stands
    saver=$SAVER
    until_true 60 is_parked "$PID"
    cpu=$(used_ticks "$PID")
    sleep 2
    [ "$(used_ticks "$PID")" = "$cpu" ] || fail "the program runs while its saver holds it"
    kill -KILL "$saver"
    until_true 60 has_used_more "$PID" "$cpu"
    ends_well parked
    [ "$(cat "$T/parked.out")" = OK ]
    [ -z "$(ls -A "$IMAGES")" ]
}

# Every thread waits for a futex.
is_parked() {
    local task
    for task in "/proc/$1/task/"*; do
        [[ "$(cat "$task/syscall" 2>/dev/null)" == "202 "* ]] || return 1
    done
}

used_ticks() {
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}

has_used_more() {
    [ "$(used_ticks "$1")" -gt "$2" ]
}

# ---- 2 trigger and stop ----

@test "wall 2: SIGUSR2 takes an image" {
    start_guest trigger "$GUESTS/stdio" 4
    kill -USR2 "$PID"
    wait_for_file "$IMAGES/trigger.0.ckpt" 20
    ends_well trigger
    says_ok trigger
}

@test "wall 2: a program that uses SIGUSR1, SIGUSR2 and real-time signals itself gets every one, once" {
    survives signals "$GUESTS/signals" 4
}

@test "wall 2: STASIS_SIGNAL picks another trigger, by name or number" {
    local signal
    for signal in SIGURG WINCH 45; do
        VARIABLES=("STASIS_SIGNAL=$signal")
        start_guest "picked$signal" "$GUESTS/stdio" 4
        kill "-${signal#SIG}" "$PID"
        wait_for_file "$IMAGES/picked$signal.0.ckpt" 20
        ends_well "picked$signal"
        says_ok "picked$signal"
    done
}

@test "wall 2: a program that execs without end is never killed by a stop signal" {
    local pid taken=0
    start_guest execer "$GUESTS/execer" 8
    pid=$PID
    release
    while is_alive "$pid"; do
        run --separate-stderr stasis checkpoint "$pid" --max-wait=5
        if [ "$status" = 0 ]; then taken=$((taken + 1)); fi
        case $status in 0 | 66 | 69 | 75) ;; *) fail "status $status: $stderr" ;; esac
    done
    ends_well execer
    says_ok execer
    [ "$taken" -gt 0 ] || fail "not one image of a program that execs"
    restart execer "$IMAGES/execer.0.ckpt"
    ends_well execer
    says_ok execer
}

@test "wall 2: signals to a program in exec do not kill it" {
    local pid
    start_guest execer "$GUESTS/execer" 5
    pid=$PID
    release
    while is_alive "$pid"; do
        kill -63 "$pid" 2>/dev/null || :
        pause 0.003
    done
    ends_well execer
    says_ok execer
}

@test "wall 2: a program that blocks everything is given up after the deadline, by name, and runs on" {
    local begin
    start_guest block "$GUESTS/block" 16
    release
    begin=$(now_ms)
    refused "$PID" 69 75
    [ $(($(now_ms) - begin)) -lt 15000 ] || fail "it took $(($(now_ms) - begin)) ms"
    [ ! -e "$IMAGES/block.0.ckpt" ]
    wait_for_file "$T/ready.open" 60
    take "$PID"
    ends_well block
    says_ok block
}

@test "wall 2: --max-wait abandons cleanly" {
    start_guest block "$GUESTS/block" 5
    release
    run --separate-stderr stasis checkpoint "$PID" --max-wait=1
    [ "$status" = 75 ] || fail "status $status: $stderr"
    [ -z "$output" ]
    wait_for_file "$T/ready.open" 60
    take "$PID"
    ends_well block
    says_ok block
}

@test "wall 2: a forked orphan is found by PID and by name, makes its page when asked, and comes back" {
    local child target
    for target in pid orphan.0; do
        rm -f "$T/ready"
        start orphan "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=orphan -- "$GUESTS/child" daemon 3
        wait_for_file "$T/ready"
        wait_exit "$PID"
        hold
        child=$(find_processes | awk '$2 == "child" { print $1 }')
        take "${target/pid/$child}"
        kill -KILL "$child"
        until_true 60 no_processes
        restart orphan "$IMAGE"
        ends_well orphan
        says_ok orphan
        rm "$IMAGE"
    done
}

@test "wall 2: children that are born and die during checkpoints harm nobody" {
    local pid
    start_guest brief "$GUESTS/child" brief 5
    pid=$PID
    release
    while is_alive "$pid"; do
        run --separate-stderr stasis checkpoint "$pid"
        case $status in 0 | 66 | 69 | 75) ;; *) fail "status $status: $stderr" ;; esac
    done
    ends_well brief
    says_ok brief
}

# ---- 3 invisible helpers ----

@test "wall 3: nothing foreign is seen in wait, SIGCHLD, descriptors, threads, children and masks" {
    local pid
    start_guest hide "$GUESTS/hide" 6
    pid=$PID
    release
    while is_alive "$pid"; do
        run --separate-stderr stasis checkpoint "$pid"
        # a file in /proc that it has open just then is refused by name
        case $status in 0 | 66 | 69) ;; *) fail "status $status: $stderr" ;; esac
    done
    ends_well hide
    says_ok hide
    restart hide "$IMAGES/hide.0.ckpt"
    ends_well hide
    says_ok hide
}

@test "wall 3: the same under an interval" {
    OPTIONS=(--checkpoint=0:01)
    start_guest hide "$GUESTS/hide" 5
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/hide.out" "$T/hide.err")"
    [ -e "$IMAGES/hide.0.ckpt" ] || fail "no image: $(cat "$T/hide.err")"
    says_ok hide
}

@test "wall 3: helpers do not hold the program's pipes open" {
    local pipe seen
    mkfifo "$T/fifo"
    own "$T/fifo"
    cat "$T/fifo" >"$T/read" 3>&- &
    OUTPUT=$T/fifo start pipe "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=pipe -- \
        "$HOG" -m 30 -p rand -s 4 -o "$T/log"
    until_true 60 grep -qs ready "$T/log"
    pipe=$(stat -L -c %i "/proc/$PID/fd/1")
    VARIABLES=(STASIS_TEST_FAIL=stand)
    stasis checkpoint "$PID" >"$T/answer" 2>&1 3>&- &
    until_true 60 saver_stands
    find_processes | grep -q ' stasis-twin$' || fail "no twin"
    seen=$(held_by_helpers "$pipe")
    [ -z "$seen" ] || fail "held by: $seen"
    kill -CONT "$SAVER"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    wait
    [ "$(cat "$T/read")" = OK ]
}

held_by_helpers() {
    local pid comm
    while read -r pid comm; do
        [ "$pid" != "$PID" ] || continue
        stat -L -c "%i $pid $comm" "/proc/$pid/fd/"* 2>/dev/null | awk -v inode="$1" '$1 == inode'
    done < <(find_processes)
}

# ---- 4 permission ----

# bats test_tags=set
@test "wall 4: a program that is not dumpable" {
    survives nodump "$GUESTS/nodump" 4
}

# ---- 5 twin ----

@test "wall 5: every sort of memory (PIE)" {
    survives memory "$GUESTS/memory" 4
}

@test "wall 5: every sort of memory (not PIE)" {
    survives memory "$GUESTS/memory-nopie" 4
}

@test "wall 5: no twin when memory is short or fork fails: the program is stopped while it is written" {
    local word
    for word in memory fork; do
        VARIABLES=("STASIS_TEST_FAIL=$word")
        start_guest "$word" "$GUESTS/memory" 4
        take "$PID"
        kill_hard "$PID"
        VARIABLES=()
        restart "$word" "$IMAGE"
        ends_well "$word"
        says_ok "$word"
    done
}

# A control group of its own with so much memory: GROUP; version 1 or 2, wherever this machine has it.
small_group() {
    needs_root "for a control group"
    if [ -d /sys/fs/cgroup/memory ]; then
        GROUP=/sys/fs/cgroup/memory/stasis-test-$USER_ID-$$
    else
        GROUP=/sys/fs/cgroup/stasis-test-$USER_ID-$$
    fi
    mkdir "$GROUP" 2>/dev/null || skip "needs: a control group that may be made"
    CONTROL_GROUPS+=("$GROUP")
    if [ -e "$GROUP/memory.limit_in_bytes" ]; then
        echo "$1" >"$GROUP/memory.limit_in_bytes"
    elif [ -e "$GROUP/memory.max" ]; then
        echo "$1" >"$GROUP/memory.max"
        echo 0 >"$GROUP/memory.swap.max" || :
    else
        skip "needs: the memory controller"
    fi
}

@test "wall 5: the same in a control group in which a twin would not fit" {
    small_group $((400 << 20))
    start short "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=short -- "$HOG" -m 250 -p rand -d 90 -s 5 -o "$T/log"
    echo "$PID" >"$GROUP/cgroup.procs"
    until_true 60 grep -qs ready "$T/log"
    take "$PID"
    ends_well short
    [ "$(cat "$T/short.out")" = OK ]
}

# ---- 6 image ----

@test "wall 6: --keep=2 keeps two older generations beside the newest; no more" {
    local turn
    OPTIONS=(--keep=2)
    start_guest keep "$GUESTS/stdio" 8
    for turn in 1 2 3 4 5; do
        take "$PID"
        [ "$(generation "$IMAGE")" = "$turn" ]
    done
    [ "$(generation "$IMAGE.1")" = 4 ]
    [ "$(generation "$IMAGE.2")" = 3 ]
    [ "$(find "$IMAGES" -type f | wc -l)" = 3 ]
    [ "$(stat -c %a "$IMAGE")" = 600 ]
    stasis verify "$IMAGE" "$IMAGE.1" "$IMAGE.2"
}

@test "wall 6: --keep=0 keeps the newest alone" {
    OPTIONS=(--keep=0)
    start_guest keep "$GUESTS/stdio" 8
    take "$PID"
    take "$PID"
    [ "$(generation "$IMAGE")" = 2 ]
    [ "$(find "$IMAGES" -type f | wc -l)" = 1 ]
}

@test "wall 6: another run's image of the same name is set aside whole, and still comes back" {
    local run aside
    golden same "$GUESTS/stdio" 4
    start_guest same "$GUESTS/stdio" 4
    take "$PID"
    run=$(run_of "$IMAGE")
    kill_hard "$PID"
    cp -p "$T/same.out" "$T/kept.out"
    start_guest same "$GUESTS/stdio" 3
    take "$PID"
    take "$PID"
    aside=$IMAGE.run-${run:0:8}
    [ -f "$aside" ] || fail "not set aside: $(ls "$IMAGES")"
    [ "$(run_of "$aside")" = "$run" ]
    [ "$(run_of "$IMAGE")" != "$run" ]
    [ "$(generation "$IMAGE")" = 2 ]
    stasis verify "$aside"
    kill_hard "$PID"
    cp "$T/kept.out" "$T/same.out"
    restart same "$aside"
    ends_well same
    same same
}

# ---- 7 bubble ----

# The restarted program itself: the process of ours with that name which is no helper.
inner() {
    find_processes | awk -v comm="$1" '$2 == comm { print $1; exit }'
}

restarted_guest() {
    local name=$1
    shift
    start_guest "$name" "$@"
    OUTER=$PID
    take "$PID"
    kill_hard "$PID"
    restart_back "$name" "$IMAGE"
    INNER=$(inner "$(basename "$1")")
    [ -n "$INNER" ]
}

@test "wall 7: same PID, its own /proc and /dev/shm, its program file, no rights" {
    restarted_guest bubble "$GUESTS/stdio" 6
    [ "$(awk '/^NSpid:/ { print $NF }' "/proc/$INNER/status")" = "$OUTER" ]
    [ "$(readlink "/proc/$INNER/exe")" = "$GUESTS/stdio" ]
    if [ ${#BECOME[@]} -gt 0 ] || [ "$(id -u)" != 0 ]; then
        [ "$(awk '/^Cap(Inh|Prm|Eff|Amb):/ { print $2 }' "/proc/$INNER/status" | sort -u)" = 0000000000000000 ]
    fi
    # the test's own is its group, as it was before
    [ "$(ps -o pgid= -p "$INNER")" = "$(ps -o pgid= -p "$PID")" ] || fail "a group of its own"
    [ -e "/proc/$INNER/root/proc/$OUTER/status" ]
    [ ! -e "/proc/$INNER/root/proc/$$/status" ]
    [ "$(find "/proc/$INNER/root/dev/shm" -mindepth 1 -maxdepth 1 | wc -l)" = 1 ]
    ends_well bubble
    says_ok bubble
}

@test "wall 7: nothing is left when the porter is killed" {
    restarted_guest porter "$GUESTS/stdio" 20
    kill_hard "$PID"
    until_true 60 no_processes
}

# bats test_tags=set
@test "wall 7: nothing is left when the keeper is killed, and the porter says so" {
    restarted_guest keeper "$GUESTS/stdio" 20
    local keeper
    keeper=$(awk '/^PPid:/ { print $2 }' "/proc/$INNER/status")
    [ "$(awk '/^NSpid:/ { print $NF }' "/proc/$keeper/status")" = 1 ]
    kill -KILL "$keeper"
    wait_exit "$PID" 20
    [ "$STATUS" != 0 ]
    until_true 60 no_processes
}

@test "wall 7: nothing is left when the program inside is killed; the porter dies of the same signal" {
    restarted_guest inside "$GUESTS/stdio" 20
    kill -KILL "$INNER"
    wait_exit "$PID" 20
    [ "$STATUS" = 137 ]
    until_true 60 no_processes
}

@test "wall 7: monotonic clocks go on and never back; directory, umask, limits and names as before" {
    start_guest attributes "$GUESTS/attributes" 4
    take "$PID"
    kill_hard "$PID"
    sleep 6 # the program must not notice this time: a gap of more than 5 s is BAD
    restart attributes "$IMAGE"
    ends_well attributes
    says_ok attributes
}

@test "wall 7: two restarts of one image at the same time" {
    local one two
    as_user "$GUESTS/memory" 4 >"$T/memory.golden"
    mkfifo "$T/pipe"
    own "$T/pipe"
    cat "$T/pipe" >"$T/first" 3>&- &
    OUTPUT=$T/pipe start_guest both "$GUESTS/memory" 4
    take "$PID"
    kill_hard "$PID"
    restart memory "$IMAGE"
    one=$PID
    restart other "$IMAGE"
    two=$PID
    wait_exit "$one"
    [ "$STATUS" = 0 ]
    wait_exit "$two"
    [ "$STATUS" = 0 ]
    silent memory
    silent other
    cmp "$T/memory.golden" "$T/memory.out"
    cmp "$T/memory.golden" "$T/other.out"
}

# ---- 8 last stage: see also failure.bats ----

@test "wall 8: threads, registers, locks, ids (PIE)" {
    survives threads "$GUESTS/threads" 9 3
}

@test "wall 8: threads, registers, locks, ids (not PIE)" {
    survives threads "$GUESTS/threads-nopie" 9 3
}

@test "wall 8: one thread, and many" {
    survives one "$GUESTS/threads" 1 4
    survives many "$GUESTS/threads" 65 1
}

# ---- 9 missing pieces of the kernel ----

@test "wall 9: each missing piece of the kernel is worked around or refused by name, at restart" {
    local word size
    golden lines "$GUESTS/stdio" 4
    start_guest lines "$GUESTS/stdio" 4
    take "$PID"
    kill_hard "$PID"
    size=$(size_of "$T/lines.out")
    for word in userns clone3 timens procmount shm; do
        VARIABLES=("STASIS_TEST_FAIL=$word")
        : >"$T/lines.err"
        restart lines "$IMAGE"
        wait_exit "$PID"
        case $STATUS in
        0)
            same lines
            truncate -s "$size" "$T/lines.out"
            ;;
        69)
            named "$(cat "$T/lines.err")"
            [ "$(size_of "$T/lines.out")" = "$size" ] || fail "$word: refused, but the output was changed"
            ;;
        *) fail "$word: status $STATUS: $(cat "$T/lines.err")" ;;
        esac
    done
    VARIABLES=()
    : >"$T/lines.err"
    restart lines "$IMAGE"
    ends_well lines
    same lines
}

@test "wall 9: each missing piece of the kernel is worked around or refused by name, at a checkpoint" {
    local word
    for word in pagemap_scan memory fork; do
        VARIABLES=("STASIS_TEST_FAIL=$word")
        start_guest "$word" "$GUESTS/memory" 4
        run --separate-stderr stasis checkpoint "$PID"
        case $status in
        0)
            kill_hard "$PID"
            VARIABLES=()
            restart "$word" "$output"
            ;;
        69) named "$stderr" ;;
        *) fail "$word: status $status: $stderr" ;;
        esac
        ends_well "$word"
        says_ok "$word"
    done
}

# ---- 10 kinds ----

@test "wall 10: regular files, their offsets, copies and flags; null, zero and urandom" {
    mkdir "$T/golden" "$T/files"
    seq 20000 >"$T/golden/input1"
    seq 30000 60000 >"$T/golden/input2"
    cp -p "$T/golden/"* "$T/files/"
    own "$T/golden" "$T/files"
    as_user "$GUESTS/files" "$T/golden" 5 >"$T/files.golden"
    OPTIONS=(--save-files) # records are written over in place
    survives files "$GUESTS/files" "$T/files" 5
    same files
    diff -r -x '*.stasis-tail*' "$T/golden" "$T/files"
}

@test "wall 10: a standard input from a file is reopened at its offset" {
    seq 400 >"$T/numbers"
    own "$T/numbers"
    INPUT=$T/numbers start golden /usr/bin/python3 "$APPS/reader.py" 1
    ends_well golden
    mv "$T/golden.out" "$T/reader.golden"
    INPUT=$T/numbers start reader "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=reader -- \
        /usr/bin/python3 -u "$APPS/reader.py" 10
    reach reader 30
    take "$PID"
    kill_hard "$PID"
    restart reader "$IMAGE"
    ends_well reader
    same reader
}

# Says what is wrong with how one thing of the guest `refuse` is treated; nothing when all is well.
fate_of() {
    local thing=$1 came_back=''
    start_guest "$thing" "$GUESTS/refuse" "$thing" 2 || { echo "$thing does not start"; return; }
    run --separate-stderr stasis checkpoint "$PID"
    case $status in
    0)
        came_back=', brought back'
        kill_hard "$PID"
        restart "$thing" "$output"
        ;;
    69) named "$stderr" 2>/dev/null || echo "$thing: refused without a name that has a page: $stderr" ;;
    *) echo "$thing: status $status: $stderr" ;;
    esac
    wait_exit "$PID" 60 || return
    grep -q ^OK "$T/$thing.out" || echo "$thing$came_back: $(tail -n 1 "$T/$thing.out" "$T/$thing.err")"
    [ ! -s "$T/$thing.err" ] || echo "$thing$came_back, on stderr: $(cat "$T/$thing.err")"
}

@test "wall 10: what cannot be brought back is refused by name, never lost; and the program runs on" {
    local thing
    for thing in $("$GUESTS/refuse" list); do fate_of "$thing" >>"$T/wrong"; done
    [ ! -s "$T/wrong" ] || fail "$(cat "$T/wrong")"
}

# ---- 11 the interval ----

images_of() {
    local image=$IMAGES/$1.0.ckpt
    if [ -e "$image" ]; then generation "$image"; else echo 0; fi
}

has_images() {
    [ "$(images_of "$1")" -ge "$2" ]
}

@test "wall 11: the interval takes images, goes on after a restart, and after exec" {
    OPTIONS=(--checkpoint=0:01)
    start_guest interval "$GUESTS/stdio" 6
    until_true 60 has_images interval 2
    kill_hard "$PID"
    hold
    restart interval "$IMAGES"
    until_true 60 has_images interval 4
    ends_well interval
    says_ok interval
    start_guest execs sh -c 'exec env -- "$@"' - "$GUESTS/stdio" 5
    until_true 60 has_images execs 2
    ends_well execs
    says_ok execs
}

@test "wall 11: the interval's timer sends no signal that the program could see" {
    OPTIONS=(--checkpoint=0:01)
    start_guest signals "$GUESTS/signals" 4
    until_true 60 has_images signals 2
    ends_well signals
    says_ok signals
}
