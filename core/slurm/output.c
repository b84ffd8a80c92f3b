/* SPDX-License-Identifier: MIT */
/* The output of a step. By Slurm's own way, through slurmstepd and srun, bytes are under way while an image is taken, and nobody
 * could tell at the restart how many of them were the program's before it. So a task writes to srun's file itself, which srun names here
 * and the shim opens (preload/shim/output.c): its size at the image is then exact, and the restart cuts it to that. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../floor/names.h"
#include "slurm.h"

static const struct {
    int descriptor;
    const char *variable;
} streams[] = { { 1, ENV_STDOUT }, { 2, ENV_STDERR } };

enum { STREAMS = 2 };

/* Options by which srun's output goes elsewhere, or is changed on its way. */
static int redirects(const char *word)
{
    static const char *const options[] = { "-o", "-e", "-l", "--output", "--error", "--label", "--pty", "--open-mode" };

    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (!strncmp(word, options[i], strlen(options[i])))
            return 1;
    return 0;
}

/* How far from the end of the command line the first of those words is; 0: there is none. The task, which knows how long the program's own
 * command line is, tells by it whose word it is. */
static int redirecting_word(void)
{
    int count = 0, found = 0;
    char **line = command_line(&count);

    for (int i = 1; i < count && !found; i++)
        if (redirects(line[i]))
            found = count - i;
    free(line);
    return found;
}

void output_note(void)
{
    char link[32], path[MAX_PATH], value[MAX_PATH + 64];
    const char *environment = getenv("ENVIRONMENT"); /* who restarts by hand wants the output where the restart has it */
    int word = redirecting_word(), is_elsewhere = !environment || strcmp(environment, "BATCH") || getenv(ENV_SLURM_STDOUT)
                                                  || getenv(ENV_SLURM_STDERR) || getenv(ENV_SLURM_LABEL);

    for (int i = 0; i < STREAMS; i++) {
        struct stat status;
        unsetenv(streams[i].variable);
        if (is_elsewhere || fstat(streams[i].descriptor, &status) || !S_ISREG(status.st_mode))
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", streams[i].descriptor);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length <= 0)
            continue;
        path[length] = 0;
        snprintf(value, sizeof value, "%ju:%d:%s", (uintmax_t)status.st_ino, word, path);
        setenv(streams[i].variable, value, 1);
    }
}
