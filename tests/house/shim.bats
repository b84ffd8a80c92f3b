# SPDX-License-Identifier: MIT
# libstasis.so goes into every program: it exports what it intercepts and no more, needs libc alone, and an old one.

load house

exported() {
    nm -D --defined-only "$SHIM" | awk '{ print $NF }' | sed 's/@.*//' | sort -u
}

# What stasis.h declares.
header_names() {
    grep -oE '^STASIS_NAME .*\bstasis_[a-z]+\(' preload/shim/stasis.h | grep -oE 'stasis_[a-z]+'
}

@test "it has all that stasis.h declares, and the header a way around each without it" {
    local name wrong=''
    for name in $(header_names); do
        exported | grep -qx "$name" || wrong+="$name is not exported"$'\n'
        grep -qE "^#define $name\(" preload/shim/stasis.h || wrong+="$name has no macro"$'\n'
        grep -qF "$name" docs/man/stasis.3 || wrong+="$name is not in docs/man/stasis.3"$'\n'
    done
    [ "$(header_names | wc -l)" -gt 5 ]
    nothing "stasis.h" "$wrong"
}

@test "it links to libc alone" {
    [ "$(readelf -d "$SHIM" | awk '/\(NEEDED\)/ { print $NF }')" = '[libc.so.6]' ]
}

@test "it needs no glibc newer than 2.17" {
    local newest
    [ -f "$SHIM" ]
    newest=$(objdump -T "$SHIM" | grep -oE 'GLIBC_[0-9.]+' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
    [ "$(printf '%s\n2.17\n' "$newest" | sort -V | tail -n 1)" = 2.17 ] || {
        objdump -T "$SHIM" | grep "GLIBC_$newest" >&2
        false
    }
}

@test "it needs nothing that is not in a versioned libc, and no weak surprises" {
    nothing "from elsewhere" "$(objdump -T "$SHIM" | awk '/\*UND\*/ && !/GLIBC_/ && !/ w /')"
}

@test "every name it exports is one of libc's or of stasis.h, and stands in the docs with its reason" {
    local name libc wrong=''
    libc=$(ldd /bin/sh | awk '/libc\.so\.6/ { print $3 }')
    nm -D --defined-only "$libc" | awk '{ print $NF }' | sed 's/@.*//' | sort -u >"$BATS_TEST_TMPDIR/libc"
    header_names >>"$BATS_TEST_TMPDIR/libc"
    for name in $(exported); do
        grep -qx "$name" "$BATS_TEST_TMPDIR/libc" || wrong+="$name is no name of libc or stasis.h"$'\n'
        grep -qrF "\`$name\`" "$ROOT/docs" || wrong+="$name is in no document"$'\n'
    done
    [ -n "$(exported)" ]
    nothing "exported" "$wrong"
}

@test "it does not intercept malloc and its family" {
    nothing "exported" "$(exported | grep -xE 'malloc|calloc|realloc|free|memalign|posix_memalign|aligned_alloc|reallocarray')"
}

@test "it has no executable stack, no writable and executable segment, no run path" {
    nothing "segments" "$(readelf -lW "$SHIM" | grep -E 'GNU_STACK.*RWE|LOAD.*RWE')"
    nothing "entries" "$(readelf -d "$SHIM" | grep -E 'RPATH|RUNPATH|TEXTREL')"
}
