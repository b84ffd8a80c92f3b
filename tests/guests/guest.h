/* SPDX-License-Identifier: MIT */
/* What every guest does: it says ready, counts ticks, checks itself, and complains. Plain libc; nothing of the product.
 *
 * A guest prints only what is the same in every run, so its output can be compared byte by byte. A tick is about 10 ms;
 * ticks are counted, not timed, so that a stop of any length changes nothing. While there is a file $GUEST_READY.hold, no
 * tick ends after the first $GUEST_FREE: a test that must find the guest alive holds it, however slow the machine is. */
#ifndef GUEST_H
#define GUEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { GUEST_PAGE = 4096, GUEST_TICKS_PER_SECOND = 100 };

/* Says what is wrong, on stdout, and ends the whole program with status 1. */
static inline void __attribute__((noreturn, format(printf, 1, 2))) bad(const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    va_start(arguments, format);
    dprintf(1, "BAD ");
    vdprintf(1, format, arguments);
    dprintf(1, "\n");
    va_end(arguments);
    _exit(1);
}

static char guest_hold[512]; /* path; "": none */
static long guest_free;      /* ticks before it counts */

/* Makes the file that the test waits for. */
static inline void ready(void)
{
    const char *name = getenv("GUEST_READY");
    int descriptor;

    if (!name || !*name)
        return;
    snprintf(guest_hold, sizeof guest_hold, "%s.hold", name);
    guest_free = getenv("GUEST_FREE") ? atol(getenv("GUEST_FREE")) : 0;
    descriptor = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0 || close(descriptor) < 0)
        bad("ready file %s: %s", name, strerror(errno));
}

/* Once it is ready: some guests go on for as long. */
static inline int is_held(void)
{
    return *guest_hold && !faccessat(AT_FDCWD, guest_hold, F_OK, 0);
}

/* Seconds of argument `index` (or `otherwise`), in ticks. */
static inline long ticks_wanted(int count, char **arguments, int index, double otherwise)
{
    double seconds = count > index ? atof(arguments[index]) : otherwise;

    return (long)(seconds * GUEST_TICKS_PER_SECOND);
}

/* Sleeps to the end of a tick, whoever interrupts. */
static inline void tick_sleep(void)
{
    do {
        struct timespec left = { 0, 1000000000L / GUEST_TICKS_PER_SECOND };
        while (nanosleep(&left, &left) < 0 && errno == EINTR)
            ;
    } while (--guest_free < 0 && is_held());
}

static inline double seconds_of(clockid_t clock)
{
    struct timespec time;

    if (clock_gettime(clock, &time))
        bad("clock %d: %s", (int)clock, strerror(errno));
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static inline double seconds_now(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

static inline char *map_of(int fd, size_t length, int protection, int flags, off_t offset)
{
    char *got = mmap(NULL, length, protection, flags, fd, offset);

    if (got == MAP_FAILED)
        bad("mmap of %zu bytes: %s", length, strerror(errno));
    return got;
}

/* A number that looks random but belongs to `x` alone. */
static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

/* The thread's id as the kernel says it now, never a cached one. */
static inline pid_t kernel_tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

#endif
