# SPDX-License-Identifier: MIT
# Real programs of Debian, golden against interrupted; see programs.bash. More of them are in runtimes.bats.

load helpers
load programs

make_sieve() {
    WORK=("$PYTHON" "$APPS/sieve.py" "$1")
}

make_threads() {
    WORK=("$PYTHON" "$APPS/threads.py" "$1")
}

make_collatz() {
    WORK=(gawk -v "rounds=$1" -f "$APPS/collatz.awk")
}

# The amount of work is that of the input.
make_xz() {
    as_user gawk -v "lines=$1" -f "$APPS/text.awk" >"$T/$1.text"
    own "$T/$1.text"
    WORK=(xz -T2 -6 --block-size=512KiB -k -c "$T/$1.text")
}

python_sieve() {
    work_for "${1:-sieve}" 800 make_sieve
}

python_threads() {
    work_for threads 500 make_threads
}

gawk_collatz() {
    work_for "${1:-collatz}" 150 make_collatz
}

xz_text() {
    work_for xz 120000 make_xz
}

@test "address space layout randomisation is on" {
    [ "$(cat /proc/sys/kernel/randomize_va_space)" = 2 ]
    [ "$(cat /proc/self/personality)" = 00000000 ]
}

# bats test_tags=set
@test "python3 sieve, once" {
    once sieve-once python_sieve
}

@test "python3 sieve: five random moments, three restarts of one image" {
    python_sieve
    five_images sieve
}

@test "python3 sieve: three generations" {
    python_sieve
    three_generations sieve
}

@test "python3 threads: five random moments, three restarts of one image" {
    python_threads
    five_images threads
}

@test "python3 threads: three generations" {
    python_threads
    three_generations threads
}

# bats test_tags=set
@test "gawk, once" {
    once collatz-once gawk_collatz
}

@test "gawk: five random moments, three restarts of one image" {
    gawk_collatz
    five_images collatz
}

@test "gawk: three generations" {
    gawk_collatz
    three_generations collatz
}

@test "xz -T2: five random moments, three restarts of one image" {
    xz_text
    five_images xz
    xz -dc <"$T/xz.out" | cmp - "${WORK[-1]}"
}

@test "xz -T2: three generations" {
    xz_text
    three_generations xz
}

newer_image() {
    [ -e "$IMAGES/lines.0.ckpt" ] && [ "$(generation "$IMAGES/lines.0.ckpt")" -ge "$1" ]
}

newer_image_or_gone() {
    newer_image "$1" || is_gone "$PID"
}

@test "an interval alone is enough: killed four times anywhere, brought back from the newest image" {
    local times
    golden lines "$GUESTS/stdio" 8
    OPTIONS=(--checkpoint=0:01)
    start_guest lines "$GUESTS/stdio" 8
    release
    for times in 1 2 3 4; do
        until_true 60 newer_image_or_gone "$times"
        sleep "0.$((RANDOM % 9))"
        kill_hard "$PID"
        until_true 60 no_processes
        restart lines "$IMAGES"
    done
    ends_well lines
    same lines
}
