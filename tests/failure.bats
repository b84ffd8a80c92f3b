# SPDX-License-Identifier: MIT
# What failure does: one line with the reason for whoever asked, the right exit status, a program that runs on with
# correct results, the last good image in its place, nothing left behind.

load helpers

# A program with one good image: GOOD, and its checksum.
with_good_image() {
    local name=$1
    shift
    golden "$name" "$@"
    start_guest "$name" "$@"
    take "$PID"
    GOOD=$IMAGE
    SUM=$(cksum <"$GOOD")
}

# The program ends as if nothing had been, and the good image comes back.
unharmed() {
    local name=$1
    ends_well "$name"
    same "$name"
    [ "$(cksum <"$GOOD")" = "$SUM" ] || fail "the good image was changed"
    [ "$(find "$(dirname "$GOOD")" -type f -name '*.ckpt*' | wc -l)" = 1 ] || fail "more than the good image is there"
    restart "$name" "$GOOD"
    ends_well "$name"
    same "$name"
}

# fails STATUS...: a checkpoint of PID does, with one line of reason and nothing on stdout.
fails() {
    run --separate-stderr stasis checkpoint "$PID"
    [[ " $* " == *" $status "* ]] || fail "status $status instead of $*: $output $stderr"
    one_reason
}

one_reason() {
    [ -z "$output" ] || fail "on stdout: $output"
    [ "$(wc -l <<<"$stderr")" = 1 ] || fail "not one line: $stderr"
    [ -n "$stderr" ] || fail "no reason is given"
}

# ---- a checkpoint that cannot be written ----

# bats test_tags=set
@test "disk full" {
    small_disk "$IMAGES" 16m
    with_good_image full "$GUESTS/stdio" 2
    as_user dd if=/dev/zero "of=$IMAGES/filler.ckpt.9" bs=64k >"$T/dd" 2>&1 || :
    fails 74
    rm "$IMAGES/filler.ckpt.9"
    unharmed full
}

@test "disk full, then room again: the next generation" {
    small_disk "$IMAGES" 16m
    with_good_image full "$GUESTS/stdio" 2
    as_user dd if=/dev/zero "of=$IMAGES/filler.ckpt.9" bs=64k >"$T/dd" 2>&1 || :
    fails 74
    rm "$IMAGES/filler.ckpt.9"
    take "$PID"
    [ "$(generation "$IMAGE")" = 2 ]
    stasis verify "$IMAGE" "$IMAGE.1"
    ends_well full
    same full
}

@test "disk too small for the image from the start" {
    small_disk "$IMAGES" 4m
    start hog "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=hog -- "$HOG" -m 64 -p rand -s 6 -o "$T/log"
    until_true 60 grep -qs ready "$T/log"
    fails 74
    [ -z "$(ls -A "$IMAGES")" ]
    ends_well hog
}

# bats test_tags=set
@test "no permission" {
    [ "$USER_ID" != 0 ] || skip "needs: an ordinary user, root may write everywhere"
    with_good_image permission "$GUESTS/stdio" 2
    chmod 500 "$IMAGES"
    fails 73 77
    chmod 700 "$IMAGES"
    unharmed permission
}

@test "file system read-only" {
    small_disk "$IMAGES" 16m
    with_good_image readonly "$GUESTS/stdio" 2
    mount -o remount,ro "$IMAGES"
    fails 73 74 77
    mount -o remount,rw "$IMAGES"
    unharmed readonly
}

@test "the frozen copy is killed while it is read: the image is made again without one" {
    start_guest killed "$GUESTS/memory" 4
    VARIABLES=(STASIS_TEST_FAIL=twin)
    take "$PID" --verbose
    [[ "$stderr" == *"memory is too short for a copy"* ]] || fail "it says: $stderr"
    VARIABLES=()
    kill_hard "$PID"
    restart killed "$IMAGE"
    ends_well killed
    says_ok killed
}

# bats test_tags=set
@test "directory gone" {
    with_good_image gone "$GUESTS/stdio" 2
    mv "$IMAGES" "$T/moved"
    fails 73
    [ ! -e "$IMAGES" ]
    mv "$T/moved" "$IMAGES"
    unharmed gone
}

@test "an interval whose directory is gone says so once a time, and the program runs on" {
    golden gone "$GUESTS/stdio" 2
    OPTIONS=(--checkpoint=0:01)
    start_guest gone "$GUESTS/stdio" 2
    rmdir "$IMAGES"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    same gone
    [ -s "$T/gone.err" ] || fail "nobody was told"
    [ "$(wc -l <"$T/gone.err")" -le 4 ] || fail "too much: $(cat "$T/gone.err")"
    mkdir "$IMAGES"
}

# ---- a saver that dies ----

# bats test_tags=set
@test "saver killed" {
    with_good_image killed "$GUESTS/stdio" 2
    kill_saver_at 0
    run --separate-stderr stasis verify "$GOOD"
    [ "$status" = 0 ]
    ends_well killed
    same killed
    restart killed "$GOOD"
    ends_well killed
    same killed
}

# A checkpoint whose saver is killed so many milliseconds after it was seen.
kill_saver_at() {
    local asked
    stasis checkpoint "$PID" >"$T/answer" 2>"$T/reason" 3>&- &
    asked=$!
    until_true 60 saver_or_gone "$asked"
    sleep "0.$(printf %03d "$1")"
    if find_saver; then kill -KILL "$SAVER" 2>/dev/null || :; fi
    wait "$asked" || :
}

saver_or_gone() {
    find_saver || is_gone "$1"
}

@test "saver killed at twelve random moments; each image that is there is whole; the next checkpoint works" {
    local turn image
    start hog "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=hog --keep=3 -- \
        "$HOG" -m 96 -p rand -t 3 -d 5 -s 30 -o "$T/log"
    until_true 60 grep -qs ready "$T/log"
    for turn in 1 2 3 4 5 6 7 8 9 10 11 12; do
        kill_saver_at $((RANDOM % 250))
        is_alive "$PID" || fail "the program died: $(cat "$T/hog.err")"
        for image in "$IMAGES"/*; do
            if [ -e "$image" ]; then stasis verify "$image" >/dev/null; fi
        done
    done
    take "$PID"
    [ -z "$(find_strays)" ] || fail "left: $(find_strays)"
    kill_hard "$PID"
    restart hog "$IMAGE"
    ends_well hog
    [ "$(cat "$T/hog.out")" = OK ]
}

@test "the program is killed during a checkpoint: whoever asked is told, the last good image stays" {
    local asked status_of=0
    start hog "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=hog -- "$HOG" -m 200 -p rand -s 20 -o "$T/log"
    until_true 60 grep -qs ready "$T/log"
    take "$PID"
    SUM=$(cksum <"$IMAGE")
    stasis checkpoint "$PID" >"$T/answer" 2>"$T/reason" 3>&- &
    asked=$!
    until_true 60 saver_or_gone "$asked"
    kill_hard "$PID"
    wait "$asked" || status_of=$?
    if [ "$status_of" = 0 ]; then
        stasis verify "$IMAGE" "$IMAGE.1"
    else
        [ -s "$T/reason" ]
        [ "$(cksum <"$IMAGE")" = "$SUM" ]
    fi
}

# ---- a second request ----

# bats test_tags=set
@test "a second request during a checkpoint" {
    local first second path
    start hog "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=hog -- "$HOG" -m 200 -p rand -s 8 -o "$T/log"
    until_true 60 grep -qs ready "$T/log"
    stasis checkpoint "$PID" >"$T/first" 2>&1 3>&- &
    first=$!
    until_true 60 saver_or_gone "$first"
    stasis checkpoint "$PID" >"$T/second" 2>&1 3>&- &
    second=$!
    kill -USR2 "$PID"
    wait "$first" || fail "the first: $(cat "$T/first")"
    wait "$second" || fail "the second: $(cat "$T/second")"
    path=$(cat "$T/first")
    [ "$path" = "$(cat "$T/second")" ]
    stasis verify "$path"
    ends_well hog
    [ "$(cat "$T/hog.out")" = OK ]
}

# ---- an image that is not what it was ----

# A restart of a damaged image ends with 65 and changes nothing.
damaged() {
    local before
    before=$(stat -c '%s %Y %Z' "$T/image.out")
    run --separate-stderr stasis restart "$1"
    [ "$status" = 65 ] || fail "$2: status $status: $output $stderr"
    [ -n "$stderr" ] || fail "$2: no reason"
    [ -z "$output" ] || fail "$2: output: $output"
    [ "$(stat -c '%s %Y %Z' "$T/image.out")" = "$before" ] || fail "$2: the program's output was touched"
}

an_image() {
    start_guest image "$GUESTS/stdio" 2
    take "$PID"
    kill_hard "$PID"
    SIZE=$(size_of "$IMAGE")
    golden image "$GUESTS/stdio" 2
}

still_good() {
    restart image "$IMAGE"
    ends_well image
    same image
}

# bats test_tags=set
@test "image cut short" {
    local length lengths
    an_image
    lengths=(0 1 7 8 4095 4096 4097 $((SIZE / 2)) $((SIZE - 8)) $((SIZE - 1)))
    for length in 1 2 3 4 5 6; do lengths+=($(((RANDOM * 32768 + RANDOM) % SIZE))); done
    for length in "${lengths[@]}"; do
        head -c "$length" "$IMAGE" >"$T/cut.ckpt"
        own "$T/cut.ckpt"
        damaged "$T/cut.ckpt" "cut to $length of $SIZE bytes"
    done
    cat "$IMAGE" - <<<more >"$T/cut.ckpt"
    own "$T/cut.ckpt"
    damaged "$T/cut.ckpt" "five bytes appended"
    still_good
}

# bats test_tags=set
@test "image with a flipped bit: restart" {
    local offset offsets bit
    an_image
    offsets=(0 5 8 12 100 4087 4095 4096 $((SIZE - 1)))
    for bit in 1 2 3 4 5 6 7 8; do offsets+=($(((RANDOM * 32768 + RANDOM) % SIZE))); done
    cp "$IMAGE" "$T/flipped.ckpt"
    own "$T/flipped.ckpt"
    for offset in "${offsets[@]}"; do
        bit=$((RANDOM % 8))
        flip "$T/flipped.ckpt" "$offset" "$bit"
        damaged "$T/flipped.ckpt" "bit $bit of byte $offset of $SIZE"
        flip "$T/flipped.ckpt" "$offset" "$bit"
    done
    cmp "$IMAGE" "$T/flipped.ckpt"
    still_good
}

@test "image with a flipped bit: verify, two hundred times" {
    local turn offset bit
    an_image
    cp "$IMAGE" "$T/flipped.ckpt"
    own "$T/flipped.ckpt"
    for ((turn = 0; turn < 200; turn++)); do
        offset=$(((RANDOM * 32768 + RANDOM) % SIZE))
        bit=$((RANDOM % 8))
        flip "$T/flipped.ckpt" "$offset" "$bit"
        run --separate-stderr stasis verify "$T/flipped.ckpt"
        [ "$status" = 65 ] || fail "bit $bit of byte $offset of $SIZE: status $status: $output"
        flip "$T/flipped.ckpt" "$offset" "$bit"
    done
    stasis verify "$T/flipped.ckpt"
}

@test "the newest image is damaged: the directory gives the one before, and says so" {
    golden newest "$GUESTS/stdio" 2
    start_guest newest "$GUESTS/stdio" 2
    take "$PID"
    take "$PID"
    kill_hard "$PID"
    flip "$IMAGE" 4100 3
    flip "$IMAGE" 200 3
    # said on the stderr of the command; that of the program is another file, which is cut to its size then
    run --separate-stderr stasis restart --check "$IMAGES"
    [ "$status" = 0 ]
    grep -q "newest.0.ckpt" <<<"$stderr"
    restart newest "$IMAGES"
    wait_exit "$PID"
    [ "$STATUS" = 0 ]
    same newest
}

@test "an image of somebody else, and one behind a symbolic link, are not used" {
    an_image
    ln -s "$IMAGE" "$T/link.ckpt"
    run --separate-stderr stasis restart "$T/link.ckpt"
    [ "$status" != 0 ]
    if [ ${#BECOME[@]} -gt 0 ]; then
        cp "$IMAGE" "$T/others.ckpt"
        chown 12:12 "$T/others.ckpt"
        chmod 644 "$T/others.ckpt"
        run --separate-stderr stasis restart "$T/others.ckpt"
        [ "$status" = 77 ] || fail "status $status: $stderr"
    fi
    still_good
}

# ---- a restart that cannot work ----

make_inputs() {
    mkdir "$T/files" "$T/golden"
    seq 20000 >"$T/files/input1"
    seq 30000 60000 >"$T/files/input2"
    cp -p "$T/files"/input* "$T/golden/"
    own "$T/files" "$T/golden"
    as_user "$GUESTS/files" "$T/golden" 3 >"$T/files.golden"
}

# bats test_tags=set
@test "missing pieces are all named at once, and nothing is changed" {
    make_inputs
    GUEST_FREE=20 # held before it writes over what the image needs
    start_guest files "$GUESTS/files" "$T/files" 3
    take "$PID"
    kill_hard "$PID"
    mv "$T/files/input1" "$T/input1"
    mv "$T/files/append.log" "$T/append.log"
    cp -p "$T/files/input2" "$T/input2"
    echo longer >>"$T/files/input2"
    (cd "$T" && stat -c '%n %s %Y' files/* files.out) >"$T/before"
    restart_refused "$T/files/input1" "$IMAGE"
    [[ $stderr == *"$T/files/append.log"* ]] || fail "append.log is not named: $stderr"
    [[ $stderr == *"$T/files/input2"* ]] || fail "input2 is not named: $stderr"
    (cd "$T" && stat -c '%n %s %Y' files/* files.out) | diff "$T/before" -
    mv "$T/input1" "$T/append.log" "$T/files/"
    cp -p "$T/input2" "$T/files/input2"
    restart files "$IMAGE"
    ends_well files
    same files
    diff -r -x '*.stasis-tail' "$T/golden" "$T/files"
}

@test "an output that is shorter than it was is refused; one that has grown is cut" {
    make_inputs
    GUEST_FREE=20 # held before it writes over what the image needs
    start_guest files "$GUESTS/files" "$T/files" 3
    until_true 60 has_grown "$T/files/output.txt" 100
    take "$PID"
    kill_hard "$PID"
    cp -p "$T/files/output.txt" "$T/whole"
    truncate -s 20 "$T/files/output.txt"
    restart_refused "$T/files/output.txt" "$IMAGE"
    cp -p "$T/whole" "$T/files/output.txt"
    echo "a line of somebody else" >>"$T/files/output.txt"
    restart files "$IMAGE"
    ends_well files
    same files
    diff -r -x '*.stasis-tail' "$T/golden" "$T/files"
}

@test "working directory gone: refused, and good again when it is back" {
    mkdir "$T/work"
    own "$T/work"
    golden where "$GUESTS/attributes" 2
    start_guest where env -C "$T/work" "$GUESTS/attributes" 2
    take "$PID"
    kill_hard "$PID"
    rmdir "$T/work"
    restart_refused "$T/work" "$IMAGE"
    mkdir "$T/work"
    own "$T/work"
    restart where "$IMAGE"
    ends_well where
    same where
}

@test "a program file that has changed is refused" {
    cp "$GUESTS/stdio" "$T/program"
    own "$T/program"
    golden program "$T/program" 4
    start_guest program "$T/program" 4
    take "$PID"
    kill_hard "$PID"
    mv "$T/program" "$T/program.kept"
    cp "$GUESTS/memory" "$T/program"
    own "$T/program"
    restart_refused "$T/program" "$IMAGE"
    mv "$T/program.kept" "$T/program"
    restart program "$IMAGE"
    ends_well program
    same program
}
