# SPDX-License-Identifier: MIT
# Files of a single process: every sort of open file comes back exactly, over two generations; and what happens to
# files that are not what they were: cut, kept aside, put back, moved, refused.

load helpers

# sort_lives NAME: the guest holds such files through two checkpoints and restarts.
sort_lives() {
    start_sort "$1" "$GUESTS/openfiles" 2
    take "$PID"
    kill_hard "$PID"
    restart_back "$1" "$IMAGE"
    take "$PID"
    kill_hard "$PID"
    until_true 10 no_processes
    restart "$1" "$IMAGE"
    ends_well "$1" 200
    says_ok "$1"
}

# start_sort NAME PROGRAM SECONDS
start_sort() {
    mkdir -p "$T/files"
    own "$T/files"
    start_guest "$1" "$2" "$1" "$T/files" "$3"
}

@test "files: flags, offsets, shared and separate descriptions" {
    sort_lives flags
}

@test "files: deleted, sparse, with several descriptions" {
    sort_lives unlinked
    grep -q 'bytes saved' <(stasis show "$IMAGE")
}

@test "files: O_TMPFILE" {
    sort_lives tmpfile
}

@test "files: private mappings of a deleted file" {
    sort_lives mapped
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
    start_guest upgraded "$T/files/openfiles" upgraded "$T/files" 2
    take "$PID"
    kill_hard "$PID"
    restart_back upgraded "$IMAGE"
    take "$PID"
    kill_hard "$PID"
    until_true 10 no_processes
    restart upgraded "$IMAGE"
    ends_well upgraded 200
    says_ok upgraded
}
