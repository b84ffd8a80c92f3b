# SPDX-License-Identifier: MIT
# The words of the command line, on which other tools rely.

load helpers

COMMANDS='run checkpoint restart list show verify scontrol'

# ---- help and usage ----

@test "--help everywhere, on stdout, with status 0" {
    local command
    run --separate-stderr stasis --help
    [ "$status" = 0 ]
    for command in $COMMANDS; do
        [[ $output == *"$command"* ]] || fail "stasis --help does not name $command"
    done
    for command in $COMMANDS; do
        run --separate-stderr stasis "$command" --help
        [ "$status" = 0 ]
        [ -n "$output" ]
        [ -z "$stderr" ]
        [[ $output == *"stasis $command"* ]]
    done
}

@test "help names every option" {
    run stasis run --help
    [[ $output == *--checkpoint=* && $output == *--checkpoint-dir=* && $output == *--job-id=* && $output == *--keep=* && $output == *--resume* && $output == *--cleanup* ]]
    run stasis checkpoint --help
    [[ $output == *--max-wait=* && $output == *--stop* ]]
}

# usage COMMAND...: a bad command line: status 64, nothing on stdout, a reason.
usage() {
    run --separate-stderr stasis "$@"
    [ "$status" = 64 ] || fail "stasis $*: status $status: $output $stderr"
    [ -z "$output" ]
    [ -n "$stderr" ]
}

@test "bad command lines are status 64" {
    usage
    usage nonsense
    usage --nonsense
    usage run
    usage run --nonsense true
    usage run --keep=many true
    usage run --keep=-1 true
    usage checkpoint
    usage checkpoint --max-wait=soon 1
    usage checkpoint 1 2
    usage checkpoint nonsense
    usage restart
    usage restart one two
    usage show
    usage verify
    usage list one two
}

@test "bad intervals: status 64 and Slurm's words" {
    local interval
    for interval in x 1x :1 1: 1:2:3:4 1-2-3 -2 1-1:1:1:1 '' ' 5' 5s 1.5 99999999999999999999; do
        run --separate-stderr stasis run "--checkpoint=$interval" true
        [ "$status" = 64 ] || fail "'$interval': status $status"
        [[ $stderr == *"Invalid checkpoint interval specification: $interval"* ]] || fail "'$interval': $stderr"
    done
}

@test "good intervals are taken" {
    local interval
    for interval in 0 5 5:30 1:05:30 1-0 1-2:3 1-2:3:4 -1 INFINITE infinite UNLIMITED Unlimited 90 0:90; do
        run --separate-stderr stasis run "--checkpoint=$interval" true
        [ "$status" = 0 ] || fail "'$interval': status $status: $stderr"
        [ -z "$stderr" ] || fail "'$interval': $stderr"
    done
}

@test "a bad interval in the environment is said in one line, and the program runs without images" {
    VARIABLES=("LD_PRELOAD=$SHIM" "SLURM_CHECKPOINT=often" "SLURM_CHECKPOINT_DIR=$IMAGES")
    start bad "$GUESTS/stdio" 1
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    [ "$(wc -l <"$T/bad.err")" = 1 ]
    grep -qF "Invalid checkpoint interval specification: often" "$T/bad.err"
    [ -z "$(ls -A "$IMAGES")" ]
}

# ---- run ----

@test "run becomes the command: same PID, its exit status, its signals, its output alone" {
    start same "$STASIS" run -- sh -c 'echo $$; exit 42'
    wait_exit "$PID"
    [ "$STATUS" = 42 ]
    [ "$(cat "$T/same.out")" = "$PID" ]
    silent same
    start signal "$STASIS" run -- sh -c 'kill -TERM $$'
    wait_exit "$PID"
    [ "$STATUS" = 143 ]
    run --separate-stderr stasis run echo --checkpoint=x
    [ "$output" = --checkpoint=x ]
}

@test "run: no such program is 127, one that may not be executed 126, as of env and nohup" {
    run -127 --separate-stderr stasis run -- "$T/no such program"
    [ -n "$stderr" ]
    touch "$T/plain"
    own "$T/plain"
    run -126 --separate-stderr stasis run -- "$T/plain"
    [ -n "$stderr" ]
}

@test "run: a setuid program and a static one are refused by name" {
    local name
    cp /bin/true "$T/setuid"
    own "$T/setuid"
    chmod 4755 "$T/setuid"
    run --separate-stderr stasis run -- "$T/setuid"
    [ "$status" = 69 ] || fail "status $status: $stderr"
    named "$stderr"
    echo 'int main(void) { return 0; }' >"$T/static.c"
    name=$T/static
    gcc -static -o "$name" "$T/static.c"
    chmod 755 "$name"
    run --separate-stderr stasis run -- "$name"
    [ "$status" = 69 ] || fail "status $status: $stderr"
    named "$stderr"
}

@test "run: a relative directory means the one at the start" {
    mkdir "$T/relative"
    own "$T/relative"
    start_ready relative "$STASIS" run --checkpoint-dir=relative --job-id=7 -- sh -c 'cd / && exec "$@"' - "$GUESTS/stdio" 3
    take "$PID"
    [ "$IMAGE" = "$T/relative/7.0.ckpt" ]
    ends_well relative
}

@test "names: the PID and 0, Slurm's job and step, --job-id; the current directory" {
    local pid
    start_ready plain "$STASIS" run -- "$GUESTS/stdio" 1
    pid=$PID
    take "$PID"
    [ "$IMAGE" = "$T/$pid.0.ckpt" ]
    ends_well plain
    VARIABLES=(SLURM_JOB_ID=4711 SLURM_STEP_ID=3)
    start_ready slurm "$STASIS" run -- "$GUESTS/stdio" 1
    take 4711.3
    [ "$IMAGE" = "$T/4711.3.ckpt" ]
    ends_well slurm
    start_ready both "$STASIS" run --job-id=mine -- "$GUESTS/stdio" 1
    take mine.3
    [ "$IMAGE" = "$T/mine.3.ckpt" ]
    ends_well both
}

@test "names: a restarted program keeps the image's job id, and answers to the PID of its restart and to JOB.STEP" {
    start_guest keeps "$GUESTS/stdio" 8
    take "$PID"
    kill_hard "$PID"
    VARIABLES=(SLURM_JOB_ID=999 SLURM_STEP_ID=9)
    restart_back keeps "$IMAGE"
    VARIABLES=()
    take "$PID"
    [ "$IMAGE" = "$IMAGES/keeps.0.ckpt" ]
    [ "$(generation "$IMAGE")" = 2 ]
    take keeps.0
    [ "$(generation "$IMAGE")" = 3 ]
    ends_well keeps
    says_ok keeps
}

# restart_stands WORD: a restart that stands still, before it has its page or before the program's memory is there.
restart_stands() {
    VARIABLES=("STASIS_TEST_FAIL=$1")
    hold
    restart slow "$IMAGE"
    VARIABLES=()
    until_true 60 is_restorer_stopped
}

is_restorer_stopped() {
    local process comm
    while read -r process comm; do
        [ "$comm" = stasis-restorer ] && grep -qs '^State:.*T (stopped)' "/proc/$process/status" && return 0
    done < <(find_processes)
    return 1
}

gives_up_on() {
    run --separate-stderr stasis checkpoint --max-wait=2 "$1"
    [ "$status" = 75 ] || fail "status $status: $output $stderr"
    [[ $stderr == *"given up"* ]] || fail "another reason: $stderr"
}

@test "checkpoint of a restart whose program is not back yet: waits for it, as long as it may" {
    start_guest slow "$GUESTS/stdio" 2
    take "$PID"
    kill_hard "$PID"
    restart_stands stand
    gives_up_on "$PID"
    kill -CONT "$PID"
    take "$PID"
    kill_hard "$PID"
    restart_stands stand-in-bubble
    gives_up_on "$PID"
    gives_up_on slow.0
    kill -CONT "$PID"
    take slow.0
    ends_well slow
    says_ok slow
}

@test "a job id with a slash is refused" {
    run --separate-stderr stasis run --job-id=../x true
    [ "$status" = 64 ]
}

# ---- checkpoint ----

@test "checkpoint of no program: 66; of a program without us: 66; of another user's: 77" {
    run --separate-stderr stasis checkpoint 4194303
    [ "$status" = 66 ] || fail "status $status"
    run --separate-stderr stasis checkpoint nobody.0
    [ "$status" = 66 ] || fail "status $status"
    start bare sleep 20
    until_true 60 grep -qsx sleep "/proc/$PID/comm"
    run --separate-stderr stasis checkpoint "$PID"
    [ "$status" = 66 ] || fail "status $status"
    if [ "$USER_ID" != 0 ]; then
        run --separate-stderr stasis checkpoint 1
        [ "$status" = 77 ] || fail "status $status: $stderr"
    fi
}

@test "checkpoint --checkpoint-dir: this image goes there, and the next one where the others are; also after a restart" {
    mkdir "$T/there"
    own "$T/there"
    start_guest moved "$GUESTS/stdio" 2
    take "$PID" --checkpoint-dir=there
    [ "$IMAGE" = "$T/there/moved.0.ckpt" ] || fail "$IMAGE"
    [ -z "$(ls -A "$IMAGES")" ] || fail "$(ls -A "$IMAGES")"
    run --separate-stderr stasis checkpoint "$PID" --checkpoint-dir=nowhere
    [ "$status" = 73 ] && [[ $stderr == *"cannot be put in 'nowhere'"* ]] || fail "status $status: $stderr"
    kill_hard "$PID"
    restart_back moved "$T/there"
    take "$PID" --checkpoint-dir="$T/there"
    [ "$(generation "$IMAGE")" = 2 ] && [ -e "$IMAGE.1" ] || fail "$(ls -A "$T/there")"
    take "$PID"
    [ "$IMAGE" = "$IMAGES/moved.0.ckpt" ] && [ "$(generation "$IMAGE")" = 3 ] || fail "$IMAGE"
    ends_well moved
    says_ok moved
}

@test "checkpoint --stop: the program ends after its image, its waiter sees 75; the restart goes on" {
    golden stop "$GUESTS/stdio" 3
    start_guest stop "$GUESTS/stdio" 3
    take "$PID" --stop
    wait_exit "$PID" 10
    [ "$STATUS" = 75 ] || fail "status $STATUS"
    restart_back stop "$IMAGE"
    take "$PID" --stop
    wait_exit "$PID" 10
    [ "$STATUS" = 75 ] || fail "status $STATUS of the restart"
    restart stop "$IMAGE"
    ends_well stop
    same stop
}

@test "checkpoint --stop of a threaded program" {
    start_guest threads "$GUESTS/threads" 9 4
    take "$PID" --stop
    wait_exit "$PID" 10
    [ "$STATUS" = 75 ] || fail "status $STATUS"
    restart threads "$IMAGE"
    ends_well threads
    says_ok threads
}

# ---- restart ----

@test "restart: nothing there is 66, no image is 65, a directory of several jobs lists them" {
    run --separate-stderr stasis restart "$T/none.ckpt"
    [ "$status" = 66 ] || fail "status $status"
    run --separate-stderr stasis restart "$IMAGES"
    [ "$status" = 66 ] || fail "status $status"
    echo "no image at all" >"$T/text.ckpt"
    own "$T/text.ckpt"
    run --separate-stderr stasis restart "$T/text.ckpt"
    [ "$status" = 65 ] || fail "status $status"
    start_guest one "$GUESTS/stdio" 8
    take "$PID"
    kill_hard "$PID"
    start_guest two "$GUESTS/stdio" 8
    take "$PID"
    kill_hard "$PID"
    run --separate-stderr stasis restart "$IMAGES"
    [ "$status" = 66 ] || fail "status $status"
    [[ $stderr == *one.0* && $stderr == *two.0* ]] || fail "the candidates are not listed: $stderr"
}

@test "restart of a directory takes the newest image of its job" {
    golden newest "$GUESTS/stdio" 3
    start_guest newest "$GUESTS/stdio" 3
    take "$PID"
    take "$PID"
    kill_hard "$PID"
    restart newest "$IMAGES"
    ends_well newest
    same newest
}

@test "restart mirrors the exit status" {
    start fails "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=fails -- \
        /usr/bin/python3 -c 'import time, sys
print("ready", flush=True)
for i in range(200): time.sleep(0.01)
sys.exit(23)'
    until_true 60 has_grown "$T/fails.out" 5
    take "$PID"
    kill_hard "$PID"
    restart fails "$IMAGE"
    wait_exit "$PID"
    [ "$STATUS" = 23 ] || fail "status $STATUS"
}

@test "restart forwards signals, and dies of the one that its program dies of" {
    local signal
    start_guest signals "$GUESTS/stdio" 60
    take "$PID"
    kill_hard "$PID"
    for signal in TERM HUP USR1; do
        restart_back signals "$IMAGE"
        kill "-$signal" "$PID"
        wait_exit "$PID" 20
        [ "$STATUS" = $((128 + $(kill -l "$signal"))) ] || fail "$signal: status $STATUS"
        until_true 60 no_processes
    done
}

@test "restart: SIGSTOP and SIGCONT by the terminal's stop signal" {
    start_guest stops "$GUESTS/stdio" 4
    take "$PID"
    kill_hard "$PID"
    restart_back stops "$IMAGE"
    kill -TSTP "$PID"
    until_true 60 is_stopped "$PID"
    kill -CONT "$PID"
    ends_well stops
    says_ok stops
}

@test "restart: pipes of the program become those of the command" {
    mkfifo "$T/fifo"
    own "$T/fifo"
    cat "$T/fifo" >"$T/read" 3>&- &
    OUTPUT=$T/fifo start_guest first "$GUESTS/memory" 4
    take "$PID"
    kill_hard "$PID"
    run --separate-stderr stasis restart "$IMAGE"
    [ "$status" = 0 ] || fail "status $status: $stderr"
    [[ $output == "OK memory 400 "* ]] || fail "$output"
    [ -z "$stderr" ]
}

# ---- run --resume, --cleanup ----

is_at_hold() {
    [ -e "$1" ] && grep -q '^50 ' "$1"
}

# resume NAME COMMAND...: in the background, as start.
resume() {
    local name=$1
    shift
    start "$name" "$STASIS" run --resume "${OPTIONS[@]}" "--checkpoint-dir=$IMAGES" "--job-id=$name" -- "$@"
}

@test "run --resume starts the program; with an image of this job and step it is the restart" {
    golden resumed "$GUESTS/stdio" 3
    start_guest other "$GUESTS/stdio" 8
    take "$PID"
    kill_hard "$PID"
    hold
    rm -f "$T/ready"
    resume resumed "$GUESTS/stdio" 3
    wait_for_file "$T/ready"
    VARIABLES=(SLURM_STEP_ID=4)
    resume resumed true # another step
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    VARIABLES=()
    [ -z "$(find "$IMAGES" -name 'resumed.*')" ]
    take resumed.0
    end_processes
    # stdio 999 would print other lines, and end the test by its length
    resume resumed "$GUESTS/stdio" 999
    ends_well resumed
    same resumed
    [ "$(find "$IMAGES" -name 'resumed.*')" = "$IMAGE" ] || fail "left: $(ls "$IMAGES")"
}

@test "run --resume without a name of the job, or within a program under stasis: status 64" {
    usage run --resume true
    VARIABLES=("STASIS_RUN=1c3e6a8f-4b2d-4c6e-8f1a-2b3c4d5e6f70:1:5")
    usage run --resume --job-id=x true
    usage run --cleanup true
}

@test "run --resume: what ends three times before its next image is not tried again; a newer image begins a new count" {
    local try
    touch "$T/hold"
    resume tired /usr/bin/python3 "$APPS/count.py" 100 9
    until_true 60 is_at_hold "$T/tired.out"
    take "$PID"
    rm "$T/hold"
    wait_exit "$PID"
    [ "$STATUS" = 9 ] || fail "status $STATUS"
    for try in 1 2 3; do
        resume tired false
        wait_exit "$PID"
        [ "$STATUS" = 9 ] || fail "try $try: status $STATUS: $(cat "$T/tired.err")"
    done
    silent tired
    resume tired false
    wait_exit "$PID"
    [ "$STATUS" = 69 ] || fail "status $STATUS"
    named "$(cat "$T/tired.err")"
    : >"$T/tired.err"
    touch "$T/hold"
    restart_back tired "$IMAGE"
    take "$PID"
    kill_hard "$PID"
    rm "$T/hold"
    resume tired false
    wait_exit "$PID"
    [ "$STATUS" = 9 ] || fail "status $STATUS after a newer image: $(cat "$T/tired.err")"
}

@test "run --resume: when all images of the job are damaged, that is said, and the program is started" {
    start_guest damaged "$GUESTS/stdio" 3
    take "$PID"
    kill_hard "$PID"
    printf x | dd of="$IMAGE" bs=1 seek=100 conv=notrunc status=none
    rm -f "$T/damaged.out"
    golden damaged "$GUESTS/stdio" 2
    resume damaged "$GUESTS/stdio" 2
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    same damaged
    grep -q "started anew" "$T/damaged.err"
}

@test "--cleanup removes the images after status 0, by who waited, and those of this run alone" {
    local OPTIONS=(--cleanup)
    start_guest clean "$GUESTS/stdio" 2
    take clean.0
    take clean.0
    cp "$IMAGE" "$IMAGES/clean.0.ckpt.9" # an older one of the same run
    own "$IMAGES/clean.0.ckpt.9"
    ends_well clean
    says_ok clean
    [ -z "$(ls "$IMAGES")" ] || fail "left by the first run: $(ls "$IMAGES")"
    rm "$T/clean.out"
    OPTIONS=()
    start_guest clean "$GUESTS/stdio" 2
    take "$PID"
    kill_hard "$PID"
    start clean "$STASIS" run --cleanup "--checkpoint-dir=$IMAGES" --job-id=clean -- true
    ends_well clean
    [ -e "$IMAGE" ] || fail "that of another run is gone"
    OPTIONS=(--cleanup)
    hold
    resume clean "$GUESTS/stdio" 2
    until_true 30 is_back
    take "$PID"
    ends_well clean
    [ -z "$(ls "$IMAGES")" ] || fail "left by the restart: $(ls "$IMAGES")"
}

@test "--cleanup: images stay after another status, a signal, and while others of the program live" {
    local OPTIONS=(--cleanup) program
    touch "$T/hold"
    start stays "$STASIS" run "${OPTIONS[@]}" "--checkpoint-dir=$IMAGES" --job-id=stays -- /usr/bin/python3 "$APPS/count.py" 60 7
    until_true 60 is_at_hold "$T/stays.out"
    take stays.0
    rm "$T/hold"
    wait_exit "$PID"
    [ "$STATUS" = 7 ] || fail "status $STATUS"
    [ -e "$IMAGE" ]
    start stays "$STASIS" restart --cleanup "$IMAGE"
    wait_exit "$PID"
    [ "$STATUS" = 7 ] || fail "status $STATUS"
    [ -e "$IMAGE" ]
    start_guest killed "$GUESTS/stdio" 8
    take killed.0
    kill -TERM "$PID"
    wait_exit "$PID"
    [ "$STATUS" = 143 ] || fail "status $STATUS"
    [ -e "$IMAGE" ]
    start lives "$STASIS" run "${OPTIONS[@]}" "--checkpoint-dir=$IMAGES" --job-id=lives -- \
        bash -c 'sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; until [ -e go ]; do sleep 0.05; done'
    until_true 60 has_grown "$T/lives.out" 1
    take lives.0
    program=$(cat "$T/lives.out")
    touch "$T/go"
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS"
    [ -e "$IMAGE" ]
    kill -KILL "$program"
}

# The first indented piece of README's section on tries, as a script.
example() {
    awk '/^### /{ inside = /One line for each try/ } inside && /^    / { code = 1; print substr($0, 5); next } code { exit }' \
        "$ROOT/README.md" >"$T/example"
    [ -s "$T/example" ]
}

stops_with_image() {
    run --separate-stderr stasis checkpoint "$1" --stop
    [ "$status" = 0 ]
}

@test "README: a loop goes on while the status is 75" {
    local VARIABLES=("PATH=$T/product/tools:/usr/bin:/bin")
    example
    cp "$APPS/count.py" "$T/count.py"
    golden loop /usr/bin/python3 "$APPS/count.py"
    touch "$T/hold"
    start loop sh "$T/example"
    until_true 60 is_at_hold "$T/out"
    until_true 60 stops_with_image count.0
    until_true 60 stops_with_image count.0
    rm "$T/hold"
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/loop.err")"
    cmp "$T/loop.golden" "$T/out"
    [ -z "$(ls "$IMAGES")" ] || fail "left: $(ls "$IMAGES")"
}

# ---- list, show, verify ----

@test "list, show and verify say what is there" {
    start_guest listed "$GUESTS/stdio" 8
    take "$PID"
    take "$PID"
    run --separate-stderr stasis list "$IMAGES"
    [ "$status" = 0 ]
    [ "$(grep -c 'listed\.0\.ckpt' <<<"$output")" = 2 ]
    [[ $output == *listed.0.ckpt.1* ]]
    run --separate-stderr stasis show "$IMAGE"
    [ "$status" = 0 ]
    [[ $output == *listed* && $output == *stdio* ]]
    [[ $(run_of "$IMAGE") =~ ^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$ ]]
    run --separate-stderr stasis verify "$IMAGE" "$IMAGE.1"
    [ "$status" = 0 ]
    run --separate-stderr stasis show "$T/none.ckpt"
    [ "$status" = 66 ]
    run --separate-stderr stasis verify "$T/none.ckpt"
    [ "$status" = 66 ]
    run --separate-stderr stasis list "$T/none"
    [ "$status" = 66 ]
}

@test "list without a directory takes SLURM_CHECKPOINT_DIR, or the current one" {
    start_guest here "$GUESTS/stdio" 8
    take "$PID"
    VARIABLES=("SLURM_CHECKPOINT_DIR=$IMAGES")
    run --separate-stderr stasis list
    [[ $output == *here.0.ckpt* ]]
}

# ---- without stasis run ----

@test "LD_PRELOAD alone: an interval takes images" {
    VARIABLES=("LD_PRELOAD=$SHIM" SLURM_CHECKPOINT=0:01 "SLURM_CHECKPOINT_DIR=$IMAGES")
    golden preload "$GUESTS/stdio" 3
    start preload "$GUESTS/stdio" 3
    ends_well preload
    same preload
    [ -n "$(find "$IMAGES" -name "$PID.0.ckpt")" ] || fail "no image: $(ls "$IMAGES")"
}

@test "LD_PRELOAD alone: kill -USR2 takes an image at once" {
    VARIABLES=("LD_PRELOAD=$SHIM" "SLURM_CHECKPOINT_DIR=$IMAGES")
    start_ready preload "$GUESTS/stdio" 3
    kill -USR2 "$PID"
    wait_for_file "$IMAGES/$PID.0.ckpt" 20
    stasis verify "$IMAGES/$PID.0.ckpt"
    ends_well preload
}

@test "SLURM_RESTART_DIR restarts instead of running, acts once, and is taken out of the environment" {
    golden instead "$GUESTS/stdio" 3
    start_guest instead "$GUESTS/stdio" 3
    take "$PID"
    kill_hard "$PID"
    # stdio 999 would print other lines, and end the test by its length
    VARIABLES=("LD_PRELOAD=$SHIM" "SLURM_RESTART_DIR=$IMAGES")
    start instead "$GUESTS/stdio" 999
    ends_well instead
    same instead
}

@test "SLURM_RESTART_DIR without an image: 66, and the program does not run" {
    VARIABLES=("LD_PRELOAD=$SHIM" "SLURM_RESTART_DIR=$IMAGES")
    start none "$GUESTS/stdio" 1
    wait_exit "$PID"
    [ "$STATUS" = 66 ] || fail "status $STATUS"
    [ ! -s "$T/none.out" ]
    [ -s "$T/none.err" ]
}
