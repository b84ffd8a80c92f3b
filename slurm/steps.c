/* SPDX-License-Identifier: MIT */
/* What a batch script that is run again from its top must know of its steps: <dir>/<job>.<step>.step has a line when the step begins, and one
 * when it has come to its end with status 0. Each says how long the file was by then that the step's output goes to. */
#include <dirent.h>
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

struct mark {
    char directory[MAX_PATH], job[MAX_ID], step[MAX_ID];
    char path[MAX_PATH + 2 * MAX_ID + 16];
    char output[MAX_PATH];   /* "": not a file that we know */
    intmax_t begun, done;    /* -1: no such line */
};

static int variable(spank_t spank, const char *name, char *value, int size)
{
    return spank_getenv(spank, name, value, size) == ESPANK_SUCCESS && *value;
}

static void set_path(struct mark *mark)
{
    snprintf(mark->path, sizeof mark->path, "%s/%s.%s" MARK_SUFFIX, mark->directory, mark->job, mark->step);
}

/* Of a step of a batch job with images; 0: it is none. */
static int find_mark(spank_t spank, struct mark *mark)
{
    char output[MAX_PATH + 64];

    *mark = (struct mark){ .begun = -1, .done = -1 };
    if (spank_getenv(spank, ENV_SUBMITTED, output, sizeof output) != ESPANK_SUCCESS
        || !variable(spank, ENV_DIRECTORY, mark->directory, sizeof mark->directory)
        || !variable(spank, ENV_SLURM_JOB, mark->job, sizeof mark->job) || !variable(spank, ENV_SLURM_STEP, mark->step, sizeof mark->step))
        return 0;
    if (variable(spank, ENV_STDOUT, output, sizeof output) && strchr(output, '/'))
        snprintf(mark->output, sizeof mark->output, "%s", strchr(output, '/'));
    set_path(mark);
    return 1;
}

static void add_line(const struct mark *mark, const char *word)
{
    char text[MAX_PATH + 64];
    struct stat status;
    int file = open(mark->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600), length;

    if (!*mark->output || stat(mark->output, &status))
        status.st_size = 0;
    length = snprintf(text, sizeof text, "%s %jd %s\n", word, (intmax_t)status.st_size, mark->output);
    if (file >= 0 && write(file, text, (size_t)length) != length)
        slurm_error("stasis: %s: %m", mark->path);
    if (file >= 0)
        close(file);
}

/* 0: the step has never begun. */
static int read_mark(struct mark *mark)
{
    FILE *file = fopen(mark->path, "re");
    char word[8];
    intmax_t size;

    while (file && fscanf(file, "%7s %jd%*1[ ]", word, &size) == 2) {
        if (fscanf(file, "%4095[^\n]", mark->output) != 1)
            *mark->output = 0;
        *(strcmp(word, "begun") ? &mark->done : &mark->begun) = size;
    }
    if (file)
        fclose(file);
    return file != NULL;
}

/* ---- at its end, in slurmstepd ---- */

/* Only the user's rights, for good. */
static int become_user(uid_t user, gid_t group, const gid_t *others, int count)
{
    return syscall(SYS_setgroups, (size_t)count, others) || syscall(SYS_setresgid, group, group, group)
           || syscall(SYS_setresuid, user, user, user);
}

/* slurmstepd has threads and is root: the file is written by a child that is neither. */
void steps_note_end(spank_t spank)
{
    struct mark mark;
    int status = -1, count = 0;
    uint32_t tasks = 0;
    uid_t user;
    gid_t group, *others = NULL;

    if (spank_get_item(spank, S_TASK_EXIT_STATUS, &status) != ESPANK_SUCCESS || status
        || spank_get_item(spank, S_JOB_TOTAL_TASK_COUNT, &tasks) != ESPANK_SUCCESS || tasks != 1 || !find_mark(spank, &mark)
        || spank_get_item(spank, S_JOB_UID, &user) != ESPANK_SUCCESS || spank_get_item(spank, S_JOB_GID, &group) != ESPANK_SUCCESS
        || spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &others, &count) != ESPANK_SUCCESS)
        return;
    pid_t child = fork();
    if (!child) {
        if (!become_user(user, group, others, count))
            add_line(&mark, "done");
        _exit(0);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
}

/* ---- when it begins, in the task ---- */

/* What the marks of the job's other steps say. */
struct others {
    int is_shared;   /* one that has begun and not ended writes to the same file */
    int has_later;   /* one with a higher number has begun */
};

static void look_at_other(const struct mark *mark, const char *name, struct others *others)
{
    struct mark other = *mark;
    size_t job = strlen(mark->job), whole = strlen(name), suffix = sizeof MARK_SUFFIX - 1;

    if (whole <= job + 1 + suffix || strncmp(name, mark->job, job) || name[job] != '.' || strcmp(name + whole - suffix, MARK_SUFFIX))
        return;
    snprintf(other.step, sizeof other.step, "%.*s", (int)(whole - suffix - job - 1), name + job + 1);
    if (!strcmp(other.step, mark->step))
        return;
    set_path(&other);
    other.done = -1;
    *other.output = 0;
    if (!read_mark(&other))
        return;
    others->has_later |= atoi(other.step) > atoi(mark->step);
    others->is_shared |= other.done < 0 && *other.output && !strcmp(other.output, mark->output);
}

static struct others find_others(const struct mark *mark)
{
    struct others others = { 0 };
    DIR *entries = opendir(mark->directory);
    struct dirent *entry;

    while (entries && (entry = readdir(entries)))
        look_at_other(mark, entry->d_name, &others);
    if (entries)
        closedir(entries);
    return others;
}

/* So that what the script has said again does not come twice. */
static void cut_output(const struct mark *mark, intmax_t size)
{
    struct stat status;

    if (*mark->output && !stat(mark->output, &status) && S_ISREG(status.st_mode) && status.st_size > size && truncate(mark->output, size))
        slurm_error("stasis: %s: %m; it has lines twice", mark->output);
}

/* What a script has emptied with '>' would be lost without a word. */
_Noreturn static void end_at_once(const struct mark *mark, const struct others *others)
{
    struct stat status;

    if (*mark->output && (stat(mark->output, &status) || status.st_size < mark->done)) {
        slurm_error("stasis: R-FILE-CHANGED: this step had come to its end, but its output %s is shorter than it was then: let the script append "
                    "with '>>'; to run the step again, remove %s", mark->output, mark->path);
        _exit(EXIT_REFUSED);
    }
    if (!others->has_later && !others->is_shared)
        cut_output(mark, mark->done);
    _exit(0);
}

void steps_begin(spank_t spank, int is_again, int has_image)
{
    struct mark mark;
    struct others others;

    if (!find_mark(spank, &mark))
        return;
    if (!is_again || !read_mark(&mark)) {
        add_line(&mark, "begun");
        return;
    }
    others = find_others(&mark);
    if (mark.done >= 0)
        end_at_once(&mark, &others);
    if (others.is_shared)
        spank_setenv(spank, ENV_SHARED_OUTPUT, mark.output, 1);
    else if (!has_image && mark.begun >= 0)
        cut_output(&mark, mark.begun);
}
