# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# What the tests of Slurm share: a cluster for each file, and the jobs of an ordinary user.

# An ordinary user that Slurm finds in the user database of every Debian.
JOB_USER=${JOB_USER:-games}

# start_cluster [PLUGIN-ARGUMENT...]: for setup_file; slurmd needs root. The tests of a file run one after another, also with bats --jobs:
# they have four CPUs and one user, and each looks at its end that this user has left nothing behind.
start_cluster() {
    [ "$(id -u)" = 0 ] || skip "needs: root, for slurmd"
    export BATS_NO_PARALLELIZE_WITHIN_FILE=true
    local product=$BATS_RUN_TMPDIR/product
    chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/file" "$BATS_FILE_TMPDIR"
    copy_product
    cp "$BUILD/slurm/spank_stasis.so" "$BATS_FILE_TMPDIR/"
    export CLUSTER=$BATS_FILE_TMPDIR/cluster
    cluster_start "$CLUSTER" "$BATS_FILE_TMPDIR/spank_stasis.so shim=$product/preload/shim/libstasis.so stasis=$product/tools/stasis $*"
}

stop_cluster() {
    [ -z "${CLUSTER:-}" ] || cluster_stop
}

# What the tests' user is here.
become_job_user() {
    USER_ID=$(id -u "$JOB_USER")
    BECOME=(setpriv "--reuid=$JOB_USER" "--regid=$(id -g "$JOB_USER")" --clear-groups --inh-caps=-all)
    VARIABLES+=("SLURM_CONF=$SLURM_CONF")
    own "$T" "$IMAGES"
}

# What Slurm calls the job that this test starts as NAME; that of the test before may still be on its way out.
job_name() {
    echo "$1.$BATS_TEST_NUMBER"
}

# find_job NAME: the id of that job: JOB.
find_job() {
    JOB=$(squeue -h -n "$(job_name "$1")" -o %A)
    [[ $JOB =~ ^[0-9]+$ ]] || fail "not one job of $1: $JOB"
}

# start_srun NAME OPTION... : srun of a guest in the background; JOB is its job's id when it is ready.
start_srun() {
    local name=$1
    shift
    rm -f "$T/ready"
    hold
    start "$name" srun --quiet -J "$(job_name "$name")" "$@"
    until_true 120 ready_or_gone
    [ -e "$T/ready" ] || fail "$name ended before it was ready: $(tail -n 3 "$T/$name.out" "$T/$name.err")"
    find_job "$name"
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

scontrol_checkpoint() {
    run --separate-stderr stasis scontrol checkpoint "$@"
}

# The program may still be on its way.
takes_image() {
    scontrol_checkpoint create "$1"
    [ "$status" = 0 ]
}

# whole JOB STEP...: what is printed when an image of the whole job has been taken, at whose moment these steps ran.
whole() {
    local job=$1 step
    shift
    for step in "$@"; do echo "$IMAGES/$job.$step.ckpt"; done
    echo "$IMAGES/$job.ckpt"
}

# What is kept of a job that has not ended well, beside its images: it may still be requeued by hand.
forget_job() {
    rm -f "$IMAGES/$1".{book,moment,sruns,life,life.first} "$IMAGES/$1".*.step
}

is_task_back() {
    find_processes | grep -q stasis-keeper
}

# All elements of it: squeue does not list a job for a moment while it is requeued.
has_ended() {
    ! scontrol show job "$1" | grep -o 'JobState=[A-Z_]*' | grep -qvE 'COMPLETED|FAILED|TIMEOUT|CANCELLED'
}

# primes COUNT: as any other program finds them.
primes() {
    seq 2 20000 | factor | awk 'NF == 2 { print $2 }' | head -n "$1"
}

has_lines() {
    [ -e "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]
}

# SAVER stands (STASIS_TEST_FAIL=stand).
stands_still() {
    for SAVER in $(pgrep -u "$JOB_USER" -x stasis-saver); do is_stopped "$SAVER" && return 0; done
    return 1
}

# submit NAME LINES...: as batch; the job's id is kept in NAME.job. Without --open-mode, as people do it.
submit() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/bash' "#SBATCH -J $name -o $name.out -e $name.err" "$@" >"$T/$name.sh"
    own "$T/$name.sh"
    as_user sbatch --parsable "$T/$name.sh" >"$T/$name.job" || fail "sbatch of $name failed"
}
