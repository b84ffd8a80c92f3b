/* SPDX-License-Identifier: MIT */
/* stasis outside: stands in for a command that no image can hold, such as Slurm's srun with its connections: its child, which is left out of
 * the image. After a restart the child is not there; the command is run again then, as if it had never ended. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "../core/floor/syscalls.h"
#include "../core/floor/text.h"
#include "../core/slurm/slurm.h"
#include "commands.h"
#include "stand_in.h"

extern char **environ;

enum { OUTSIDE_AGAIN };

static const struct choice choices[] = {
    [OUTSIDE_AGAIN] = { "again", "NAME=VALUE", NULL, "put this into COMMAND's environment when it is run again after a restart" },
    { 0 },
};

static volatile pid_t child;

static void hand_on(int number)
{
    int error = errno;

    if (child > 0)
        kill(child, number);
    errno = error;
}

static void hand_on_all(void)
{
    struct sigaction action = { .sa_handler = hand_on, .sa_flags = SA_RESTART };

    for (int number = 1; number < SIGRTMAX; number++) {
        struct sigaction before;
        if (number == SIGCHLD || number == SIGCONT || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU || sigaction(number, NULL, &before)
            || before.sa_handler != SIG_DFL)
            continue; /* what is ignored or ours stays so */
        sigaction(number, &action, NULL);
    }
}

static void leave_shim_out(void)
{
    char *libraries = getenv("LD_PRELOAD");

    if (!libraries)
        return;
    text_leave_out(libraries, SHIM_NAME);
    if (!*libraries)
        unsetenv("LD_PRELOAD");
}

/* As execvp(3), but not by way of the shim, which would come along. */
static void execute(char **argv)
{
    const char *directories = strchr(argv[0], '/') ? "" : getenv("PATH");
    char path[MAX_PATH];
    long error = -ENOENT;

    for (const char *at = directories ? directories : "/usr/bin:/bin", *end; at; at = *end ? end + 1 : NULL) {
        end = at + strcspn(at, ":");
        snprintf(path, sizeof path, "%.*s%s%s", (int)(end - at), at, end > at ? "/" : "", argv[0]);
        long one = SYS_CALL(execve, path, argv, environ, 0, 0, 0);
        error = one == -ENOENT ? error : one;
    }
    errno = (int)-error;
}

/* What the tasks of an srun must know, and the script cannot: which srun of it that is, and from what they go on. */
static void become_srun(const char *prefix, int number)
{
    char text[16], image[MAX_PATH];

    life_enter(prefix, number, image);
    snprintf(text, sizeof text, "%d", number);
    setenv(ENV_SRUN, text, 1);
    if (*image)
        setenv(ENV_SRUN_IMAGE, image, 1);
    else
        unsetenv(ENV_SRUN_IMAGE);
    unsetenv(ENV_STEP);
}

/* The mark names its parent: what the command starts has it, too, and means nobody there. */
_Noreturn static void become_outsider(char **argv, pid_t parent, char *again, int srun)
{
    const char *prefix = getenv(ENV_SRUNS);
    char mark[16];

    if (srun >= 0)
        become_srun(prefix, srun);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(mark, sizeof mark, "%d", (int)parent);
    setenv(ENV_OUTSIDE, mark, 1);
    unsetenv(ENV_RUN);
    leave_shim_out();
    if (again)
        putenv(again);
    execute(argv);
    complain(0, "cannot run '%s': %m", argv[0]);
    _exit(EXIT_SYSTEM);
}

/* 0: it is not there any more, and has not ended. */
static int wait_for(pid_t started, int *ret_status)
{
    while (waitpid(started, ret_status, 0) < 0)
        if (errno != EINTR)
            return 0;
    return 1;
}

/* Of an srun in a batch script: its number; -1: it is none, or nobody counts them. */
static int count_srun(const char *command)
{
    const char *prefix = getenv(ENV_SRUNS), *slash = strrchr(command, '/'), *name = slash ? slash + 1 : command;
    int number;

    if (!prefix || (strcmp(name, "srun") && strcmp(name, "srun_cr")))
        return -1;
    number = sruns_begin(prefix);
    if (number < 0)
        complain(0, "%s" SRUNS_SUFFIX ": %s; this step is not part of the job's images", prefix, strerror(-number));
    return number < 0 ? -1 : number;
}

static int outside(int argc, char **argv)
{
    const char *value;
    char *again = NULL;
    pid_t own = getpid();
    int status, srun;

    while (options_next(&command_outside, argc, argv, &value) >= 0)
        again = (char *)value;
    if (argc == optind)
        return complain_usage(&command_outside, "no command to run");
    hand_on_all();
    srun = count_srun(argv[optind]);
    for (int is_again = 0;; is_again = 1) {
        pid_t started = fork();
        if (started < 0)
            return complain(EXIT_SYSTEM, "cannot make a process: %m");
        if (!started)
            become_outsider(argv + optind, own, is_again ? again : NULL, srun);
        child = started;
        int ended = wait_for(started, &status);
        child = 0;
        if (!ended)
            continue;
        if (srun >= 0)
            sruns_end(getenv(ENV_SRUNS), srun);
        stand_in_end_as(status);
    }
}

const struct command command_outside = {
    .name = "outside",
    .operands = "[--] COMMAND [ARG...]",
    .summary = "Run a command that is left out of images, and again after a restart",
    .notes = "COMMAND is not part of the program's image. When the program has come back from\n"
             "one that was taken while COMMAND ran, COMMAND is run again from its beginning.",
    .choices = choices,
    .stops_at_operand = 1,
    .run = outside,
};
