# SPDX-License-Identifier: MIT
# Steps on two nodes, which see nothing of each other but files: PIDs, /dev/shm and IPC are each one's own.

JOB_USER=backup
load helpers
load slurm/cluster
load slurm/jobs
load slurm/tasks

setup_file() {
    CLUSTER_NODES=2 start_cluster
}

teardown_file() {
    stop_cluster
}

create() {
    run --separate-stderr stasis scontrol checkpoint create "$JOB.0"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    IMAGE=${IMAGE:-$IMAGES/$JOB.0.ckpt}
    [ "$output" = "$IMAGE" ] || fail "it says: $output"
}

@test "nodes: one image of four tasks on two nodes; back again on one, and on two" {
    prepare_tasks
    start_tasks first -N2 --checkpoint=0 "--checkpoint-dir=images"
    create
    kill_step
    restart_step again -N1
    scancel -s USR2 "$JOB.0"
    until_true 60 has_generation 2
    kill_step
    restart_step third -N2
    create
    [ "$(generation "$IMAGE")" = 3 ]
    ends_all_same third
}

@test "nodes: images by the interval; tasks that end on one node do not keep the others from having them" {
    prepare_tasks
    start_tasks first -N2 --checkpoint=0:01 "--checkpoint-dir=images"
    IMAGE=$IMAGES/$JOB.0.ckpt
    until_true 60 has_generation 2
    rm "$T/ready.2.hold" "$T/ready.3.hold"
    until_true 60 grep -q ^OK "$T/out.3"
    local before
    before=$(generation "$IMAGE")
    until_true 60 has_generation $((before + 2))
    create
    kill_step
    BACK=2 restart_step again -N2
    ends_all_same again
}

has_generation() {
    [ -e "$IMAGE" ] && [ "$(generation "$IMAGE")" -ge "$1" ]
}

@test "nodes: a file that all tasks append to has every line once" {
    prepare_writers
    start_tasks first -N2 --checkpoint=0 "--checkpoint-dir=images"
    create
    kill_step
    start again srun --quiet -n4 -N2 "${OUTPUTS[@]}" "--restart-dir=images" "$T/task"
    release_tasks
    wait_exit "$PID" 120
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T"/again.err "$T"/err.*)"
    every_line_once
}
