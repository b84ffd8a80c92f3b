/* SPDX-License-Identifier: MIT */
/* storm - SECONDS: some workers, each of which makes children of all sorts one after the other, and looks how they end: forked ones, of vfork, of
 * posix_spawn, other programs, children of children that have ended, in sessions of their own. */
#include "guest.h"

#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

enum { WORKERS = 3, SORTS = 5 };

static void ends_with(pid_t child, int wanted)
{
    int status;

    if (child < 0)
        bad("no child: %s", strerror(errno));
    if (waitpid(child, &status, 0) != child || status != wanted << 8)
        bad("child %d ended with %x instead of %d", (int)child, status, wanted);
}

static pid_t forked(int status)
{
    pid_t child = fork();

    if (!child)
        _exit(status);
    return child;
}

static pid_t executed(int status)
{
    char text[16];
    char *arguments[] = { (char *)"sh", (char *)"-c", text, NULL };
    pid_t child;

    snprintf(text, sizeof text, "exit %d", status);
    child = vfork();
    if (!child) {
        execv("/bin/sh", arguments);
        _exit(127);
    }
    return child;
}

static pid_t spawned(int status)
{
    char text[16];
    char *arguments[] = { (char *)"sh", (char *)"-c", text, NULL };
    pid_t child;

    snprintf(text, sizeof text, "exit %d", status);
    return posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) ? -1 : child;
}

/* It ends before its own child does, which says through a pipe that it has been there. */
static pid_t forked_twice(int status)
{
    int ends[2];
    char byte = 0;
    pid_t child;

    if (pipe(ends))
        bad("pipe: %s", strerror(errno));
    child = fork();
    if (!child) {
        if (fork())
            _exit(status);
        setsid();
        byte = (char)status;
        _exit(write(ends[1], &byte, 1) != 1);
    }
    close(ends[1]);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    if (byte != (char)status)
        bad("the child of a child has said %d instead of %d", byte, status);
    return child;
}

static pid_t with_a_child(int status)
{
    pid_t child = fork();

    if (!child) {
        ends_with(forked(status + 1), status + 1);
        _exit(status);
    }
    return child;
}

static void make_children(volatile int *is_over)
{
    static pid_t (*const sorts[SORTS])(int status) = { forked, executed, spawned, forked_twice, with_a_child };
    int other;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned count = 0; !*is_over; count++) {
        int status = (int)(count % 100) + 1;
        ends_with(sorts[count % SORTS](status), status);
    }
    if (waitpid(-1, &other, 0) != -1 || errno != ECHILD)
        bad("a child that nobody made");
    _exit(0);
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 2, 1);
    volatile int *is_over = (int *)map_of(-1, sizeof *is_over, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 0);
    pid_t workers[WORKERS];

    for (int i = 0; i < WORKERS; i++)
        if (!(workers[i] = fork()))
            make_children(is_over);
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    *is_over = 1;
    for (int i = 0; i < WORKERS; i++)
        ends_with(workers[i], 0);
    printf("OK storm\n");
    return 0;
}
