/* SPDX-License-Identifier: MIT */
/* Slurm's own programs are left alone, when LD_PRELOAD was meant for the tasks that they start; and a task's prolog. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "../../core/floor/names.h"
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

extern char **environ;

NEXT_OF(unsetenv);

/* As it was executed: getauxval(3). */
static const char *own_name(void)
{
    const char *path = (const char *)getauxval(AT_EXECFN);
    return path ? text_file_name(path) : "";
}

/* Started by the script of a batch job that is itself under us. */
int clients_is_srun_of_batch(void)
{
    const char *name = own_name(), *step = *name == 's' ? text_environment(environ, ENV_STEP) : NULL;
    return step && text_equal(step, BATCH_STEP) && (text_equal(name, "srun") || text_equal(name, "srun_cr"));
}

/* What it starts is a run of its own; a job that a batch script submits is no part of that script. */
static void forget_run(void)
{
    const char *step = text_environment(environ, ENV_STEP);
    char *libraries = (char *)text_environment(environ, "LD_PRELOAD");

    if (libraries && step && text_equal(step, BATCH_STEP))
        text_leave_out(libraries, SHIM_NAME);
    NEXT(unsetenv)(ENV_RUN);
    NEXT(unsetenv)(ENV_STEP);
    NEXT(unsetenv)(ENV_SRUNS);
}

int clients_is_one(void)
{
    static const char *const names[] = { "srun", "sbatch", "salloc", "scontrol", "squeue", "scancel", "sattach", "sbcast", "sinfo", "sstat", "sacct" };
    const char *name = own_name();

    if (*name != 's')
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (text_equal(name, names[i])) {
            forget_run();
            return 1;
        }
    return 0;
}

static int is_slurmstepd(long pid)
{
    static const char NAME[] = "slurmstepd\n";
    char path[64], name[sizeof NAME] = "";
    size_t at = text_add_number(path, sizeof path, text_add(path, sizeof path, 0, "/proc/"), (uint64_t)pid);
    long file;

    text_add(path, sizeof path, at, "/comm");
    file = SYS_CALL(open, path, O_RDONLY | O_CLOEXEC, 0, 0, 0, 0);
    if (file < 0)
        return 0;
    SYS_CALL(read, file, name, sizeof name - 1, 0, 0, 0);
    sys_close((int)file);
    return text_equal(name, NAME);
}

/* It is a child of what is to become the task, and is slurmstepd still. Whoever belongs to the task already has its run. */
int clients_is_prolog(void)
{
    char *task = (char *)text_environment(environ, ENV_TASK_PID);
    const char *number = task;
    uint64_t pid;

    if (!task || !*task || text_environment(environ, ENV_RUN))
        return 0;
    pid = text_number(&number);
    if (pid && (pid != (uint64_t)SYS_CALL(getppid, 0, 0, 0, 0, 0, 0) || !is_slurmstepd((long)pid)))
        return 0;
    task[0] = '0'; /* so that what it executes knows it, too */
    task[1] = 0;
    return 1;
}
