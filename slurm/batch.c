/* SPDX-License-Identifier: MIT */
/* The batch script of a job with images has `stasis attend` as its parent, which Slurm takes for the script: it hands signals on and ends
 * as the script does, and asks for the last images before the time limit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "plugin.h"

/* With what a process becomes the attendant. */
struct attendant {
    const char *path;
    char **environment, **script; /* the script and its arguments: so many words */
    int count;
};

enum { ATTENDANT_WORDS = 4 };

/* When it cannot be executed after all, this process waits as plainly as it can. */
_Noreturn static void become_attendant(const struct attendant *attendant, pid_t script)
{
    char option[32], *words[attendant->count + ATTENDANT_WORDS + 1];
    int status = 0;

    memcpy(words, (char *[]){ "stasis", "attend", option, "--" }, sizeof *words * ATTENDANT_WORDS);
    memcpy(words + ATTENDANT_WORDS, attendant->script, sizeof *words * (size_t)attendant->count);
    words[attendant->count + ATTENDANT_WORDS] = NULL;
    snprintf(option, sizeof option, "--child=%d", (int)script);
    execve(attendant->path, words, attendant->environment);
    while (waitpid(script, &status, 0) < 0 && errno == EINTR)
        continue;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* It has the script's environment, for PATH and SLURM_CONF. */
static int make_attendant(spank_t spank, const char *path, struct attendant *ret_attendant)
{
    *ret_attendant = (struct attendant){ .path = path };
    return !access(path, X_OK) && spank_get_item(spank, S_JOB_ENV, &ret_attendant->environment) == ESPANK_SUCCESS
           && spank_get_item(spank, S_JOB_ARGV, &ret_attendant->count, &ret_attendant->script) == ESPANK_SUCCESS && ret_attendant->count > 0;
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
