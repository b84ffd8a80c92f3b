# SPDX-License-Identifier: MIT
# Unmodified programs and runtimes of Debian, golden against interrupted: see programs.bash. One test each: five images at
# random moments of one run. STASIS_TEST_LONG=1 makes it five seconds of computing, and restarts from all of them.

load helpers
load programs

[ -n "${STASIS_TEST_LONG:-}" ] || ENOUGH=2500 # all of them in a few minutes

make_perl() {
    WORK=(perl "$APPS/walk.pl" "$1")
}

make_bc() {
    sed "s/ROUNDS/$1/" "$APPS/pi.bc" >"$T/pi.$1.bc"
    WORK=(bc -q "$T/pi.$1.bc")
}

# Compiled beforehand: the compiler is another program.
make_java() {
    WORK=(java -Xmx96m -cp "$T" Life "$1")
}

make_R() {
    WORK=(Rscript "$APPS/regress.R" "$1")
}

make_octave() {
    WORK=(octave-cli --quiet --no-history --norc "$APPS/matrix.m" "$1")
}

make_heat() {
    WORK=("$T/heat" "$1")
}

make_wave() {
    WORK=("$T/wave" "$1")
}

make_go() {
    WORK=("$T/life" "$1")
}

make_numpy() {
    WORK=("$PYTHON" "$APPS/matrix.py" "$1")
}

make_sqlite() {
    gawk -v "rounds=$1" -f "$APPS/insert.awk" >"$T/insert.$1.sql"
    WORK=(sqlite3 data/items.db ".read $T/insert.$1.sql")
}

make_sort() {
    gawk -v "lines=$1" -f "$APPS/numbers.awk" >"$T/$1.lines"
    WORK=(sort -g -S 20M --parallel=2 -T data "$T/$1.lines")
}

make_luajit() {
    WORK=(luajit "$APPS/strings.lua" "$1")
}

make_sbcl() {
    WORK=(sbcl --script "$APPS/queens.lisp" "$1")
}

make_signals() {
    WORK=("$PYTHON" "$APPS/signals.py" "$1")
}

make_asyncio() {
    WORK=("$PYTHON" "$APPS/loop.py" "$1")
}

make_node() {
    WORK=(node "$APPS/loop.js" "$1")
}

@test "perl" {
    needs perl
    work_for perl 180 make_perl
    interrupted perl
}

@test "bc" {
    needs bc
    work_for bc 1500 make_bc
    interrupted bc
}

@test "java, four threads and garbage collection" {
    needs java ecj
    ecj -proc:none -11 -d "$T" "$APPS/Life.java"
    work_for java 200 make_java
    interrupted java
}

@test "R" {
    needs Rscript
    work_for R 800 make_R
    interrupted R
}

@test "octave" {
    needs octave-cli
    work_for octave 300 make_octave
    interrupted octave
}

@test "OpenMP threads" {
    needs gcc
    gcc -O2 -fopenmp "$APPS/heat.c" -o "$T/heat"
    work_for heat 1500 make_heat
    interrupted heat
}

@test "Fortran, unformatted files, sequential and direct" {
    needs gfortran
    gfortran -O2 "$APPS/wave.f90" -o "$T/wave"
    FILES=data
    work_for wave 20000 make_wave
    interrupted wave
}

# Some of the compiler's distributions fetch another version of themselves, and all want a home.
@test "Go, two hundred goroutines on threads of the runtime" {
    needs go gcc
    HOME=$T GOCACHE=$T/cache GOTOOLCHAIN=local go build -o "$T/life" "$APPS/life.go"
    work_for go 200 make_go
    interrupted go
}

@test "numpy with threads of OpenBLAS" {
    "$PYTHON" -c 'import numpy' || skip "needs: numpy"
    work_for numpy 100 make_numpy
    interrupted numpy
}

@test "sqlite3, a database on disk" {
    needs sqlite3
    FILES=data
    work_for sqlite 500 make_sqlite
    interrupted sqlite
}

# How far sort has come, of a hundred: it reads all its input before it writes anything. PID may be what stands for it.
sort_progress() {
    local process=$PID child lines position=
    while read -r child _ 2>/dev/null <"/proc/$process/task/$process/children" && [ -n "$child" ]; do process=$child; done
    for lines in "/proc/$process/fd/"*; do
        [[ "$(readlink "$lines")" != *.lines ]] || read -r _ position <"${lines/fd/fdinfo}" || :
    done
    echo $(((${position:-$(size_of "$T/sort.golden")} + $(size_of "$T/sort.out")) * 50 / $(size_of "$T/sort.golden")))
}

sort_reached_or_gone() {
    [ "$(sort_progress)" -ge "$1" ] || is_gone "$PID"
}

@test "sort with files of its own" {
    FILES=data
    reach() {
        until_true 300 sort_reached_or_gone "$2"
        is_alive "$PID" || fail "sort ended before $2 %" || return 1
    }
    work_for sort 1600000 make_sort
    interrupted sort
}

@test "luajit" {
    needs luajit
    work_for luajit 150 make_luajit
    interrupted luajit
}

@test "sbcl" {
    needs sbcl
    work_for sbcl 400 make_sbcl
    interrupted sbcl
}

@test "python3 with signal handlers" {
    work_for signals 2000 make_signals
    interrupted signals
}

# two_images NAME START MAKE: two images of one run, and a restart from each, for programs that wait more than they compute: they are
# as quick on a slow machine as on any other.
two_images() {
    local ENOUGH=5000 image
    work_for "$@"
    images_at "$1" 15 40
    for image in "${TAKEN[@]}"; do
        restart "$1" "$image"
        come_to_end "$1"
    done
}

@test "python3 asyncio: timers, tasks, a thread that wakes the loop" {
    two_images asyncio 600 make_asyncio
}

@test "node: timers, files, a watch, a worker" {
    needs node
    two_images node 1200 make_node
}

@test "a thread that a library's constructor has made, after an exec" {
    start_guest early "$GUESTS/early" 3
    take "$PID"
    kill_hard "$PID"
    restart_back early "$IMAGE"
    take "$PID"
    ends_well early
    says_ok early
}
