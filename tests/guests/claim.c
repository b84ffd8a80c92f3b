/* SPDX-License-Identifier: MIT */
/* claim, while it is held: threads in calls that a signal ends (read, nanosleep, poll), and handlers without SA_RESTART for SIGUSR1
 * and a real-time signal, sent to the process by others: EINTR may come only in the thread whose handler has run. */
#include "guest.h"

#include <poll.h>
#include <pthread.h>

enum { THREADS = 9 };

static __thread volatile unsigned long handled; /* in this thread */
static int ends[2];
static volatile int stop;
static unsigned long total, interrupted;

static void on_signal(int number)
{
    (void)number;
    handled++;
    __atomic_fetch_add(&total, 1, __ATOMIC_SEQ_CST);
}

static int call(long which)
{
    struct pollfd ready_to_read = { .fd = ends[0], .events = POLLIN };
    struct timespec time = { 100, 0 };
    char byte;

    if (which == 0)
        return (int)read(ends[0], &byte, 1);
    return which == 1 ? nanosleep(&time, NULL) : poll(&ready_to_read, 1, 100000);
}

static void *thread_main(void *argument)
{
    long which = (long)argument % 3;

    while (!stop) {
        unsigned long before = handled;
        int result = call(which);
        if (stop)
            break;
        if (result != -1 || errno != EINTR)
            bad("call %ld gave %d, %s", which, result, strerror(errno));
        if (handled == before)
            bad("call %ld was interrupted by a signal that another thread has taken", which);
        __atomic_fetch_add(&interrupted, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    pthread_t threads[THREADS];
    sigset_t set;

    sigaction(SIGUSR1, &action, NULL);
    sigaction(40, &action, NULL);
    if (pipe(ends))
        bad("pipe: %s", strerror(errno));
    for (long id = 0; id < THREADS; id++)
        pthread_create(&threads[id], NULL, thread_main, (void *)id);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, 40);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* the main thread is not to take them all */
    ready();
    while (is_held())
        tick_sleep();
    stop = 1;
    printf("OK claim%s\n", total && interrupted ? "" : " (no signal came)");
    return 0;
}
