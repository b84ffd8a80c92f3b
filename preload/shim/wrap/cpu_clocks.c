/* SPDX-License-Identifier: MIT */
/* CPU time after a restart: the kernel's is that of a new process, and what it lacks is added. Before the first restart
 * each wrapper is one branch. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

#include "../../../core/floor/syscalls.h"
#include "../shim.h"
#include "cpu_clocks.h"

enum { NANOSECONDS = 1000000000 };

static struct timespec time_plus(const struct timespec *time, int64_t nanoseconds)
{
    struct timespec sum = { time->tv_sec + nanoseconds / NANOSECONDS, time->tv_nsec + nanoseconds % NANOSECONDS };

    if (sum.tv_nsec < 0)
        sum.tv_sec--, sum.tv_nsec += NANOSECONDS;
    else if (sum.tv_nsec >= NANOSECONDS)
        sum.tv_sec++, sum.tv_nsec -= NANOSECONDS;
    return sum;
}

struct timespec cpu_clocks_to_kernel(clockid_t clock, const struct timespec *time)
{
    struct timespec kernel = time_plus(time, -cpu_clocks_offset(clock));
    return kernel.tv_sec < 0 || (!kernel.tv_sec && !kernel.tv_nsec) ? (struct timespec){ 0, 1 } : kernel;
}

NEXT_OF(clock_gettime);

/* A restart in the middle changes both, the kernel's clock and what is added: then all is done again. The first
 * UNCHANGED(0) is the way of a program that was never restarted. */
#define LIFE() (*(const volatile uint32_t *)&cpu_clocks_moved)
#define UNCHANGED(life) __builtin_expect(LIFE() == (life), 1)

static __attribute__((noinline)) int rare_clock_gettime(clockid_t clock, struct timespec *time)
{
    struct timespec sum;
    uint32_t life;
    int result;

    if (clock >= 0 && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID)
        return NEXT(clock_gettime)(clock, time);
    do {
        life = LIFE();
        result = NEXT(clock_gettime)(clock, time);
        if (result || (!life && UNCHANGED(0)))
            return result;
        sum = time_plus(time, cpu_clocks_offset(clock));
    } while (!UNCHANGED(life));
    *time = sum;
    return 0;
}

/* Programs ask for the time very often: they pay for a branch and a jump. */
EXPORTED int clock_gettime(clockid_t clock, struct timespec *time)
{
    void *next = __atomic_load_n(&next_of_clock_gettime, __ATOMIC_RELAXED);

    if (__builtin_expect(clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID || !next, 0))
        return rare_clock_gettime(clock, time);
    return ((__typeof__(&clock_gettime))next)(clock, time);
}

NEXT_OF(clock);

EXPORTED clock_t clock(void)
{
    struct timespec time;
    clock_t result = LIFE() ? 0 : NEXT(clock)();

    if (UNCHANGED(0))
        return result;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time))
        return (clock_t)-1;
    return time.tv_sec * CLOCKS_PER_SEC + time.tv_nsec / (NANOSECONDS / CLOCKS_PER_SEC);
}

NEXT_OF(getrusage);

static void add_microseconds(struct timeval *time, int64_t microseconds)
{
    int64_t sum = time->tv_sec * INT64_C(1000000) + time->tv_usec + microseconds;
    *time = (struct timeval){ sum / 1000000, sum % 1000000 };
}

static void add_usage(struct rusage *usage, const int64_t *ahead)
{
    int64_t words[USAGE_WORDS - 2];

    add_microseconds(&usage->ru_utime, ahead[0]);
    add_microseconds(&usage->ru_stime, ahead[1]);
    memcpy(words, &usage->ru_maxrss, sizeof words);
    for (int i = 0; i < USAGE_WORDS - 2; i++)
        words[i] += ahead[i + 2];
    memcpy(&usage->ru_maxrss, words, sizeof words);
}

EXPORTED int getrusage(__rusage_who_t who, struct rusage *usage)
{
    struct rusage sum;
    uint32_t life;
    int result;

    do {
        life = LIFE();
        result = NEXT(getrusage)(who, usage);
        if (result || (!life && UNCHANGED(0)))
            return result;
        sum = *usage;
        add_usage(&sum, cpu_clocks_ahead(who)->usage);
    } while (!UNCHANGED(life));
    *usage = sum;
    return 0;
}

NEXT_OF(times);

static clock_t ticks(const struct timeval *time)
{
    long second = (long)getauxval(AT_CLKTCK);
    return time->tv_sec * second + time->tv_usec * second / 1000000;
}

EXPORTED clock_t times(struct tms *all)
{
    struct rusage own, children;
    clock_t result, sum;
    uint32_t life;

    do {
        life = LIFE();
        result = NEXT(times)(all);
        if (!life && UNCHANGED(0))
            return result;
        sum = result + cpu_clocks_ticks_ahead();
    } while (!UNCHANGED(life));
    if (all) {
        getrusage(RUSAGE_SELF, &own);
        getrusage(RUSAGE_CHILDREN, &children);
        *all = (struct tms){ ticks(&own.ru_utime), ticks(&own.ru_stime), ticks(&children.ru_utime), ticks(&children.ru_stime) };
    }
    return sum;
}

/* Timers on clocks of CPU time, of which the kernel does not tell enough: which thread CLOCK_THREAD_CPUTIME_ID was that of is
 * put into the clock's number, which it does tell; and which clock a timer has is kept here, for times that are absolute. */
enum { CPU_TIMERS = 256 };
static struct {
    timer_t id;      /* NO_TIMER: not yet */
    clockid_t clock; /* 0: a free place */
} cpu_timers[CPU_TIMERS];
static int cpu_timers_used NEAR_THE_SHIM;
#define NO_TIMER ((timer_t)-1)

/* A fork child has none. */
void cpu_timers_forget(void)
{
    if (!cpu_timers_used)
        return;
    memset(cpu_timers, 0, sizeof cpu_timers);
    cpu_timers_used = 0;
}

static int find_timer(timer_t id)
{
    int i = 0;
    while (i < CPU_TIMERS && (!__atomic_load_n(&cpu_timers[i].clock, __ATOMIC_ACQUIRE) || cpu_timers[i].id != id))
        i++;
    return i;
}

/* A free place, kept by the clock in it. */
static int keep_place(clockid_t clock)
{
    for (int i = 0; i < CPU_TIMERS; i++) {
        clockid_t none = 0;
        if (!__atomic_compare_exchange_n(&cpu_timers[i].clock, &none, clock, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        cpu_timers[i].id = NO_TIMER;
        cpu_timers_used = 1;
        return i;
    }
    return -1;
}

NEXT_OF(timer_create);
NEXT_OF(timer_delete);
NEXT_OF(timer_settime);

EXPORTED int timer_create(clockid_t clock, struct sigevent *event, timer_t *ret_timer)
{
    int result, place;

    if (clock == CLOCK_THREAD_CPUTIME_ID)
        clock = (clockid_t)(~(unsigned)sys_gettid() << 3 | 4 | 2);
    if (clock >= 0 && clock != CLOCK_PROCESS_CPUTIME_ID)
        return NEXT(timer_create)(clock, event, ret_timer);
    place = keep_place(clock);
    if (place < 0) {
        errno = EAGAIN;
        return -1;
    }
    result = NEXT(timer_create)(clock, event, ret_timer);
    if (result)
        __atomic_store_n(&cpu_timers[place].clock, 0, __ATOMIC_RELEASE);
    else
        cpu_timers[place].id = *ret_timer;
    return result;
}

EXPORTED int timer_delete(timer_t timer)
{
    int place = cpu_timers_used ? find_timer(timer) : CPU_TIMERS;

    if (place < CPU_TIMERS) { /* before the id may be given to another */
        cpu_timers[place].id = NO_TIMER;
        __atomic_store_n(&cpu_timers[place].clock, 0, __ATOMIC_RELEASE);
    }
    return NEXT(timer_delete)(timer);
}

EXPORTED int timer_settime(timer_t timer, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    struct itimerspec kernel;
    int place = CPU_TIMERS, result;
    uint32_t life;

    if (flags & TIMER_ABSTIME && cpu_timers_used && value && (value->it_value.tv_sec || value->it_value.tv_nsec))
        place = find_timer(timer);
    if (place == CPU_TIMERS)
        return NEXT(timer_settime)(timer, flags, value, old);
    do { /* set for another life's clock, it is set again */
        life = LIFE();
        kernel = *value;
        if (life)
            kernel.it_value = cpu_clocks_to_kernel(cpu_timers[place].clock, &value->it_value);
        result = NEXT(timer_settime)(timer, flags, &kernel, old);
    } while (!UNCHANGED(life));
    return result;
}
