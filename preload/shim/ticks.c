/* SPDX-License-Identifier: MIT */
/* The interval: a raw POSIX timer in each process (timer_create(2); libc's timer_t would need its allocator). Those of the step's first
 * process take the images; when it has ended, those of another. Island: no libc. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

uint64_t interval_now(void)
{
    return (uint64_t)sys_clock(CLOCK_MONOTONIC) / 1000000;
}

/* How much later than the first process's a process has its ticks, in milliseconds: less than half an interval. Not all at once, so
 * that one takes the image, and the others see it. */
static uint64_t delay(void)
{
    enum { TURNS = 64 };
    return shim.first ? 0 : shim.interval * UINT64_C(1000) / (2 * TURNS) * (1 + shim.pid % TURNS);
}

/* Milliseconds to the first tick. A timer is gone with every exec, so the times it keeps are multiples of the interval since the run
 * began: a program that execs more often than that has images, too. */
static uint64_t first_tick(uint64_t whole)
{
    uint64_t now = interval_now();
    return whole - (now > shim.began ? (now - shim.began + whole - delay()) % whole : 0);
}

/* The tasks of a step, on whatever node, have their ticks at the same times: multiples of the interval by the wall clock, the first
 * not before one whole interval has passed. */
static uint64_t first_tick_of_task(uint64_t whole)
{
    uint64_t wall = (uint64_t)sys_clock(CLOCK_REALTIME) / 1000000, past = interval_now() - shim.began;
    uint64_t earliest = wall - delay() + (past < whole ? whole - past : 0);

    return (earliest + whole - 1) / whole * whole + delay() - wall;
}

int interval_start(void)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = STOP_SIGNAL };
    struct itimerspec every = { .it_interval.tv_sec = shim.interval };
    uint64_t whole = shim.interval * UINT64_C(1000), left;
    int32_t timer;
    long error;

    shim.attempts = NO_TICK_YET;
    if (!shim.interval)
        return 0;
    left = shim.place.tasks > 1 ? first_tick_of_task(whole) : first_tick(whole);
    left += !left; /* 0 would disarm it */
    every.it_value = (struct timespec){ .tv_sec = (time_t)(left / 1000), .tv_nsec = (long)(left % 1000) * 1000000 };
    event.sigev_value.sival_ptr = (void *)(uintptr_t)VALUE_INTERVAL;
    error = SYS_CALL(timer_create, CLOCK_MONOTONIC, &event, &timer, 0, 0, 0);
    if (error)
        return (int)error;
    return (int)SYS_CALL(timer_settime, timer, 0, &every, 0, 0, 0);
}

/* Has nobody tried to take an image since our last tick? Whoever tries asks us for a page. Without one it is the first process's affair while it
 * is there; but it is also there when it was killed and nobody waits for it, so not for longer than a tick of ours. */
static int is_our_turn(const struct agent_page *page)
{
    if (shim.first)
        return 1;
    if (!page)
        return shim.attempts != NO_TICK_YET || sys_kill((int)shim.first_pid, 0) == -ESRCH;
    return page->attempts == shim.attempts && !orders_saver_lives(page);
}

void interval_tick(void)
{
    struct agent_page *page = shim.page;
    int is_ours = is_our_turn(page);

    shim.attempts = (page ? page->attempts : 0) + (is_ours ? 1 : 0); /* with the one that begins now */
    if (is_ours)
        saver_start((struct saver_call){ 0 });
}
