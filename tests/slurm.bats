# SPDX-License-Identifier: MIT
# The options that Slurm dropped, on a real cluster: slurmctld, slurmd and munge are started here and ended.

load helpers
load slurm/cluster
load slurm/jobs

# With a prolog of the site's for each task.
setup_file() {
    printf '%s\n' '#!/bin/sh' 'sh -c "sh -c true; date" >/dev/null' 'echo "$SLURM_STEP_ID" >>"$HOME/site"' 'echo export SITE=1' >"$BATS_FILE_TMPDIR/prolog"
    chmod a+rx "$BATS_FILE_TMPDIR/prolog"
    CLUSTER_LINES="TaskProlog=$BATS_FILE_TMPDIR/prolog" start_cluster
}

teardown_file() {
    stop_cluster
}

@test "slurm: srun --checkpoint takes images, --restart-dir goes on from them" {
    become_job_user
    start_srun stdio --checkpoint=0:01 "--checkpoint-dir=images" "$GUESTS/stdio" 4
    wait_for_file "$IMAGES/$JOB.0.ckpt"
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    [ "$STATUS" != 0 ] || fail "status $STATUS"
    start again srun --quiet "--restart-dir=images" "$GUESTS/stdio" 4
    ends_well again
    says_ok again
}

@test "slurm: a program that cannot have the shim is named; to a restart it is no obstacle where Slurm can put another in its place" {
    local static=/sbin/ldconfig # as ever
    become_job_user
    run as_user srun --quiet --checkpoint=0 "--checkpoint-dir=images" "$static" -V
    [ "$status" = 0 ] && [[ $output == *"R-STATIC: $static is statically linked; the task runs without checkpoints"* ]] || fail "status $status: $output"
    start_srun stdio --checkpoint=0 "--checkpoint-dir=images" "$GUESTS/stdio" 4
    run --separate-stderr stasis checkpoint "$JOB.0"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    release
    if cluster_is_22; then
        run as_user srun --quiet "--restart-dir=images" "$static" -V
        [ "$status" = 69 ] && [[ $output == *"R-STATIC: "*"name another program"* ]] || fail "status $status: $output"
        return
    fi
    start again srun --quiet "--restart-dir=images" "$static" -V
    ends_well again
    says_ok again
}

@test "slurm: options in #SBATCH lines, and --export=NONE; a requeued job goes on from its images" {
    local run last
    become_job_user
    hold
    batch count "#SBATCH --checkpoint=0:01 --checkpoint-dir=images --requeue --export=NONE" \
        "export PATH=/usr/bin:/bin GUEST_READY=$T/ready" "srun --export=ALL $GUESTS/stdio 4"
    wait_for_file "$IMAGES/$JOB.0.ckpt"
    run=$(run_of "$IMAGES/$JOB.0.ckpt")
    as_user scontrol requeue "$JOB"
    until_true 90 is_restarted "$JOB" 1 || fail "$(scontrol show job "$JOB"; cat "$T/count.out" "$T/count.err")"
    last=$(generation "$IMAGES/$JOB.0.ckpt")
    until_true 60 is_later_than "$last" # the program is held until then
    [ "$(run_of "$IMAGES/$JOB.0.ckpt")" = "$run" ] || fail "it began anew"
    release
    until_true 60 job_is_over "$JOB"
    says_ok count
}

is_later_than() {
    [ "$(generation "$IMAGES/$JOB.0.ckpt")" -gt "$1" ]
}

@test "slurm: signals reach a restarted step, and it ends as the program does" {
    become_job_user
    start_srun stdio --checkpoint=0 "--checkpoint-dir=images" "$GUESTS/stdio" 60
    scancel -s USR2 "$JOB.0"
    wait_for_file "$IMAGES/$JOB.0.ckpt"
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    start again srun --quiet -J "$(job_name again)" "--restart-dir=images" "$GUESTS/stdio" 60
    until_true 60 is_task_back
    find_job again
    scancel -s TERM "$JOB.0"
    wait_exit "$PID" 60
    [ "$STATUS" = 143 ] || fail "status $STATUS"
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

@test "slurm: scontrol checkpoint: create, vacate, requeue, and what is refused" {
    become_job_user
    start_srun held --checkpoint=0 "--checkpoint-dir=images" "$GUESTS/stdio" 60
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

@test "slurm: scontrol checkpoint: able, disable, enable, error, and what each word takes" {
    become_job_user
    start_srun held --checkpoint=0 "--checkpoint-dir=images" "$GUESTS/stdio" 4
    says able Yes
    says disable
    says DISABLE # they nest
    says enable
    says able No
    scontrol_checkpoint create "$JOB.0"
    [ "$status" = 1 ] && [[ $stderr == *"Requested operation is presently disabled"* ]] || fail "status $status: $output $stderr"
    says en
    says enable
    says a Yes
    scontrol_checkpoint create "$JOB.0" StickToNodes
    [ "$status" = 1 ] && [[ $stderr == *"Invalid input: StickToNodes"*"Request aborted"* ]] || fail "status $status: $stderr"
    chmod 500 "$IMAGES"
    scontrol_checkpoint create "$JOB.0"
    [ "$status" = 73 ] || [ "$status" = 74 ] || fail "status $status: $output $stderr"
    says error "error($status): Cannot create the image"
    chmod 700 "$IMAGES"
    scontrol_checkpoint create "$JOB.0"
    says er "error(0): No error"
    scontrol_checkpoint restart "$JOB"
    [ "$status" = 1 ] && [[ $stderr == *"Job is not finished"* ]] || fail "status $status: $output $stderr"
    ends_well held
    until_true 60 job_is_over "$JOB"
    scontrol_checkpoint create "$JOB"
    [ "$status" = 1 ] && [[ $stderr == *"Job/step already completing or completed"* ]] || fail "status $status: $output $stderr"
    scontrol_checkpoint restart 999999
    [ "$status" = 1 ] && [[ $stderr == *"Invalid job id specified"* ]] || fail "status $status: $output $stderr"
    [ -z "$(ls -A "$T/.local/state/stasis")" ] || fail "$(ls "$T/.local/state/stasis")"
}

# says OPERATION [TEXT]: of step JOB.0, with status 0.
says() {
    scontrol_checkpoint "$1" "$JOB.0"
    [ "$status" = 0 ] && [ "$output" = "${2:-}" ] || fail "$1: status $status: $output $stderr"
}

@test "slurm: prologs of a task run as they always did, and nothing is restarted in their place" {
    become_job_user
    printf '%s\n' '#!/bin/sh' 'env >>"$HOME/own"' 'echo export OWN=2' >"$T/prolog"
    chmod a+rx "$T/prolog"
    hold
    submit prologs "#SBATCH --requeue --checkpoint=0 --checkpoint-dir=images" "srun --task-prolog=$T/prolog python3 $APPS/primes.py 100 0.01 $T/ready.hold" \
        "srun --task-prolog=$T/prolog sh -c 'echo \$SITE \$OWN'"
    JOB=$(cat "$T/prologs.job")
    until_true 60 has_lines "$T/prologs.out" 50
    scontrol_checkpoint create "$JOB"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    as_user scontrol requeue "$JOB"
    until_true 60 is_restarted "$JOB" 1
    until_true 60 is_task_back
    release
    until_true 90 has_ended "$JOB"
    diff <(primes 100; echo "1 2") "$T/prologs.out" || fail "$(cat "$T/prologs.err")"
    [ "$(sort "$T/site" | uniq -c | awk '$2 == 0 { print $1 }')" = 2 ] || fail "the site's prolog: $(cat "$T/site")"
    [ "$(grep -c '^SLURM_STEP_ID=0$' "$T/own")" = 2 ] || fail "the user's: $(cat "$T/own")"
    [ ! -e "$T/prologs.out.stasis-tail.1" ] || fail "the program was restarted twice"
}

# As srun_cr of old did.
@test "slurm: whoever listens at SLURM_SRUN_CR_SOCKET is told of the step" {
    become_job_user
    /usr/bin/python3 - "$T/socket" >"$T/told" <<'END' &
import os, socket, struct, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen()
connection = listener.accept()[0]
data = b''.join(iter(lambda: connection.recv(4096), b''))
job, step, length = struct.unpack('IIi', data[:12])
print(job, step, data[12:].decode().rstrip(chr(0)), len(data) - 13 == length)
END
    STARTED+=($!)
    until_true 30 test -e "$T/socket"
    VARIABLES+=("SLURM_SRUN_CR_SOCKET=$T/socket")
    run as_user srun --quiet sh -c 'echo $SLURM_JOB_ID $SLURM_STEP_ID $SLURM_STEP_NODELIST True'
    [ "$status" = 0 ] || fail "$output"
    until_true 30 has_lines "$T/told" 1
    [ "$(cat "$T/told")" = "$output" ] || fail "$(cat "$T/told"): $output"
    rm "$T/socket"
    run as_user srun --quiet echo runs # nobody listens
    [ "$status" = 0 ] && [ "$output" = runs ] || fail "status $status: $output"
}
