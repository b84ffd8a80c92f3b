/* SPDX-License-Identifier: MIT */
/* Island: no libc; the one thread-local pointer is ours, at a fixed place from the thread pointer (initial-exec). */
#include "deadline.h"

#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "../../core/floor/arch/x86_64/raw_call.h"
#include "../../core/floor/syscalls.h"
#include "shim.h"

#define SEAL UINT64_C(0x5ea1edbada551575)

enum {
    CALL_IO_PGETEVENTS = 333, /* younger than the oldest headers we are built with */
    CALL_EPOLL_PWAIT2 = 441,
    NEAR_BYTES = 2048,        /* of stack between a wrapper and its system call, at most */
};

static __thread struct deadline *innermost __attribute__((tls_model("initial-exec")));

static int64_t now(void)
{
    return sys_clock(CLOCK_MONOTONIC);
}

int64_t deadline_nanoseconds(const struct timespec *time)
{
    if (time->tv_sec < 0 || time->tv_nsec < 0)
        return 0;
    return time->tv_sec > INT64_C(9000000000) ? INT64_MAX : time->tv_sec * INT64_C(1000000000) + time->tv_nsec;
}

int64_t deadline_of_timeval(const struct timeval *time)
{
    struct timespec same = { .tv_sec = time->tv_sec, .tv_nsec = time->tv_usec * 1000 };
    return time->tv_usec > 999999 ? 0 : deadline_nanoseconds(&same);
}

int deadline_keeps(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME || clock == CLOCK_TAI;
}

const uint8_t raw_call_timed[RAW_CALL_TIMED] = {
    [SYS_nanosleep] = 1, [SYS_clock_nanosleep] = 3, [SYS_rt_sigtimedwait] = 3, [SYS_ppoll] = 3, [SYS_poll] = 3,
    [SYS_futex] = 4, [SYS_semtimedop] = 4, [SYS_epoll_wait] = 4, [SYS_epoll_pwait] = 4, [CALL_EPOLL_PWAIT2] = 4,
    [SYS_signalfd] = RAW_CALL_MASKED, [SYS_signalfd4] = RAW_CALL_MASKED, [SYS_select] = 5, [SYS_pselect6] = 5, [SYS_io_getevents] = 5, [CALL_IO_PGETEVENTS] = 5,
};

static int is_relative(long number, const long arguments[6])
{
    if (number == SYS_futex)
        return ((int)arguments[1] & FUTEX_CMD_MASK) == FUTEX_WAIT;
    return number != SYS_clock_nanosleep || (!(arguments[1] & TIMER_ABSTIME) && deadline_keeps((clockid_t)arguments[0]));
}

/* A pointer that leads nowhere is the kernel's to complain of. */
int64_t deadline_of_call(long number, const long arguments[6])
{
    long time = arguments[raw_call_timed[number] - 1];
    union {
        struct timespec nanoseconds;
        struct timeval microseconds;
    } there;

    if (number == SYS_poll || number == SYS_epoll_wait || number == SYS_epoll_pwait)
        return (int)time > 0 ? (int)time * INT64_C(1000000) : -1;
    if (!time || !is_relative(number, arguments) || !resume_fetch((uint64_t)time, &there, sizeof there))
        return -1;
    return number == SYS_select ? deadline_of_timeval(&there.microseconds) : deadline_nanoseconds(&there.nanoseconds);
}

void deadline_begin(struct deadline *deadline, int64_t nanoseconds)
{
    deadline_begin_socket(deadline, nanoseconds, -1, 0);
}

void deadline_begin_socket(struct deadline *deadline, int64_t nanoseconds, int socket, int option)
{
    int64_t start = now();

    deadline->socket = socket;
    deadline->option = option;
    deadline->is_shortened = 0;
    deadline->at = nanoseconds > INT64_MAX - start ? INT64_MAX : start + nanoseconds;
    deadline->outer = innermost;
    deadline->seal = SEAL ^ (uint64_t)deadline;
    innermost = deadline;
}

void deadline_end(const struct deadline *deadline)
{
    innermost = deadline->outer;
}

/* The wait the frame is in: its wrapper's frame lies just above the interrupted stack pointer, and is whole. Further away it
 * is that of a wait which a handler has interrupted, or which a longjmp has left. */
static struct deadline *current(const ucontext_t *frame)
{
    struct deadline *deadline = innermost;
    uint64_t seal, pointer = (uint64_t)frame->uc_mcontext.gregs[REG_RSP];

    /* it may be on a stack that is mapped no more, when a longjmp has left the wrapper */
    if (!deadline || (uint64_t)deadline <= pointer || (uint64_t)deadline - pointer > NEAR_BYTES ||
        !resume_fetch((uint64_t)&deadline->seal, &seal, sizeof seal) || seal != (SEAL ^ (uint64_t)deadline))
        return NULL;
    return deadline;
}

/* select and its kin: the kernel has written there what was left when we came; we write what is left now. It may not
 * be writable, which the kernel does not mind either. */
static void write_left(greg_t to, const void *left, size_t length)
{
    struct iovec here = { .iov_base = (void *)left, .iov_len = length }, there = { .iov_base = (void *)to, .iov_len = length };

    if (to)
        SYS_CALL(process_vm_writev, shim.pid, &here, 1, &there, 1, 0);
}

/* The wrapper gives the socket its time back. A time of 0 would be endless. */
static void shorten(struct deadline *deadline, const struct timeval *left)
{
    struct timeval time = { .tv_sec = left->tv_sec, .tv_usec = left->tv_sec || left->tv_usec ? left->tv_usec : 1 };

    deadline->is_shortened = !SYS_CALL(setsockopt, deadline->socket, SOL_SOCKET, deadline->option, &time, sizeof time, 0);
}

static void apply_milliseconds(greg_t *time, int64_t left)
{
    if ((int32_t)*time > 0)
        *time = (left + 999999) / 1000000;
}

static void apply_pointer(greg_t *time, struct timespec *left)
{
    if (*time)
        *time = (greg_t)left;
}

void deadline_apply(ucontext_t *frame, int number)
{
    struct deadline *deadline = current(frame);
    greg_t *registers = frame->uc_mcontext.gregs;
    struct timeval left_select;
    int64_t left;

    if (!deadline)
        return;
    left = deadline->at - now();
    if (left < 0)
        left = 0;
    deadline->left = (struct timespec){ .tv_sec = left / 1000000000, .tv_nsec = left % 1000000000 };
    left_select = (struct timeval){ .tv_sec = left / 1000000000, .tv_usec = left % 1000000000 / 1000 };
    if (deadline->option) {
        shorten(deadline, &left_select);
        return;
    }
    switch (number) {
    case SYS_nanosleep:
        apply_pointer(&registers[REG_RDI], &deadline->left);
        break;
    case SYS_clock_nanosleep:
        if (!(registers[REG_RSI] & TIMER_ABSTIME))
            apply_pointer(&registers[REG_RDX], &deadline->left);
        break;
    case SYS_rt_sigtimedwait:
        apply_pointer(&registers[REG_RDX], &deadline->left);
        break;
    case SYS_futex:
        if ((registers[REG_RSI] & FUTEX_CMD_MASK) == FUTEX_WAIT)
            apply_pointer(&registers[REG_R10], &deadline->left);
        break;
    case SYS_semtimedop:
    case CALL_EPOLL_PWAIT2:
        apply_pointer(&registers[REG_R10], &deadline->left);
        break;
    case SYS_io_getevents:
    case CALL_IO_PGETEVENTS:
        apply_pointer(&registers[REG_R8], &deadline->left);
        break;
    case SYS_poll:
        apply_milliseconds(&registers[REG_RDX], left);
        break;
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
        apply_milliseconds(&registers[REG_R10], left);
        break;
    case SYS_ppoll:
        write_left(registers[REG_RDX], &deadline->left, sizeof deadline->left);
        break;
    case SYS_pselect6:
        write_left(registers[REG_R8], &deadline->left, sizeof deadline->left);
        break;
    case SYS_select:
        write_left(registers[REG_R8], &left_select, sizeof left_select);
        break;
    default:
        break;
    }
}
