# SPDX-License-Identifier: MIT
# Steps of several tasks, on a real cluster of one node: one image of them all, from one moment, and back again, all or none.

JOB_USER=irc
load helpers
load slurm/cluster
load slurm/jobs

setup_file() {
    start_cluster
}

teardown_file() {
    stop_cluster
}

# What a task runs: a guest that writes its rank's own number of lines to its rank's own file.
prepare_tasks() {
    become_job_user
    OUTPUTS=("--output=$T/out.%t" "--error=$T/err.%t" --open-mode=append)
    cat >"$T/task" <<END
#!/bin/sh
[ -z "\$BEFORE" ] || eval "\$BEFORE"
GUEST_READY=$T/ready.\$SLURM_PROCID exec $GUESTS/stdio \$((2 + SLURM_PROCID))
END
    chmod a+x "$T/task"
    for task in 0 1 2 3; do
        golden "task.$task" "$GUESTS/stdio" $((2 + task))
        : >"$T/ready.$task.hold"
    done
}

release_tasks() {
    rm -f "$T"/ready.*.hold
}

are_ready() {
    for task in 0 1 2 3; do [ -e "$T/ready.$task" ] || return 1; done
}

ready_or_over() {
    are_ready || is_gone "$PID"
}

# start_tasks NAME OPTION...: four of them in the background; JOB is their job's id when they are ready.
start_tasks() {
    local name=$1
    shift
    rm -f "$T"/ready.?
    start "$name" srun --quiet -J "$name" -n4 "${OUTPUTS[@]}" "$@" "$T/task"
    until_true 60 ready_or_over
    are_ready || fail "$name ended before all were ready: $(tail -n 3 "$T/$name.err" "$T"/out.*)"
    JOB=$(squeue -h -u "$JOB_USER" -n "$name" -o %A)
}

kill_step() {
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    [ "$STATUS" != 0 ] || fail "status $STATUS"
    until_true 60 job_is_over "$JOB"
}

# The outputs of all four are, byte by byte, what they are without us.
all_same() {
    for task in 0 1 2 3; do
        cmp "$T/task.$task.golden" "$T/out.$task" || fail "task $task: $(diff <(tail -n 3 "$T/task.$task.golden") <(tail -n 3 "$T/out.$task"))"
    done
}

take_step() {
    run --separate-stderr stasis checkpoint "$JOB.0" "$@"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    IMAGE=${IMAGE:-$IMAGES/$JOB.0.ckpt}
    [ "$output" = "$IMAGE" ] || fail "it says: $output"
}


# restart_step NAME OPTION...: the four go on from the newest image there, and are still held; JOB is their new job's id.
restart_step() {
    local name=$1
    shift
    start "$name" srun --quiet -J "$name" -n4 "${OUTPUTS[@]}" "--restart-dir=images" "$@" "$T/task"
    until_true 60 tasks_back_or_over
    are_back || fail "$name did not come back: $(cat "$T/$name.err")"
    JOB=$(squeue -h -u "$JOB_USER" -n "$name" -o %A)
}

are_back() {
    local pid count=0
    for pid in $(find_processes | awk '$2 == "stdio" { print $1 }'); do [ -z "$(page_of "$pid")" ] || count=$((count + 1)); done
    [ "$count" = "${BACK:-4}" ]
}

tasks_back_or_over() {
    are_back || is_gone "$PID"
}

ends_all_same() {
    release_tasks
    wait_exit "$PID" 120
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/$1.err")"
    all_same
    silent "$1"
    ! grep stasis "$T"/err.* || fail "that is on stderr"
}

# Of the images there, and nothing besides.
parts_are() {
    [ "$(find "$IMAGES" -name 'task.*' | wc -l)" = "$1" ] || fail "parts: $(find "$IMAGES")"
}

# restart_fails STATUS SAID OPTION...: nothing comes back, and nothing is touched.
restart_fails() {
    local wanted=$1 said=$2 before
    shift 2
    before=$(cat "$T"/out.* | cksum)
    start fails srun --quiet "${OUTPUTS[@]}" "--restart-dir=images" "$@" "$T/task"
    wait_exit "$PID" 120
    [ "$STATUS" = "$wanted" ] || fail "status $STATUS: $(cat "$T/fails.err")"
    grep -qF "$said" "$T"/err.* || fail "it says: $(cat "$T"/err.*)"
    [ "$(cat "$T"/out.* | cksum)" = "$before" ] || fail "outputs were changed: $(tail -n 2 "$T"/out.*)"
    rm "$T"/err.*
}

@test "tasks: one image of four; killed and brought back, every byte of the outputs is the same" {
    prepare_tasks
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    take_step
    kill_step
    restart_step again
    run stasis scontrol checkpoint create "$JOB.0"
    [ "$status" = 0 ] || fail "status $status: $output"
    [ "$output" = "$IMAGE" ] || fail "it says: $output"
    [ "$(generation "$IMAGE")" = 2 ]
    parts_are 8
    for _ in 3 4 5; do as_user "$STASIS" scontrol checkpoint create "$JOB.0" >"$T/said"; done
    [ "$(generation "$IMAGE")" = 5 ]
    parts_are 12
    kill_step
    run stasis verify "$IMAGE" "$IMAGE.1" "$IMAGE.2"
    [ "$status" = 0 ] || fail "$output"
    [[ $output == *"whole (4 tasks, "* ]] || fail "$output"
    run stasis list "$IMAGES"
    [[ $output == *"whole"*"$(basename "$IMAGE").2"* && $output != *damaged* ]] || fail "$output"
    run stasis show "$IMAGE"
    [[ $output == *"task 3: task.3."* ]] || fail "$output"
    restart_step third
    ends_all_same third
}

# Four writers of lines to one file: a line that is lost, or there twice, is seen at the end.
@test "tasks: a file that all of them append to has every line once" {
    become_job_user
    cat >"$T/task" <<END
#!/bin/bash
exec 7>>"$T/shared"
for ((i = 1; i <= 300; i++)); do
    echo "\$SLURM_PROCID \$i" >&7
    [ \$i != 100 ] || touch "$T/ready.\$SLURM_PROCID"
    read -rt 0.01 <> <(:) || :
done
END
    chmod a+x "$T/task"
    OUTPUTS=("--output=$T/out.%t" "--error=$T/err.%t" --open-mode=append)
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    take_step
    pause 0.2
    kill_step
    start again srun --quiet -n4 "${OUTPUTS[@]}" "--restart-dir=images" "$T/task"
    wait_exit "$PID" 120
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T"/again.err "$T"/err.*)"
    [ "$(sort -u "$T/shared" | wc -l)" = 1200 ] || fail "lines are lost: $(sort -u "$T/shared" | wc -l)"
    [ "$(wc -l <"$T/shared")" = 1200 ] || fail "lines are there twice"
}

@test "tasks: a part that is missing or damaged, or another number of tasks: nothing comes back" {
    prepare_tasks
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    take_step
    take_step
    kill_step
    restart_fails 66 "srun --ntasks=4" -n3
    local part
    part=$(stasis show "$IMAGE" | awk '/^task 2:/ { sub(",", "", $3); print $3 }')
    flip "$IMAGE.d/$part" 5000 1 # of a block
    restart_fails 65 "its checksum is wrong" -n4
    run stasis verify "$IMAGE"
    [ "$status" = 65 ]
    [[ $output == *"task 2: "*"is damaged"* ]] || fail "$output"
    cp "$IMAGE.d/$(stasis show "$IMAGE.1" | awk '/^task 2:/ { sub(",", "", $3); print $3 }')" "$IMAGE.d/$part"
    restart_fails 65 "another one than was written with the others" -n4
    rm "$IMAGE.d/$part"
    restart_fails 66 "task 2: " -n4
    run stasis list "$IMAGES"
    [[ $output == *" damaged "* ]] || fail "$output"
    # the older one is whole
    start older srun --quiet -n4 "${OUTPUTS[@]}" "--restart-dir=$IMAGE.1" "$T/task"
    ends_all_same older
}

@test "tasks: one has ended before the image, and ends again at once" {
    prepare_tasks
    rm "$T/ready.0.hold"
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    until_true 60 grep -q ^OK "$T/out.0"
    until_true 60 has_ended_task 0
    take_step
    run stasis show "$IMAGE"
    [[ $output == *"task 0: had ended with status 0"* ]] || fail "$output"
    kill_step
    BACK=3 restart_step again
    take_step
    ends_all_same again
}

has_ended_task() {
    ! scontrol listpids "$JOB.0" n1 | awk -v task="$1" '$5 == task { found = 1 } END { exit !found }'
}

@test "tasks: one whose part cannot be written: the older image stays, and all run on" {
    prepare_tasks
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    take_step
    as_user prlimit --fsize=100000:100000 --pid "$(scontrol listpids "$JOB.0" n1 | awk '$5 == 2 { print $1 }')"
    scancel -s USR2 "$JOB.0"
    until_true 60 grep -q "no checkpoint: no room for the image" "$T/err.2"
    [ "$(cat "$T"/err.* | grep -c .)" = 1 ] || fail "$(cat "$T"/err.*)"
    [ "$(generation "$IMAGE")" = 1 ]
    until_true 60 parts_are 4
    run stasis verify "$IMAGE"
    [ "$status" = 0 ] || fail "$output"
    rm "$T"/err.*
    ends_all_same first
}

@test "tasks: images by the interval and by a signal, also of a step that came back" {
    prepare_tasks
    start_tasks first --checkpoint=0:01 "--checkpoint-dir=images"
    IMAGE=$IMAGES/$JOB.0.ckpt
    wait_for_file "$IMAGE" 60
    until_true 60 has_generation 2
    kill_step
    restart_step again
    local before
    before=$(generation "$IMAGE")
    until_true 60 has_generation $((before + 1))
    scancel -s USR2 "$JOB.0"
    until_true 60 has_generation $((before + 2))
    ends_all_same again
}

has_generation() {
    [ -e "$IMAGE" ] && [ "$(generation "$IMAGE")" -ge "$1" ]
}

@test "tasks: Slurm sees, signals and ends tasks that came back" {
    prepare_tasks
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    take_step
    kill_step
    restart_step again
    [ "$(squeue -h --steps -j "$JOB" -o %i | grep -c "^$JOB.0$")" = 1 ]
    [ "$(scontrol listpids "$JOB.0" n1 | awk '$5 ~ /^[0-9]+$/ { print $5 }' | sort -u | wc -l)" = 4 ]
    [[ $(sstat -n -a -P -j "$JOB.0" -o Pids) == *,*,*,* ]]
    scancel -s TERM "$JOB.0"
    wait_exit "$PID" 60
    [ "$STATUS" = 143 ] || fail "status $STATUS"
    restart_step third
    scancel "$JOB"
    wait_exit "$PID" 60
    [ "$STATUS" != 0 ] || fail "status $STATUS"
    until_true 60 no_processes
}
