# SPDX-License-Identifier: MIT
# shellcheck shell=bash

# Closes what the shell was started with above stderr: terminals and build services leave pipes of their own open, which
# a program under stasis would inherit, and be refused for (R-PIPE).
close_foreign_descriptors() {
    local fd
    for fd in "/proc/$BASHPID/fd/"*; do
        fd=${fd##*/}
        if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then eval "exec $fd>&-"; fi
    done
}
