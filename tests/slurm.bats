# SPDX-License-Identifier: MIT
# The options that Slurm dropped, on a real cluster: slurmctld, slurmd and munge are started here and ended.

load helpers
load slurm/cluster

# An ordinary user that Slurm finds in the user database of every Debian.
JOB_USER=games

setup_file() {
    [ "$(id -u)" = 0 ] || skip "needs: root, for slurmd"
    chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/file" "$BATS_FILE_TMPDIR"
    copy_product
    cp "$BUILD/slurm/spank_stasis.so" "$BATS_FILE_TMPDIR/"
    export CLUSTER=$BATS_FILE_TMPDIR/cluster
    cluster_start "$CLUSTER" "$BATS_FILE_TMPDIR/spank_stasis.so shim=$BATS_RUN_TMPDIR/product/preload/shim/libstasis.so"
}

teardown_file() {
    [ -z "${CLUSTER:-}" ] || cluster_stop
}

# What the tests' user is here.
become_job_user() {
    USER_ID=$(id -u "$JOB_USER")
    BECOME=(setpriv "--reuid=$JOB_USER" "--regid=$(id -g "$JOB_USER")" --clear-groups --inh-caps=-all)
    VARIABLES+=("SLURM_CONF=$SLURM_CONF")
    own "$T" "$IMAGES"
}

# start_srun NAME OPTION... : srun of a guest in the background; JOB is its job's id when it is ready.
start_srun() {
    local name=$1
    shift
    rm -f "$T/ready"
    hold
    start "$name" srun --quiet "$@"
    until_true 60 ready_or_gone
    [ -e "$T/ready" ] || fail "$name ended before it was ready: $(tail -n 3 "$T/$name.out" "$T/$name.err")"
    JOB=$(squeue -h -u "$JOB_USER" -n "$name" -o %A)
}

@test "slurm: srun --checkpoint takes images, --restart-dir goes on from them" {
    become_job_user
    start_srun stdio -J stdio --checkpoint=0:01 "--checkpoint-dir=images" "$GUESTS/stdio" 4
    wait_for_file "$IMAGES/$JOB.0.ckpt" 30
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    [ "$STATUS" != 0 ] || fail "status $STATUS"
    start again srun --quiet "--restart-dir=images" "$GUESTS/stdio" 4
    ends_well again
    says_ok again
}

# batch NAME LINES...: submits a script of these lines; JOB is its id.
batch() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/bash' "#SBATCH -J $name -o $T/$name.out -e $T/$name.err --open-mode=append" "$@" >"$T/$name.sh"
    own "$T/$name.sh"
    JOB=$(as_user sbatch --parsable "$T/$name.sh") || fail "sbatch of $name failed"
}

has_state() {
    [ "$(squeue -h -j "$1" -o %t 2>/dev/null)" = "$2" ]
}

job_is_over() {
    [ -z "$(squeue -h -j "$1" -t pending,running,completing -o %A 2>/dev/null)" ]
}

is_restarted() {
    [ "$(scontrol show job "$1" | grep -oE 'Restarts=[0-9]+')" = "Restarts=$2" ] && has_state "$1" R
}

@test "slurm: options in #SBATCH lines, and --export=NONE; a requeued job goes on from its images" {
    become_job_user
    hold
    batch count "#SBATCH --checkpoint=0:01 --checkpoint-dir=images --requeue --export=NONE" \
        "export PATH=/usr/bin:/bin GUEST_READY=$T/ready" "srun --export=ALL $GUESTS/stdio 4"
    wait_for_file "$IMAGES/$JOB.0.ckpt" 60
    as_user scontrol requeue "$JOB"
    until_true 90 is_restarted "$JOB" 1 || fail "$(scontrol show job "$JOB"; cat "$T/count.out" "$T/count.err")"
    release
    until_true 60 job_is_over "$JOB"
    says_ok count
    [ "$(generation "$IMAGES/$JOB.0.ckpt")" -gt 1 ] || fail "it began anew"
}

@test "slurm: signals reach a restarted step, and it ends as the program does" {
    become_job_user
    start_srun stdio -J stdio --checkpoint=0 "--checkpoint-dir=images" "$GUESTS/stdio" 60
    scancel -s USR2 "$JOB.0"
    wait_for_file "$IMAGES/$JOB.0.ckpt" 30
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    start again srun --quiet -J again "--restart-dir=images" "$GUESTS/stdio" 60
    until_true 60 is_task_back
    scancel -s TERM "$(squeue -h -n again -o %A).0"
    wait_exit "$PID" 60
    [ "$STATUS" = 143 ] || fail "status $STATUS"
}

is_task_back() {
    find_processes | grep -q stasis-keeper
}

@test "slurm: a step of several tasks is refused by name, and runs" {
    become_job_user
    start several srun --quiet -n2 --checkpoint=1 true
    wait_exit "$PID" 60
    [ "$STATUS" = 0 ] || fail "status $STATUS"
    named "$(cat "$T/several.err")"
    start several srun --quiet -n2 "--restart-dir=images" echo ran
    wait_exit "$PID" 60
    [ "$STATUS" = 69 ] || fail "status $STATUS"
    ! grep ran "$T/several.out" || fail "it ran"
}

@test "slurm: bad options are refused at once; without options nothing is preloaded" {
    become_job_user
    run as_user srun --checkpoint=soon true
    [ "$status" != 0 ]
    [[ $output == *"Invalid checkpoint interval specification: soon"* ]]
    run as_user srun --quiet env
    [ "$status" = 0 ]
    [[ $output == *SLURM_STEP_ID=0* && $output != *LD_PRELOAD* && $output != *CHECKPOINT* ]] || fail "$output"
}

scontrol_checkpoint() {
    run --separate-stderr stasis scontrol checkpoint "$@"
}

@test "slurm: scontrol checkpoint: create, vacate, requeue, and what is refused" {
    become_job_user
    start_srun held -J held --checkpoint=0 "--checkpoint-dir=images" "$GUESTS/stdio" 60
    scontrol_checkpoint CReate "$JOB.0" MaxWait=60
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    [ "$output" = "$IMAGES/$JOB.0.ckpt" ] || fail "$output"
    [ "$(generation "$output")" = 1 ]
    scontrol_checkpoint cr "$JOB" # no step: all of them
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    scontrol_checkpoint create "$JOB.7"
    [ "$status" = 1 ] || fail "status $status: $output $stderr"
    [[ $stderr == *"Invalid job id specified"* ]]
    scontrol_checkpoint requeue "$JOB.0"
    [ "$status" = 1 ]
    scontrol_checkpoint vacate "$JOB.0"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    wait_exit "$PID" 60
    [ "$STATUS" = 75 ] || fail "status $STATUS"
    [ "$(generation "$IMAGES/$JOB.0.ckpt")" = 3 ]
    scontrol_checkpoint create x.0
    [ "$status" = 1 ]
    scontrol_checkpoint create 1 Sometimes=1
    [ "$status" = 1 ]
    scontrol_checkpoint destroy 1
    [ "$status" = 1 ]
    run stasis scontrol ping # all else is scontrol's own
    [[ $output == *"is UP"* ]] || fail "$output"
}
