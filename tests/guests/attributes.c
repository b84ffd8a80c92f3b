/* SPDX-License-Identifier: MIT */
/* attributes SECONDS: working directory, umask, limits, ids, names and clocks, looked at every tick. The monotonic
 * clocks must never run backwards, nor show the time between a kill and a restart (more than 5 s in one tick is bad). */
#include "guest.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { CLOCKS = 3 };
static const double LARGEST_GAP = 5;

struct attributes {
    char directory[4096];
    char name[16];
    uid_t user[3];
    gid_t group[3];
    struct rlimit files, core, stack;
    mode_t umask;
    int subreaper, keep_capabilities, slack, no_new_privileges;
    pid_t pid;
};

static void look(struct attributes *seen)
{
    memset(seen, 0, sizeof *seen);
    if (!getcwd(seen->directory, sizeof seen->directory))
        bad("getcwd: %s", strerror(errno));
    prctl(PR_GET_NAME, seen->name);
    getresuid(&seen->user[0], &seen->user[1], &seen->user[2]);
    getresgid(&seen->group[0], &seen->group[1], &seen->group[2]);
    getrlimit(RLIMIT_NOFILE, &seen->files);
    getrlimit(RLIMIT_CORE, &seen->core);
    getrlimit(RLIMIT_STACK, &seen->stack);
    seen->umask = umask(0);
    umask(seen->umask);
    prctl(PR_GET_CHILD_SUBREAPER, &seen->subreaper);
    seen->keep_capabilities = prctl(PR_GET_KEEPCAPS);
    seen->slack = prctl(PR_GET_TIMERSLACK);
    seen->no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    seen->pid = getpid();
}

static void compare(const struct attributes *now, const struct attributes *then)
{
    if (strcmp(now->directory, then->directory))
        bad("working directory %s", now->directory);
    if (strcmp(now->name, then->name))
        bad("name %s", now->name);
    if (memcmp(now->user, then->user, sizeof now->user) || memcmp(now->group, then->group, sizeof now->group))
        bad("user or group id");
    if (now->files.rlim_cur != then->files.rlim_cur || now->files.rlim_max != then->files.rlim_max ||
        now->core.rlim_cur != then->core.rlim_cur || now->stack.rlim_cur != then->stack.rlim_cur)
        bad("limits");
    if (now->umask != then->umask)
        bad("umask %o", now->umask);
    if (now->subreaper != then->subreaper || now->keep_capabilities != then->keep_capabilities ||
        now->slack != then->slack || now->no_new_privileges != then->no_new_privileges)
        bad("prctl: subreaper %d keepcaps %d slack %d no_new_privs %d", now->subreaper, now->keep_capabilities,
            now->slack, now->no_new_privileges);
    if (now->pid != then->pid)
        bad("process id");
}

static void check_clocks(double last[CLOCKS])
{
    static const clockid_t clocks[CLOCKS] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE };

    for (int i = 0; i < CLOCKS; i++) {
        double now = seconds_of(clocks[i]);
        if (last[i] != 0 && (now < last[i] || now > last[i] + LARGEST_GAP))
            bad("clock %d went from %f to %f", (int)clocks[i], last[i], now);
        last[i] = now;
    }
}

int main(int argc, char **argv)
{
    static struct attributes then, now;
    long ticks = ticks_wanted(argc, argv, 1, 5);
    struct rlimit files;
    double last[CLOCKS] = { 0 };

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = 77;
    if (setrlimit(RLIMIT_NOFILE, &files) || prctl(PR_SET_NAME, "other name") || prctl(PR_SET_TIMERSLACK, 123456))
        bad("setting attributes: %s", strerror(errno));
    umask(027);
    look(&then);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        look(&now);
        compare(&now, &then);
        check_clocks(last);
        tick_sleep();
    }
    printf("OK attributes\n");
    return 0;
}
