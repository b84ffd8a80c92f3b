# SPDX-License-Identifier: MIT
# Programs of MPI with their starter, which is the root of a tree, on one machine: killed in the middle, twice, and brought back from one image.

load helpers
load programs

is_in_the_middle() {
    grep -q '^200 ' "$T/ring.out"
}

fall() {
    kill_hard "$PID"
    end_processes
    until_true 60 no_processes
}

# A port of Open MPI's may have closed connections for a minute.
ring_returns() {
    restart ring "$IMAGE"
    until_true 150 is_back_or_gone
    ! is_gone "$PID" || fail "$(cat "$T/ring.err")"
}

# ring_comes_back STARTER COMPILER [OPTION...]
ring_comes_back() {
    local starter=$1 compiler=$2
    shift 2
    needs "$starter" "$compiler"
    "$compiler" -O1 -o "$T/ring" "$APPS/ring.c"
    golden ring "$starter" "$@" -np 3 "$T/ring" 400
    : >"$T/hold"
    start ring "$STASIS" run "--checkpoint-dir=$IMAGES" --job-id=ring -- "$starter" "$@" -np 3 "$T/ring" 400
    until_true 120 is_in_the_middle
    take "$PID"
    fall
    ring_returns
    fall
    ring_returns
    rm "$T/hold"
    wait_exit "$PID" 300
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T/ring.err")"
    same ring
}

@test "MPICH: mpirun with three processes" {
    ring_comes_back mpirun.mpich mpicc.mpich
}

@test "Open MPI: mpirun with three processes" {
    VARIABLES=("TMPDIR=$T" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
    ring_comes_back mpirun.openmpi mpicc.openmpi --oversubscribe
}
