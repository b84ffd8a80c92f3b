#!/bin/sh
# SPDX-License-Identifier: MIT
# embed.sh ELF HEADER OBJCOPY: the ELF file as flat bytes in a C array.
set -eu
"$3" -O binary "$1" "$2.bin"
{
    echo 'static const unsigned char last_blob[] = {'
    od -An -v -tu1 "$2.bin" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
    echo '};'
} >"$2"
rm -f "$2.bin"
