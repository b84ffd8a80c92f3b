/* SPDX-License-Identifier: MIT */
/* The shape of the wrappers of masks and waits: arguments are cleaned by `prepare`, a statement; a wait that `is_timed`
 * has its first deadline noted, `time` nanoseconds from now; then libc does the rest. */
#ifndef STASIS_WRAP_H
#define STASIS_WRAP_H

#include "../deadline.h"
#include "../shim.h"

#define WRAP(result, name, parameters, prepare, is_timed, time, arguments) \
    NEXT_OF(name);                                                         \
    EXPORTED result name parameters                                        \
    {                                                                      \
        struct deadline deadline;                                          \
        result got;                                                        \
        prepare;                                                           \
        if (!(is_timed))                                                   \
            return NEXT(name) arguments;                                   \
        deadline_begin(&deadline, time);                                   \
        got = NEXT(name) arguments;                                        \
        deadline_end(&deadline);                                           \
        return got;                                                        \
    }

#define NOTHING_TO_PREPARE (void)0

#endif
