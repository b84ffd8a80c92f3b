# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# Steps of four tasks.

# What a task runs: a guest that writes its rank's own number of lines to its rank's own file.
prepare_tasks() {
    become_job_user
    OUTPUTS=("--output=$T/out.%t" "--error=$T/err.%t" --open-mode=append)
    cat >"$T/task" <<END
#!/bin/sh
GUEST_READY=$T/ready.\$SLURM_PROCID exec $GUESTS/stdio \$((2 + SLURM_PROCID))
END
    chmod a+x "$T/task"
    for task in 0 1 2 3; do
        golden "task.$task" "$GUESTS/stdio" $((2 + task))
        : >"$T/ready.$task.hold"
    done
}

release_tasks() {
    rm -f "$T"/ready.*.hold
}

are_ready() {
    for task in 0 1 2 3; do [ -e "$T/ready.$task" ] || return 1; done
}

ready_or_over() {
    are_ready || is_gone "$PID"
}

# start_tasks NAME OPTION...: four of them in the background; JOB is their job's id when they are ready.
start_tasks() {
    local name=$1
    shift
    rm -f "$T"/ready.?
    start "$name" srun --quiet -J "$(job_name "$name")" -n4 "${OUTPUTS[@]}" "$@" "$T/task"
    until_true 120 ready_or_over
    are_ready || fail "$name ended before all were ready: $(tail -n 3 "$T/$name.err" "$T"/out.*)"
    find_job "$name"
}

kill_step() {
    scancel -f -s KILL "$JOB"
    wait_exit "$PID" 60
    [ "$STATUS" != 0 ] || fail "status $STATUS"
    until_true 60 job_is_over "$JOB"
}

# The outputs of all four are, byte by byte, what they are without us.
all_same() {
    for task in 0 1 2 3; do
        cmp "$T/task.$task.golden" "$T/out.$task" || fail "task $task: $(diff <(tail -n 3 "$T/task.$task.golden") <(tail -n 3 "$T/out.$task"))"
    done
}

take_step() {
    run --separate-stderr stasis checkpoint "$JOB.0" "$@"
    [ "$status" = 0 ] || fail "status $status: $output $stderr"
    IMAGE=${IMAGE:-$IMAGES/$JOB.0.ckpt}
    [ "$output" = "$IMAGE" ] || fail "it says: $output"
}

# restart_step NAME OPTION...: the four go on from the newest image there, and are still held; JOB is their new job's id.
restart_step() {
    local name=$1
    shift
    start "$name" srun --quiet -J "$(job_name "$name")" -n4 "${OUTPUTS[@]}" "--restart-dir=images" "$@" "$T/task"
    until_true 120 tasks_back_or_over
    are_back || fail "$name did not come back: $(cat "$T/$name.err")"
    find_job "$name"
}

are_back() {
    local pid count=0
    for pid in $(find_processes | awk '$2 == "stdio" { print $1 }'); do [ -z "$(page_of "$pid")" ] || count=$((count + 1)); done
    [ "$count" = "${BACK:-4}" ]
}

tasks_back_or_over() {
    are_back || is_gone "$PID"
}

ends_all_same() {
    release_tasks
    wait_exit "$PID" 120
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/$1.err")"
    all_same
    silent "$1"
    ! grep stasis "$T"/err.* || fail "that is on stderr"
}

# Of the images there, and nothing besides.
parts_are() {
    [ "$(find "$IMAGES" -name 'task.*' | wc -l)" = "$1" ] || fail "parts: $(find "$IMAGES")"
}

# restart_fails STATUS SAID OPTION...: nothing comes back, and nothing is touched.
restart_fails() {
    local wanted=$1 said=$2 before
    shift 2
    before=$(cat "$T"/out.* | cksum)
    start fails srun --quiet "${OUTPUTS[@]}" "--restart-dir=images" "$@" "$T/task"
    wait_exit "$PID" 120
    [ "$STATUS" = "$wanted" ] || fail "status $STATUS: $(cat "$T/fails.err")"
    grep -qF "$said" "$T"/err.* || fail "it says: $(cat "$T"/err.*)"
    [ "$(cat "$T"/out.* | cksum)" = "$before" ] || fail "outputs were changed: $(tail -n 2 "$T"/out.*)"
    rm "$T"/err.*
}

# What a task runs: it appends numbered lines to one file of all.
prepare_writers() {
    become_job_user
    OUTPUTS=("--output=$T/out.%t" "--error=$T/err.%t" --open-mode=append)
    cat >"$T/task" <<END
#!/bin/bash
exec 7>>"$T/shared"
for ((i = 1; i <= 50 || \$(test -e "$T/ready.\$SLURM_PROCID.hold" && echo 1 || echo 0); i++)); do
    echo "\$SLURM_PROCID \$i" >&7
    [ \$i != 20 ] || : >"$T/ready.\$SLURM_PROCID"
    read -rt 0.01 <> <(:) || :
done
END
    chmod a+x "$T/task"
    for task in 0 1 2 3; do : >"$T/ready.$task.hold"; done
}

has_lines() {
    [ "$(wc -l <"$1")" -ge "$2" ]
}

every_line_once() {
    [ "$(cut -d ' ' -f 1 "$T/shared" | sort -u | wc -l)" = 4 ] || fail "a task is missing"
    awk '$2 != ++last[$1] { print "task " $1 ": " $2 " instead of " last[$1]; exit 1 }' "$T/shared" || fail "a line is lost, or there twice"
}
