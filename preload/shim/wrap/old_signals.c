/* SPDX-License-Identifier: MIT */
/* The older functions for masks and dispositions. Inside libc they go around sigaction() and sigprocmask(), so for our
 * two signals they are built from those here. What has masks of 32 signals (sigblock, sigsetmask, sigpause) cannot
 * reach the stop signal, and is left alone. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "../shim.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* they are old, and programs use them */

static int is_special(int number)
{
    return shim.installed && (number == STOP_SIGNAL || number == (int)shim.trigger_signal);
}

static int change_mask(int how, int number, sigset_t *old)
{
    sigset_t set = { 0 };

    signals_add(&set, number);
    return sigprocmask(how, &set, old);
}

NEXT_OF(sighold);

EXPORTED int sighold(int number)
{
    return is_special(number) ? change_mask(SIG_BLOCK, number, NULL) : NEXT(sighold)(number);
}

static int set_handler(int number, sighandler_t handler, struct sigaction *old)
{
    struct sigaction action = { 0 };

    action.sa_handler = handler;
    return sigaction(number, &action, old);
}

NEXT_OF(sigignore);

EXPORTED int sigignore(int number)
{
    return is_special(number) ? set_handler(number, SIG_IGN, NULL) : NEXT(sigignore)(number);
}

NEXT_OF(sigset);

/* sigset(3): the handler before, or SIG_HOLD if the signal was blocked. */
EXPORTED sighandler_t sigset(int number, sighandler_t handler)
{
    struct sigaction old;
    sigset_t mask;

    if (!is_special(number))
        return NEXT(sigset)(number, handler);
    if (handler == SIG_HOLD ? sigaction(number, NULL, &old) : set_handler(number, handler, &old))
        return SIG_ERR;
    if (change_mask(handler == SIG_HOLD ? SIG_BLOCK : SIG_UNBLOCK, number, &mask))
        return SIG_ERR;
    return signals_hold(&mask, number) ? SIG_HOLD : old.sa_handler;
}

NEXT_OF(siginterrupt);

EXPORTED int siginterrupt(int number, int interrupt)
{
    struct sigaction action;

    if (!is_special(number))
        return NEXT(siginterrupt)(number, interrupt);
    if (sigaction(number, NULL, &action))
        return -1;
    action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
    return sigaction(number, &action, NULL);
}
