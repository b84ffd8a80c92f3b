/* SPDX-License-Identifier: MIT */
/* The batch script of a job with images has `stasis attend` as its parent, which Slurm takes for the script: it hands signals on and ends
 * as the script does, and asks for the last images before the time limit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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

enum { ATTENDANT_WORDS = 5 };

/* When it cannot be executed after all, this process waits as plainly as it can. */
_Noreturn static void become_attendant(const struct attendant *attendant, pid_t script, int tells)
{
    char option[32], tell[32], *words[attendant->count + ATTENDANT_WORDS + 1];
    int status = 0;

    memcpy(words, (char *[]){ "stasis", "attend", option, tell, "--" }, sizeof *words * ATTENDANT_WORDS);
    memcpy(words + ATTENDANT_WORDS, attendant->script, sizeof *words * (size_t)attendant->count);
    words[attendant->count + ATTENDANT_WORDS] = NULL;
    snprintf(option, sizeof option, "--child=%d", (int)script);
    snprintf(tell, sizeof tell, "--tell=%d", tells);
    execve(attendant->path, words, attendant->environment);
    close(tells);
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

/* Lines NAME=VALUE until it hangs up: with what the script is to begin. How many. */
static int be_told(spank_t spank, int told)
{
    FILE *lines = fdopen(told, "r");
    char *line = NULL, *value;
    size_t room = 0;
    int count = 0;

    while (lines && getline(&line, &room, lines) > 0) {
        line[strcspn(line, "\n")] = 0;
        value = strchr(line, '=');
        if (!value)
            continue;
        *value = 0;
        count += spank_setenv(spank, line, value + 1, 1) == ESPANK_SUCCESS;
    }
    free(line);
    if (lines)
        fclose(lines);
    return count;
}

int batch_attend(spank_t spank, const char *stasis)
{
    struct attendant attendant;
    sigset_t all, before;
    pid_t script;
    int ends[2], told;

    if (!make_attendant(spank, stasis, &attendant) || pipe(ends)) {
        slurm_error("stasis: %s cannot stand by the job; it is not requeued at its time limit", stasis);
        return 0;
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* what comes before the attendant looks, waits for it */
    script = fork();
    close(ends[script > 0 ? 0 : 1]);
    if (script > 0)
        become_attendant(&attendant, script, ends[1]);
    told = be_told(spank, ends[0]);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (script < 0)
        slurm_error("stasis: cannot make a process: %m; the job is not requeued at its time limit");
    return told;
}
