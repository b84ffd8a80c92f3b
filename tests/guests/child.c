/* SPDX-License-Identifier: MIT */
/* child living|spawned|brief|daemon SECONDS: has a child that lives as long as it does (forked, or another program), or
 * brief ones one after the other; and goes on computing. A daemon ends at once, and its child goes on in its place. */
#include "guest.h"

#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

static pid_t start_child(const char *mode)
{
    char *arguments[] = { (char *)"sleep", (char *)"100", NULL };
    pid_t child;

    if (!strcmp(mode, "spawned"))
        return posix_spawn(&child, "/bin/sleep", NULL, NULL, arguments, environ) ? -1 : child;
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (strcmp(mode, "brief"))
            tick_sleep();
        _exit(7);
    }
    return child;
}

static void end_child(pid_t child, int wanted)
{
    int status;

    if (waitpid(child, &status, 0) != child || status != wanted)
        bad("child ended with %x", status);
}

/* What fork() makes is an orphan now; it never execs. */
static void become_daemon(void)
{
    pid_t parent = getpid(), child = fork();

    if (child)
        _exit(child < 0);
    while (getppid() == parent)
        tick_sleep();
}

static int daemon_main(long ticks)
{
    uint64_t hash = 1;

    become_daemon();
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        hash = mix(hash + (uint64_t)tick);
        tick_sleep();
    }
    printf("OK child daemon %016llx\n", (unsigned long long)hash);
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "living";
    long ticks = ticks_wanted(argc, argv, 2, 5);
    int brief = !strcmp(mode, "brief");
    uint64_t hash = 1;
    pid_t child;

    if (!strcmp(mode, "daemon"))
        return daemon_main(ticks);
    child = start_child(mode);

    if (child < 0)
        bad("no child");
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        hash = mix(hash + (uint64_t)tick);
        if (brief) {
            end_child(child, 7 << 8);
            child = start_child(mode);
        } else if (kill(child, 0)) {
            bad("the child is gone");
        }
        tick_sleep();
    }
    if (!brief)
        kill(child, SIGKILL);
    end_child(child, brief ? 7 << 8 : SIGKILL);
    if (waitpid(-1, NULL, 0) != -1 || errno != ECHILD)
        bad("a child that nobody made");
    printf("OK child %s %016llx\n", mode, (unsigned long long)hash);
    return 0;
}
