/* SPDX-License-Identifier: MIT */
/* syscall() with a timed wait: it has a deadline like that of any other wrapper. The entry is in raw_call.S, which also
 * says why syscall() is ours. */
#include "../../../core/floor/arch/x86_64/raw_call.h"
#include "../deadline.h"

long raw_call_with_time(long number, long a, long b, long c, long d, long e, long f)
{
    const long arguments[6] = { a, b, c, d, e, f };
    int64_t time = deadline_of_call(number, arguments);
    struct deadline deadline;
    long got;

    if (time >= 0)
        deadline_begin(&deadline, time);
    got = raw_call(number, a, b, c, d, e, f);
    if (time >= 0)
        deadline_end(&deadline);
    return got;
}
