# SPDX-License-Identifier: MIT
# Who may include whom: arrows go down only.

load house

# "file included" for each #include "..." of the C files below the given rooms; included is relative to the root, or as
# written when there is no such file.
includes() {
    local file line path
    while IFS=: read -r file line; do
        path=${line#*\"}
        path=${path%%\"*}
        if [ -e "$(dirname "$file")/$path" ]; then
            path=$(realpath --relative-to=. "$(dirname "$file")/$path")
        elif [ -e "core/$path" ]; then
            path=core/$path
        fi
        echo "$file $path"
    done < <(grep -rHE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' --include='*.[chS]' "$@")
}

# only ROOM ALLOWED...: a room includes only what lies below one of these.
only() {
    local room=$1 file path allowed ok wrong=''
    shift
    [ -d "$room" ] || return 0
    while read -r file path; do
        ok=''
        for allowed in "$@"; do [[ $path == "$allowed" || $path == "$allowed"/* ]] && ok=1; done
        [ -n "$ok" ] || wrong+="$file includes $path"$'\n'
    done < <(includes "$room")
    nothing "not allowed in $room" "$wrong"
}

@test "floor includes nothing of ours" {
    only core/floor core/floor
}

@test "image includes floor" {
    only core/image core/image core/floor
}

@test "kinds include image and floor" {
    only core/kinds core/kinds core/image core/floor
}

@test "preload includes core; shim and saver meet in the agent page only" {
    only preload/shim preload/shim core/floor
    only preload/saver preload/saver core
}

@test "restorer and tools include core" {
    only restorer restorer core last_blob.h # which is built from last.c
    only tools tools core
}

@test "slurm knows the names, the grammar of intervals, which programs can have the shim, and what it does as the wrappers do" {
    only core/slurm core/slurm core/floor/names.h
    only slurm slurm core/floor/names.h core/floor/interval.h core/registry/preloadable.h core/slurm/slurm.h
}

@test "guests include nothing of ours" {
    only tests/guests tests/guests
    only tests/bench tests/bench
}

@test "no machine by #if: a machine is a folder" {
    local machines='__x86_64__|__aarch64__|__amd64__|__i386__|__riscv|__powerpc'
    nothing "machines in #if" "$(grep -rnE "^[[:space:]]*#[[:space:]]*(if|elif|ifdef|ifndef).*($machines)" \
        --include='*.[chS]' core preload restorer tools slurm)"
}

@test "inner rooms do not print" {
    local printing='printf|fprintf|vfprintf|perror|puts|fputs|putchar|dprintf|syslog'
    nothing "printing" "$(grep -rnE "\\b($printing)[[:space:]]*\\(" --include='*.c' core/floor core/image)"
}
