/* SPDX-License-Identifier: MIT */
/* exec: between the old handlers and the new program's constructor a stop signal would kill. It is blocked over
 * the exec, and the constructor opens it again. The page goes, since it would name a program that is no more. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../../../core/floor/syscalls.h"
#include "../shim.h"
#include "environment.h"

extern char **environ;

static int is_our_process(void)
{
    return shim.pid == (uint32_t)sys_getpid(); /* not a vfork child, which has our memory */
}

static void set_stop_signal(int how)
{
    uint64_t set = SYS_SIGNAL_BIT(STOP_SIGNAL);
    sys_rt_sigprocmask(how, &set, NULL);
}

enum { WANTED_LOOKS = 2000, SAVER_COMES_MILLISECONDS = 300 };

static int is_wanted(const struct agent_page *page)
{
    return page && __atomic_load_n(&page->wanted, __ATOMIC_SEQ_CST) &&
           (interval_now() - shim.page_made < SAVER_COMES_MILLISECONDS || orders_saver_lives(page));
}

/* A program that executes others faster than it is found and stopped would never have an image: it stays until it has been
 * stopped, as long as there is a saver that wants it, or one may be on its way because the page was just asked for. Returns with
 * the stop signal blocked, as it is at each look: after a restart the page is another. */
static void wait_while_wanted(void)
{
    const struct timespec look = { .tv_nsec = 1000000 };

    set_stop_signal(SIG_BLOCK);
    for (int i = 0; is_our_process() && is_wanted(shim.page) && i < WANTED_LOOKS; i++) {
        set_stop_signal(SIG_UNBLOCK);
        SYS_CALL(nanosleep, &look, NULL, 0, 0, 0, 0);
        set_stop_signal(SIG_BLOCK);
    }
}

/* Returns 1 when the process had a page, and has none any more. */
static int exec_begins(void)
{
    wait_while_wanted();
    if (!is_our_process())
        return 0;
    registry_leave();
    helpers_end();
    return shim.page != NULL;
}

static void exec_failed(int was_registered)
{
    int error = errno;

    if (was_registered)
        page_remake_when_gone();
    stop_unblock();
    errno = error;
}

NEXT_OF(execve);
NEXT_OF(execvpe);
NEXT_OF(fexecve);
NEXT_OF(execveat);

void exec_prepare(void)
{
    (void)NEXT(execve);
    (void)NEXT(execvpe);
}

#define WRAP_EXEC(name, parameters, environment, call) \
    EXPORTED int name parameters                       \
    {                                                  \
        ENVIRONMENT_WHOLE(given, environment);         \
        int was_registered = exec_begins();            \
        int result = call;                             \
        exec_failed(was_registered);                   \
        return result;                                 \
    }

WRAP_EXEC(execve, (const char *path, char *const arguments[], char *const environment[]), environment,
          NEXT(execve)(path, arguments, given))
WRAP_EXEC(execv, (const char *path, char *const arguments[]), environ, NEXT(execve)(path, arguments, given))
WRAP_EXEC(execvpe, (const char *file, char *const arguments[], char *const environment[]), environment,
          NEXT(execvpe)(file, arguments, given))
WRAP_EXEC(execvp, (const char *file, char *const arguments[]), environ, NEXT(execvpe)(file, arguments, given))
WRAP_EXEC(fexecve, (int fd, char *const arguments[], char *const environment[]), environment, NEXT(fexecve)(fd, arguments, given))
WRAP_EXEC(execveat, (int directory, const char *path, char *const arguments[], char *const environment[], int flags), environment,
          NEXT(execveat)(directory, path, arguments, given, flags))

/* The list forms: how many strings there are, and then as an array on the stack (exec(3)). */
static int count_list(va_list list)
{
    int count = 1;
    va_list walk;

    va_copy(walk, list);
    while (va_arg(walk, char *))
        count++;
    va_end(walk);
    return count;
}

static void fill_array(char **array, const char *first, va_list list, int count)
{
    array[0] = (char *)first;
    for (int i = 1; i <= count; i++)
        array[i] = va_arg(list, char *);
}

#define WRAP_EXEC_LIST(name, call)                                 \
    EXPORTED int name(const char *path, const char *first, ...)    \
    {                                                              \
        va_list list;                                              \
        va_start(list, first);                                     \
        int count = count_list(list);                              \
        char *array[count + 1];                                    \
        fill_array(array, first, list, count);                     \
        char *const *environment __attribute__((unused)) = environ; \
        if (text_environment_follows(#name))                       \
            environment = va_arg(list, char *const *);             \
        va_end(list);                                              \
        return call;                                               \
    }

static int text_environment_follows(const char *name)
{
    return name[5] == 'e'; /* execle alone */
}

WRAP_EXEC_LIST(execl, execv(path, array))
WRAP_EXEC_LIST(execlp, execvp(path, array))
WRAP_EXEC_LIST(execle, execve(path, array, environment))
