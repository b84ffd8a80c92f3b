/* SPDX-License-Identifier: MIT */
/* cputime: works while it is held, and reads every clock of CPU time again and again: none may run backwards, nor faster than its
 * threads can have worked in the time that the monotonic clock says. Absolute times on such clocks must hold. */
#include "guest.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/times.h>

enum { CLOCKS = 13 };

static volatile int stop;
static pthread_t worker;
static clockid_t of_worker, of_process;
static volatile sig_atomic_t expired;

static double of_time(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec * 1e-6;
}

static void read_all(double now[CLOCKS])
{
    struct rusage own, thread, children;
    struct tms all;
    clock_t elapsed = times(&all);

    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_THREAD, &thread);
    getrusage(RUSAGE_CHILDREN, &children);
    now[0] = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    now[1] = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    now[2] = seconds_of(of_worker);
    now[3] = seconds_of(of_process);
    now[4] = (double)clock() / CLOCKS_PER_SEC;
    now[5] = (double)(all.tms_utime + all.tms_stime) / (double)sysconf(_SC_CLK_TCK);
    now[6] = (double)elapsed / (double)sysconf(_SC_CLK_TCK);
    now[7] = of_time(&own.ru_utime);
    now[8] = of_time(&own.ru_stime);
    now[9] = of_time(&thread.ru_utime) + of_time(&thread.ru_stime);
    now[10] = of_time(&children.ru_utime) + of_time(&children.ru_stime);
    now[11] = (double)own.ru_nivcsw * 1e-9; /* counts: only that they do not go back */
    now[12] = (double)thread.ru_minflt * 1e-9;
}

static void *work(void *argument)
{
    volatile unsigned long x = 0;

    while (!stop)
        for (int i = 0; i < 10000; i++)
            x++;
    return argument;
}

static void on_timer(int number)
{
    (void)number;
    expired = 1;
}

/* A third from now of what the process does in a second: on a timer, and asleep until then. */
static timer_t at;
static double at_time;

static void set_absolute(void)
{
    struct itimerspec value = { 0 };

    at_time = seconds_of(CLOCK_PROCESS_CPUTIME_ID) + 0.3;
    value.it_value.tv_sec = (time_t)at_time;
    value.it_value.tv_nsec = (long)((at_time - (double)value.it_value.tv_sec) * 1e9);
    expired = 0;
    if (timer_settime(at, TIMER_ABSTIME, &value, NULL))
        bad("timer_settime: %s", strerror(errno));
}

static void check_absolute(void)
{
    double now = seconds_of(CLOCK_PROCESS_CPUTIME_ID);

    if (expired && now < at_time)
        bad("a timer at %.4f of CPU time has expired at %.4f", at_time, now);
    if (!expired && now > at_time + 1)
        bad("a timer at %.4f of CPU time has not expired at %.4f", at_time, now);
    if (expired)
        set_absolute();
}

static void sleep_on_cpu_time(void)
{
    double until = seconds_of(CLOCK_PROCESS_CPUTIME_ID) + 0.05;
    struct timespec time = { (time_t)until, (long)((until - (double)(time_t)until) * 1e9) };
    int error;

    while ((error = clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &time, NULL)) == EINTR)
        ;
    if (error || seconds_of(CLOCK_PROCESS_CPUTIME_ID) < until - 1e-6)
        bad("slept until %.4f of CPU time, not %.4f: %s", seconds_of(CLOCK_PROCESS_CPUTIME_ID), until, strerror(error));
}

int main(void)
{
    double then_at, begin, now_at; /* then_at: before the last reading, now_at: behind this one */
    struct sigaction action = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    double then[CLOCKS], now[CLOCKS];
    volatile unsigned long x = 0;

    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&worker, NULL, work, NULL);
    pthread_getcpuclockid(worker, &of_worker);
    clock_getcpuclockid(getpid(), &of_process);
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &at))
        bad("timer_create: %s", strerror(errno));
    while (seconds_of(CLOCK_PROCESS_CPUTIME_ID) < 0.5) /* the restart itself needs less: a clock that begins anew shows */
        x++;
    set_absolute();
    then_at = seconds_now();
    read_all(then);
    ready();
    for (int round = 0; is_held(); round++) {
        for (int i = 0; i < 20000; i++)
            x++;
        begin = seconds_now();
        read_all(now);
        now_at = seconds_now();
        for (int i = 0; i < CLOCKS; i++) {
            if (now[i] < then[i])
                bad("clock %d has gone back from %.6f to %.6f", i, then[i], now[i]);
            if (now[i] - then[i] > 2 * (now_at - then_at) + 0.1)
                bad("clock %d has gone from %.6f to %.6f in %.6f s", i, then[i], now[i], now_at - then_at);
            then[i] = now[i];
        }
        then_at = begin;
        check_absolute();
        if (round % 500 == 0)
            sleep_on_cpu_time();
    }
    stop = 1;
    pthread_join(worker, NULL);
    printf("OK cputime\n");
    return 0;
}
