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

# The interval's own images come between: then they, too, go where this one does, or it begins again.
@test "nodes: an image goes to ImageDir, also beside the interval; one that is not the same on all nodes is refused" {
    prepare_tasks
    mkdir "$T/there"
    own "$T/there"
    start_tasks first -N2 --checkpoint=0:01 "--checkpoint-dir=images"
    for _ in 1 2 3 4 5; do
        scontrol_checkpoint create "$JOB.0" "ImageDir=there"
        [ "$status" = 0 ] && [ "$output" = "$T/there/$JOB.0.ckpt" ] || fail "status $status: $output $stderr"
    done
    scontrol_checkpoint create "$JOB.0" "ImageDir=/dev/shm"
    [ "$status" = 74 ] && [[ $stderr == *"it is not the same directory on all nodes"* ]] || fail "status $status: $output $stderr"
    scontrol_checkpoint vacate "$JOB.0" "ImageDir=there"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    wait_exit "$PID" 60
    [ "$STATUS" != 0 ] || fail "status $STATUS"
    start again srun --quiet -n4 -N2 "${OUTPUTS[@]}" "--restart-dir=there" "$T/task"
    ends_all_same again
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

node_of() {
    squeue -h -j "$1" -o %N
}

runs_on_node() {
    [ "$(squeue -h -j "$1" -t running -o %N)" = "$2" ]
}

@test "nodes: restart with StickToNodes: on the node that the job had, although another is free" {
    become_job_user
    hold
    submit first "#SBATCH -w n1 -n 4" "while [ ! -e $T/go ]; do sleep 0.1; done"
    until_true 60 runs_on_node "$(cat "$T/first.job")" n1
    submit sticks "#SBATCH --checkpoint=0 --checkpoint-dir=images" "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold"
    JOB=$(cat "$T/sticks.job")
    until_true 60 has_lines "$T/sticks.out" 50
    runs_on_node "$JOB" n2 || fail "$(squeue)"
    scontrol_checkpoint vacate "$JOB"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    touch "$T/go"
    until_true 60 job_is_over "$JOB"
    until_true 60 job_is_over "$(cat "$T/first.job")"
    scontrol_checkpoint restart "$JOB" stick
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    until_true 60 runs_on_node "$JOB" n2
    release
    until_true 90 has_ended "$JOB"
    diff <(primes 100) "$T/sticks.out" || fail "$(cat "$T/sticks.err")"
}

# The last one: that node does not come back.
@test "nodes: a node falls under a job, which goes on from its last image on the other" {
    local node
    become_job_user
    hold
    submit falls "#SBATCH --requeue --checkpoint=0:01 --checkpoint-dir=images" \
        'echo "begins $$" >>shell.out' "srun python3 $APPS/primes.py 200 0.01 $T/ready.hold" 'echo "ends $$" >>shell.out'
    JOB=$(cat "$T/falls.job")
    until_true 60 has_lines "$T/falls.out" 100
    wait_for_file "$IMAGES/$JOB.ckpt.1" # whose script is in slurmd's own directory
    node=$(node_of "$JOB")
    cluster_fell "$node"
    until_true 90 is_restarted "$JOB" 1 || fail "$(scontrol show job "$JOB")"
    [ "$(node_of "$JOB")" != "$node" ] || fail "it is on $node again"
    release
    until_true 90 has_ended "$JOB"
    [[ "$(scontrol show job "$JOB")" == *"JobState=COMPLETED"*"Restarts=1"* ]] || fail "$(scontrol show job "$JOB"; cat "$T/falls.err")"
    diff <(primes 200) "$T/falls.out" || fail "$(cat "$T/falls.err")"
    [[ "$(cat "$T/shell.out")" =~ ^begins\ ([0-9]+)$'\n'ends\ ([0-9]+)$ ]] && [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ] || fail "$(cat "$T/shell.out")"
}
