/* SPDX-License-Identifier: MIT */
/* signals SECONDS: handlers, masks, the alternate stack, blocked signals that wait; SIGUSR1, SIGUSR2 and a queued
 * real-time signal sent to itself at every tick, each of which must arrive once. */
#include "guest.h"

#include <pthread.h>

enum { ALTERNATE_BYTES = 64 << 10, THREADS = 4 };

static volatile sig_atomic_t counts[3];
static volatile uint64_t sum;
static char *alternate;
static volatile int stop;

static void on_alternate(int number, siginfo_t *info, void *context)
{
    char here;

    (void)info;
    (void)context;
    if (&here < alternate || &here >= alternate + ALTERNATE_BYTES)
        bad("the handler of %d is not on the alternate stack", number);
    counts[number == SIGUSR2]++;
}

static void on_queued(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_code != SI_QUEUE || info->si_pid != getpid())
        bad("queued signal: code %d", info->si_code);
    sum += (uint64_t)info->si_value.sival_int;
    counts[2]++;
}

static void set_handler(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

    sigaddset(&action.sa_mask, SIGHUP);
    sigaddset(&action.sa_mask, SIGWINCH);
    if (sigaction(number, &action, NULL))
        bad("sigaction: %s", strerror(errno));
}

static void check_handlers(void)
{
    struct sigaction action;
    stack_t stack;

    if (sigaction(SIGUSR1, NULL, &action) || action.sa_sigaction != on_alternate ||
        (action.sa_flags & ~0x04000000) != (SA_SIGINFO | SA_ONSTACK) || !sigismember(&action.sa_mask, SIGWINCH) ||
        sigismember(&action.sa_mask, SIGTERM))
        bad("the action of SIGUSR1");
    if (sigaction(SIGUSR2, NULL, &action) || action.sa_sigaction != on_alternate)
        bad("the action of SIGUSR2");
    if (sigaction(SIGQUIT, NULL, &action) || action.sa_handler != SIG_IGN)
        bad("the action of SIGQUIT");
    if (sigaction(SIGTERM, NULL, &action) || action.sa_handler != SIG_DFL)
        bad("the action of SIGTERM");
    if (sigaltstack(NULL, &stack) || stack.ss_sp != alternate || stack.ss_size != ALTERNATE_BYTES || stack.ss_flags)
        bad("the alternate stack");
}

/* SIGHUP is blocked everywhere and was sent once, before the start. */
static void check_waiting(void)
{
    sigset_t set;

    if (sigpending(&set) || !sigismember(&set, SIGHUP) || sigismember(&set, SIGTERM))
        bad("SIGHUP does not wait any more");
    if (pthread_sigmask(SIG_SETMASK, NULL, &set) || !sigismember(&set, SIGHUP) || sigismember(&set, SIGINT))
        bad("the mask");
}

static void *thread_main(void *argument)
{
    long id = (long)argument;
    sigset_t mask, seen;
    stack_t stack = { .ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES }, now;

    sigfillset(&mask);
    sigdelset(&mask, (int)(SIGRTMIN + 10 + id));
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    sigaltstack(&stack, NULL);
    while (!stop) {
        pthread_sigmask(SIG_SETMASK, NULL, &seen);
        for (int number = 1; number <= SIGRTMAX; number++)
            if (sigismember(&seen, number) != sigismember(&mask, number))
                bad("thread %ld: signal %d in its mask", id, number);
        if (sigaltstack(NULL, &now) || now.ss_sp != stack.ss_sp || now.ss_size != stack.ss_size)
            bad("thread %ld: its alternate stack", id);
        tick_sleep();
    }
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
    free(stack.ss_sp);
    return NULL;
}

static void send_and_count(long tick)
{
    union sigval value = { .sival_int = (int)tick };

    raise(SIGUSR1);
    kill(getpid(), SIGUSR2);
    sigqueue(getpid(), SIGRTMIN + 3, value);
    for (int i = 0; i < 3; i++)
        if (counts[i] != tick + 1)
            bad("signal %d of 3 came %d times, not %ld", i + 1, (int)counts[i], tick + 1);
    if (sum != (uint64_t)tick * (uint64_t)(tick + 1) / 2)
        bad("values of the queued signals");
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 1, 5);
    struct timespec none = { 0, 0 };
    pthread_t threads[THREADS];
    sigset_t blocked;
    stack_t stack = { .ss_size = ALTERNATE_BYTES };

    alternate = malloc(ALTERNATE_BYTES);
    stack.ss_sp = alternate;
    sigaltstack(&stack, NULL);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGHUP);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    set_handler(SIGUSR1, on_alternate, SA_ONSTACK);
    set_handler(SIGUSR2, on_alternate, SA_ONSTACK);
    set_handler(SIGRTMIN + 3, on_queued, 0);
    signal(SIGQUIT, SIG_IGN);
    for (long id = 0; id < THREADS; id++)
        if (pthread_create(&threads[id], NULL, thread_main, (void *)id))
            bad("pthread_create");
    kill(getpid(), SIGHUP);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        send_and_count(tick);
        check_handlers();
        check_waiting();
        tick_sleep();
    }
    stop = 1;
    for (long id = 0; id < THREADS; id++)
        pthread_join(threads[id], NULL);
    if (sigtimedwait(&blocked, NULL, &none) != SIGHUP || sigtimedwait(&blocked, NULL, &none) != -1)
        bad("SIGHUP should have waited exactly once");
    printf("OK signals %ld\n", ticks);
    return 0;
}
