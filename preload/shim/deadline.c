/* SPDX-License-Identifier: MIT */
/* Island: no libc; the one thread-local pointer is ours, at a fixed place from the thread pointer (initial-exec). */
#include "deadline.h"

#include <linux/futex.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

#define SEAL UINT64_C(0x5ea1edbada551575)

static __thread struct deadline *innermost __attribute__((tls_model("initial-exec")));

static int64_t now(void)
{
    struct timespec time;
    SYS_CALL(clock_gettime, CLOCK_MONOTONIC, &time, 0, 0, 0, 0);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

int64_t deadline_nanoseconds(const struct timespec *time)
{
    if (time->tv_sec < 0 || time->tv_nsec < 0)
        return 0;
    return time->tv_sec > INT64_C(9000000000) ? INT64_MAX : time->tv_sec * INT64_C(1000000000) + time->tv_nsec;
}

void deadline_begin(struct deadline *deadline, int64_t nanoseconds)
{
    int64_t start = now();

    deadline->at = nanoseconds > INT64_MAX - start ? INT64_MAX : start + nanoseconds;
    deadline->outer = innermost;
    deadline->seal = SEAL ^ (uint64_t)deadline;
    innermost = deadline;
}

void deadline_end(const struct deadline *deadline)
{
    innermost = deadline->outer;
}

/* The wait the frame is in: its wrapper's frame lies above the interrupted stack pointer, and is whole. */
static struct deadline *current(const ucontext_t *frame)
{
    struct deadline *deadline = innermost;
    uint64_t seal;

    /* it may be on a stack that is mapped no more, when a longjmp has left the wrapper */
    if (!deadline || (uint64_t)deadline <= (uint64_t)frame->uc_mcontext.gregs[REG_RSP] ||
        !resume_fetch((uint64_t)&deadline->seal, &seal, sizeof seal) || seal != (SEAL ^ (uint64_t)deadline))
        return NULL;
    return deadline;
}

void deadline_apply(ucontext_t *frame, int number)
{
    struct deadline *deadline = current(frame);
    greg_t *registers = frame->uc_mcontext.gregs;
    int64_t left;

    if (!deadline)
        return;
    left = deadline->at - now();
    if (left < 0)
        left = 0;
    deadline->left = (struct timespec){ .tv_sec = left / 1000000000, .tv_nsec = left % 1000000000 };
    switch (number) {
    case SYS_nanosleep:
        registers[REG_RDI] = (greg_t)&deadline->left;
        break;
    case SYS_clock_nanosleep:
        if (!(registers[REG_RSI] & TIMER_ABSTIME))
            registers[REG_RDX] = (greg_t)&deadline->left;
        break;
    case SYS_poll:
        if ((int32_t)registers[REG_RDX] > 0)
            registers[REG_RDX] = (left + 999999) / 1000000;
        break;
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
        if ((int32_t)registers[REG_R10] > 0)
            registers[REG_R10] = (left + 999999) / 1000000;
        break;
    case SYS_rt_sigtimedwait:
        if (registers[REG_RDX])
            registers[REG_RDX] = (greg_t)&deadline->left;
        break;
    case SYS_semtimedop:
    case 441: /* epoll_pwait2 */
        if (registers[REG_R10])
            registers[REG_R10] = (greg_t)&deadline->left;
        break;
    default:
        break;
    }
}
