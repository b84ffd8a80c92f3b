/* SPDX-License-Identifier: MIT */
/* The program's timers: what they stand at, and making them again after a restart. Island: no libc. */
#include <errno.h>
#include <linux/prctl.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

enum { NANOSECONDS = 1000000000, RESTORE_IDS = 77 /* PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15 */ };

static int64_t nanoseconds(const struct timespec *time)
{
    return time->tv_sec > INT64_MAX / NANOSECONDS - 1 ? INT64_MAX : time->tv_sec * (int64_t)NANOSECONDS + time->tv_nsec;
}

static struct itimerspec read_timer(struct agent_timer *timer)
{
    struct itimerspec stands = { 0 };
    struct itimerval now = { 0 };

    if (!timer->interval_timer) {
        SYS_CALL(timer_gettime, timer->id, &stands, 0, 0, 0, 0);
        timer->overrun = (uint32_t)SYS_CALL(timer_getoverrun, timer->id, 0, 0, 0, 0, 0);
        return stands;
    }
    SYS_CALL(getitimer, timer->interval_timer - 1, &now, 0, 0, 0, 0);
    return (struct itimerspec){ { now.it_interval.tv_sec, now.it_interval.tv_usec * 1000 },
                                { now.it_value.tv_sec, now.it_value.tv_usec * 1000 } };
}

/* What is left counts from the moment of the reading: again, when we were not let run between that and the clock. */
static void note(struct agent_timer *timer)
{
    enum { TRIES = 10, QUICK = 100000 /* nanoseconds */ };
    struct itimerspec stands;
    int64_t left, before, now;
    int tries = 0;

    do {
        before = sys_clock(CLOCK_MONOTONIC);
        stands = read_timer(timer);
        now = sys_clock(CLOCK_MONOTONIC);
    } while (now - before > QUICK && ++tries < TRIES);
    left = nanoseconds(&stands.it_value);
    timer->interval = (uint64_t)nanoseconds(&stands.it_interval);
    timer->armed = left > 0;
    timer->due = left;
    if (timer_is_of_the_wall(timer))
        timer->due = left > INT64_MAX - now ? INT64_MAX : left + now;
}

void timers_note(struct agent_page *page)
{
    for (uint32_t i = 0; i < page->timer_count; i++)
        note(&page->timers[i]);
}

/* Taking a timer's signal out of the queue has started it again, and it may have expired since it was noted: what it stands
 * at now goes with the signal that is kept. */
void timers_note_signal(struct agent_page *page, const siginfo_t *info)
{
    static const int signals[INTERVAL_TIMERS] = { SIGALRM, SIGVTALRM, SIGPROF };

    for (uint32_t i = 0; i < page->timer_count; i++) {
        struct agent_timer *timer = &page->timers[i];
        if (timer->interval_timer ? info->si_signo == signals[timer->interval_timer - 1]
                                  : info->si_code == SI_TIMER && info->si_timerid == timer->id)
            note(timer);
    }
}

void timers_note_overrun(struct agent_page *page, const siginfo_t *info)
{
    for (uint32_t i = 0; i < page->timer_count; i++)
        if (!page->timers[i].interval_timer && page->timers[i].id == info->si_timerid)
            page->timers[i].overrun = (uint32_t)info->si_overrun;
}

static long create(const struct agent_timer *timer, int32_t *ret_id)
{
    struct sigevent event = { .sigev_notify = (int)timer->notify, .sigev_signo = (int)timer->signal };

    event.sigev_value.sival_ptr = (void *)timer->value;
    if (timer->target) {
        event.sigev_notify |= SIGEV_THREAD_ID;
        event._sigev_un._tid = (int)timer->target;
    }
    return SYS_CALL(timer_create, timer->clock, &event, ret_id, 0, 0, 0);
}

/* Before Linux 6.15 ids are counted up from 0 in each process: those that are not wanted are made and deleted. */
static long create_with_id(const struct agent_timer *timer, int by_request)
{
    int32_t id;
    long error;

    do {
        id = timer->id;
        error = create(timer, &id);
        if (!error && id != timer->id)
            SYS_CALL(timer_delete, id, 0, 0, 0, 0, 0);
    } while (!error && !by_request && id < timer->id);
    return error ? error : id == timer->id ? 0 : -EEXIST;
}

static struct timespec time_of(int64_t nanoseconds)
{
    return (struct timespec){ nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS };
}

/* timer_getoverrun() tells how many expirations the last signal stood for. So the timer is started at a time in the past, at
 * which as many fit, and that signal is taken. What has expired since is not taken with it. Returns 0 when this cannot be
 * had: on a clock that is younger, or when the signal goes to another thread. */
static int arm_with_overrun(const struct agent_timer *timer, int64_t start)
{
    struct itimerspec value = { time_of((int64_t)timer->interval), { 0 } };
    struct timespec wait = { .tv_sec = 1 };
    uint64_t set = SYS_SIGNAL_BIT(timer->signal);
    siginfo_t info = { 0 };
    int64_t span;

    if (!timer->overrun || !timer->interval || timer->notify == SIGEV_NONE ||
        (timer->target && timer->target != (uint32_t)sys_gettid()) ||
        __builtin_mul_overflow((int64_t)timer->interval, (int64_t)timer->overrun + 1, &span) || span >= start)
        return 0;
    value.it_value = time_of(start - span);
    if (SYS_CALL(timer_settime, timer->id, TIMER_ABSTIME, &value, 0, 0, 0))
        return 0;
    while (SYS_CALL(rt_sigtimedwait, &set, &info, &wait, SYS_SIGSET_BYTES, 0, 0) == (long)timer->signal) {
        int is_timer = info.si_code == SI_TIMER && info.si_timerid == timer->id;
        info.si_overrun -= is_timer ? (int)timer->overrun + 1 : 0;
        if (!is_timer || info.si_overrun >= 0)
            waiting_put(timer->target, &info); /* somebody was quick to send us that very signal */
        if (is_timer)
            break;
    }
    return 1;
}

/* At an absolute time, so that one that is past by now has its overruns. */
static long arm_of_the_wall(const struct agent_timer *timer, int64_t left)
{
    int64_t start = timer->clock == CLOCK_MONOTONIC ? timer->due : sys_clock(timer->clock) + left;
    struct itimerspec value = { time_of((int64_t)timer->interval), time_of(start > 0 ? start : 1) };

    if (arm_with_overrun(timer, start))
        return 0;
    return SYS_CALL(timer_settime, timer->id, TIMER_ABSTIME, &value, 0, 0, 0);
}

/* A timer on the wall clock that was set for a time from now does not follow when that clock is set: no absolute times there. */
static int is_steady(int clock)
{
    return clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME;
}

static long arm(const struct agent_timer *timer)
{
    int64_t left = timer->due;
    struct itimerspec value = { .it_interval = time_of((int64_t)timer->interval) };

    if (!timer->armed)
        return 0;
    if (timer_is_of_the_wall(timer))
        left -= sys_clock(CLOCK_MONOTONIC);
    if (timer_is_of_the_wall(timer) && !timer->interval_timer && (left < 1 || is_steady(timer->clock)))
        return arm_of_the_wall(timer, left);
    if (left < 1)
        left = 1;
    if (timer->interval_timer) {
        int64_t microseconds = left / 1000 + !!(left % 1000);
        struct itimerval interval = {
            { value.it_interval.tv_sec, value.it_interval.tv_nsec / 1000 },
            { microseconds / 1000000, microseconds % 1000000 },
        };
        return SYS_CALL(setitimer, timer->interval_timer - 1, &interval, 0, 0, 0, 0);
    }
    value.it_value = time_of(left);
    return SYS_CALL(timer_settime, timer->id, 0, &value, 0, 0, 0);
}

/* In the main thread, when all threads are there and block all signals, and nothing waits yet. */
void timers_make(const struct restart_note *note)
{
    const struct agent_timer *timers = (const struct agent_timer *)note->timers;

    if (note->ids_by_request)
        sys_prctl(RESTORE_IDS, 1, 0, 0, 0);
    for (uint64_t i = 0; i < note->timer_count; i++) {
        long error = timers[i].interval_timer ? 0 : create_with_id(&timers[i], (int)note->ids_by_request);
        if (error)
            resume_die("a timer cannot be made", error);
    }
    if (note->ids_by_request)
        sys_prctl(RESTORE_IDS, 0, 0, 0, 0);
    for (uint64_t i = 0; i < note->timer_count; i++) {
        long error = arm(&timers[i]);
        if (error)
            resume_die("a timer cannot be set", error);
    }
}
