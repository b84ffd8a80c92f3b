# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# What every bats file shares. Each test has a directory of its own ($T), a copy of the product and the guests in it,
# and, when root runs the tests, a user id of its own, so that what it leaves behind can be told from all else.
#
#   STASIS_BUILD     build directory; default: build beside tests
#   STASIS_TEST_AS   user (default) or root: who runs programs and commands. Only root can choose.
#   STASIS_SEED      seed of the random moments; said when a test fails

bats_require_minimum_version 1.5.0

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$TESTS")
BUILD=${STASIS_BUILD:-$ROOT/build}
# ids that no machine gives to people, and other ones for each run of the tests, also of many at a time
FIRST_USER=$((700000 + $(cksum <<<"$BATS_RUN_TMPDIR" | cut -d ' ' -f 1) % 2000000 * 1000))

fail() {
    printf '%s\n' "$*" >&2
    return 1
}

# ---- setting up ----

# The pieces of the build tree that a user needs, each in its place, where everybody may read them.
copy_product() {
    local product=$BATS_RUN_TMPDIR/product
    (
        flock 9
        [ -d "$product" ] && exit 0
        mkdir -p "$product.new"/{tools,preload/shim,libexec,tests/guests,tests/bench}
        cp "$BUILD/tools/stasis" "$product.new/tools/"
        cp "$BUILD/preload/shim/libstasis.so" "$product.new/preload/shim/"
        cp "$BUILD"/libexec/stasis-{saver,restorer} "$product.new/libexec/"
        cp -d -r "$BUILD/libexec/slurm" "$product.new/libexec/"
        find "$BUILD/tests/guests" "$BUILD/tests/bench" -maxdepth 1 -type f -perm -u+x | while read -r file; do
            cp "$file" "$product.new/${file#"$BUILD"/}"
        done
        cp -r "$TESTS/apps" "$product.new/tests/"
        chmod -R a+rX "$product.new"
        mv "$product.new" "$product"
    ) 9>>"$BATS_RUN_TMPDIR/product.lock" || fail "cannot copy the product from $BUILD: build it first (tests/run.sh does)"
}

setup() {
    T=$BATS_TEST_TMPDIR
    IMAGES=$T/images
    STARTED=()
    VARIABLES=()
    MOUNTED=()
    CONTROL_GROUPS=()
    SEED=${STASIS_SEED:-$((RANDOM * 32768 + RANDOM))}
    RANDOM=$SEED
    GUEST_FREE=$((RANDOM % 40 + 40))
    copy_product
    cp -al "$BATS_RUN_TMPDIR/product" "$T/product"
    STASIS=$T/product/tools/stasis
    SHIM=$T/product/preload/shim/libstasis.so
    GUESTS=$T/product/tests/guests
    APPS=$T/product/tests/apps
    HOG=$T/product/tests/bench/hog
    mkdir "$IMAGES"
    USER_ID=$(id -u)
    BECOME=()
    if [ "$USER_ID" = 0 ] && [ "${STASIS_TEST_AS:-user}" != root ]; then
        USER_ID=$((FIRST_USER + BATS_SUITE_TEST_NUMBER))
        BECOME=(setpriv "--reuid=$USER_ID" "--regid=$USER_ID" --clear-groups --inh-caps=-all)
        chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test"
    fi
    own "$T" "$IMAGES"
}

# Gives files to the test's user.
own() {
    if [ ${#BECOME[@]} -gt 0 ]; then chown "$USER_ID:$USER_ID" "$@"; fi
}

# ---- running ----

# shellcheck source=SCRIPTDIR/descriptors.bash
. "$(dirname "${BASH_SOURCE[0]}")/descriptors.bash"

# Becomes COMMAND: as the test's user, in $T, with a bare environment and no descriptor but 0, 1 and 2.
become() {
    close_foreign_descriptors
    cd "$T" || exit 1
    ulimit -c 0
    exec "${BECOME[@]}" env -i PATH=/usr/local/bin:/usr/bin:/bin "HOME=$T" LANG=C.UTF-8 "STASIS_TEST_MARK=$T/" \
        "GUEST_READY=$T/ready" "GUEST_FREE=$GUEST_FREE" "${VARIABLES[@]}" "$@"
}

# Runs COMMAND to its end, LIMIT seconds at most.
as_user() {
    (become timeout -k 5 "${LIMIT:-300}" "$@") </dev/null
}

stasis() {
    as_user "$STASIS" "$@"
}

# start NAME COMMAND...: in the background; output is appended to $T/NAME.out (or OUTPUT) and $T/NAME.err. PID is the
# program's own: nothing stands between. INPUT: its standard input.
start() {
    local name=$1 output=${OUTPUT:-$T/$1.out}
    shift
    [ -p "$output" ] || : >>"$output"
    : >>"$T/$name.err"
    own "$output" "$T/$name.err"
    (become "$@") <"${INPUT:-/dev/null}" >>"$output" 2>>"$T/$name.err" 3>&- 4>&- &
    PID=$!
    STARTED+=("$PID")
}

# A guest that is held stays as it is, however slow the machine, until it is released or waited for (guests/guest.h).
hold() {
    : >"$T/ready.hold"
}

release() {
    rm -f "$T/ready.hold"
}

# start_ready NAME COMMAND...: as start; returns when the guest in it is ready, and held.
start_ready() {
    rm -f "$T/ready"
    hold
    start "$@"
    until_true 60 ready_or_gone
    [ -e "$T/ready" ] || fail "$1 ended before it was ready: $(tail -n 3 "$T/$1.err")"
}

# start_guest NAME COMMAND...: the same under stasis, images in $IMAGES, job id NAME. OPTIONS: more for stasis run.
start_guest() {
    local name=$1
    shift
    start_ready "$name" "$STASIS" run "--checkpoint-dir=$IMAGES" "--job-id=$name" "${OPTIONS[@]}" -- "$@"
}

ready_or_gone() {
    [ -e "$T/ready" ] || is_gone "$PID"
}

# restart NAME IMAGE: in the background, as start; output goes on where it was.
restart() {
    start "$1" "$STASIS" restart "$2"
}

# The page of a running program, by its mapping.
page_of() {
    awk '$6 ~ "^/dev/shm/stasis-" { print $6; exit }' "/proc/$1/maps" 2>/dev/null || :
}

# A restarted program can be asked for its next image when it and its porter (PID) have their pages; the porter holds
# the lock of its own by a descriptor.
is_back() {
    local process
    grep -qE "FLOCK +ADVISORY +WRITE $PID " /proc/locks || return 1
    for process in $(find_processes | awk '{ print $1 }'); do
        [ "$process" = "$PID" ] || [ -z "$(page_of "$process")" ] || return 0
    done
    return 1
}

# restart_back NAME IMAGE: the same, and waits until the program is back; a guest is held.
restart_back() {
    hold
    restart "$1" "$2"
    until_true 60 is_back_or_gone
    is_alive "$PID" || fail "the restart of $1 ended at once: $(tail -n 3 "$T/$1.out" "$T/$1.err")"
}

is_back_or_gone() {
    is_gone "$PID" || is_back
}

says_ok() {
    [[ "$(tail -n 1 "$T/$1.out")" == OK* ]] || fail "$1 did not end with OK: $(tail -n 3 "$T/$1.out")"
    ! grep BAD "$T/$1.out" || fail "$1 found a mistake"
}

# runs_on NAME COMMAND...: images while it runs, to its end; a stop may change nothing.
runs_on() {
    start_guest "$@"
    take "$PID"
    take "$PID"
    ends_well "$1"
    says_ok "$1"
}

# survives NAME COMMAND...: an image that the guest goes on after, a restart, and another from an image of that life.
survives() {
    start_guest "$@"
    lives_on "$1"
}

# lives_on NAME: the same for the guest that was started last.
lives_on() {
    take "$PID"
    for _ in 2 3; do
        pause "0.$((RANDOM % 3))"
        take "$PID"
        kill_hard "$PID"
        until_true 60 no_processes
        restart_back "$1" "$IMAGE"
    done
    ends_well "$1"
    says_ok "$1"
}

# all_lives NAME COMMAND...: the original runs to its end after its checkpoint; then its image is brought back three times, the third
# time with an image of its own, from which it comes to its end.
all_lives() {
    local name=$1 life
    start_guest "$@"
    take "$PID"
    ends_well "$name"
    says_ok "$name"
    for life in 2 3 4; do
        restart_back "$name" "$IMAGE"
        [ "$life" != 4 ] || take "$PID"
        kill_hard "$PID"
        until_true 60 no_processes
    done
    restart_back "$name" "$IMAGE"
    ends_well "$name"
    says_ok "$name"
}

# ---- waiting: always for something, never for a time ----

now_ms() {
    echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# pause SECONDS: without a process, for many tests wait at once. Nobody ever writes into that pipe.
pause() {
    [ -n "${SILENCE:-}" ] || exec {SILENCE}<> <(:)
    read -rt "$1" -u "$SILENCE" || :
}

# until_true SECONDS COMMAND...: looks every 10 ms.
until_true() {
    local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@"; do
        if [ "${EPOCHREALTIME/[.,]/}" -gt "$end" ]; then
            echo "waited in vain for: $*" >&2
            return 1
        fi
        pause 0.01
    done
}

wait_for_file() {
    until_true "${2:-60}" test -e "$1"
}

# 1 for a process that is there and no zombie.
is_alive() {
    local text
    read -r text 2>/dev/null <"/proc/$1/stat" || return 1
    text=${text##*) }
    [ "${text:0:1}" != Z ]
}

is_gone() {
    ! is_alive "$1"
}

# As by Ctrl-Z.
is_stopped() {
    grep -qs '^State:.*T (stopped)' "/proc/$1/status"
}

# On a busy machine a PID may soon be somebody else's.
is_still_ours() {
    is_alive "$1" && [[ "$(readlink "/proc/$1/exe")" == "$T"/* ]]
}

# The state of a process that this test has started, into STATE; left as it is when that PID is somebody else's by now.
own_state() {
    local text
    read -r text 2>/dev/null <"/proc/$1/stat" || return 0
    read -ra text <<<"${text##*) }"
    [ "${text[1]}" != "$BASHPID" ] || STATE=${text[0]}
}

# For a process that this test has started.
is_ended() {
    local STATE=''
    own_state "$1"
    [ -z "$STATE" ] || [ "$STATE" = Z ]
}

# wait_exit PID [SECONDS]: its exit status (128 + signal) into STATUS.
wait_exit() {
    release
    until_true "${2:-120}" is_ended "$1" || return 1
    STATUS=0
    wait "$1" || STATUS=$?
    forget_started "$1"
}

# Its PID may soon be somebody else's.
forget_started() {
    local pid kept=()
    for pid in "${STARTED[@]}"; do [ "$pid" = "$1" ] || kept+=("$pid"); done
    STARTED=("${kept[@]}")
}

# ends_well NAME [SECONDS]: the program last started ends with status 0.
ends_well() {
    wait_exit "$PID" "${2:-300}"
    [ "$STATUS" = 0 ] || fail "$1 ended with $STATUS; it said:" "$(tail -n 5 "$T/$1.out" "$T/$1.err")"
    silent "$1"
}

# Nothing may be said on a program's stderr unless something is wrong.
silent() {
    [ ! -s "$T/$1.err" ] || fail "$1 has this on stderr: $(head -n 5 "$T/$1.err")"
}

# On a busy machine the program may have come to its end before.
kill_hard() {
    kill -KILL "$1" 2>/dev/null || :
    wait_exit "$1"
    [ "$STATUS" = 137 ] || [ "$STATUS" = 0 ] || fail "killed, but its status is $STATUS"
}

# ---- checkpoints ----

# take TARGET [OPTION...]: an image, IMAGE its path. It must be the one line on stdout, absolute, and there.
take() {
    run --separate-stderr stasis checkpoint "$@"
    [ "$status" = 0 ] || fail "checkpoint of $1 gave status $status: $output $stderr"
    IMAGE=$output
    case $IMAGE in /*.ckpt) ;; *) fail "not an absolute path of an image: '$IMAGE'" || return 1 ;; esac
    [ -f "$IMAGE" ] || fail "no such image: $IMAGE"
}

# refused TARGET STATUS... : a checkpoint must end with one of these, one line of reason, a name with a page.
refused() {
    local target=$1
    shift
    run --separate-stderr stasis checkpoint "$target"
    [[ " $* " == *" $status "* ]] || fail "status $status instead of $*: $output $stderr"
    named "$stderr"
    [ -z "$output" ] || fail "it prints something on stdout: $output"
}

# refused_as NAME COMMAND...: the checkpoint is refused by that name, there is no image, and the program runs on.
refused_as() {
    local name=$1
    shift
    if ! start_guest refused "$@" || grep -qE '^(NONE|CANNOT)' "$T/refused.out"; then
        grep -E '^(NONE|CANNOT)' "$T/refused.out" || return 1
        skip "needs: a machine that has it: $(cat "$T/refused.out")"
    fi
    refused "$PID" 69
    [[ "$stderr" == *"$name:"* ]] || fail "another name: $stderr"
    ends_well refused
    says_ok refused
    [ -z "$(ls -A "$IMAGES")" ] || fail "an image of what was refused"
}

# restart_refused SAID [OPTION...] IMAGE: with a name that has a page. SAID: a pattern, what is said begins with R-NAME.
restart_refused() {
    local said=$1
    shift
    run --separate-stderr stasis restart "$@"
    [ "$status" = 69 ] || fail "status $status instead of 69: $output $stderr"
    # shellcheck disable=SC2053
    [[ $stderr == *$said* ]] || fail "not $said, but: $stderr"
    named "$stderr"
}

# named TEXT: it says R-SOMETHING, and docs has a page on it.
named() {
    local name
    name=$(grep -oE 'R-[A-Z0-9]+(-[A-Z0-9]+)*' <<<"$1" | head -n 1)
    [ -n "$name" ] || fail "no name (R-...) in: $1" || return 1
    [ -f "$ROOT/docs/refusals/$name.md" ] || fail "no page docs/refusals/$name.md"
}

# flip FILE OFFSET BIT
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $((byte ^ (1 << $3))))" | dd "of=$1" bs=1 "seek=$2" conv=notrunc status=none
}

# The generation that `stasis show` says of an image.
generation() {
    stasis show "$1" | awk '$1 == "generation" { print $2; exit }'
}

# The run that `stasis show` says of an image.
run_of() {
    stasis show "$1" | awk '$1 == "run" { print $2; exit }'
}

# The saver that works for this test: SAVER. Quick, for a saver does not live long.
find_saver() {
    for SAVER in $(pgrep -x stasis-saver); do
        [[ "$(readlink "/proc/$SAVER/exe" 2>/dev/null)" == "$T/"* ]] && return 0
    done
    return 1
}

# ---- golden and interrupted ----

# golden NAME COMMAND...: an uninterrupted run without us; its output is $T/NAME.golden, its length MILLISECONDS. One
# such run of a command is enough for all tests.
golden() {
    local name=$1 begin known
    shift
    known=$BATS_RUN_TMPDIR/golden.$(printf '%s ' "${@//"$T"/T}" | cksum | tr ' ' .)
    (
        flock 9 # files may run side by side
        [ -e "$known.time" ] && exit
        begin=$(now_ms)
        as_user "$@" >"$known" || exit 1
        echo $(($(now_ms) - begin)) >"$known.time"
    ) 9>>"$known.lock" || fail "the uninterrupted run of $* failed"
    MILLISECONDS=$(cat "$known.time")
    cp "$known" "$T/$name.golden"
}

# same NAME: the output is byte by byte that of the golden run.
same() {
    cmp "$T/$1.golden" "$T/$1.out" || fail "the output of $1 differs: $(diff <(tail -n 3 "$T/$1.golden") <(tail -n 3 "$T/$1.out"))"
}

size_of() {
    stat -c %s "$1"
}

has_grown() {
    [ "$(size_of "$1")" -ge "$2" ]
}

# reach NAME PERCENT: waits until so much of the golden output is there; fails when the program ends before.
reach() {
    local wanted=$(($(size_of "$T/$1.golden") * $2 / 100))
    until_true 300 reached_or_gone "$1" "$wanted"
    is_alive "$PID" || fail "$1 ended before $2 %: $(tail -n 3 "$T/$1.out" "$T/$1.err")" || return 1
    pause "0.0$((RANDOM % 90 + 10))" # not always just behind a write
}

reached_or_gone() {
    has_grown "$T/$1.out" "$2" || is_gone "$PID"
}

# moments COUNT: so many percentages between 10 and 90, rising, at least 5 apart.
moments() {
    local count=$1 width i
    width=$((80 / count))
    for ((i = 0; i < count; i++)); do
        echo $((10 + i * width + RANDOM % (width - 4)))
    done
}

# ---- tearing down: nothing may be left ----

# "PID comm" of each living process that this test started, or that came from one.
find_processes() {
    local process
    {
        find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$T/*" 2>/dev/null || : # one has ended meanwhile
        grep -lsaF "STASIS_TEST_MARK=$T/" /proc/[0-9]*/environ 2>/dev/null
    } | cut -d/ -f3 | sort -un | while read -r process; do
        if is_alive "$process"; then echo "$process $(cat "/proc/$process/comm" 2>/dev/null)"; fi
    done
    return 0
}

no_processes() {
    [ -z "$(find_processes)" ]
}

# Nobody else has this test's user: not root, nor one of the machine's, whose id other runs of the tests may use at the same time.
has_own_user() {
    [ "$USER_ID" -ge "$FIRST_USER" ]
}

# Pages of the registry that belong to this test.
find_pages() {
    if has_own_user; then
        find "/dev/shm/stasis-$USER_ID" -type f 2>/dev/null
    else
        grep -rlsaF "$T/" "/dev/shm/stasis-$USER_ID" 2>/dev/null
    fi
    return 0
}

# One may go while we look: a last command sweeps it. A process that ends has no environment any more, by which we know it, a moment
# before it lets go of its page.
no_held_pages() {
    local page
    for page in $(find_pages); do
        flock -n "$page" true 2>/dev/null || [ ! -e "$page" ] || return 1
    done
}

# What is in a directory of images besides images.
find_strays() {
    find "$IMAGES" -mindepth 1 2>/dev/null |
        grep -vE '/[^/]+\.ckpt(\.[0-9]+)?(\.run-([0-9a-f]{8}|damaged)(\.[0-9]+)?)?$' |
        grep -vE '/lost\+found$|\.resumed$|\.ckpt\.d(/(lock|roll\.[0-9a-f]+|task\.[0-9]+\.[0-9a-f]{16}))?$'
    find "$T" -maxdepth 2 \( -name '*.tmp' -o -name '*.tmp.*' -o -name '.*.ckpt*' \) 2>/dev/null
    return 0
}

end_processes() {
    local pid comm
    while read -r pid comm; do
        kill -KILL "$pid" 2>/dev/null
    done < <(find_processes)
    return 0
}

say_how_to_repeat() {
    local name=${BATS_TEST_DESCRIPTION//[^a-zA-Z0-9 ,:]/.}
    printf "repeat: STASIS_TEST_AS=%s STASIS_SEED=%s STASIS_BUILD=%s bats -f '^%s$' %s\n" \
        "${STASIS_TEST_AS:-user}" "$SEED" "$BUILD" "$name" "$BATS_TEST_FILENAME" >&2
}

say_what_is_bad() {
    grep -s '^BAD' "$T"/*.out >&2 || :
}

teardown() {
    local pid place left='' result=0
    for pid in "${STARTED[@]}"; do
        local STATE=''
        own_state "$pid" # a Z may be a main thread that has ended before the others
        if [ -n "$STATE" ]; then kill -KILL "$pid" 2>/dev/null; fi
    done
    until_true 60 no_processes 2>/dev/null || left="processes: $(find_processes | tr '\n' ';')"
    end_processes
    for pid in "${STARTED[@]}"; do wait "$pid" 2>/dev/null || :; done
    until_true 10 no_held_pages 2>/dev/null || left+=" pages that somebody holds: $(find_pages | tr '\n' ' ')"
    [ -z "$(find_strays)" ] || left+=" files: $(find_strays | tr '\n' ';')"
    for place in "${MOUNTED[@]}"; do umount "$place" || left+=" mount: $place"; done
    for place in "${CONTROL_GROUPS[@]}"; do rmdir "$place" || left+=" control group: $place"; done
    forget_registry
    if [ -n "$left" ]; then
        echo "left behind: $left" >&2
        result=1
    fi
    if [ "$result" != 0 ] || [ -z "${BATS_TEST_COMPLETED:-}" ]; then
        say_what_is_bad
        say_how_to_repeat
    fi
    return "$result"
}

# Pages of killed programs wait for the next command that sweeps; the test is sooner gone than they are old.
forget_registry() {
    local page
    for page in $(find_pages); do rm -f "$page"; done
    # A test's user has nothing else there: what a killed program has left as any program would, goes with the registry.
    if has_own_user; then find /dev/shm -mindepth 1 -uid "$USER_ID" -delete 2>/dev/null; fi
    find "/dev/shm/stasis-$USER_ID" -mindepth 1 -maxdepth 1 -type d -empty -mmin +1 -delete 2>/dev/null
    rmdir "/dev/shm/stasis-$USER_ID" 2>/dev/null
    return 0
}

# needs_root WHAT: some things only root can make for a test.
needs_root() {
    [ "$(id -u)" = 0 ] || skip "needs: root, $1"
}

# small_disk DIRECTORY BYTES: a file system of its own, owned by the test's user.
small_disk() {
    needs_root "for a small file system"
    mkdir -p "$1"
    mount -t tmpfs -o "size=$2,mode=0700,uid=$USER_ID,gid=$USER_ID" stasis-test "$1"
    MOUNTED+=("$1")
}
