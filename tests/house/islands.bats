# SPDX-License-Identifier: MIT
# The two islands have no libc: what their objects leave undefined is empty, but for a list.

load house

# GNU ld makes these itself: no code is behind them.
LINKER_MADE='_GLOBAL_OFFSET_TABLE_|__ehdr_start|_DYNAMIC|_end|__start_[a-z_]+|__stop_[a-z_]+'

# undefined ARCHIVE: what its objects together do not define.
undefined() {
    local defined
    defined=$(nm --defined-only -P "$1" 2>/dev/null | awk 'NF > 1 { print $1 }' | sort -u)
    nm -u -P "$1" 2>/dev/null | awk 'NF > 1 { print $1 }' | sort -u | comm -23 - <(echo "$defined") |
        grep -vxE "$LINKER_MADE"
}

# One is built into libstasis.so, the other is all that is left of stasis-restorer when the old memory is gone.
islands() {
    find "$BUILD/preload/shim" -name 'libshim_island.a'
    find "$BUILD/restorer" -name 'liblast.a'
}

@test "there are two islands" {
    [ "$(islands | wc -l)" = 2 ] || nothing "islands" "$(islands)"
}

@test "no island needs anything from outside" {
    local island names
    for island in $(islands); do
        names=$(undefined "$island" | grep -vxFf "$BATS_TEST_DIRNAME/islands.allowed" || :)
        nothing "$island needs" "$names"
    done
}

@test "no island uses vector or x87 registers, thread-local storage or a stack guard" {
    local island found
    for island in $(islands); do
        found=$(objdump -d --no-show-raw-insn "$island" | grep -E '%(xmm|ymm|zmm|st\(|mm[0-7])|%fs:0x28([^(]|$)' |
            grep -vE 'x(save|rstor)|fxsave|fxrstor' | head -n 5) || :
        nothing "in $island" "$found"
    done
}
