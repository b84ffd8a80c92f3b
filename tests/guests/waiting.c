/* SPDX-License-Identifier: MIT */
/* waiting: signals that wait blocked while it is held, of the process and of each thread, some of one number in both; at
 * the end each must come out once, in its order, with all that its sender gave it. */
#include "guest.h"

#include <pthread.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { QUEUED = 40, BOTH = 41, TIMED = 42, THREADS = 3, COUNT = 5, INTERVAL = 10000000 };

static volatile int done;
static pthread_barrier_t stand;
static timer_t timer;
static double timer_start[2]; /* before and behind its setting */
static const struct timespec none;

static siginfo_t take(int number)
{
    siginfo_t info = { 0 };
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    if (sigtimedwait(&set, &info, &none) != number)
        bad("signal %d is lost", number);
    return info;
}

static void take_value(int number, int value)
{
    siginfo_t info = take(number);

    if (info.si_code != SI_QUEUE || info.si_value.sival_int != value || info.si_pid != getpid() || info.si_uid != getuid())
        bad("signal %d: code %d, value %d instead of %d", number, info.si_code, info.si_value.sival_int, value);
}

static void nothing_left(void)
{
    sigset_t set, left;

    sigfillset(&set);
    sigdelset(&set, SIGALRM); /* a timer's that goes on */
    sigdelset(&set, TIMED);
    sigpending(&left);
    for (int number = 1; number <= 62; number++)
        if (sigismember(&left, number) == 1 && sigismember(&set, number))
            bad("signal %d is there once more", number);
}

static void queue_own(long id)
{
    for (int i = 0; i < COUNT; i++)
        pthread_sigqueue(pthread_self(), BOTH, (union sigval){ .sival_int = (int)(100 * id + i) });
    raise(SIGWINCH);
    pthread_kill(pthread_self(), SIGTERM);
}

/* Its own come first (signal(7) leaves it open; Linux takes them first), then those of the process. */
static void take_own(long id)
{
    siginfo_t info;

    for (int i = 0; i < COUNT; i++)
        take_value(BOTH, (int)(100 * id + i));
    info = take(SIGWINCH);
    if (info.si_code != SI_USER || info.si_pid != getpid()) /* libc's sigtimedwait() makes that of SI_TKILL */
        bad("SIGWINCH: code %d", info.si_code);
    info = take(SIGTERM);
    if (info.si_code != SI_USER)
        bad("SIGTERM: code %d", info.si_code);
}

static void *thread_main(void *argument)
{
    long id = (long)argument;

    queue_own(id);
    pthread_barrier_wait(&stand);
    while (!done)
        tick_sleep();
    take_own(id);
    return NULL;
}

static void queue_all(void)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = TIMED, .sigev_value.sival_int = 77 };
    struct itimerspec every = { { 0, INTERVAL }, { 0, INTERVAL } };
    struct itimerval alarms = { { 0, 3000 }, { 0, 3000 } };

    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGTSTP);
    for (int i = 0; i < COUNT; i++) {
        sigqueue(getpid(), QUEUED, (union sigval){ .sival_int = i });
        sigqueue(getpid(), BOTH, (union sigval){ .sival_int = 1000 + i });
    }
    setitimer(ITIMER_REAL, &alarms, NULL);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_start[0] = seconds_now();
    timer_settime(timer, 0, &every, NULL);
    timer_start[1] = seconds_now();
}

/* All of the timer's expirations are in its signal or in its overrun, and in what comes at once behind. */
static void check_timer(void)
{
    long expirations = 0;
    int is_last = 0, overrun;
    double least = (seconds_now() - timer_start[1]) / (INTERVAL * 1e-9), most;
    siginfo_t info = take(TIMED);
    sigset_t set;

    if (info.si_code != SI_TIMER || info.si_value.sival_int != 77)
        bad("the timer's signal: code %d, value %d", info.si_code, info.si_value.sival_int);
    expirations = 1 + info.si_overrun;
    sigemptyset(&set);
    sigaddset(&set, TIMED);
    while (sigtimedwait(&set, &info, &none) == TIMED) {
        expirations += 1 + info.si_overrun;
        is_last = 1;
    }
    most = (seconds_now() - timer_start[0]) / (INTERVAL * 1e-9);
    if ((double)expirations > most || (double)expirations < least - 1)
        bad("the timer has expired %ld times, not %.1f to %.1f", expirations, least, most);
    overrun = timer_getoverrun(timer); /* the first signal may be two that have been joined */
    if (is_last ? overrun != info.si_overrun : overrun > info.si_overrun || (info.si_overrun > 10 && !overrun))
        bad("timer_getoverrun() says %d, the signal %d", overrun, info.si_overrun);
}

static void check_all(void)
{
    siginfo_t info = take(SIGUSR1);

    if (info.si_code != SI_USER || info.si_pid != getpid() || info.si_uid != getuid())
        bad("SIGUSR1: code %d of %d", info.si_code, (int)info.si_pid);
    take(SIGHUP);
    take(SIGTSTP);
    for (int i = 0; i < COUNT; i++)
        take_value(QUEUED, i);
    take_own(0);
    for (int i = 0; i < COUNT; i++)
        take_value(BOTH, 1000 + i);
    check_timer();
    for (int i = 0; i < 5; i++) { /* it goes on when its signal is taken */
        struct timespec most = { 60, 0 };
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGALRM);
        if (sigtimedwait(&set, &info, &most) != SIGALRM || info.si_code != SI_KERNEL)
            bad("alarm %d: code %d", i, info.si_code);
    }
    nothing_left();
}

int main(void)
{
    pthread_t threads[THREADS];
    sigset_t all, waits;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    pthread_barrier_init(&stand, NULL, THREADS + 1);
    for (long id = 1; id <= THREADS; id++)
        pthread_create(&threads[id - 1], NULL, thread_main, (void *)id);
    pthread_barrier_wait(&stand);
    queue_own(0);
    queue_all();
    ready();
    while (is_held()) {
        sigpending(&waits);
        if (!sigismember(&waits, SIGUSR1) || !sigismember(&waits, QUEUED) || sigismember(&waits, SIGINT))
            bad("what waits has changed");
        tick_sleep();
    }
    done = 1;
    for (long id = 0; id < THREADS; id++)
        pthread_join(threads[id], NULL);
    check_all();
    printf("OK waiting\n");
    return 0;
}
