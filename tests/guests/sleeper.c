/* SPDX-License-Identifier: MIT */
/* sleeper SECONDS: sleeps and timed waits of every sort in loops, a thread for each. None may be cut short with EINTR,
 * none may end before its time, and none may be prolonged by stops: each ends at its first deadline (+ SLACK). */
#include "guest.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/select.h>

enum { SHORT_MS = 30, LONG_MS = 2500 };
static const double SLACK = 2.0;

static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile int stop;

static struct timespec milliseconds(long count)
{
    return (struct timespec){ count / 1000, count % 1000 * 1000000L };
}

static struct timespec deadline(clockid_t clock, long count)
{
    struct timespec time;

    clock_gettime(clock, &time);
    time.tv_sec += count / 1000;
    time.tv_nsec += count % 1000 * 1000000L;
    if (time.tv_nsec >= 1000000000L) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000L;
    }
    return time;
}

/* Each returns 0 when it ended as it should, else an error number. */
static int with_nanosleep(long count)
{
    struct timespec time = milliseconds(count);

    return nanosleep(&time, NULL) ? errno : 0;
}

static int with_usleep(long count)
{
    return usleep((useconds_t)count * 1000) ? errno : 0;
}

static int with_relative_clock(long count)
{
    struct timespec time = milliseconds(count);

    return clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

static int with_absolute_clock(long count)
{
    struct timespec time = deadline(CLOCK_MONOTONIC, count);

    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static int with_poll(long count)
{
    return poll(NULL, 0, (int)count) ? errno : 0;
}

static int with_ppoll(long count)
{
    struct timespec time = milliseconds(count);

    return ppoll(NULL, 0, &time, NULL) ? errno : 0;
}

static int with_select(long count)
{
    struct timeval time = { count / 1000, count % 1000 * 1000 };

    return select(0, NULL, NULL, NULL, &time) ? errno : 0;
}

static int with_semaphore(long count)
{
    struct timespec time = deadline(CLOCK_REALTIME, count);

    return sem_timedwait(&semaphore, &time) == -1 && errno == ETIMEDOUT ? 0 : errno;
}

static int with_condition(long count)
{
    struct timespec time = deadline(CLOCK_REALTIME, count);
    int error;

    pthread_mutex_lock(&mutex);
    error = pthread_cond_timedwait(&condition, &mutex, &time);
    pthread_mutex_unlock(&mutex);
    return error == ETIMEDOUT ? 0 : error ? error : EAGAIN;
}

static int with_signal_wait(long count)
{
    struct timespec time = milliseconds(count);
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 7);
    return sigtimedwait(&set, NULL, &time) == -1 && errno == EAGAIN ? 0 : errno;
}

static const struct way {
    const char *name;
    int (*sleep)(long milliseconds);
    int real_time; /* measured by the wall clock: may end early after a restart, which is right */
} ways[] = {
    { "nanosleep", with_nanosleep, 0 },
    { "usleep", with_usleep, 0 },
    { "clock_nanosleep", with_relative_clock, 0 },
    { "clock_nanosleep TIMER_ABSTIME", with_absolute_clock, 0 },
    { "poll", with_poll, 0 },
    { "ppoll", with_ppoll, 0 },
    { "select", with_select, 0 },
    { "sem_timedwait", with_semaphore, 1 },
    { "pthread_cond_timedwait", with_condition, 1 },
    { "sigtimedwait", with_signal_wait, 0 },
};

enum { WAYS = sizeof ways / sizeof ways[0] };

static void sleep_once(const struct way *way, long count)
{
    double start = seconds_now(), took, wanted = (double)count / 1000;
    int error = way->sleep(count);

    took = seconds_now() - start;
    if (error)
        bad("%s of %ld ms: %s", way->name, count, strerror(error));
    if (took > wanted + SLACK || (took < wanted - 0.002 && !way->real_time))
        bad("%s of %ld ms took %.3f s", way->name, count, took);
}

static void *many_short(void *way)
{
    while (!stop)
        sleep_once(way, SHORT_MS);
    return NULL;
}

static void *some_long(void *way)
{
    while (!stop)
        sleep_once(way, LONG_MS);
    return NULL;
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 1, 5);
    pthread_t threads[2 * WAYS];
    sigset_t set;

    sem_init(&semaphore, 0, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 7);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < WAYS; i++)
        if (pthread_create(&threads[i], NULL, many_short, (void *)&ways[i]) ||
            pthread_create(&threads[WAYS + i], NULL, some_long, (void *)&ways[i]))
            bad("pthread_create");
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    stop = 1;
    for (int i = 0; i < 2 * WAYS; i++)
        pthread_join(threads[i], NULL);
    printf("OK sleeper\n");
    return 0;
}
