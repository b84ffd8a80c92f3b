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

@test "slurm: a script with two sruns in the background, and one of several tasks; three lives from two images" {
    become_job_user
    hold
    submit several "#SBATCH -n 4 --requeue --checkpoint=0 --checkpoint-dir=images" \
        "srun -n 1 --exact python3 $APPS/primes.py 100 0.01 $T/ready.hold >first.out & first=\$!" \
        "srun -n 1 --exact python3 $APPS/primes.py 120 0.01 $T/ready.hold >second.out & second=\$!" \
        "srun -n 2 --exact -o tasks.%t.out python3 $APPS/primes.py 80 0.01 $T/ready.hold & third=\$!" \
        'wait $first; echo "first $?"; wait $second; echo "second $?"; wait $third; echo "third $?"'
    JOB=$(cat "$T/several.job")
    until_true 60 has_lines "$T/first.out" 50
    until_true 60 has_lines "$T/second.out" 60
    for task in 0 1; do until_true 60 has_lines "$T/tasks.$task.out" 40; done
    touch "$IMAGES/$JOB.2.request"
    own "$IMAGES/$JOB.2.request"
    until_true 60 test -e "$IMAGES/$JOB.moment" -a ! -e "$IMAGES/$JOB.2.request" -a ! -e "$IMAGES/$JOB.batch.request"
    for life in 1 2; do
        until_true 90 takes_image "$JOB"
        [ "$(tail -n 1 <<<"$output")" = "$IMAGES/$JOB.ckpt" ] && [ "$(wc -l <<<"$output")" = 4 ] || fail "$output $stderr $(cat "$T/several.err")"
        as_user scontrol requeue "$JOB"
        until_true 60 is_restarted "$JOB" "$life"
    done
    release
    until_true 90 has_ended "$JOB"
    diff <(printf '%s\n' "first 0" "second 0" "third 0") "$T/several.out" || fail "$(cat "$T/several.err")"
    diff <(primes 100) "$T/first.out" || fail "the first: $(cat "$T/several.err")"
    diff <(primes 120) "$T/second.out" || fail "the second: $(cat "$T/several.err")"
    for task in 0 1; do diff <(primes 80) "$T/tasks.$task.out" || fail "task $task: $(cat "$T/several.err")"; done
}

@test "slurm: a script that does it all itself, without srun; an image by the interval, and one that is damaged" {
    become_job_user
    hold
    submit alone "#SBATCH --requeue --checkpoint=0:01 --checkpoint-dir=images" \
        "seq 300000 | gzip -9 | wc -c" "python3 $APPS/primes.py 100 0.01 $T/ready.hold | tee all.out | tail -n 1" 'echo "${PIPESTATUS[*]}"'
    JOB=$(cat "$T/alone.job")
    until_true 60 has_lines "$T/all.out" 50
    until_true 60 has_generation "$IMAGES/$JOB.ckpt" 2
    as_user scontrol requeue "$JOB"
    until_true 60 is_restarted "$JOB" 1
    until_true 60 has_generation "$IMAGES/$JOB.ckpt" 4
    as_user scontrol requeuehold "$JOB"
    until_true 60 has_state "$JOB" PD
    for image in "$IMAGES/$JOB.ckpt"*; do printf x | dd of="$image" bs=1 seek=100 conv=notrunc status=none; done
    as_user scontrol release "$JOB"
    release
    until_true 90 has_ended "$JOB"
    diff <(seq 300000 | gzip -9 | wc -c; primes 100 | tail -n 1; echo "0 0 0") "$T/alone.out" || fail "$(cat "$T/alone.err")"
    diff <(primes 100) "$T/all.out"
}

@test "slurm: a signal to the script takes an image of the whole; cancelled when it has come back, nothing is left" {
    become_job_user
    hold
    submit ends "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold"
    JOB=$(cat "$T/ends.job")
    until_true 60 has_lines "$T/ends.out" 50
    as_user scancel --batch --signal=USR2 "$JOB"
    until_true 60 has_generation "$IMAGES/$JOB.ckpt" 1
    until_true 60 test -e "$IMAGES/$JOB.moment"
    [ ! -e "$IMAGES/$JOB.batch.request" ]
    as_user scontrol requeue "$JOB"
    until_true 60 is_restarted "$JOB" 1
    until_true 60 takes_image "$JOB"
    as_user scancel "$JOB"
    until_true 60 has_ended "$JOB"
    until_true 60 no_processes
    [ "$(generation "$IMAGES/$JOB.ckpt")" = 2 ]
    forget_job "$JOB"
}

@test "slurm: a script that cannot come back begins with its first line, and says why" {
    become_job_user
    hold
    echo "a line" >"$T/input"
    own "$T/input"
    submit gone "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" 'exec 5<input' 'echo begins' "srun python3 $APPS/primes.py 20 0.01" \
        "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold" 'read -u 5 line' 'echo "$line"'
    JOB=$(cat "$T/gone.job")
    until_true 60 has_lines "$T/gone.out" 71
    scontrol_checkpoint create "$JOB"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    echo "another one" >"$T/input"
    as_user scontrol requeue "$JOB"
    until_true 60 is_restarted "$JOB" 1
    release
    until_true 90 has_ended "$JOB"
    # the step that goes on has cut the file of its errors to what it was
    grep -q "R-FILE-CHANGED: $T/input" "$T/gone.err.stasis-tail" || fail "$(cat "$T"/gone.err*)"
    grep -q "begins with its script's first line" "$T/gone.err.stasis-tail" || fail "$(cat "$T"/gone.err*)"
    diff <(echo begins; primes 20; primes 100; echo "another one") "$T/gone.out" || fail "$(cat "$T"/gone.err*)"

}

@test "slurm: a job that a script submits is no part of it" {
    become_job_user
    submit outer "#SBATCH --checkpoint=0 --checkpoint-dir=images" "srun true" \
        "LD_PRELOAD=\"\$LD_PRELOAD /no/such.so\" sbatch --wait -o inner.out -e inner.err --wrap 'env; srun true; srun env'" "srun true" "cp $IMAGES/*.sruns ."
    JOB=$(cat "$T/outer.job")
    until_true 60 has_ended "$JOB"
    [[ "$(scontrol show job "$JOB")" == *"JobState=COMPLETED"* ]] || fail "$(cat "$T"/*.err)"
    inner=$(sed -n 's/^SLURM_JOB_ID=//p' "$T/inner.out" | head -n 1)
    [ "$(grep -c "^STASIS_SRUNS=$IMAGES/$inner$" "$T/inner.out")" = 1 ] || fail "$(cat "$T/inner.out")"
    diff <(printf '%s\n' "begin 0" "tasks 0" "end 0" "begin 1" "tasks 1" "end 1") "$T/$JOB.sruns"
    [ "$(grep -c "^LD_PRELOAD=[^:]*libstasis.so:/no/such.so$" "$T/inner.out")" = 2 ] || fail "$(grep LD_PRELOAD "$T/inner.out")"
    until_true 60 job_is_over "$inner"
}

@test "slurm: a script that asks for images itself has those of its steps" {
    become_job_user
    hold
    submit asks "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" \
        'asks() { trap - USR1; "$STASIS" checkpoint $SLURM_JOB_ID.batch; echo "$?" >alone; "$STASIS" scontrol checkpoint requeue $SLURM_JOB_ID >made; }' \
        "STASIS=$STASIS" 'trap asks USR1' "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold & wait; wait"
    JOB=$(cat "$T/asks.job")
    until_true 60 has_lines "$T/asks.out" 50
    as_user scancel --batch --signal=USR1 "$JOB"
    until_true 60 is_restarted "$JOB" 1
    release
    until_true 90 has_ended "$JOB"
    [ "$(cat "$T/alone")" = 69 ] || fail "$(cat "$T"/asks.err*)"
    [ ! -e "$IMAGES/$JOB.ckpt" ] && [ "$(generation "$IMAGES/$JOB.0.ckpt")" = 1 ] || fail "$(ls "$IMAGES")"
    diff <(primes 100) "$T/asks.out" || fail "$(cat "$T"/asks.err*)"
}

@test "slurm: options on the command line; a script that goes elsewhere, whose first srun fails, and that does not mind being ended" {
    become_job_user
    hold
    printf '%s\n' '#!/bin/bash' "trap '' TERM" "cd /" "srun sh -c 'echo fails; exit 3'" "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold" \
        'echo "status $?"' >"$T/elsewhere.sh"
    own "$T/elsewhere.sh"
    JOB=$(as_user sbatch --parsable -o elsewhere.out -e elsewhere.err --requeue --checkpoint=0 --checkpoint-dir=images elsewhere.sh)
    for life in 1 2; do
        until_true 60 has_lines "$T/elsewhere.out" 51
        until_true 60 takes_image "$JOB"
        [ "$output" = "$(whole "$JOB" 1)" ] || fail "$output $stderr $(cat "$T/elsewhere.err")"
        as_user scontrol requeue "$JOB"
        until_true 60 is_restarted "$JOB" "$life"
    done
    release
    until_true 90 has_ended "$JOB"
    diff <(echo fails; primes 100; echo "status 0") "$T/elsewhere.out" || fail "$(cat "$T/elsewhere.err")"
}

@test "slurm: a script that reads what an srun writes has an image in a quiet moment, and no other" {
    become_job_user
    hold
    submit reads "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold | tee all.out | tail -n 1" \
        "words=\$(srun python3 $APPS/primes.py 100 0.01 $T/second.hold)" 'echo $words' \
        "srun sh -c 'while [ ! -e $T/go ]; do echo line; sleep 0.01; done' | tail -n 1"
    touch "$T/second.hold"
    JOB=$(cat "$T/reads.job")
    for hold in ready second; do
        until_true 60 is_held "$JOB" "$hold"
        scontrol_checkpoint create "$JOB"
        [ "$status" = 0 ] && [ -e "$IMAGES/$JOB.ckpt" ] || fail "status $status: $output $stderr"
        as_user scontrol requeue "$JOB"
        until_true 60 job_runs_again "$JOB"
        rm "$T/$hold.hold"
    done
    until_true 60 has_lines "$T/reads.out" 2
    until_true 60 test -e "$IMAGES/$JOB.2.step"
    generation=$(generation "$IMAGES/$JOB.ckpt")
    scontrol_checkpoint create "$JOB"
    [ "$status" = 0 ] && [[ $stderr == *"R-SRUN-PIPE"* ]] || fail "status $status: $output $stderr"
    [ "$(generation "$IMAGES/$JOB.ckpt")" = "$generation" ]
    touch "$T/go"
    until_true 90 has_ended "$JOB"
    diff <(primes 100 | tail -n 1; echo $(primes 100); echo line) "$T/reads.out" || fail "$(cat "$T/reads.err")"
    diff <(primes 100) "$T/all.out"
}

# is_held JOB HOLD: its program waits for that file to go, and has nothing to say: its lines are there, or in its script's memory.
is_held() {
    if [ "$2" = ready ]; then has_lines "$T/all.out" 50; else [ -e "$IMAGES/$1.1.step" ] && [ "$(squeue -h -s -j "$1" -o %i | grep -c '\.[0-9]')" = 1 ] && sleep 3; fi
}

job_runs_again() {
    [ "$(scontrol show job "$1" | grep -oE 'Restarts=[0-9]+')" != "Restarts=${RESTARTS:-0}" ] && has_state "$1" R && RESTARTS=$((${RESTARTS:-0} + 1))
}

has_generation() {
    [ -e "$1" ] && [ "$(generation "$1")" -ge "$2" ]
}
