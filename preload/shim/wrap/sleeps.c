/* SPDX-License-Identifier: MIT */
/* Sleeps and timed waits whose time the kernel would start anew, or (select) count without our stops: each notes its first
 * deadline. What ends at an absolute time (sem_timedwait, pthread_cond_timedwait) needs none. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include "cpu_clocks.h"
#include "wrap.h"

#define WRAP_SLEEP(result, name, parameters, is_timed, time, arguments) \
    WRAP(result, name, parameters, NOTHING_TO_PREPARE, is_timed, time, arguments)

WRAP_SLEEP(int, nanosleep, (const struct timespec *time, struct timespec *left), time, deadline_nanoseconds(time), (time, left))
NEXT_OF(clock_nanosleep);

EXPORTED int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    struct deadline deadline;
    struct timespec kernel;
    uint32_t life;
    int got;

    if (!time || flags & TIMER_ABSTIME || !deadline_keeps(clock)) {
        if (!time || !(flags & TIMER_ABSTIME) || deadline_keeps(clock))
            return NEXT(clock_nanosleep)(clock, flags, time, left);
        do {
            life = cpu_clocks_moved;
            kernel = life ? cpu_clocks_to_kernel(clock, time) : *time;
            got = NEXT(clock_nanosleep)(clock, flags, &kernel, left);
        } while (!got && life != *(volatile uint32_t *)&cpu_clocks_moved);
        return got;
    }
    deadline_begin(&deadline, deadline_nanoseconds(time));
    got = NEXT(clock_nanosleep)(clock, flags, time, left);
    deadline_end(&deadline);
    return got;
}

WRAP_SLEEP(int, usleep, (useconds_t time), time, time * INT64_C(1000), (time))
WRAP_SLEEP(unsigned, sleep, (unsigned time), time, time * INT64_C(1000000000), (time))
WRAP_SLEEP(int, poll, (struct pollfd * fds, nfds_t count, int time), time > 0, time * INT64_C(1000000), (fds, count, time))
extern int __poll_chk(struct pollfd *fds, nfds_t count, int time, size_t size); /* what fortified programs call */
WRAP_SLEEP(int, __poll_chk, (struct pollfd * fds, nfds_t count, int time, size_t size), time > 0,
           time * INT64_C(1000000), (fds, count, time, size))
WRAP_SLEEP(int, epoll_wait, (int epoll, struct epoll_event *events, int count, int time), time > 0,
           time * INT64_C(1000000), (epoll, events, count, time))
WRAP_SLEEP(int, select, (int count, fd_set *read, fd_set *write, fd_set *except, struct timeval *time), time,
           deadline_of_timeval(time), (count, read, write, except, time))
WRAP_SLEEP(int, thrd_sleep, (const struct timespec *time, struct timespec *left), time, deadline_nanoseconds(time), (time, left))
