# SPDX-License-Identifier: MIT
# JOB.ckpt: the image of a whole batch job, its shell with its variables and its place in the script, and the steps that it waits for.

JOB_USER=uucp
load helpers
load slurm/cluster
load slurm/jobs

setup_file() {
    start_cluster
}

teardown_file() {
    stop_cluster
}

@test "slurm: a batch script comes back in its middle, with its variables, its PID and the step that it waits for" {
    become_job_user
    hold
    submit whole "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" \
        'sum=0' 'say() { echo "$1: $sum, $BASHPID"; }' 'say begins' \
        'for i in 1 2 3; do' 'sum=$((sum + i))' "srun python3 $APPS/primes.py \$((i * 10)) 0.01" 'say "turn $i"' 'done' \
        "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold" 'say "status $?"' \
        "srun sh -c 'echo in step; exit 3'" 'say "status $?"'
    JOB=$(cat "$T/whole.job")
    until_true 60 has_lines "$T/whole.out" 114
    scontrol_checkpoint create "$JOB"
    [ "$status" = 0 ] || fail "$status: $output $stderr $(cat "$T/whole.err")"
    diff <(printf '%s\n' "$IMAGES/$JOB.3.ckpt" "$IMAGES/$JOB.ckpt") <(echo "$output")
    pid=$(head -n 1 "$T/whole.out" | grep -oE '[0-9]+$')
    as_user scontrol requeue "$JOB"
    until_true 60 is_restarted "$JOB" 1
    release
    until_true 90 has_ended "$JOB"
    diff <(echo "begins: 0, $pid"; primes 10; echo "turn 1: 1, $pid"; primes 20; echo "turn 2: 3, $pid"; primes 30; echo "turn 3: 6, $pid"
        primes 100; echo "status 0: 6, $pid"; echo "in step"; echo "status 3: 6, $pid") "$T/whole.out" || fail "$(cat "$T/whole.err")"
}
