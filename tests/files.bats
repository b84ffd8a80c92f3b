# SPDX-License-Identifier: MIT
# Files of a single process: every sort of open file comes back exactly, over two generations; and what happens to
# files that are not what they were: cut, kept aside, put back, moved, refused.

load helpers

# sort_lives NAME [PROGRAM]: the guest holds such files through two checkpoints and restarts.
sort_lives() {
    mkdir -p "$T/files"
    own "$T/files"
    survives "$1" "${2:-$GUESTS/openfiles}" "$1" "$T/files"
}

# bats test_tags=notice
@test "files: flags, offsets, shared and separate descriptions" {
    sort_lives flags
}

# bats test_tags=notice
@test "files: deleted, sparse, with several descriptions" {
    sort_lives unlinked
    grep -q 'bytes saved' <(stasis show "$IMAGE")
}

@test "files: pipes with packets in them, and pipes whose other end is closed" {
    sort_lives pipes
}

@test "files: O_TMPFILE" {
    sort_lives tmpfile
}

@test "files: private mappings of a deleted file" {
    sort_lives mapped
}

@test "files: record locks on a deleted file, and on one that is made again from the image" {
    OPTIONS=(--save-files)
    sort_lives locked
    rm "$T/files/locked"
    restart locked "$IMAGE"
    ends_well locked 200
    says_ok locked
}

@test "files: one of two names is deleted" {
    sort_lives linked
}

@test "files: renamed after open" {
    sort_lives renamed
}

@test "files: replaced by rename" {
    sort_lives replaced
}

@test "files: newlines, spaces and (deleted) in names" {
    sort_lives names
}

@test "files: a thousand of them" {
    sort_lives many
}

@test "files: a path of almost 4096 bytes" {
    sort_lives long
}

@test "files: a directory in the middle of its listing" {
    sort_lives listing
}

@test "files: /proc/self and others of the kernel's" {
    sort_lives proc
}

@test "files: O_PATH" {
    sort_lives path
}

@test "files: a library and the program itself, deleted by an upgrade" {
    mkdir "$T/files"
    cp -L "$(ldconfig -p | awk '/libm\.so\.6.*x86-64/ { print $NF; exit }')" "$T/files/libcopy.so"
    cp "$GUESTS/openfiles" "$T/files/openfiles"
    own "$T/files" "$T/files/openfiles" "$T/files/libcopy.so"
    sort_lives upgraded "$T/files/openfiles"
}

@test "files: listings and files without a name on tmpfs and overlay" {
    local place sort
    small_disk "$T/tmpfs" 32m
    needs_root "for an overlay"
    mkdir -p "$T/lower/listing" "$T/upper" "$T/work" "$T/overlay"
    own "$T/lower" "$T/lower/listing" "$T/upper" "$T/work"
    mount -t overlay -o "lowerdir=$T/lower,upperdir=$T/upper,workdir=$T/work" stasis-test "$T/overlay"
    MOUNTED+=("$T/overlay")
    rmdir "$T/overlay/listing" # there is a whiteout now
    for place in tmpfs overlay; do
        for sort in listing unlinked linked; do
            rm -f
            start_guest "$place-$sort" "$GUESTS/openfiles" "$sort" "$T/$place"
            take "$PID"
            kill_hard "$PID"
            restart "$place-$sort" "$IMAGE"
            ends_well "$place-$sort" 200
            says_ok "$place-$sort"
        done
    done
}

# ---- policies ----

ONCE=1000000 # records: none is written over, which could not be taken back

# start_writer RECORDS [OPTION...]: `files` writes output.txt, append.log, records.bin and stream.txt in $T/data; an image of
# it is taken after a third of its way; after two thirds it is killed.
start_writer() {
    RECORDS=$1
    OPTIONS=("${@:2}")
    mkdir -p "$T/data"
    head -c 70000 "$GUESTS/files" >"$T/data/input1"
    tail -c 66000 "$GUESTS/files" >"$T/data/input2"
    own "$T/data" "$T/data/input1" "$T/data/input2"
    start_guest writer "$GUESTS/files" "$T/data" 3 "$RECORDS"
    release
    wait_for_file "$T/data/at1"
    take "$PID"
    WRITTEN=$(size_of "$T/data/output.txt")
    touch "$T/data/go1"
    wait_for_file "$T/data/at2"
    kill_hard "$PID"
    touch "$T/data/go2"
}

# What an undisturbed run leaves.
expect_files() {
    mkdir "$T/golden"
    cp "$T/data"/input? "$T/data"/go? "$T/golden/"
    own "$T/golden" "$T/golden/input1" "$T/golden/input2"
    as_user "$GUESTS/files" "$T/golden" 3 "$RECORDS" >"$T/golden.out"
}

# restart_writer [OPTION...]
restart_writer() {
    start writer "$STASIS" restart "$@" "$IMAGE"
    ends_well writer 200
    says_ok writer
}

same_files() {
    local name
    for name in output.txt append.log records.bin stream.txt; do
        cmp "$T/golden/$name" "${1:-$T/data}/$name" || fail "$name differs"
    done
}

@test "policy: what was written after the checkpoint is cut, and kept aside; a second tail does not destroy the first" {
    local name
    start_writer $ONCE
    cp "$T/data/output.txt" "$T/before"
    restart_writer
    expect_files
    same_files
    cmp "$T/data/output.txt.stasis-tail" <(tail -c "+$((WRITTEN + 1))" "$T/before")
    [ -s "$T/data/append.log.stasis-tail" ]
    [ ! -e "$T/data/input1.stasis-tail" ]
    cp "$T/data/output.txt.stasis-tail" "$T/first"
    restart_writer
    same_files
    cmp "$T/first" "$T/data/output.txt.stasis-tail"
    [ -s "$T/data/output.txt.stasis-tail.1" ]
}

@test "policy: --no-tails keeps nothing aside" {
    start_writer $ONCE
    restart_writer --no-tails
    expect_files
    same_files
    [ -z "$(find "$T/data" -name '*.stasis-tail*')" ]
}

@test "policy: a tail that cannot be kept is refused before anything is cut" {
    [ "$USER_ID" != 0 ] || skip "needs: a user who may not write everywhere"
    start_writer $ONCE
    cp "$T/data/output.txt" "$T/before"
    chmod a-w "$T/data"
    restart_refused R- "$IMAGE"
    grep -q -- '--no-tails' <<<"$stderr"
    cmp "$T/before" "$T/data/output.txt"
    restart_writer --no-tails
    expect_files
    same_files
}

@test "policy: without --save-files all that is missing or shorter is said at once, and nothing is cut" {
    start_writer $ONCE
    rm "$T/data/append.log" "$T/data/input2"
    : >"$T/data/stream.txt"
    truncate -s 100 "$T/data/output.txt"
    echo more >>"$T/data/input1"
    cp -a "$T/data" "$T/copy"
    restart_refused R- "$IMAGE"
    for name in append.log input1 input2 output.txt; do
        [ "$(grep -c "/$name[ :]" <<<"$stderr")" = 1 ] || fail "not one line on $name: $stderr"
    done
    diff -r "$T/copy" "$T/data"
}

# bats test_tags=notice
@test "policy: --save-files brings back files that are missing, shorter or overwritten" {
    start_writer 64 --save-files
    rm "$T/data/append.log" "$T/data/records.bin"
    truncate -s 100 "$T/data/output.txt"
    restart_writer
    expect_files
    same_files
    [ "$(stat -c %a "$T/data/append.log")" = "$(stat -c %a "$T/golden/append.log")" ]
    tr 0-9 a-j <"$T/data/output.txt" >"$T/other"
    cat "$T/other" >"$T/data/output.txt"
    restart_writer
    same_files
}

@test "policy: STASIS_SAVE_FILES does the same; --strict refuses, until all is as it was" {
    VARIABLES=(STASIS_SAVE_FILES=1)
    start_writer 64
    VARIABLES=()
    cp -a "$T/data" "$T/copy"
    restart_refused 'output.txt*--strict' --strict "$IMAGE"
    diff -r "$T/copy" "$T/data"
    mv "$T/data" "$T/away"
    restart_refused R- "$IMAGE"
    mv "$T/away" "$T/data"
    rm "$T/data/output.txt"
    restart_writer
    expect_files
    same_files
}

@test "policy: --strict is content with a program that was stopped by its checkpoint" {
    mkdir -p "$T/data"
    head -c 70000 "$GUESTS/files" | tee "$T/data/input1" >"$T/data/input2"
    own "$T/data" "$T/data/input1" "$T/data/input2"
    start_guest writer "$GUESTS/files" "$T/data" 2 64
    release
    wait_for_file "$T/data/at1"
    take "$PID" --stop
    wait_exit "$PID"
    [ "$STATUS" = 75 ]
    touch "$T/data/go1" "$T/data/go2"
    restart_writer --strict
    [ -z "$(find "$T" -name '*.stasis-tail*')" ]
}

@test "policy: --path-map moves trees: files, mapped files, the program, the working directory" {
    mkdir -p "$T/old/bin"
    cp "$GUESTS/openfiles" "$T/old/bin/openfiles"
    own "$T/old" "$T/old/bin" "$T/old/bin/openfiles"
    start_guest moved "$T/old/bin/openfiles" names "$T/old"
    take "$PID"
    kill_hard "$PID"
    mv "$T/old" "$T/new tree"
    restart_refused R- "$IMAGE"
    [[ $stderr == *old/bin/openfiles* && $stderr == *"/old/a b"* ]] || fail "it says: $stderr"
    for bad in old=/new /old new; do
        run --separate-stderr stasis restart "--path-map=$bad" "$IMAGE"
        [ "$status" = 64 ]
    done
    # the guest itself looks at the names it has opened
    ln -s "new tree" "$T/old"
    start moved "$STASIS" restart "--path-map=/nothing=/here" "--path-map=$T/old=$T/new tree/" "$IMAGE"
    ends_well moved 200
    says_ok moved
}

@test "policy: the working directory moves with --path-map" {
    mkdir "$T/was"
    own "$T/was"
    start_guest cwd /bin/sh -c "cd $T/was && exec $GUESTS/stdio 2"
    take "$PID"
    kill_hard "$PID"
    mv "$T/was" "$T/is"
    start cwd "$STASIS" restart "--path-map=$T/was=$T/is" "$IMAGE"
    ends_well cwd 200
    says_ok cwd
}

@test "policy: what the restart says is not lost in the stderr file of the program" {
    local image
    start_guest voice "$GUESTS/stdio" 2
    take "$PID"
    take "$PID"
    kill_hard "$PID"
    image=$IMAGE
    cp "$image" "$image.kept"
    printf x | dd of="$image" bs=1 seek=100 conv=notrunc status=none
    start voice "$STASIS" restart --job-id=voice "$IMAGES"
    rm "$image.kept"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    says_ok voice
    grep -q "because these are not good" "$T/voice.err" || fail "the line is lost: $(cat "$T/voice.err")"
    [ ! -e "$T/voice.err.stasis-tail" ]
}

# ---- streams ----

@test "streams: closed ones stay closed, others may be anything" {
    start_guest closed /bin/sh -c "exec $GUESTS/stdio 2 <&- 2>&-"
    take "$PID"
    kill_hard "$PID"
    start closed "$STASIS" restart "$IMAGE"
    until_true 60 is_back_or_gone
    ends_well closed
    says_ok closed
}

@test "streams: a closed stream of the restart is /dev/null, which --strict refuses" {
    (become "$STASIS" run "--checkpoint-dir=$IMAGES" "--job-id=piped$$" -- "$GUESTS/stdio" 2) </dev/null 2>&1 3>&- | cat >"$T/pipe.out" &
    until_true 60 test -e "$T/ready"
    take "$(find_processes | awk '$2 == "stdio" { print $1 }')"
    wait
    tail -n 1 "$T/pipe.out" | grep -q ^OK
    (become "$STASIS" restart --strict "$IMAGE") </dev/null >&- 2>"$T/strict" && fail "--strict is content"
    grep -q 'R-FILE-MISSING: standard output' "$T/strict"
    (become "$STASIS" restart "$IMAGE") </dev/null >&- 2>"$T/quiet"
    [ ! -s "$T/quiet" ]
    (become "$STASIS" restart "$IMAGE") </dev/null 2>&1 | cat >"$T/again"
    grep -qxF "$(tail -n 1 "$T/again")" "$T/pipe.out"
}

# stream_lives START...: a command that runs its arguments with streams of some sort, and puts what is written to
# them into $T/seen and $T/seen.err.
stream_lives() {
    local name=streams$BATS_SUITE_TEST_NUMBER-$$ # root's tests share a registry
    hold
    "$@" "$STASIS" run "--checkpoint-dir=$IMAGES" "--job-id=$name" -- "$GUESTS/openfiles" streams "$T"
    until_true 60 test -e "$T/ready"
    take "$(find_processes | awk '$2 == "openfiles" { print $1 }')"
    release
    until_true 60 grep -q '^OK' "$T/seen"
    until_true 60 no_processes
    rm "$T/seen"
    "$@" "$STASIS" restart "$IMAGE"
    until_true 60 grep -q '^OK' "$T/seen"
    until_true 60 no_processes
    grep -qx 'five.\?' "$T/seen" # a terminal ends lines with two characters
    cat "$T/seen" "$T/seen.err" >"$T/both"
    # of 160 ticks, 80 at most before the image
    [ "$(grep -c err "$T/both")" -ge 50 ] || fail "$(grep -c err "$T/both") lines of stderr"
    [ "$(grep -c out "$T/both")" -ge 50 ] || fail "$(grep -c out "$T/both") lines of stdout"
}

over_one_pipe() {
    : >"$T/seen.err"
    (become "$@") </dev/null 2>&1 3>&- | cat >"$T/seen" 3>&- &
}

over_two_pipes() {
    [ -p "$T/fifo" ] || mkfifo "$T/fifo" "$T/fifo.err"
    cat "$T/fifo" >"$T/seen" 3>&- &
    cat "$T/fifo.err" >"$T/seen.err" 3>&- &
    (become "$@") </dev/null >"$T/fifo" 2>"$T/fifo.err" 3>&- &
}

over_terminal() {
    : >"$T/seen.err"
    (become /usr/bin/python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$@") </dev/null >"$T/seen" 2>&1 3>&- &
}

@test "streams: stdout, stderr and a copy over one pipe" {
    stream_lives over_one_pipe
}

@test "streams: stdout and stderr over two pipes" {
    stream_lives over_two_pipes
    [ "$(sort -u "$T/seen.err")" = err ]
}

@test "streams: a terminal" {
    stream_lives over_terminal
}

# ---- refusals and failures ----

@test "files: what cannot be brought back is refused by name, and the program runs on" {
    local sort
    mkdir "$T/files"
    own "$T/files"
    for sort in elsewhere unreadable lost-directory lost-cwd lost-path others; do
        [ "$sort.$USER_ID" != unreadable.0 ] || continue # root may read it
        rm -f
        start_guest "$sort" "$GUESTS/openfiles" "$sort" "$T/files"
        refused "$PID" 69
        ends_well "$sort"
        says_ok "$sort"
    done
    [ -z "$(ls -A "$IMAGES")" ]
}

@test "files: a program that may not be read is refused by name" {
    [ "$USER_ID" != 0 ] || skip "needs: a user who may not read everything"
    cp "$GUESTS/stdio" "$T/secret"
    own "$T/secret"
    chmod 0111 "$T/secret"
    start_guest secret "$T/secret" 4
    refused "$PID" 69
    ends_well secret
    says_ok secret
}

@test "files: deleted ones without a twin" {
    VARIABLES=(STASIS_TEST_FAIL=fork)
    sort_lives unlinked
}

@test "files: a deleted one whose directory is gone comes back elsewhere, but not with --strict" {
    mkdir "$T/files"
    own "$T/files"
    start_guest unlinked "$GUESTS/openfiles" unlinked "$T/files"
    take "$PID"
    kill_hard "$PID"
    rmdir "$T/files"
    restart_refused R- --strict "$IMAGE"
    restart unlinked "$IMAGE"
    ends_well unlinked 200
    says_ok unlinked
}

@test "policy: no room for a tail: nothing is cut, and no half tail stays" {
    small_disk "$T/data" 400k
    start_writer "$ONCE"
    cp -a "$T/data" "$T/copy"
    cat /dev/zero >"$T/data/filler" 2>/dev/null || :
    run --separate-stderr stasis restart "$IMAGE"
    [ "$status" = 71 ] || fail "status $status: $stderr"
    [ -n "$stderr" ]
    rm "$T/data/filler"
    diff -r "$T/copy" "$T/data"
    restart_writer
}

@test "policy: a file that is put back keeps its holes, and changed private mappings of it" {
    mkdir "$T/files"
    own "$T/files"
    OPTIONS=(--save-files)
    start_guest code "$GUESTS/openfiles" code "$T/files"
    take "$PID"
    kill_hard "$PID"
    touch "$T/files/code" # its time is another, so it is written anew
    restart code "$IMAGE"
    ends_well code 200
    says_ok code
}

@test "policy: a flipped byte in a saved file ends the restart before anything is changed" {
    local offset
    start_writer 64 --save-files
    rm "$T/data/append.log"
    cp -a "$T/data" "$T/copy"
    offset=$(grep -abom 1 -F "$(head -n 3 "$T/data/output.txt" | tail -n 1)" "$IMAGE" | head -n 1 | cut -d: -f1)
    printf '~' | dd of="$IMAGE" bs=1 seek="$offset" conv=notrunc status=none
    run --separate-stderr stasis restart "$IMAGE"
    [ "$status" = 65 ] || fail "status $status: $stderr"
    diff -r "$T/copy" "$T/data"
    run stasis verify "$IMAGE"
    [ "$status" = 65 ]
}
