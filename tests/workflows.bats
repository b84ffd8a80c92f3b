# SPDX-License-Identifier: MIT
# The examples of docs/workflows.md, as they stand there: a program is killed or stopped in the middle, and the next try ends it.

load helpers
load programs

# example HEADING LANGUAGE: the block of the document under that heading.
example() {
    awk -v heading="## $1" -v fence="\`\`\`$2" '
        /^## / { inside = $0 == heading }
        inside && $0 == "```" { exit }
        inside && begun { print }
        inside && $0 == fence { begun = 1 }' "$ROOT/docs/workflows.md"
}

# example_into FILE HEADING LANGUAGE
example_into() {
    example "$2" "$3" >"$T/$1"
    [ -s "$T/$1" ] || fail "no example under '$2'"
    own "$T/$1"
}

# Where count.py stops until there is no file `hold`.
prepare() {
    cp "$APPS/count.py" "$T/count.py"
    own "$T/count.py"
    VARIABLES=("PATH=$(dirname "$STASIS"):/usr/bin:/bin")
    golden counted /usr/bin/python3 "$APPS/count.py"
    : >"$T/hold"
}

# is_at_hold FILE...: the programs that write there wait.
is_at_hold() {
    local file
    for file in "$@"; do
        [ -e "$T/$file" ] && grep -q '^50 ' "$T/$file" || return 1
    done
}

# pid_of JOB
pid_of() {
    local process
    for process in $(find_processes | awk '$2 == "python3" { print $1 }'); do
        if tr '\0' '\n' 2>/dev/null <"/proc/$process/environ" | grep -qx "STASIS_JOB_ID=$1"; then echo "$process"; fi
    done
}

# fall JOB: an image, and the program is killed as with its node.
fall() {
    local victim
    take "$1.0"
    victim=$(pid_of "$1")
    [ -n "$victim" ] || fail "no program of $1"
    kill -KILL "$victim"
}

counted_well() {
    cmp "$T/counted.golden" "$T/$1" || fail "$1 differs: $(diff "$T/counted.golden" "$T/$1" | head -n 5)"
}

# started: each of them ends with status 0.
ends_with_zero() {
    wait_exit "$PID"
    [ "$STATUS" = 0 ] || fail "status $STATUS: $(cat "$T"/*.err)"
}

@test "ten tasks, all killed: each goes on where it was when the whole is run again" {
    local task outputs=()
    prepare
    example_into array.sh "An array of ten tasks" bash
    for task in {1..10}; do outputs+=("out.$task"); done
    start array bash array.sh
    until_true 120 is_at_hold "${outputs[@]}"
    for task in {1..10}; do fall "task-$task"; done
    wait_exit "$PID"
    [ -z "$(ls "$T"/done.* 2>/dev/null)" ] || fail "a killed task is done"
    rm "$T/hold"
    start array bash array.sh
    ends_with_zero
    for task in {1..10}; do counted_well "out.$task"; done
    start array bash array.sh # all is done
    ends_with_zero
    for task in {1..10}; do counted_well "out.$task"; done
}

@test "snakemake: a rule whose program is killed goes on at its retry" {
    needs snakemake
    prepare
    example_into Snakefile Snakemake python
    start snakemake snakemake --cores 2 --nolock
    until_true 120 is_at_hold parts/1 parts/2
    fall count-1
    rm "$T/hold"
    ends_with_zero
    counted_well count.1
    counted_well count.2
    grep -q 'Trying to restart job' "$T/snakemake.err" || fail "no retry: $(cat "$T/snakemake.err")"
    [ -z "$(ls "$T/images")" ] || fail "left: $(ls "$T/images")"
}

# As Nextflow does it: the variables of Groovy are filled in, and each try has a directory of its own.
make_nextflow() {
    example Nextflow groovy | awk '/"""/ { inside = !inside; next } inside { print }' >"$T/command.sh"
    sed -i -e 's,[\]\$,@,g' -e "s,\$launchDir,$T,g" -e 's,\$n,7,g' -e 's,@,$,g' "$T/command.sh"
    cat >"$T/nextflow.sh" <<'SCRIPT'
for try in 1 2 3 4; do
    mkdir "work.$try"
    status=0
    (cd "work.$try" && exec bash -ue ../command.sh) || status=$?
    [ "$status" = 75 ] || exit "$status"
done
SCRIPT
    own "$T/command.sh" "$T/nextflow.sh"
}

@test "nextflow: a task that ends with 75 goes on at its retry, in another directory" {
    prepare
    make_nextflow
    mkdir -p "$T/tasks/7"
    mv "$T/hold" "$T/tasks/7"
    own "$T/tasks" "$T/tasks/7"
    start nextflow bash nextflow.sh
    until_true 60 is_at_hold tasks/7/out
    rm "$T/tasks/7/hold"
    take count-7.0 --stop
    ends_with_zero
    counted_well work.2/count.7
    [ "$(ls "$T/tasks/7")" = err ] || fail "left: $(ls "$T/tasks/7")"
}
