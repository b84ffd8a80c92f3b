/* SPDX-License-Identifier: MIT */
/* Waits that ask for children of every sort (__WALL, __WCLONE) could reap a twin or a stub: its end is swallowed and
 * the wait goes on. Ordinary waits cannot see them. */
#include <sys/resource.h>
#include <sys/wait.h>

#include "../../../core/floor/syscalls.h"
#include "../shim.h"

enum { ODD_CHILDREN = (int)(__WALL | __WCLONE) };

NEXT_OF(waitpid);
NEXT_OF(wait3);
NEXT_OF(wait4);
NEXT_OF(waitid);

EXPORTED pid_t waitpid(pid_t pid, int *status, int options)
{
    pid_t got;
    do
        got = NEXT(waitpid)(pid, status, options);
    while (got > 0 && options & ODD_CHILDREN && helper_forget(got));
    return got;
}

EXPORTED pid_t wait3(int *status, int options, struct rusage *usage)
{
    pid_t got;
    do
        got = NEXT(wait3)(status, options, usage);
    while (got > 0 && options & ODD_CHILDREN && helper_forget(got));
    return got;
}

EXPORTED pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    pid_t got;
    do
        got = NEXT(wait4)(pid, status, options, usage);
    while (got > 0 && options & ODD_CHILDREN && helper_forget(got));
    return got;
}

/* With WNOWAIT it is not reaped yet, and would be found for ever. */
static int is_helper_swallowed(pid_t pid, int options)
{
    if (pid <= 0 || !(options & ODD_CHILDREN) || !helper_forget(pid))
        return 0;
    if (options & WNOWAIT)
        sys_wait4(pid, NULL, __WCLONE);
    return 1;
}

EXPORTED int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    siginfo_t own = { 0 }; /* the program may not want to know whose end it was; we do */
    int result;

    if (!info)
        info = &own;
    do
        result = NEXT(waitid)(type, id, info, options);
    while (!result && is_helper_swallowed(info->si_pid, options));
    return result;
}
