# SPDX-License-Identifier: MIT
# Rules for the sources themselves.

load house

sources() {
    find core preload restorer tools slurm tests -type f \
        \( -name '*.[chS]' -o -name '*.sh' -o -name '*.bats' -o -name '*.bash' -o -name '*.py' -o -name '*.awk' -o -name meson.build \)
    find meson.build .ci -type f
}

@test "every source says its licence" {
    local file wrong=''
    for file in $(sources); do
        head -n 3 "$file" | grep -q 'SPDX-License-Identifier: MIT' || wrong+="$file "
    done
    nothing "without SPDX line" "$wrong"
}

@test "names of the environment stand in names.h alone" {
    nothing "spelled again" "$(grep -rnE '"(STASIS|SLURM|SBATCH)_[A-Z_]+"' --include='*.[ch]' core preload restorer tools |
        grep -vE '^core/floor/names\.h:')"
}

@test "every kind is in the list" {
    local file name wrong=''
    for file in core/kinds/*.c; do
        name=$(grep -oE '^(static )?const struct kind [a-z_]+' "$file" | grep -oE '[a-z_]+$' || :)
        [ -z "$name" ] || grep -q "&$name\b" core/kinds/list.c || wrong+="$file: $name "
    done
    nothing "not in core/kinds/list.c" "$wrong"
}

@test "no function of 100 lines and more" {
    local wrong
    # A body opens with '{' and closes with '}', each alone in the first column.
    wrong=$(find core preload restorer tools slurm -name '*.c' -print0 |
        xargs -0 awk 'FNR == 1 { start = 0 } /^\{/ { start = FNR } /^\}/ && start { if (FNR - start >= 100) print FILENAME ":" start ": " FNR - start " lines"; start = 0 }')
    nothing "long functions" "$wrong"
}

@test "no test skips without saying what it needs" {
    nothing "skips" "$(grep -rnE '^[^#]*\bskip( |$)' --include='*.bats' --include='*.bash' tests | grep -vE 'skip "needs: ' |
        grep -v '^tests/house/')"
}

# bash ends at none of these: the left side of && and what has a ! before it may fail.
@test "no check of a test is lost in && or !" {
    nothing "lost without || fail" "$(find tests -name '*.bats' -print0 | xargs -0 awk '
        FNR == 1 || /^}/ { inside = 0 }
        /^@test / { inside = 1 }
        inside && /^ +(\[.*\]+ && |! )/ && !/ \|\| / && !/&& (break|continue|return|exit)/ { print FILENAME ":" FNR ": " $0 }')"
}
