# SPDX-License-Identifier: MIT
# What the words of `scontrol checkpoint` do with arrays, with MaxWait, and with jobs that have ended.

JOB_USER=man
load helpers
load slurm/cluster
load slurm/jobs

setup_file() {
    start_cluster
}

teardown_file() {
    stop_cluster
}

# says OPERATION ID [TEXT]: with status 0.
says() {
    scontrol_checkpoint "$1" "$2"
    [ "$status" = 0 ] && [ "$output" = "${3:-}" ] || fail "$1 $2: status $status: $output $stderr"
}

# word JOB NAME: what Slurm has of it.
word() {
    scontrol --oneliner show job "$1" | grep -oE "(^| )$2=[^ ]*" | cut -d = -f 2
}

@test "slurm: scontrol checkpoint: elements of arrays, by their index and by their own number" {
    local third whole_third whole_fourth
    become_job_user
    hold
    submit array "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images --array=3-4 -o array.%a.out -e array.%a.err" \
        "srun python3 $APPS/primes.py \$((100 + SLURM_ARRAY_TASK_ID)) 0.01 $T/ready.hold"
    JOB=$(cat "$T/array.job")
    until_true 60 has_lines "$T/array.3.out" 51
    until_true 60 has_lines "$T/array.4.out" 52
    third=$IMAGES/$(word "${JOB}_3" JobId).0.ckpt
    whole_third=$(whole "$(word "${JOB}_3" JobId)" 0) whole_fourth=$(whole "$(word "${JOB}_4" JobId)" 0)
    says create "${JOB}_3" "$whole_third"
    says create "${JOB}_3.0" "$third"
    [ "$(generation "$third")" = 2 ]
    says disable "${JOB}_3.0"
    says able "$(word "${JOB}_3" JobId).0" No
    says able "${JOB}_4.0" Yes
    says enable "${JOB}_3.0"
    says error "${JOB}_3.0" "error(0): No error"
    scontrol_checkpoint create "${JOB}_5"
    [ "$status" = 1 ] && [[ $stderr == *"Invalid job id specified"* ]] || fail "status $status: $output $stderr"
    scontrol_checkpoint create "$JOB" # the whole array
    [ "$status" = 0 ] && [ "$(sort <<<"$output")" = "$(printf '%s\n' "$whole_third" "$whole_fourth" | sort)" ] || fail "status $status: $output $stderr"
    says vacate "${JOB}_3.0" "$third"
    until_true 60 job_is_over "${JOB}_3"
    says restart "${JOB}_3"
    until_true 60 is_restarted "${JOB}_3" 1
    [ "$(word "${JOB}_4" Restarts)" = 0 ] || fail "the other one was restarted, too"
    says requeue "${JOB}_4" "$whole_fourth"
    release
    until_true 90 has_ended "$JOB"
    diff <(primes 103) "$T/array.3.out" || fail "the third: $(cat "$T/array.3.err")"
    diff <(primes 104) "$T/array.4.out" || fail "the fourth: $(cat "$T/array.4.err")"
    [ "$(word "${JOB}_4" Restarts)" = 1 ]
}

# Another image is under way, and does not come to its end.
@test "slurm: scontrol checkpoint: MaxWait abandons cleanly" {
    become_job_user
    start_srun held --checkpoint=0 "--checkpoint-dir=images" env STASIS_TEST_FAIL=stand "$GUESTS/stdio" 4
    scancel -s USR2 "$JOB.0"
    until_true 60 stands_still
    scontrol_checkpoint create "$JOB.0" MaxWait=1
    [ "$status" = 75 ] && [ -z "$output" ] || fail "status $status: $output $stderr"
    says error "$JOB.0" "error(75): Given up within MaxWait"
    [ -z "$(ls -A "$IMAGES")" ] || fail "$(ls -A "$IMAGES")"
    kill -KILL "$SAVER"
    says create "$JOB.0" "$IMAGES/$JOB.0.ckpt"
    ends_well held
    says_ok held
}

@test "slurm: scontrol checkpoint: ImageDir is taken literally, by create, vacate and restart" {
    become_job_user
    mkdir "$T/else where"
    own "$T/else where"
    hold
    submit moved "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" "srun python3 $APPS/primes.py 100 0.01 $T/ready.hold"
    JOB=$(cat "$T/moved.job")
    until_true 60 has_lines "$T/moved.out" 50
    scontrol_checkpoint create "$JOB" "ImageDir=else where" MaxWait=60
    [ "$status" = 0 ] && [ "$output" = "$(IMAGES="$T/else where" whole "$JOB" 0)" ] || fail "status $status: $output $stderr"
    scontrol_checkpoint vacate "$JOB" "imagedir=$T/else where"
    [ "$status" = 0 ] && [ "$output" = "$(IMAGES="$T/else where" whole "$JOB" 0)" ] || fail "status $status: $output $stderr"
    [ "$(generation "$T/else where/$JOB.0.ckpt")" = 2 ] && [ -e "$T/else where/$JOB.0.ckpt.1" ] || fail "$(ls "$T/else where")"
    [ -z "$(find "$IMAGES" -name '*.ckpt')" ] || fail "$(ls "$IMAGES")"
    until_true 60 job_is_over "$JOB"
    scontrol_checkpoint restart "$JOB" "ImageDir=$T/else where"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    until_true 60 is_restarted "$JOB" 1
    until_true 60 takes_image "$JOB" # where the job's own ones are
    [ "$output" = "$(whole "$JOB" 0)" ] && [ "$(generation "$IMAGES/$JOB.0.ckpt")" = 3 ] || fail "$output"
    release
    until_true 90 has_ended "$JOB"
    diff <(primes 100) "$T/moved.out" || fail "$(cat "$T/moved.err")"
    [ -z "$(ls -A "$T/.local/state/stasis")" ] || fail "$(ls "$T/.local/state/stasis")"
}

# The last one: numbers of jobs begin again.
@test "slurm: scontrol checkpoint: restart of a job that Slurm has forgotten submits it anew, twice" {
    local former first
    become_job_user
    mkdir "$T/from here"
    own "$T/from here"
    printf '%s\n' '#!/bin/bash' "#SBATCH --checkpoint=0 --checkpoint-dir=$IMAGES" 'echo "begins $*: $WORD"' \
        "srun --quiet -n 1 sh -c 'echo >>$T/once'" "srun --quiet -n 1 python3 $APPS/primes.py 100 0.01 $T/ready.hold" >"$T/job.sh"
    own "$T/job.sh"
    hold
    as_user srun --quiet true # so that the numbers will differ
    JOB=$(as_user env -C "$T/from here" "WORD=a 'b'" sbatch --parsable -n 2 -J "its name" -o "$T/job.out" ../job.sh one "two three")
    first=$JOB
    until_true 60 has_lines "$T/job.out" 51
    for _ in 1 2; do
        former=$JOB
        scontrol_checkpoint vacate "$JOB"
        [ "$status" = 0 ] && [ "$output" = "$(whole "$first" 1)" ] || fail "status $status: $output $stderr"
        until_true 60 job_is_over "$JOB"
        cluster_forget
        scontrol_checkpoint restart "$JOB"
        [ "$status" = 1 ] && [[ $stderr == *"Invalid job id specified"*"ImageDir=DIR"* ]] || fail "status $status: $output $stderr"
        scontrol_checkpoint restart "$JOB" "ImageDir=images" StickToNodes
        [ "$status" = 1 ] && [[ $stderr == *"nobody knows its nodes"* ]] || fail "status $status: $output $stderr"
        scontrol_checkpoint restart "$JOB" "ImageDir=images"
        [ "$status" = 0 ] || fail "status $status: $output $stderr"
        JOB=$output
        [ "$(word "$JOB" JobName)" = "its" ] && [ "$(word "$JOB" NumCPUs)" = 2 ] || fail "$(scontrol show job "$JOB")"
        until_true 60 is_task_back || fail "$(cat "$T/job.out"; scontrol show job "$JOB")" # a request takes the number of a step: not before this one has its own
        until_true 60 takes_image "$JOB"
        [ "$output" = "$(whole "$first" 1)" ] || fail "it did not go on: $output"
    done
    release
    until_true 90 has_ended "$JOB"
    diff <(echo "begins one two three: a 'b'"; primes 100) "$T/job.out" || fail "$(cat "$T/job.out")"
    [ "$(wc -l <"$T/once")" = 1 ] || fail "a step that had ended ran again"
    [ -z "$(find "$IMAGES" -name '*.book' -o -name '*.step')" ] || fail "$(ls "$IMAGES")"
}
