/* SPDX-License-Identifier: MIT */
/* Times on the program's clocks of CPU time, for those who hand them to the kernel. */
#ifndef STASIS_WRAP_CPU_CLOCKS_H
#define STASIS_WRAP_CPU_CLOCKS_H

#include <time.h>

#pragma GCC visibility push(hidden)

/* An absolute time on the program's clock as one on the kernel's; one that is past there is past here. */
struct timespec cpu_clocks_to_kernel(clockid_t clock, const struct timespec *time);
void cpu_timers_forget(void);

#pragma GCC visibility pop

#endif
