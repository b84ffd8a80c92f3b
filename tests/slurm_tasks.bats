# SPDX-License-Identifier: MIT
# Steps of several tasks, on a real cluster of one node: one image of them all, from one moment, and back again, all or none.

JOB_USER=irc
load helpers
load slurm/cluster
load slurm/jobs
load slurm/tasks

setup_file() {
    start_cluster
}

teardown_file() {
    stop_cluster
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
    prepare_writers
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    take_step
    local before
    before=$(wc -l <"$T/shared")
    until_true 60 has_lines "$T/shared" $((before + 20))
    kill_step
    start again srun --quiet -n4 "${OUTPUTS[@]}" "--restart-dir=images" "$T/task"
    release_tasks
    wait_exit "$PID" 120
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T"/again.err "$T"/err.*)"
    every_line_once
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

@test "tasks: ImageDir is taken literally; the step goes on from there, one of it having ended, and puts further images where it did" {
    local there="$T/else where"
    prepare_tasks
    rm "$T/ready.0.hold"
    mkdir "$there"
    own "$there"
    submit moved "#SBATCH -n 4 --requeue --checkpoint=0 --checkpoint-dir=images" "srun --open-mode=append -o $T/out.%t -e $T/err.%t $T/task"
    JOB=$(cat "$T/moved.job")
    until_true 60 are_ready
    until_true 60 has_ended_task 0
    scontrol_checkpoint create "$JOB.0" "ImageDir=else where"
    [ "$status" = 0 ] && [ "$output" = "$there/$JOB.0.ckpt" ] || fail "status $status: $output $stderr"
    [ -z "$(find "$IMAGES" -name '*.ckpt' -o -name 'task.*')" ] || fail "$(find "$IMAGES")"
    scontrol_checkpoint requeue "$JOB" "ImageDir=$there" # and of the script
    [ "$status" = 0 ] && [ "${lines[0]}" = "$there/$JOB.0.ckpt" ] || fail "status $status: $output $stderr"
    [ "$(generation "${lines[0]}")" = 2 ] && [ -e "${lines[0]}.1" ] || fail "$(find "$there")"
    run stasis verify "$there/$JOB.0.ckpt" "$there/$JOB.0.ckpt.1"
    [ "$status" = 0 ] || fail "$output"
    until_true 60 is_restarted "$JOB" 1
    BACK=3 until_true 60 are_back
    IMAGE=$IMAGES/$JOB.0.ckpt
    take_step
    [ "$(generation "$IMAGE")" = 3 ]
    release_tasks
    until_true 90 has_ended "$JOB"
    all_same
}

@test "tasks: an image that ImageDir does not get leaves nothing there, and all run on" {
    local command savers
    prepare_tasks
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    scontrol_checkpoint create "$JOB.0" "ImageDir=nowhere"
    [ "$status" = 73 ] && [[ $stderr == *"an image cannot be put in '$T/nowhere'"* ]] || fail "status $status: $output $stderr"
    mkdir "$T/closed" "$T/open"
    scontrol_checkpoint create "$JOB.0" "ImageDir=closed"
    [ "$status" = 73 ] && [[ $stderr == *"an image cannot be made in $T/closed: Permission denied"* ]] || fail "status $status: $output $stderr"
    own "$T/open"
    as_user env STASIS_TEST_FAIL=stand "$STASIS" scontrol checkpoint create "$JOB.0" "ImageDir=open" >"$T/said" 2>&1 &
    command=$!
    until_true 60 all_stand
    mapfile -t savers < <(pgrep -u "$JOB_USER" -x stasis-saver)
    kill -KILL "${savers[0]}"
    kill -CONT "${savers[@]:1}"
    wait "$command" && fail "status 0: $(cat "$T/said")"
    grep -qE "the saver of task [0-3] was ended" "$T/said" || fail "$(cat "$T/said")"
    [ -z "$(ls -A "$T/open" "$T/closed" | grep -v :)" ] || fail "$(find "$T/open" "$T/closed")"
    ends_all_same first
}

all_stand() {
    local pid count=0
    for pid in $(pgrep -u "$JOB_USER" -x stasis-saver); do ! is_stopped "$pid" || count=$((count + 1)); done
    [ "$count" = 4 ]
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

@test "tasks: the saver of one is killed while it writes: the others are told, the older image stays, and all run on" {
    prepare_tasks
    sed -i '2i [ "$SLURM_PROCID" != 2 ] || export STASIS_TEST_FAIL=stand' "$T/task"
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    take_step
    scancel -s USR2 "$JOB.0"
    until_true 60 stands_still
    kill -KILL "$SAVER"
    until_true 60 grep -q "the saver of task 2 was ended" "$T"/err.0 "$T"/err.1 "$T"/err.3
    [ "$(generation "$IMAGE")" = 1 ]
    until_true 60 no_savers
    rm "$T"/err.*
    take_step
    [ "$(generation "$IMAGE")" = 2 ]
    run stasis verify "$IMAGE" "$IMAGE.1"
    [ "$status" = 0 ] || fail "$output"
    ends_all_same first
}

no_savers() {
    ! pgrep -u "$JOB_USER" -x stasis-saver >/dev/null
}

@test "tasks: while one forbids checkpoints, one is refused by name, one is given up in time, and one that waits is taken" {
    local command
    prepare_tasks
    sed -i "2i [ \"\$SLURM_PROCID\" != 2 ] || GUEST_READY=$T/ready.2 exec $GUESTS/calls forbid" "$T/task"
    rm "$T/ready.2.hold"
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    scontrol_checkpoint create "$JOB.0"
    [ "$status" = 69 ] && [[ $stderr == *R-FORBIDDEN* && $stderr != *R-TASK-ABSENT* ]] || fail "status $status: $output $stderr"
    scontrol_checkpoint create "$JOB.0" MaxWait=1
    [ "$status" = 75 ] && [[ $stderr == *"given up: "* ]] || fail "status $status: $output $stderr"
    parts_are 0
    as_user "$STASIS" scontrol checkpoint create "$JOB.0" MaxWait=100 >"$T/said" 2>&1 &
    command=$!
    until_true 60 savers_are_older 11 # than others wait for one that nobody waits for
    : >"$T/ready.2.allow"
    wait "$command" || fail "given up: $(cat "$T/said")"
    [ "$(cat "$T/said")" = "$IMAGES/$JOB.0.ckpt" ] || fail "it says: $(cat "$T/said")"
    parts_are 4
    release_tasks
    : >"$T/ready.2.end"
    wait_exit "$PID" 120
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T"/err.* "$T/out.2")"
    for task in 0 1 3; do cmp "$T/task.$task.golden" "$T/out.$task" || fail "task $task"; done
}

@test "tasks: one is killed: an image is refused by its number, and the others run on" {
    prepare_tasks
    start_tasks first --checkpoint=0 "--checkpoint-dir=images"
    kill -KILL "$(scontrol listpids "$JOB.0" n1 | awk '$5 == 3 { print $1 }')"
    until_true 60 has_ended_task 3
    scontrol_checkpoint create "$JOB.0"
    [ "$status" = 69 ] && [[ $stderr == *"R-TASK-ABSENT: of the 4 tasks of the step these are not there: 3;"* ]] || fail "status $status: $output $stderr"
    parts_are 0
    release_tasks
    wait_exit "$PID" 120
    [ "$STATUS" = 137 ] || fail "status $STATUS"
    for task in 0 1 2; do cmp "$T/task.$task.golden" "$T/out.$task" || fail "task $task"; done
}

savers_are_older() {
    [ "$(ps -u "$JOB_USER" -o comm=,etimes= | awk -v least="$1" '$1 == "stasis-saver" && $2 >= least' | wc -l)" = 4 ]
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
