# SPDX-License-Identifier: MIT
# Slurm without the plugin: the wrappers, and plain LD_PRELOAD.

JOB_USER=list
load helpers
load slurm/cluster
load slurm/jobs

setup_file() {
    start_cluster
    : >"$CLUSTER/plugstack.conf"
}

teardown_file() {
    stop_cluster
}

@test "slurm: stasis srun takes its own options, and leaves those of the program" {
    become_job_user
    run stasis srun --quiet -n 1 --checkpoint 0:30 --checkpoint-dir=images sh -c 'env; echo "$@"' sh --checkpoint=7
    [ "$status" = 0 ] || fail "$output"
    [[ $output == *"SLURM_CHECKPOINT=0:30"* && $output == *"SLURM_CHECKPOINT_DIR=$IMAGES"* && $output == *"LD_PRELOAD=$SHIM"* ]] || fail "$output"
    [[ $output == *"--checkpoint=7" ]] || fail "$output"
    run stasis srun --quiet env
    [[ $status = 0 && $output != *LD_PRELOAD* && $output != *PROLOG* ]] || fail "$output"
    run stasis srun --checkpoint=soon true
    [ "$status" = 64 ]
    [[ $output == *"Invalid checkpoint interval specification: soon"* ]] || fail "$output"
    run stasis srun --cleanup true
    [ "$status" = 64 ]
    [[ $output == *"--cleanup is for sbatch"* ]] || fail "$output"
    run as_user srun --quiet -n 2 "$STASIS" run --cleanup true
    [ "$status" = 64 ] && [[ $output == *"--cleanup: this step has 2 tasks"* ]] || fail "status $status: $output"
    start_srun cleaned "$STASIS" run --cleanup --checkpoint=0 --checkpoint-dir=images "$GUESTS/stdio" 2
    scontrol_checkpoint create "$JOB.0"
    [ "$status" = 0 ] && [ -e "$IMAGES/$JOB.0.ckpt" ] || fail "status $status: $output $stderr"
    ends_well cleaned
    [ -z "$(ls -A "$IMAGES")" ] || fail "$(ls -A "$IMAGES")"
}

@test "slurm: stasis srun takes images and goes on from them; what the user has for a prolog runs, too" {
    become_job_user
    printf '%s\n' '#!/bin/sh' 'echo export OWN=1' >"$T/prolog"
    chmod a+rx "$T/prolog"
    hold
    rm -f "$T/ready"
    start stdio "$STASIS" srun --quiet -J "$(job_name stdio)" --task-prolog "$T/prolog" --checkpoint=0:01 --checkpoint-dir=images "$GUESTS/stdio" 4
    until_true 60 ready_or_gone
    find_job stdio
    wait_for_file "$IMAGES/$JOB.0.ckpt" 30
    tr '\0' '\n' <"/proc/$(pgrep -u "$JOB_USER" -xn stdio)/environ" | grep -qx OWN=1 || fail "its prolog did not run"
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    start again "$STASIS" srun --quiet --restart-dir=images "$GUESTS/stdio" 4
    ends_well again
    says_ok again
}

@test "slurm: stasis sbatch: options in #SBATCH lines, and a requeued job goes on, no line twice" {
    become_job_user
    hold
    printf '%s\n' '#!/bin/bash' '# a comment' '#SBATCH -o job.out --checkpoint=0 --cleanup --requeue # more' "#SBATCH --checkpoint-dir images" '' \
        'echo "begins $# $SLURM_JOB_NAME"' "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold" >"$T/job.sh"
    own "$T/job.sh"
    JOB=$(stasis sbatch --parsable -t 5 "$T/job.sh" one "two three") || fail "it was not submitted"
    until_true 60 has_lines "$T/job.out" 51
    mkdir "$T/elsewhere"
    own "$T/elsewhere"
    scontrol_checkpoint create "$JOB"
    [ "$status" = 0 ] && [ "$output" = "$(whole "$JOB" 0)" ] || fail "status $status: $output $stderr"
    mv "$IMAGES/$JOB".{ckpt,0.ckpt,moment} "$T/elsewhere/"
    scontrol_checkpoint requeue "$JOB" ImageDir=elsewhere
    [ "$status" = 0 ] && [ "$output" = "$(IMAGES=$T/elsewhere whole "$JOB" 0)" ] || fail "status $status: $output $stderr"
    release
    until_true 90 has_ended "$JOB"
    diff <(echo "begins 2 job.sh"; primes 100) "$T/job.out" || fail "it is wrong"
    [ -z "$(ls -A "$IMAGES")" ] || fail "images stay: $(ls -A "$IMAGES")"
    [ -z "$(ls -d "${TMPDIR:-/tmp}"/stasis-??????/job.sh 2>/dev/null)" ] || fail "a script is left behind"
}

@test "slurm: LD_PRELOAD is for the tasks of srun, not for srun" {
    become_job_user
    VARIABLES+=("LD_PRELOAD=$SHIM" "SLURM_CHECKPOINT=0:01" "SLURM_CHECKPOINT_DIR=$IMAGES")
    start_srun stdio "$GUESTS/stdio" 4
    wait_for_file "$IMAGES/$JOB.0.ckpt" 30
    ends_well stdio
    says_ok stdio
    [ -z "$(find "$IMAGES" -name '*.ckpt' ! -name "$JOB.0.ckpt")" ] || fail "$(ls "$IMAGES")"
}

@test "slurm: links to stasis stand for Slurm's commands, in front of them in PATH" {
    become_job_user
    local links=$T/product/libexec/slurm
    run as_user env "PATH=$links:/usr/bin:/bin" scontrol ping
    [[ $status = 0 && $output == *"is UP"* ]] || fail "$output"
    run as_user env "PATH=$links:/usr/bin:/bin" scontrol checkpoint able 1.0
    [[ $status = 0 && $output == Yes ]] || fail "$output"
    run as_user env "PATH=$links:/usr/bin:/bin" srun --quiet --checkpoint=0 --checkpoint-dir=images env
    [[ $status = 0 && $output == *"LD_PRELOAD="* ]] || fail "$output"
    run as_user env "PATH=$links:/usr/bin:/bin" srun_cr --quiet --checkpoint=0 --checkpoint-dir=images env
    [[ $status = 0 && $output == *"LD_PRELOAD="* ]] || fail "$output"
    run as_user env "PATH=$links:/usr/bin:/bin" salloc --quiet --checkpoint=0 --checkpoint-dir=images srun env
    [[ $status = 0 && $output == *"LD_PRELOAD="*"SLURM_CHECKPOINT_DIR=$IMAGES"* ]] || [[ $output == *"SLURM_CHECKPOINT_DIR=$IMAGES"*"LD_PRELOAD="* ]] || fail "$output"
}

# The last one: numbers of jobs begin again.
@test "slurm: stasis sbatch: an element of an array that Slurm has forgotten is submitted anew, alone, and goes on" {
    local former
    become_job_user
    hold
    printf '%s\n' '#!/bin/bash' '#SBATCH -o job.%a.out --checkpoint=0 --checkpoint-dir images' 'echo "begins $*, $SLURM_ARRAY_TASK_ID"' \
        "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold" >"$T/job.sh"
    own "$T/job.sh"
    former=$(stasis sbatch --parsable --array=7,8 "$T/job.sh" one) || fail "it was not submitted"
    until_true 60 has_lines "$T/job.7.out" 51
    until_true 60 has_lines "$T/job.8.out" 51
    former=$(squeue -h -j "${former}_7" -o %A)
    scontrol_checkpoint vacate "$former"
    [ "$status" = 0 ] && [ "$output" = "$(whole "$former" 0)" ] || fail "status $status: $output $stderr"
    release
    until_true 90 has_ended "$former"
    until_true 60 cluster_is_empty
    hold
    cluster_forget
    scontrol_checkpoint restart "$former" ImageDir=images
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    JOB=$output
    [ "$(scontrol show job "$JOB" | grep -c JobId=)" = 1 ] || fail "$(scontrol show job "$JOB")"
    until_true 60 is_task_back || fail "$(cat "$T/job.7.out"; scontrol show job "$JOB")"
    release
    until_true 90 has_ended "$JOB"
    diff <(echo "begins one, 7"; primes 100) "$T/job.7.out" || fail "$(cat "$T/job.7.out")"
    diff <(echo "begins one, 8"; primes 100) "$T/job.8.out" || fail "$(cat "$T/job.8.out")"
}
