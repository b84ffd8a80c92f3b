/* SPDX-License-Identifier: MIT */
/* Masks and dispositions. The stop signal must stay deliverable, and the program must not see it; the trigger is ours
 * until the program wants it for itself. Each wrapper only cleans its arguments and calls libc. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>

#include "wrap.h"

/* A mask without the stop signal. Returns NULL for NULL. */
static const sigset_t *without_stop(const sigset_t *set, sigset_t *copy)
{
    if (!set)
        return NULL;
    *copy = *set;
    signals_remove(copy, STOP_SIGNAL);
    return copy;
}

#define WITHOUT_STOP(mask) \
    sigset_t clean;        \
    mask = without_stop(mask, &clean)

#define WRAP_MASK(name, parameters, mask, arguments) WRAP(int, name, parameters, WITHOUT_STOP(mask), 0, 0, arguments)
/* These are timed waits too: see sleeps.c. */
#define WRAP_TIMED_MASK(name, parameters, mask, is_timed, time, arguments) \
    WRAP(int, name, parameters, WITHOUT_STOP(mask), is_timed, time, arguments)

WRAP_MASK(sigprocmask, (int how, const sigset_t *set, sigset_t *old), set, (how, set, old))
WRAP_MASK(pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), set, (how, set, old))
WRAP_MASK(sigsuspend, (const sigset_t *mask), mask, (mask))
WRAP_MASK(sigwait, (const sigset_t *set, int *number), set, (set, number))
WRAP_MASK(sigwaitinfo, (const sigset_t *set, siginfo_t *info), set, (set, info))
WRAP_MASK(pthread_attr_setsigmask_np, (pthread_attr_t * attributes, const sigset_t *mask), mask, (attributes, mask))
WRAP_MASK(signalfd, (int fd, const sigset_t *mask, int flags), mask, (fd, mask, flags))
WRAP_TIMED_MASK(ppoll, (struct pollfd * fds, nfds_t count, const struct timespec *time, const sigset_t *mask), mask, time,
                deadline_nanoseconds(time), (fds, count, time, mask))
extern int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *time, const sigset_t *mask, size_t size);
WRAP_TIMED_MASK(__ppoll_chk,
                (struct pollfd * fds, nfds_t count, const struct timespec *time, const sigset_t *mask, size_t size), mask,
                time, deadline_nanoseconds(time), (fds, count, time, mask, size))
WRAP_TIMED_MASK(pselect,
                (int count, fd_set *read, fd_set *write, fd_set *except, const struct timespec *time, const sigset_t *mask),
                mask, time, deadline_nanoseconds(time), (count, read, write, except, time, mask))
WRAP_TIMED_MASK(sigtimedwait, (const sigset_t *set, siginfo_t *info, const struct timespec *time), set, time,
                deadline_nanoseconds(time), (set, info, time))
WRAP_TIMED_MASK(epoll_pwait, (int epoll, struct epoll_event *events, int count, int time, const sigset_t *mask), mask,
                time > 0, time * INT64_C(1000000), (epoll, events, count, time, mask))
WRAP_TIMED_MASK(epoll_pwait2,
                (int epoll, struct epoll_event *events, int count, const struct timespec *time, const sigset_t *mask),
                mask, time, deadline_nanoseconds(time), (epoll, events, count, time, mask))

NEXT_OF(sigaction);

/* The stop signal's disposition exists only in our books. */
static int show(struct sigaction *shown, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction before = *shown;
    if (action)
        *shown = *action;
    if (old)
        *old = before;
    return 0;
}

/* SIG_DFL for the trigger means that it is ours; anything else, that the program has it. */
static int act_on_trigger(const struct sigaction *action, struct sigaction *old)
{
    int ours = !shim.trigger_owned;

    if (ours && (!action || (!(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_DFL)))
        return show(&shim.shown_trigger, action, old);
    if (action && action->sa_handler == SIG_DFL) {
        int result = NEXT(sigaction)((int)shim.trigger_signal, NULL, old);
        shim.shown_trigger = *action;
        shim.trigger_owned = 0;
        stop_set_handler((int)shim.trigger_signal);
        return result;
    }
    int result = NEXT(sigaction)((int)shim.trigger_signal, action, old);
    if (action && !result) {
        if (ours)
            show(&shim.shown_trigger, NULL, old);
        shim.trigger_owned = 1;
    }
    return result;
}

EXPORTED int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction clean;

    if (action) {
        clean = *action;
        signals_remove(&clean.sa_mask, STOP_SIGNAL);
        action = &clean;
    }
    if (shim.installed && number == STOP_SIGNAL)
        return show(&shim.shown_stop, action, old);
    if (shim.installed && number == (int)shim.trigger_signal)
        return act_on_trigger(action, old);
    return NEXT(sigaction)(number, action, old);
}

/* libc's signal() and its cousins call their own sigaction() inside, so the two signals go through ours here. */
static sighandler_t set_simply(int number, sighandler_t handler, int flags)
{
    struct sigaction action = { .sa_flags = flags }, old;

    action.sa_handler = handler;
    return sigaction(number, &action, &old) ? SIG_ERR : old.sa_handler;
}

static int is_special(int number)
{
    return shim.installed && (number == STOP_SIGNAL || number == (int)shim.trigger_signal);
}

#define WRAP_SIGNAL(name, flags)                               \
    NEXT_OF(name);                                             \
    EXPORTED sighandler_t name(int number, sighandler_t handler) \
    {                                                          \
        if (is_special(number))                                \
            return set_simply(number, handler, flags);         \
        return NEXT(name)(number, handler);                    \
    }

extern sighandler_t bsd_signal(int number, sighandler_t handler); /* whose declaration new headers lack */
extern sighandler_t __sysv_signal(int number, sighandler_t handler);

WRAP_SIGNAL(signal, SA_RESTART)
WRAP_SIGNAL(ssignal, SA_RESTART)
WRAP_SIGNAL(bsd_signal, SA_RESTART)
WRAP_SIGNAL(sysv_signal, (int)(SA_RESETHAND | SA_NODEFER))
WRAP_SIGNAL(__sysv_signal, (int)(SA_RESETHAND | SA_NODEFER))
