/* SPDX-License-Identifier: MIT */
/* Syscall User Dispatch (Documentation/admin-guide/syscall-user-dispatch.rst): a thread has asked that its system calls become SIGSYS.
 * Ours, in a handler, would too, and the kernel tells nobody but a tracer of it. So our two signals are ignored before it begins: the
 * saver finds that and refuses by name (R-SIGNAL-TAKEN). What the program leaves alone may be the code of libc: its syscall() is used then. */
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "../../../core/floor/arch/x86_64/raw_call.h"
#include "../../../core/floor/syscalls.h"
#include "../shim.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH /* Linux 5.11 */
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif

static void ignore(int number)
{
    struct agent_action action = { .handler = (uint64_t)SIG_IGN };

    sys_rt_sigaction(number, &action, NULL);
}

void *raw_call_other NEAR_THE_SHIM;
static uint32_t dispatching NEAR_THE_SHIM; /* threads */
static __thread int is_dispatching __attribute__((tls_model("initial-exec")));

static void begin(void)
{
    if (__atomic_fetch_add(&dispatching, 1, __ATOMIC_SEQ_CST))
        return;
    raw_call_other = next_symbol("syscall");
    ignore(STOP_SIGNAL);
    if (!shim.trigger_owned)
        ignore((int)shim.trigger_signal);
}

/* A thread that ends without having switched it off is counted for ever. */
static void end(void)
{
    if (__atomic_sub_fetch(&dispatching, 1, __ATOMIC_SEQ_CST))
        return;
    raw_call_other = NULL;
    stop_set_handler(STOP_SIGNAL);
    if (!shim.trigger_owned)
        stop_set_handler((int)shim.trigger_signal);
}

void dispatch_child_enters(void)
{
    if (!dispatching)
        return;
    dispatching = 1; /* threads are not inherited, nor is what they have asked for */
    is_dispatching = 0;
    end();
}

NEXT_OF(prctl);

static int set_dispatch(const unsigned long values[4])
{
    int was = is_dispatching, result;

    if (values[0] == PR_SYS_DISPATCH_ON && !was)
        begin(); /* before it: then each system call of ours may be a SIGSYS */
    result = NEXT(prctl)(PR_SET_SYSCALL_USER_DISPATCH, values[0], values[1], values[2], values[3]);
    is_dispatching = result ? was : values[0] == PR_SYS_DISPATCH_ON;
    if (!is_dispatching && (was || values[0] == PR_SYS_DISPATCH_ON))
        end();
    return result;
}

EXPORTED int prctl(int option, ...)
{
    unsigned long values[4];
    va_list list;

    va_start(list, option);
    for (int i = 0; i < 4; i++)
        values[i] = va_arg(list, unsigned long);
    va_end(list);
    if (option == PR_SET_SYSCALL_USER_DISPATCH && shim.installed)
        return set_dispatch(values);
    return NEXT(prctl)(option, values[0], values[1], values[2], values[3]);
}
