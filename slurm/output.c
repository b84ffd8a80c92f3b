/* SPDX-License-Identifier: MIT */
/* The output of a step. By Slurm's own way, through slurmstepd and srun, bytes are under way while an image is taken, and nobody
 * could tell at the restart how many of them were the program's before it. So a task writes to srun's file itself: its size at the image is
 * then exact, and the restart cuts it to that. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "plugin.h"

static const struct {
    int descriptor;
    const char *variable;
} streams[] = { { 1, ENV_STDOUT }, { 2, ENV_STDERR } };

enum { STREAMS = 2 };

/* ---- in srun ---- */

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
    int word = redirecting_word(), is_elsewhere = getenv("SLURM_STDOUTMODE") || getenv("SLURM_STDERRMODE") || getenv("SLURM_LABELIO");

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

/* ---- in the task ---- */

/* The very file, on whichever node; -1 otherwise. */
static int open_same(const char *value, int words)
{
    struct stat status;
    char *rest;
    uintmax_t inode = strtoumax(value, &rest, 10);
    long word = *rest == ':' ? strtol(rest + 1, &rest, 10) : 0;
    int file;

    if (*rest != ':' || rest[1] != '/' || word > words)
        return -1;
    file = open(rest + 1, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file >= 0 && (fstat(file, &status) || !S_ISREG(status.st_mode) || status.st_ino != inode)) {
        close(file);
        return -1;
    }
    if (file >= 0)
        fcntl(file, F_SETFL, O_APPEND);
    return file;
}

static void take(int descriptor, const char *value, int words)
{
    struct stat status;
    int file;

    if (fstat(descriptor, &status) || !S_ISFIFO(status.st_mode)) /* slurmstepd has opened a file for this task */
        return;
    file = open_same(value, words);
    if (file < 0)
        return;
    dup2(file, descriptor);
    close(file);
}

void output_take(spank_t spank, int is_wanted)
{
    char values[STREAMS][MAX_PATH + 64], **words;
    int count = 0;

    for (int i = 0; i < STREAMS; i++) {
        if (spank_getenv(spank, streams[i].variable, values[i], sizeof values[i]) != ESPANK_SUCCESS)
            *values[i] = 0;
        spank_unsetenv(spank, streams[i].variable);
    }
    if (!is_wanted || spank_get_item(spank, S_JOB_ARGV, &count, &words) != ESPANK_SUCCESS)
        return;
    if (*values[0])
        take(1, values[0], count);
    if (*values[1] && !strcmp(values[0], values[1]))
        dup2(1, 2); /* one position, as it was */
    else if (*values[1])
        take(2, values[1], count);
}
