/* SPDX-License-Identifier: MIT */
/* See core/slurm/output.c. In the task: only slurmstepd knows which words of srun's command line were the program's. */
#include <stdlib.h>
#include <string.h>

#include "../core/floor/names.h"
#include "plugin.h"

enum { UNKNOWN = 0 };

/* The number behind the first colon of INODE:WORD:PATH. */
static int word_of(const char *value)
{
    const char *colon = strchr(value, ':');

    return colon ? atoi(colon + 1) : UNKNOWN;
}

void output_check(spank_t spank, int is_wanted)
{
    static const char *const variables[] = { ENV_STDOUT, ENV_STDERR };
    char value[MAX_PATH + 64], **words;
    int count = 0;

    if (spank_get_item(spank, S_JOB_ARGV, &count, &words) != ESPANK_SUCCESS)
        is_wanted = 0;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (spank_getenv(spank, variables[i], value, sizeof value) == ESPANK_SUCCESS && (!is_wanted || word_of(value) > count))
            spank_unsetenv(spank, variables[i]);
}
