/* SPDX-License-Identifier: MIT */
/* The shim comes with the loader, and some programs have none. In the task, before it is executed. */
#include <unistd.h>

#include "../core/floor/names.h"
#include "../core/registry/preloadable.h"
#include "plugin.h"

/* Slurm 22.05 does not have it. */
spank_err_t spank_prepend_task_argv(spank_t spank, int count, const char *words[]) __attribute__((weak));

/* With --multi-prog the word is a file of programs, and nothing is against it. */
static struct refusal look(spank_t spank, char file[MAX_PATH])
{
    char **words;
    int count = 0;

    if (spank_get_item(spank, S_JOB_ARGV, &count, &words) != ESPANK_SUCCESS || count < 1)
        return (struct refusal){ NULL, NULL };
    return preloadable_check(words[0], file);
}

void program_check(spank_t spank)
{
    char file[MAX_PATH];
    struct refusal refusal = look(spank, file);

    if (refusal.name)
        slurm_error("stasis: %s: %s %s; the task runs without checkpoints", refusal.name, file, refusal.reason);
}

void program_replace(spank_t spank, const char *stasis)
{
    char file[MAX_PATH];
    struct refusal refusal;

    if (spank_prepend_task_argv && !access(stasis, X_OK) && spank_prepend_task_argv(spank, 1, &stasis) == ESPANK_SUCCESS)
        return;
    refusal = look(spank, file);
    if (!refusal.name)
        return;
    slurm_error("stasis: %s: %s %s, so nothing can go on in its place; name another program, for it is not run", refusal.name, file, refusal.reason);
    _exit(EXIT_REFUSED);
}
