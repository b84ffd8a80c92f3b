# SPDX-License-Identifier: MIT
# A job that has to make room for a better one goes on from its last image.

JOB_USER=lp
load helpers
load slurm/cluster
load slurm/jobs

setup_file() {
    CLUSTER_LINES="PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=grace Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=4
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=OFF"
    start_cluster
}

teardown_file() {
    stop_cluster
}

# preempted PARTITION LINE...: a job there, which has an image, makes room, and comes to its right end.
preempted() {
    local partition=$1
    shift
    become_job_user
    hold
    submit low "#SBATCH -p $partition -n 4 --requeue --checkpoint=0 --checkpoint-dir=images" "$@" "srun -n 1 python3 $APPS/primes.py 100 0.01 $T/ready.hold"
    JOB=$(cat "$T/low.job")
    until_true 60 has_lines "$T/low.out" 50
    scontrol_checkpoint create "$JOB"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    as_user srun --quiet -p high -n 4 true || fail "nobody made room"
    release
    until_true 90 has_ended "$JOB"
    # 24.11 requeues a job that had a time of grace once more, when it has ended, with or without us
    [[ "$(scontrol show job "$JOB")" == *"JobState=COMPLETED"*"Restarts="[12]* ]] || fail "$(scontrol show job "$JOB")"
    diff <(primes 100) "$T/low.out" || fail "it is wrong: $(cat "$T/low.err")"
}

@test "slurm: preempted at once" {
    preempted low
}

@test "slurm: preempted with a time of grace, whose SIGTERM ends the step" {
    preempted grace
}

@test "slurm: preempted with a time of grace, and a signal that takes an image" {
    preempted grace "#SBATCH --signal=USR2@60"
    [ "$(generation "$IMAGES/$JOB.0.ckpt")" = 2 ]
}

@test "slurm: preempted with a time of grace, and a signal that takes an image of the whole" {
    preempted grace "#SBATCH --signal=B:USR2@60" 'echo "begins" >>shell.out'
    [ "$(generation "$IMAGES/$JOB.ckpt")" = 2 ] || fail "$(ls "$IMAGES"; cat "$T/low.err")"
    [ "$(cat "$T/shell.out")" = begins ] || fail "$(cat "$T/shell.out")"
}
