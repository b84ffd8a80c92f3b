/* SPDX-License-Identifier: MIT */
/* The batch script of a job with images has `stasis attend` as its parent, which Slurm takes for the script: it hands signals on and ends
 * as the script does, and asks for the last images before the time limit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "plugin.h"

/* With what a process becomes the attendant. */
struct attendant {
    const char *path;
    char **environment, **script;
};

/* When it cannot be executed after all, this process waits as plainly as it can. */
_Noreturn static void become_attendant(const struct attendant *attendant, pid_t script)
{
    char option[32];
    int status = 0;

    snprintf(option, sizeof option, "--child=%d", (int)script);
    execve(attendant->path, (char *[]){ "stasis", "attend", option, "--", attendant->script[0], NULL }, attendant->environment);
    while (waitpid(script, &status, 0) < 0 && errno == EINTR)
        continue;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* It has the script's environment, for PATH and SLURM_CONF. */
static int make_attendant(spank_t spank, const char *path, struct attendant *ret_attendant)
{
    int count = 0;

    *ret_attendant = (struct attendant){ .path = path };
    return !access(path, X_OK) && spank_get_item(spank, S_JOB_ENV, &ret_attendant->environment) == ESPANK_SUCCESS
           && spank_get_item(spank, S_JOB_ARGV, &count, &ret_attendant->script) == ESPANK_SUCCESS && count > 0;
}

void batch_attend(spank_t spank, const char *stasis)
{
    struct attendant attendant;
    sigset_t all, before;
    pid_t script;

    if (!make_attendant(spank, stasis, &attendant)) {
        slurm_error("stasis: %s cannot stand by the job; it is not requeued at its time limit", stasis);
        return;
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* what comes before the attendant looks, waits for it */
    script = fork();
    if (script > 0)
        become_attendant(&attendant, script);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (script < 0)
        slurm_error("stasis: cannot make a process: %m; the job is not requeued at its time limit");
}
