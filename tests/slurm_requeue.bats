# SPDX-License-Identifier: MIT
# Jobs that outlive their time limit, preemption and a requeue, without a word of it in their scripts. Time limits are whole minutes:
# all jobs that wait for one are submitted at the start, and run side by side.

JOB_USER=uucp
load helpers
load slurm/cluster
load slurm/jobs

setup_file() {
    CLUSTER_CPUS=8 start_cluster # the jobs of this function have four of them for minutes
    T=$BATS_FILE_TMPDIR/jobs APPS=$BATS_RUN_TMPDIR/product/tests/apps IMAGES=$BATS_FILE_TMPDIR/jobs/images
    local JOB_USER=news # another than that of the tests, who look what theirs has left
    mkdir -p "$IMAGES"
    become_job_user
    submit primes "#SBATCH --time=1 --requeue --checkpoint=0:15 --checkpoint-dir=images" 'echo "begins $$" >>shell.out' \
        "srun python3 $APPS/primes.py 2100 0.05" 'echo "ends $$" >>shell.out'
    submit array "#SBATCH --time=1 --requeue --checkpoint=0:15 --checkpoint-dir=images --array=1-2%1 -o array.%a.out -e array.%a.err" \
        "srun python3 $APPS/primes.py \$((1000 + SLURM_ARRAY_TASK_ID)) 0.05"
    submit limited "#SBATCH --time=1 --checkpoint=0:15 --checkpoint-dir=images" "srun python3 $APPS/primes.py 9000 0.05"
    submit signalled "#SBATCH --time=1 --requeue --signal=B:USR1@25 --checkpoint=0 --checkpoint-dir=images" \
        "trap 'touch told' USR1" "srun python3 $APPS/primes.py 1500 0.05 & wait" "wait"
}

teardown_file() {
    stop_cluster
}

# look_at NAME: at a job of setup_file, when it is over.
look_at() {
    JOBS=$BATS_FILE_TMPDIR/jobs # not T, whose processes end with the test
    JOB=$(cat "$JOBS/$1.job")
    until_true "${2:-300}" has_ended "$JOB" || fail "$1 is not over: $(scontrol show job "$JOB")"
}

restarts() {
    scontrol show job "$1" | grep -oE 'Restarts=[0-9]+' | head -n 1 | cut -d = -f 2
}

# right NAME COUNT: all lines are there, once.
right() {
    diff <(primes "$2") "$JOBS/$1.out" >"$JOBS/$1.diff" || fail "$1 is wrong: $(head -n 5 "$JOBS/$1.diff"; cat "$JOBS/$1.err"*)"
}

@test "slurm: a requeue by hand: no line twice, none lost, with images and without" {
    become_job_user
    hold
    submit hand "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" "echo begins" "srun python3 $APPS/primes.py 120 0.01 $T/ready.hold" \
        "srun sh -c 'echo \"restarts: \$SLURM_RESTART_COUNT\"'"
    JOB=$(cat "$T/hand.job")
    until_true 60 has_lines "$T/hand.out" 61
    as_user scontrol requeue "$JOB" # there is no image yet: it begins anew
    until_true 60 is_restarted "$JOB" 1
    until_true 60 takes_image "$JOB"
    [ "$(grep -c begins "$T/hand.out")" = 1 ] || fail "$(cat "$T/hand.out")"
    as_user scontrol requeue "$JOB"
    release
    until_true 90 has_ended "$JOB"
    diff <(echo begins; primes 120; echo "restarts: 2") "$T/hand.out" || fail "$(cat "$T/hand.err")"
    [ "$(generation "$IMAGES/$JOB.0.ckpt")" = 1 ]
}

@test "slurm: steps that have come to their end are not run again" {
    become_job_user
    hold
    submit steps "#SBATCH -n 2 --requeue --checkpoint=0:01 --checkpoint-dir=images" "srun -n 1 python3 $APPS/primes.py 40 0.01" "echo between" \
        "srun -n 1 sh -c 'date +%s%N >>$T/once'" "srun sh -c 'date +%s%N >>$T/each'" "srun -n 1 python3 $APPS/primes.py 100 0.01 $T/ready.hold"
    JOB=$(cat "$T/steps.job")
    wait_for_file "$IMAGES/$JOB.3.ckpt"
    as_user scontrol requeue "$JOB"
    release
    until_true 90 has_ended "$JOB"
    diff <(primes 40; echo between; primes 100) "$T/steps.out" || fail "$(cat "$T/steps.err"*)"
    [ "$(restarts "$JOB")" = 1 ]
    [ "$(wc -l <"$T/once")" = 1 ] || fail "the second step ran twice"
    [ "$(wc -l <"$T/each")" = 2 ] || fail "the third step, of two tasks, ran $(wc -l <"$T/each") times"
    [ -z "$(find "$IMAGES" -name '*.step')" ] || fail "$(ls "$IMAGES")"
}

# Each task begins with a line in its own file; one that fails, or is killed, leaves its step unfinished.
@test "slurm: a step of several tasks that had not come to its end is not taken for one that had" {
    become_job_user
    hold
    submit some "#SBATCH -n 2 --requeue --checkpoint=0 --checkpoint-dir=images" \
        "srun sh -c 'echo >>$T/began.\$SLURM_PROCID; while [ \$SLURM_PROCID = 1 ] && [ -e $T/ready.hold ]; do sleep 0.1; done'"
    JOB=$(cat "$T/some.job")
    until_true 60 grep -qs task "$IMAGES/$JOB.0.step" # the first one has ended
    as_user scontrol requeue "$JOB"
    until_true 90 has_lines "$T/began.1" 2
    until_true 60 has_lines "$T/began.0" 2
    as_user scontrol requeue "$JOB" # it has ended in two lives, but not with the other
    until_true 90 has_lines "$T/began.1" 3
    release
    until_true 90 has_ended "$JOB"
    has_lines "$T/began.0" 3 || fail "the first task is missing"
    [[ "$(scontrol show job "$JOB")" == *"JobState=COMPLETED"*"Restarts=2"* ]] || fail "$(scontrol show job "$JOB")"
}

@test "slurm: a step that has no image yet begins anew, no line twice; steps that share a file lose none" {
    become_job_user
    hold
    submit young "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" "echo begins" "srun python3 $APPS/primes.py 20 0.01" "echo between" \
        "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold"
    JOB=$(cat "$T/young.job")
    submit both "#SBATCH -n 2 --requeue --checkpoint=0 --checkpoint-dir=images" "srun -n 1 --exact python3 $APPS/primes.py 100 0.01 $T/ready.hold &" \
        "srun -n 1 --exact sh -c 'while [ ! -e $T/go ]; do sleep 0.1; done; seq 90001 90009' &" "wait"
    until_true 60 has_lines "$T/young.out" 72
    as_user scontrol requeue "$JOB"
    JOB=$(cat "$T/both.job")
    until_true 60 has_lines "$T/both.out" 50
    scontrol_checkpoint create "$JOB"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    as_user scontrol requeue "$JOB"
    release
    touch "$T/go"
    until_true 90 has_ended "$JOB"
    [[ "$(scontrol show job "$JOB")" == *"JobState=COMPLETED"*"Restarts=1"* ]] || fail "$(cat "$T/both.err"*)"
    diff <({ primes 100; seq 90001 90009; } | sort) <(grep -x '[0-9]*' "$T/both.out" | sort -u) || fail "a line is lost"
    JOB=$(cat "$T/young.job")
    until_true 90 has_ended "$JOB"
    diff <(echo begins; primes 20; echo between; primes 100) "$T/young.out" || fail "$(cat "$T/young.err"*)"
}

@test "slurm: a program that fails by itself is not requeued, and keeps its images" {
    become_job_user
    submit fails "#SBATCH --requeue --cleanup --checkpoint=0 --checkpoint-dir=images" "srun sh -c 'kill -USR2 \$\$; sleep 3; exit 3'"
    JOB=$(cat "$T/fails.job")
    until_true 60 has_ended "$JOB"
    [[ "$(scontrol show job "$JOB")" == *"JobState=FAILED"*"Restarts=0"*"ExitCode=3:0"* ]] || fail "$(scontrol show job "$JOB")"
    [ -e "$IMAGES/$JOB.0.ckpt" ]
    [ -e "$IMAGES/$JOB.book" ]
    forget_job "$JOB"
}

@test "slurm: --cleanup removes the images of a job that has ended well, and of no other" {
    become_job_user
    hold
    submit clean "#SBATCH -n 2 --requeue --cleanup --checkpoint=0 --checkpoint-dir=images" "srun -n 1 python3 $APPS/primes.py 100 0.01 $T/ready.hold" \
        "srun sh -c 'touch $T/second.\$SLURM_PROCID; while [ ! -e $T/go ]; do sleep 0.1; done'"
    JOB=$(cat "$T/clean.job")
    until_true 60 has_lines "$T/clean.out" 50
    for _ in 1 2; do until_true 60 takes_image "$JOB"; done
    cp "$IMAGES/$JOB.0.ckpt" "$IMAGES/other.0.ckpt"
    cp "$IMAGES/$JOB.0.ckpt" "$IMAGES/${JOB}1.0.ckpt"
    as_user scontrol requeue "$JOB"
    release
    until_true 90 test -e "$T/second.0" -a -e "$T/second.1"
    for _ in 1 2; do until_true 60 takes_image "$JOB"; done
    [ "$(find "$IMAGES" -name 'task.*' | wc -l)" = 4 ] || fail "$(find "$IMAGES")"
    touch "$T/go"
    until_true 90 has_ended "$JOB"
    diff <(primes 100) "$T/clean.out" || fail "$(cat "$T/clean.err")"
    [ "$(ls -A "$IMAGES")" = "$(printf '%s\n' "${JOB}1.0.ckpt" other.0.ckpt)" ] || fail "$(find "$IMAGES")"
    run as_user srun --cleanup true
    [ "$status" != 0 ] && [[ $output == *"--cleanup is for sbatch"* ]] || fail "status $status: $output"
}

@test "slurm: the script is signalled as before, and ends as it did" {
    become_job_user
    submit signals "#SBATCH --checkpoint=0 --checkpoint-dir=images" "trap 'echo told' USR1" "touch $T/ready" \
        'while ! grep -qs told signals.out; do sleep 0.1; done' 'kill -TERM $$'
    JOB=$(cat "$T/signals.job")
    until_true 60 test -e "$T/ready"
    as_user scancel -b -s USR1 "$JOB"
    until_true 60 has_ended "$JOB"
    [[ "$(scontrol show job "$JOB")" == *"ExitCode=0:15"* ]] || fail "$(scontrol show job "$JOB")"
    forget_job "$JOB"
}

# Slurm looks at limits every 30 seconds, and sends up to a minute early; the last image comes at 35.
@test "slurm: --signal=...@SECONDS says when the last image is taken" {
    look_at signalled
    [ -e "$JOBS/told" ] || fail "the script's own signal did not come"
    [ "$(restarts "$JOB")" -ge 1 ] || fail "$(scontrol show job "$JOB")"
    [ -e "$JOBS/images/$JOB.0.ckpt" ]
}

@test "slurm: a prime finder that needs more than two of its time limits" {
    look_at primes
    right primes 2100
    [[ "$(cat "$JOBS/shell.out")" =~ ^begins\ ([0-9]+)$'\n'ends\ ([0-9]+)$ ]] && [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ] || fail "$(cat "$JOBS/shell.out")"
    [ "$(restarts "$JOB")" -ge 2 ] || fail "$(scontrol show job "$JOB")"
    [[ "$(scontrol show job "$JOB")" == *"Comment=stasis: image of 2"* ]] || fail "$(scontrol show job "$JOB")"
    [ ! -e "$JOBS/images/$JOB.book" ]
}

@test "slurm: elements of an array have their own images, and go on alone" {
    local element
    look_at array
    for element in 1 2; do
        right "array.$element" $((1000 + element))
        [ "$(restarts "${JOB}_$element")" -ge 1 ] || fail "$(scontrol show job "${JOB}_$element")"
    done
}

@test "slurm: without --requeue the time limit is the end" {
    look_at limited
    [[ "$(scontrol show job "$JOB")" == *"JobState=TIMEOUT"*"Restarts=0"* ]] || fail "$(scontrol show job "$JOB")"
    [ -e "$JOBS/images/$JOB.0.ckpt" ]
}
