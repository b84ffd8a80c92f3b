/* SPDX-License-Identifier: MIT */
/* What raw_call.S, which is libc's syscall(2) in our words, and the shim around it know of each other. Not for islands. */
#ifndef STASIS_ARCH_RAW_CALL_H
#define STASIS_ARCH_RAW_CALL_H

#define RAW_CALL_TIMED 442 /* bytes of raw_call_timed */
#define RAW_CALL_MASKED 255 /* in raw_call_timed, of a call that has no time but a set of signals as its second argument */
#define RAW_CALL_NUMBER -8 /* from the stack pointer to the number, while the call lasts */

#ifndef __ASSEMBLER__
#include <stdint.h>

#pragma GCC visibility push(hidden)

extern const char raw_call_end[];                     /* where the `syscall` ends */
extern const uint8_t raw_call_timed[RAW_CALL_TIMED];  /* of each number: 0, 1 + which argument is a time, or RAW_CALL_MASKED */
extern void *raw_call_other;                          /* libc's syscall(2), when that is to be used; else NULL */
/* As syscall(2): -1 and errno. The first is called for the second. */
long raw_call_with_time(long number, long a, long b, long c, long d, long e, long f);
long raw_call(long number, long a, long b, long c, long d, long e, long f);

#pragma GCC visibility pop
#endif

#endif
