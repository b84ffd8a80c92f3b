/* SPDX-License-Identifier: MIT */
/* handlers, while it is held: dispositions with every flag, set with every function that libc has for it, new and old, for signals of
 * 1 to 64; masks of each thread; and a handler that stays on its alternate stack all the time, below it a second one. */
#include "guest.h"

#include <pthread.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* old functions are what is tested */

enum { STACK_BYTES = 128 << 10, RESTORER = 0x04000000, THREADS = 3 };

extern sighandler_t bsd_signal(int number, sighandler_t handler);

static char *stack;
static volatile int stop;
static volatile sig_atomic_t came[65];

static void on_signal(int number)
{
    came[number]++;
}

static void on_information(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_signo != number)
        bad("signal %d says that it is %d", number, info->si_signo);
    came[number]++;
}

static const struct {
    int number, flags;
} kept[] = {
    { SIGURG, SA_RESTART },        { SIGIO, SA_NODEFER | SA_SIGINFO }, { SIGCHLD, SA_NOCLDWAIT | SA_NOCLDSTOP | SA_RESTART },
    { SIGWINCH, SA_ONSTACK },      { SIGUSR1, (int)SA_RESETHAND },     { 44, SA_SIGINFO | SA_ONSTACK | SA_NODEFER },
    { 64, SA_SIGINFO },            { SIGPWR, SA_RESTART },
};

enum { KEPT = sizeof kept / sizeof *kept };

static void set_kept(void)
{
    for (int i = 0; i < KEPT; i++) {
        struct sigaction action = { .sa_flags = kept[i].flags };
        sigaddset(&action.sa_mask, SIGTTIN);
        sigaddset(&action.sa_mask, 50 + i);
        if (kept[i].flags & SA_SIGINFO)
            action.sa_sigaction = on_information;
        else
            action.sa_handler = on_signal;
        if (sigaction(kept[i].number, &action, NULL))
            bad("sigaction: %s", strerror(errno));
    }
}

static void check_kept(void)
{
    struct sigaction action;

    for (int i = 0; i < KEPT; i++) {
        int is_information = kept[i].flags & SA_SIGINFO;
        if (sigaction(kept[i].number, NULL, &action) || (action.sa_flags & ~RESTORER) != kept[i].flags ||
            (is_information ? action.sa_sigaction != on_information : action.sa_handler != on_signal) ||
            !sigismember(&action.sa_mask, SIGTTIN) || sigismember(&action.sa_mask, SIGTTOU) ||
            !sigismember(&action.sa_mask, 50 + i) || sigismember(&action.sa_mask, 49 + i))
            bad("the action of signal %d: flags %#x", kept[i].number, action.sa_flags);
    }
    if (sigaction(SIGQUIT, NULL, &action) || action.sa_handler != SIG_IGN)
        bad("SIGQUIT is not ignored any more");
}

/* The handler with SA_RESETHAND runs once; then all is set again. */
static void use_kept(void)
{
    struct sigaction action;
    sig_atomic_t before = came[SIGUSR1];

    raise(SIGUSR1);
    if (came[SIGUSR1] != before + 1 || sigaction(SIGUSR1, NULL, &action) || action.sa_handler != SIG_DFL)
        bad("SA_RESETHAND");
    before = came[64];
    sigqueue(getpid(), 64, (union sigval){ .sival_int = 1 });
    if (came[64] != before + 1)
        bad("signal 64 did not come");
    set_kept();
}

static void expect(sighandler_t is, sighandler_t wanted, const char *what, int number)
{
    if (is != wanted)
        bad("%s(%d) gives %p instead of %p", what, number, (void *)is, (void *)wanted);
}

/* Sets and resets all there are in every way, as shells and daemons do. The signals that libc keeps for itself give errors. */
static void go_through(int number)
{
    sigset_t mask;

    if (number == SIGKILL || number == SIGSTOP || number == 32 || number == 33)
        return;
    expect(signal(number, SIG_IGN), SIG_DFL, "signal", number);
    expect(bsd_signal(number, on_signal), SIG_IGN, "bsd_signal", number);
    if (siginterrupt(number, 1) || sigignore(number))
        bad("siginterrupt or sigignore(%d): %s", number, strerror(errno));
    expect(sigset(number, on_signal), SIG_IGN, "sigset", number);
    expect(ssignal(number, SIG_DFL), on_signal, "ssignal", number);
    expect(sigset(number, SIG_HOLD), SIG_DFL, "sigset", number);
    if (number != 63 && (sigprocmask(SIG_BLOCK, NULL, &mask) || !sigismember(&mask, number)))
        bad("sigset(%d, SIG_HOLD) has not blocked it", number);
    if (sigrelse(number) || sighold(number) || sigrelse(number) || siginterrupt(number, 0))
        bad("sighold(%d): %s", number, strerror(errno));
    if (sigprocmask(SIG_BLOCK, NULL, &mask) || sigismember(&mask, number))
        bad("signal %d is still blocked", number);
    expect(signal(number, SIG_DFL), SIG_DFL, "signal", number);
}

static int is_kept(int number)
{
    for (int i = 0; i < KEPT; i++)
        if (kept[i].number == number)
            return 1;
    return number == SIGQUIT || number == SIGTERM || number == SIGSEGV || number == 41;
}

static void *thread_main(void *argument)
{
    long id = (long)argument;
    sigset_t mask, now, only;

    sigfillset(&mask);
    sigdelset(&mask, (int)(SIGRTMIN + 10 + id));
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    sigemptyset(&only);
    sighold(63);
    while (!stop) {
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        for (int number = 1; number <= 64; number++)
            if (sigismember(&now, number) != sigismember(&mask, number))
                bad("thread %ld: signal %d in its mask", id, number);
        tick_sleep();
    }
    return NULL;
}

static void check_stack(const char *here, int flags)
{
    stack_t now;

    if (here < stack || here >= stack + STACK_BYTES)
        bad("not on the alternate stack");
    if (sigaltstack(NULL, &now) || now.ss_sp != stack || now.ss_size != STACK_BYTES || now.ss_flags != flags)
        bad("the alternate stack: flags %#x", now.ss_flags);
}

static void inner(int number)
{
    char here;

    (void)number;
    check_stack(&here, SS_ONSTACK);
    came[41]++;
}

/* Runs on the alternate stack to the end. */
static void outer(int number)
{
    char here;
    sigset_t mask;

    for (long tick = 0; is_held(); tick++) {
        sig_atomic_t before = came[41];
        check_stack(&here, SS_ONSTACK);
        raise(41);
        if (came[41] != before + 1)
            bad("the inner handler did not run");
        sigprocmask(SIG_SETMASK, NULL, &mask);
        if (!sigismember(&mask, SIGTERM) || sigismember(&mask, SIGINT) || sigismember(&mask, 41))
            bad("the mask in a handler");
        check_kept();
        use_kept();
        if (tick % 20 == 0)
            for (int other = 1; other <= 64; other++)
                if (!is_kept(other))
                    go_through(other);
        tick_sleep();
    }
    came[number]++;
}

int main(void)
{
    struct sigaction action = { .sa_handler = outer, .sa_flags = SA_ONSTACK };
    pthread_t threads[THREADS];
    stack_t own = { .ss_size = STACK_BYTES }, now;

    for (int number = 1; number <= 64; number++)
        signal(number, SIG_DFL); /* a shell has ignored some */
    own.ss_sp = stack = malloc(STACK_BYTES);
    sigaltstack(&own, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = inner;
    sigaction(41, &action, NULL);
    signal(SIGQUIT, SIG_IGN);
    set_kept();
    for (long id = 0; id < THREADS; id++)
        pthread_create(&threads[id], NULL, thread_main, (void *)id);
    ready();
    raise(SIGTERM);
    if (came[SIGTERM] != 1 || sigaltstack(NULL, &now) || now.ss_flags)
        bad("back from the handler");
    stop = 1;
    for (long id = 0; id < THREADS; id++)
        pthread_join(threads[id], NULL);
    printf("OK handlers\n");
    return 0;
}
