/* SPDX-License-Identifier: MIT */
/* A batch script that is run again from its top starts steps again that had come to their end. <dir>/<job>.<step>.done says so, with the size
 * and path of the file that the step's output went to: such a step ends at once. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>

#include "../core/floor/names.h"
#include "plugin.h"

static int variable(spank_t spank, const char *name, char *value, int size)
{
    return spank_getenv(spank, name, value, size) == ESPANK_SUCCESS && *value;
}

/* Of a step of a batch job with images; 0: it is none. */
static int mark_path(spank_t spank, char *path, size_t size)
{
    char directory[MAX_PATH], job[MAX_ID], step[MAX_ID];

    if (spank_getenv(spank, ENV_SUBMITTED, directory, sizeof directory) != ESPANK_SUCCESS || !variable(spank, ENV_DIRECTORY, directory, sizeof directory) || !variable(spank, ENV_SLURM_JOB, job, sizeof job)
        || !variable(spank, ENV_SLURM_STEP, step, sizeof step))
        return 0;
    int length = snprintf(path, size, "%s/%s.%s" DONE_SUFFIX, directory, job, step);
    return length > 0 && (size_t)length < size;
}

/* ---- at its end, in slurmstepd ---- */

/* Only the user's rights, for good. */
static int become_user(uid_t user, gid_t group, const gid_t *others, int count)
{
    return syscall(SYS_setgroups, (size_t)count, others) || syscall(SYS_setresgid, group, group, group)
           || syscall(SYS_setresuid, user, user, user);
}

static void write_mark(const char *path, const char *output)
{
    struct stat status;
    char text[MAX_PATH + 32];
    const char *name = output ? strchr(output, '/') : NULL;
    int mark = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600), length;

    if (!name || stat(name, &status))
        status.st_size = 0;
    length = snprintf(text, sizeof text, "%jd %s\n", (intmax_t)status.st_size, name ? name : "");
    if (mark < 0 || write(mark, text, (size_t)length) != length)
        _exit(EXIT_CANNOT_WRITE);
    _exit(0);
}

/* slurmstepd has threads and is root: the file is written by a child that is neither. */
void finished_note(spank_t spank)
{
    char path[MAX_PATH], output[MAX_PATH + 64];
    int status = -1, count = 0, has_output;
    uint32_t tasks = 0;
    uid_t user;
    gid_t group, *others = NULL;

    if (spank_get_item(spank, S_TASK_EXIT_STATUS, &status) != ESPANK_SUCCESS || status
        || spank_get_item(spank, S_JOB_TOTAL_TASK_COUNT, &tasks) != ESPANK_SUCCESS || tasks != 1 || !mark_path(spank, path, sizeof path)
        || spank_get_item(spank, S_JOB_UID, &user) != ESPANK_SUCCESS || spank_get_item(spank, S_JOB_GID, &group) != ESPANK_SUCCESS
        || spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &others, &count) != ESPANK_SUCCESS)
        return;
    has_output = variable(spank, ENV_STDOUT, output, sizeof output);
    pid_t child = fork();
    if (!child) {
        if (become_user(user, group, others, count))
            _exit(EXIT_NOT_ALLOWED);
        write_mark(path, has_output ? output : NULL);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
}

/* ---- when it is started again, in the task ---- */

/* What a script has emptied with '>' would be lost without a word. */
static void end_at_once(const char *path, FILE *mark)
{
    intmax_t size = 0;
    char output[MAX_PATH] = "";
    struct stat status;
    int read = fscanf(mark, "%jd %4095[^\n]", &size, output);

    fclose(mark);
    if (read == 2 && (stat(output, &status) || status.st_size < size)) {
        slurm_error("stasis: R-FILE-CHANGED: this step had come to its end, but its output %s is shorter than it was then: let the script append "
                    "with '>>'; to run the step again, remove %s", output, path);
        _exit(EXIT_REFUSED);
    }
    _exit(0);
}

void finished_end(spank_t spank)
{
    char path[MAX_PATH];
    FILE *mark = mark_path(spank, path, sizeof path) ? fopen(path, "re") : NULL;

    if (mark)
        end_at_once(path, mark);
}
