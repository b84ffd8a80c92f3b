/* SPDX-License-Identifier: MIT */
/* timers WHAT: timers that run while it is held. Expirations are counted with their overruns, and there must be as many
 * as fit into the time that the timer's own clock says; ids, values and what is left must be those of the beginning.
 *
 *   posix     timers of every clock and way to notify, with holes between their ids; one on the clock of a thread
 *   interval  setitimer() with all three
 *   alarm SECONDS   one alarm() near the end, and a blocked SIGALRM of a repeating timer from the start (sleeping in between) */
#include "guest.h"

#include <pthread.h>
#include <sys/time.h>

enum { MANY = 9, FIRST = 40 /* signal */, MS = 1000000 };

struct one {
    clockid_t clock;
    int notify;             /* SIGEV_ */
    long interval;          /* ns */
    timer_t timer;
    double start[2];        /* before and behind its setting */
    volatile long count;
};

static struct one timers[MANY];
static pthread_t worker;
static volatile int worker_tid, stop;

static void on_timer(int number, siginfo_t *info, void *context)
{
    struct one *one = info->si_value.sival_ptr;

    (void)context;
    if (info->si_code != SI_TIMER || one < timers || one >= timers + MANY || number != FIRST + (int)(one - timers))
        bad("signal %d: code %d, value %p", number, info->si_code, info->si_value.sival_ptr);
    if (one->notify == SIGEV_THREAD_ID && kernel_tid() != worker_tid)
        bad("signal %d came to another thread", number);
    one->count += 1 + info->si_overrun;
}

static void on_thread(union sigval value) /* counted one by one: the overrun goes to the helper thread, not to us */
{
    struct one *one = value.sival_ptr;
    one->count++;
}

static void *work(void *argument)
{
    volatile unsigned long x = 0;

    (void)argument;
    worker_tid = kernel_tid();
    while (!stop)
        for (int i = 0; i < 1000; i++)
            x++;
    return NULL;
}

static void set(struct one *one)
{
    struct itimerspec every = { { 0, one->interval }, { 0, one->interval } };

    if (one->clock == CLOCK_REALTIME)
        one->clock = CLOCK_MONOTONIC; /* it is set for a time from now, so a wall clock that jumps does not count */
    one->start[0] = seconds_of(one->clock);
    if (timer_settime(one->timer, 0, &every, NULL))
        bad("timer_settime: %s", strerror(errno));
    one->start[1] = seconds_of(one->clock);
}

static void create(struct one *one, clockid_t clock, int notify, long interval)
{
    struct sigevent event = { .sigev_notify = notify, .sigev_signo = FIRST + (int)(one - timers) };
    timer_t hole;

    *one = (struct one){ .clock = clock, .notify = notify, .interval = interval };
    event.sigev_value.sival_ptr = one;
    if (notify == SIGEV_THREAD)
        event.sigev_notify_function = on_thread;
    if (notify == SIGEV_THREAD_ID)
        event._sigev_un._tid = worker_tid;
    if (timer_create(CLOCK_MONOTONIC, NULL, &hole) || timer_create(clock, &event, &one->timer) || timer_delete(hole))
        bad("timer_create on clock %d: %s", (int)clock, strerror(errno));
    set(one);
}

/* Expirations counted, and those that there must have been: one may just be on its way, and on a busy machine the clock of
 * CPU time is looked at by the kernel at its ticks. */
static void check_count(struct one *one, double slack)
{
    double interval = (double)one->interval * 1e-9, least = (seconds_of(one->clock) - one->start[1]) / interval;
    long count = one->count;
    double most = (seconds_of(one->clock) - one->start[0]) / interval;

    if ((double)count > most + 1 || (one->notify != SIGEV_THREAD && (double)count < least - 1 - slack))
        bad("timer %d: %ld expirations, not %.2f", (int)(one - timers), count, least);
}

/* It is not told of, but what is left always ends a whole number of intervals after the start; 5 ms for a tick. */
static void check_none(struct one *one)
{
    double interval = (double)one->interval * 1e-9, least = seconds_of(one->clock) - one->start[1] - 0.005, most;
    struct itimerspec left;

    if (timer_gettime(one->timer, &left) || left.it_interval.tv_nsec != one->interval)
        bad("timer %d: its interval", (int)(one - timers));
    most = seconds_of(one->clock) - one->start[0] + 0.005;
    double to = (double)left.it_value.tv_nsec * 1e-9;
    if (to > interval + 0.005 || (double)(long)((most + to) / interval) * interval < least + to)
        bad("timer %d: %.4f s are left, %.4f to %.4f after its start", (int)(one - timers), to, least, most);
}

/* Of 1000 seconds once; its id is that of the kernel, for it was made without libc. */
static int raw_id = -1;
static double raw_start;

static void create_raw(void)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    struct itimerspec once = { { 0, 0 }, { 1000, 0 } };

    if (syscall(SYS_timer_create, CLOCK_REALTIME, &event, &raw_id) || syscall(SYS_timer_settime, raw_id, 0, &once, NULL))
        bad("raw timer: %s", strerror(errno));
    raw_start = seconds_now();
}

static void check_raw(void)
{
    struct itimerspec left;

    if (syscall(SYS_timer_gettime, raw_id, &left) || syscall(SYS_timer_gettime, raw_id + 1000, &left) != -1)
        bad("timer ids");
    double gone = seconds_now() - raw_start, to = (double)left.it_value.tv_sec + (double)left.it_value.tv_nsec * 1e-9;
    if (left.it_interval.tv_sec || to + gone > 1000.05 || to + gone < 999)
        bad("raw timer: %.3f s left after %.3f", to, gone);
}

static void run_posix(void)
{
    struct sigaction action = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigset_t set_of_all;
    clockid_t of_worker;

    for (int i = 0; i < MANY; i++)
        sigaction(FIRST + i, &action, NULL);
    sigfillset(&set_of_all);
    pthread_create(&worker, NULL, work, NULL);
    while (!worker_tid)
        tick_sleep();
    pthread_getcpuclockid(worker, &of_worker);
    create(&timers[0], CLOCK_MONOTONIC, SIGEV_SIGNAL, 7 * MS);
    create(&timers[1], CLOCK_REALTIME, SIGEV_SIGNAL, 11 * MS);
    create(&timers[2], CLOCK_BOOTTIME, SIGEV_NONE, 700 * MS);
    create(&timers[3], CLOCK_MONOTONIC, SIGEV_THREAD, 50 * MS);
    create(&timers[4], CLOCK_MONOTONIC, SIGEV_THREAD_ID, 13 * MS);
    create(&timers[5], CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 20 * MS);
    create(&timers[6], of_worker, SIGEV_SIGNAL, 30 * MS);
    create(&timers[7], CLOCK_THREAD_CPUTIME_ID, SIGEV_NONE, 900 * MS);
    create(&timers[8], CLOCK_MONOTONIC, SIGEV_SIGNAL, 1 * MS);
    create_raw();
    ready();
    while (is_held()) {
        for (int i = 0; i < MANY; i++)
            if (timers[i].notify == SIGEV_NONE)
                check_none(&timers[i]);
        check_raw();
        tick_sleep();
    }
    sigprocmask(SIG_BLOCK, &set_of_all, NULL);
    for (int i = 0; i < MANY; i++)
        if (timers[i].notify != SIGEV_NONE && timers[i].notify != SIGEV_THREAD_ID)
            check_count(&timers[i], timers[i].interval == 1 * MS ? 50 : i == 1 ? 3 : 2);
    if (!timers[3].count || !timers[4].count)
        bad("no expirations in threads");
    stop = 1;
    pthread_join(worker, NULL);
}

static volatile sig_atomic_t alarms[3];

static void on_alarm(int number)
{
    alarms[number == SIGALRM ? ITIMER_REAL : number == SIGVTALRM ? ITIMER_VIRTUAL : ITIMER_PROF]++;
}

static void run_interval(void)
{
    struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    struct itimerval every = { { 0, 20000 }, { 0, 20000 } }, now;
    volatile unsigned long x = 0;
    long seen[3] = { 0 };
    int quiet[3] = { 0 };
    /* linux/posix-timers.h: of the process itself, the time in the program, and that with the time in the kernel */
    const clockid_t clocks[3] = { CLOCK_MONOTONIC, (clockid_t)(~0U << 3 | 1), (clockid_t)(~0U << 3) };
    double start[3];

    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGVTALRM, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    for (int i = 0; i < 3; i++)
        setitimer((__itimer_which_t)i, &every, NULL);
    for (int i = 0; i < 3; i++)
        start[i] = seconds_of(clocks[i]);
    ready();
    while (is_held()) {
        double until = seconds_of(CLOCK_PROCESS_CPUTIME_ID) + 0.5; /* of work: each has expired many times by then */
        while (seconds_of(CLOCK_PROCESS_CPUTIME_ID) < until)
            x++;
        for (int i = 0; i < 3; i++) {
            if (getitimer((__itimer_which_t)i, &now) || now.it_interval.tv_usec != 20000 || now.it_value.tv_sec ||
                now.it_value.tv_usec > 24000)
                bad("interval timer %d: every %ld us, %ld.%06ld left", i, now.it_interval.tv_usec, now.it_value.tv_sec, now.it_value.tv_usec);
            quiet[i] = alarms[i] > seen[i] ? 0 : quiet[i] + 1;
            if (quiet[i] > (i == ITIMER_VIRTUAL ? 20 : 1)) /* most of this loop's time is the kernel's */
                bad("interval timer %d is silent", i);
            seen[i] = alarms[i];
        }
    }
    for (int i = 0; i < 3; i++) {
        double due = (seconds_of(clocks[i]) - start[i]) / 0.02;
        if ((double)alarms[i] > due + 1)
            bad("interval timer %d: %d expirations, not %.2f", i, (int)alarms[i], due);
    }
}

/* SIGALRM is blocked and waits, its timer stands still until it is taken; and then goes on. Then an alarm. */
static void run_alarm(unsigned seconds)
{
    struct itimerval every = { { 0, 5000 }, { 0, 5000 } };
    struct timespec long_time = { 60, 0 }, none = { 0, 0 };
    sigset_t set_of_alarm;

    sigemptyset(&set_of_alarm);
    sigaddset(&set_of_alarm, SIGALRM);
    sigprocmask(SIG_BLOCK, &set_of_alarm, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    usleep(50000);
    ready();
    while (is_held())
        tick_sleep();
    for (int i = 0; i < 10; i++) /* the first has waited all the time */
        if (sigtimedwait(&set_of_alarm, NULL, &long_time) != SIGALRM)
            bad("alarm %d of the repeating timer is lost", i);
    double start = seconds_now();
    alarm(seconds);
    sigtimedwait(&set_of_alarm, NULL, &none); /* the last one of the repeating timer */
    unlink(getenv("GUEST_READY"));
    ready();
    if (sigtimedwait(&set_of_alarm, NULL, &long_time) != SIGALRM)
        bad("the alarm is lost");
    if (seconds_now() - start < seconds - 0.02 || seconds_now() - start > seconds + 30)
        bad("the alarm came after %.3f s", seconds_now() - start);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "posix";

    if (!strcmp(what, "posix"))
        run_posix();
    else if (!strcmp(what, "interval"))
        run_interval();
    else
        run_alarm(argc > 2 ? (unsigned)atoi(argv[2]) : 3);
    printf("OK timers %s\n", what);
    return 0;
}
