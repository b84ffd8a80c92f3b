/* SPDX-License-Identifier: MIT */
/* syscall() with a timed wait: it has a deadline like that of any other wrapper; and signalfd. The entry is in raw_call.S, which also
 * says why syscall() is ours. */
#include "../../../core/floor/arch/x86_64/raw_call.h"
#include "../../../core/floor/syscalls.h"
#include "../deadline.h"
#include "../shim.h"

/* signalfd: whoever reads it would take the stop signal. A pointer that leads nowhere is the kernel's to complain of. */
static long raw_call_with_mask(long number, long a, long b, long c, long d, long e, long f)
{
    uint64_t set;

    if (c != SYS_SIGSET_BYTES || !resume_fetch((uint64_t)b, &set, sizeof set))
        return raw_call(number, a, b, c, d, e, f);
    set &= ~SYS_SIGNAL_BIT(STOP_SIGNAL);
    return raw_call(number, a, (long)&set, c, d, e, f);
}

long raw_call_with_time(long number, long a, long b, long c, long d, long e, long f)
{
    const long arguments[6] = { a, b, c, d, e, f };
    struct deadline deadline;
    int64_t time;
    long got;

    if (raw_call_timed[number] == RAW_CALL_MASKED)
        return raw_call_with_mask(number, a, b, c, d, e, f);
    time = deadline_of_call(number, arguments);
    if (time >= 0)
        deadline_begin(&deadline, time);
    got = raw_call(number, a, b, c, d, e, f);
    if (time >= 0)
        deadline_end(&deadline);
    return got;
}
