# SPDX-License-Identifier: MIT
# What a program says itself, by preload/shim/stasis.h; and a request by a file.

load helpers

# tell WHAT: the guest waits for that.
tell() {
    : >"$T/ready.$1"
    own "$T/ready.$1"
}

# told WHAT: it has said that; or has ended, which is wrong.
told() {
    until_true 120 told_or_gone "$1"
    [ -e "$T/ready.$1" ] || fail "it has not come to '$1': $(tail -n 3 "$T"/*.out "$T"/*.err)"
}

told_or_gone() {
    [ -e "$T/ready.$1" ] || is_gone "$PID"
}

# begin NAME WHAT: the guest, which is not held, as each of its parts waits for us.
begin() {
    start_guest "$1" "$GUESTS/${3:-calls}" "$2"
    release
}

# Children that a killed program leaves are killed with it.
all_gone() {
    no_processes && return
    end_processes
    return 1
}

# come_back NAME: killed, and brought back from $IMAGES.
come_back() {
    kill_hard "$PID"
    until_true 60 all_gone
    rm -f "$T"/ready.{restarted,restarted-again,taken}
    restart_back "$1" "$IMAGES/$1.0.ckpt"
    release
}

finish() {
    tell end
    ends_well "$1"
    says_ok "$1"
}

newer_image() {
    [ -e "$IMAGES/calls.0.ckpt" ] && [ "$(generation "$IMAGES/calls.0.ckpt")" -ge "$1" ]
}

three_lives_of_a_call() {
    begin "$1" take "$1"
    tell go
    told taken
    [ "$(generation "$IMAGES/$1.0.ckpt")" = 1 ]
    come_back "$1"
    told restarted
    take "$PID"
    come_back "$1"
    take "$PID"
    come_back "$1"
    finish "$1"
}

# bats test_tags=set
@test "a call takes a checkpoint, and returns again in the next life; with hooks" {
    three_lives_of_a_call calls
}

@test "the same in a program at fixed addresses" {
    three_lives_of_a_call calls-nopie
}

@test "without the shim the calls do nothing" {
    run --separate-stderr as_user "$GUESTS/calls"
    [ "$status $output" = "0 OK" ] || fail "$output"
    run --separate-stderr as_user "$GUESTS/calls-nopie"
    [ "$status $output" = "0 OK" ] || fail "$output"
}

@test "a call that is refused says why, and the next may succeed" {
    begin calls refuse
    mv "$IMAGES" "$T/gone"
    tell go
    told refused
    mv "$T/gone" "$IMAGES"
    tell again
    told taken
    finish calls
}

saver_stands() {
    find_saver && is_stopped "$SAVER"
}

@test "a call whose saver is killed is refused" {
    VARIABLES+=("STASIS_TEST_FAIL=stand")
    begin calls refuse
    tell go
    until_true 60 saver_stands
    kill -KILL "$SAVER"
    told refused
    tell again
    until_true 60 saver_stands
    kill -CONT "$SAVER"
    told taken
    finish calls
}

@test "calls of several threads come one after the other" {
    begin calls threads
    tell go
    told taken
    [ "$(generation "$IMAGES/calls.0.ckpt")" = 20 ]
    finish calls
}

@test "a call in a subreaper" {
    VARIABLES+=("GUEST_SUBREAPER=1")
    begin calls take
    tell go
    told taken
    come_back calls
    told restarted
    finish calls
}

# bats test_tags=set
@test "while checkpoints are forbidden, one is refused by name, and one is given up in time" {
    begin calls forbid
    refused "$PID" 69
    [[ "$stderr" == *R-FORBIDDEN* ]] || fail "another name: $stderr"
    run --separate-stderr stasis checkpoint --max-wait=1 "$PID"
    [ "$status" = 75 ] || fail "status $status: $output $stderr"
    [ -z "$(ls "$IMAGES")" ] || fail "an image"
    tell allow
    told allowed
    take "$PID"
    finish calls
}

# wait_for_image: a person who waits for one, in the background.
wait_for_image() {
    (stasis checkpoint --max-wait=100 "$PID" >"$T/waiter" 2>&1) &
    WAITER=$!
}

has_waited_well() {
    wait "$WAITER" || fail "given up: $(cat "$T/waiter")"
    [ "$(cat "$T/waiter")" = "$IMAGES/calls.0.ckpt" ] || fail "$(cat "$T/waiter")"
}

@test "one that waits is taken when they are allowed" {
    begin calls forbid
    wait_for_image
    until_true 60 find_saver
    tell allow
    told allowed
    has_waited_well
    finish calls
}

@test "one by a signal comes as soon as they are allowed" {
    begin calls forbid
    kill -USR2 "$PID"
    pause "0.$((RANDOM % 10))"
    tell allow
    told allowed
    until_true 60 newer_image 1
    come_back calls
    told allowed
    finish calls
}

@test "those that wait, and those by a signal, are taken at the points of a program" {
    begin calls points
    kill -USR2 "$PID"
    until_true 60 newer_image 1
    told taken
    wait_for_image
    has_waited_well
    until_true 60 newer_image 2
    come_back calls
    told restarted
    finish calls
}

@test "two processes wait for one another at their points" {
    OPTIONS=(--checkpoint=0:01)
    begin calls pair
    until_true 60 newer_image 2
    wait_for_image
    has_waited_well
    come_back calls
    told restarted
    until_true 60 newer_image 5
    finish calls
}

@test "a program that keeps them forbidden has images at its points, by the interval, with hooks" {
    OPTIONS=(--checkpoint=0:01)
    begin calls points
    told taken
    until_true 60 newer_image 2
    come_back calls
    told restarted
    until_true 60 newer_image 4
    come_back calls
    told restarted
    finish calls
}

tree_waits() {
    begin calls "$1"
    refused "$PID" 69
    [[ "$stderr" == *R-FORBIDDEN* ]] || fail "another name: $stderr"
    tell allow
    told allowed
    take "$PID"
    come_back calls
    take "$PID"
    come_back calls
    finish calls
}

@test "what one process forbids, holds for the tree" {
    tree_waits tree
}

@test "a fork child inherits what is forbidden" {
    tree_waits inherit
}

@test "a process that dies while it forbids holds nobody any more" {
    begin calls die
    refused "$PID" 69
    tell die
    told dead
    take "$PID"
    finish calls
}

@test "and neither does one that becomes another program" {
    begin calls exec
    refused "$PID" 69
    wait_for_image
    tell die
    has_waited_well
    finish calls
}

# The example of the documentation, as it stands there.
@test "python3 has them by ctypes: the example of the documentation" {
    local number
    awk '/^```python$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$ROOT/docs/calls.md" >"$T/example.py"
    own "$T/example.py"
    golden example /usr/bin/python3 "$T/example.py"
    start example "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=example /usr/bin/python3 "$T/example.py"
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS"
    same example
    [ "$(sort -u "$T/example.err")" = taken ] || fail "$(cat "$T/example.err")"
    [ "$(generation "$IMAGES/example.0.ckpt")" = 3 ]
    for number in 1 2 3; do own_copy_of "$number"; done
    for number in 1 2 3; do
        printf 'taken\ntaken\ntaken\n' >"$T/example.err" # as the first life has left it
        restart example "$T/kept.$number"
        wait_exit "$PID"
        [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/example.err")"
        same example
        [ "$(cat "$T/example.err")" = "$(example_says "$number")" ] || fail "$(cat "$T/example.err")"
    done
}

# own_copy_of GENERATION: restarts from it make images, too.
own_copy_of() {
    local image
    for image in "$IMAGES"/example.0.ckpt*; do
        [ "$(generation "$image")" != "$1" ] || cp -p "$image" "$T/kept.$1"
    done
}

# example_says GENERATION: brought back from that.
example_says() {
    local i
    for i in 1 2 3; do
        if [ "$i" = "$1" ]; then echo restarted; else echo taken; fi
    done
}

# bats test_tags=set
@test "excluded memory comes back as zeros, and only that" {
    begin calls exclude
    tell go
    told taken
    come_back calls
    told restarted
    told taken-again
    come_back calls
    told restarted-again
    finish calls
}

# ---- a request by a file ----

# request NAME: as the program's own user makes it.
request() {
    as_user touch "$IMAGES/$1.request"
}

no_request() {
    [ ! -e "$IMAGES/$1.request" ]
}

refused_request() {
    [ -e "$IMAGES/$1.request.refused" ]
}

# The program itself is a child of the command that stays.
@test "touch asks for an image: under stasis run --requests, and under its restart" {
    OPTIONS=(--requests)
    begin calls forbid
    tell allow
    told allowed
    request calls.0
    until_true 60 no_request calls.0
    [ "$(generation "$IMAGES/calls.0.ckpt")" = 1 ]
    kill_hard "$PID"
    until_true 60 all_gone
    hold
    start calls "$STASIS" restart --requests "$IMAGES"
    until_true 60 is_back_or_gone
    release
    request calls.0
    until_true 60 no_request calls.0
    [ "$(generation "$IMAGES/calls.0.ckpt")" = 2 ]
    finish calls
}

@test "a request that is refused says so, and gets another name" {
    OPTIONS=(--requests)
    start_guest refused "$GUESTS/forbidden" lost-registration
    request refused.0
    until_true 100 refused_request refused.0
    no_request refused.0 || fail "the request is there"
    [ -z "$(ls "$IMAGES" | grep -v request)" ] || fail "an image of what was refused"
    named "$(cat "$T/refused.err")"
    rm "$IMAGES/refused.0.request.refused"
    kill_hard "$PID"
}

@test "an image by the interval is what was requested, too; nobody stays for that" {
    OPTIONS=(--checkpoint=0:01)
    request calls.0
    begin calls forbid
    tell allow
    told allowed
    until_true 60 no_request calls.0
    [ -e "$IMAGES/calls.0.ckpt" ]
    request calls.0
    until_true 60 no_request calls.0
    finish calls
}

@test "what is no file of this user's asks for nothing, and stays" {
    OPTIONS=(--requests)
    as_user mkfifo "$IMAGES/calls.0.request"
    begin calls forbid
    tell allow
    told allowed
    until_true 60 grep -q 'asks for nothing' "$T/calls.err"
    take calls.0
    [ -p "$IMAGES/calls.0.request" ] || fail "it is gone"
    rm "$IMAGES/calls.0.request"
    as_user ln -s "$T/ready" "$IMAGES/calls.0.request"
    take calls.0
    [ -h "$IMAGES/calls.0.request" ] || fail "the link is gone"
    rm "$IMAGES/calls.0.request"
    tell end
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS"
    says_ok calls
}
