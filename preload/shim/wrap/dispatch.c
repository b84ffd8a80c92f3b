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

NEXT_OF(prctl);

EXPORTED int prctl(int option, ...)
{
    unsigned long values[4];
    va_list list;
    int is_dispatch, result;

    va_start(list, option);
    for (int i = 0; i < 4; i++)
        values[i] = va_arg(list, unsigned long);
    va_end(list);
    is_dispatch = shim.installed && option == PR_SET_SYSCALL_USER_DISPATCH && values[0] == PR_SYS_DISPATCH_ON;
    if (is_dispatch) {
        raw_call_other = next_symbol("syscall");
        ignore(STOP_SIGNAL);
        if (!shim.trigger_owned)
            ignore((int)shim.trigger_signal);
    }
    result = NEXT(prctl)(option, values[0], values[1], values[2], values[3]);
    if (is_dispatch && result) /* no more system calls of ours else: each would be a SIGSYS */
        stop_install();
    return result;
}
