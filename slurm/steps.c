/* SPDX-License-Identifier: MIT */
/* What a batch script that is run again from its top must know of its steps: <dir>/<job>.<step>.step has a line when the step begins, and one
 * when it has come to its end with status 0. Each says how long the file was by then that the step's output goes to. A third one is there when
 * another step, which ran at the same time, wrote to the same file. Of several tasks each has a line for its end, with the number of the job's
 * life: they have come to their end when all have in one life. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>

#include "../core/floor/names.h"
#include "../core/slurm/slurm.h"
#include "plugin.h"

static const char BEGUN[] = "begun", DONE[] = "done", SHARED[] = "shared", TASK[] = "task";

struct mark {
    char directory[MAX_PATH], job[MAX_ID], step[MAX_ID];
    char path[MAX_PATH + 2 * MAX_ID + 16];
    char output[MAX_PATH];   /* "": not a file that we know */
    char sruns[MAX_PATH];    /* ENV_SRUNS; "": nobody keeps that list */
    intmax_t begun, done, shared; /* -1: no such line */
    intmax_t life;           /* of the last task's line, */
    uint32_t ended, most;    /* how many ended in it, and in the one in which most did */
};

static int variable(spank_t spank, const char *name, char *value, int size)
{
    return spank_getenv(spank, name, value, size) == ESPANK_SUCCESS && *value;
}

const char *steps_name(spank_t spank, char *name, int size)
{
    if (!variable(spank, ENV_SRUN, name, size) && !variable(spank, ENV_SLURM_STEP, name, size))
        *name = 0;
    return name;
}

static void set_path(struct mark *mark)
{
    snprintf(mark->path, sizeof mark->path, "%s/%s.%s" MARK_SUFFIX, mark->directory, mark->job, mark->step);
}

/* Of a step of a batch job with images; 0: it is none. */
static int find_mark(spank_t spank, struct mark *mark)
{
    char output[MAX_PATH + 64];

    *mark = (struct mark){ .begun = -1, .done = -1, .shared = -1 };
    if (spank_getenv(spank, ENV_SUBMITTED, output, sizeof output) != ESPANK_SUCCESS
        || !variable(spank, ENV_DIRECTORY, mark->directory, sizeof mark->directory)
        || !variable(spank, ENV_SLURM_JOB, mark->job, sizeof mark->job) || !*steps_name(spank, mark->step, sizeof mark->step))
        return 0;
    if (variable(spank, ENV_STDOUT, output, sizeof output) && strchr(output, '/'))
        snprintf(mark->output, sizeof mark->output, "%s", strchr(output, '/'));
    variable(spank, ENV_SRUNS, mark->sruns, sizeof mark->sruns);
    set_path(mark);
    return 1;
}

static void add_line(const struct mark *mark, const char *word, intmax_t number)
{
    char text[MAX_PATH + 64];
    int file = open(mark->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600), length;

    length = snprintf(text, sizeof text, "%s %jd %s\n", word, number, mark->output);
    if (file >= 0 && write(file, text, (size_t)length) != length)
        slurm_error("stasis: %s: %m", mark->path);
    if (file >= 0)
        close(file);
}

static void add_size(const struct mark *mark, const char *word)
{
    struct stat status;

    add_line(mark, word, !*mark->output || stat(mark->output, &status) ? 0 : status.st_size);
}

static void count_task(struct mark *mark, intmax_t life)
{
    if (life != mark->life)
        mark->ended = 0;
    mark->life = life;
    mark->ended++;
    if (mark->ended > mark->most)
        mark->most = mark->ended;
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
        if (!strcmp(word, TASK))
            count_task(mark, size);
        else
            *(!strcmp(word, BEGUN) ? &mark->begun : !strcmp(word, DONE) ? &mark->done : &mark->shared) = size;
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

static uint32_t count_tasks(spank_t spank)
{
    uint32_t tasks = 0;

    return spank_get_item(spank, S_JOB_TOTAL_TASK_COUNT, &tasks) == ESPANK_SUCCESS ? tasks : 0;
}

/* What several tasks write, srun writes to the step's output: nobody knows what of it is whose. */
static void note_end(spank_t spank, struct mark *mark)
{
    char life[16];

    if (count_tasks(spank) == 1) {
        struct mark known = *mark;
        if (!read_mark(&known) || known.done < 0) /* else it has ended at once, and the file is still to be cut by a later step */
            add_size(mark, DONE);
        return;
    }
    *mark->output = 0;
    add_line(mark, TASK, variable(spank, ENV_SLURM_RESTARTS, life, sizeof life) ? atoi(life) : 0);
}

/* slurmstepd has threads and is root: the file is written by a child that is neither. */
void steps_note_end(spank_t spank)
{
    struct mark mark;
    int status = -1, count = 0;
    uid_t user;
    gid_t group, *others = NULL;

    if (spank_get_item(spank, S_TASK_EXIT_STATUS, &status) != ESPANK_SUCCESS || status
        || !find_mark(spank, &mark)
        || spank_get_item(spank, S_JOB_UID, &user) != ESPANK_SUCCESS || spank_get_item(spank, S_JOB_GID, &group) != ESPANK_SUCCESS
        || spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &others, &count) != ESPANK_SUCCESS)
        return;
    pid_t child = fork();
    if (!child) {
        if (!become_user(user, group, others, count))
            note_end(spank, &mark);
        _exit(0);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
}

/* ---- when it begins, in the task ---- */

/* Calls look for the marks of the job's other steps. */
static void walk_others(struct mark *mark, void (*look)(struct mark *mark, struct mark *other))
{
    size_t job = strlen(mark->job), suffix = sizeof MARK_SUFFIX - 1;
    DIR *entries = opendir(mark->directory);
    struct dirent *entry;

    while (entries && (entry = readdir(entries))) {
        struct mark other = *mark;
        size_t whole = strlen(entry->d_name);
        if (whole <= job + 1 + suffix || strncmp(entry->d_name, mark->job, job) || entry->d_name[job] != '.'
            || strcmp(entry->d_name + whole - suffix, MARK_SUFFIX))
            continue;
        snprintf(other.step, sizeof other.step, "%.*s", (int)(whole - suffix - job - 1), entry->d_name + job + 1);
        set_path(&other);
        other.begun = other.done = other.shared = -1;
        if (strcmp(other.step, mark->step) && read_mark(&other))
            look(mark, &other);
    }
    if (entries)
        closedir(entries);
}

/* One that has failed has no line for its end: the script's own list has. */
static int has_failed(const struct mark *other)
{
    struct sruns sruns;
    int has;

    if (!*other->sruns || sruns_read(other->sruns, &sruns))
        return 0;
    has = !sruns_is_running(&sruns, (uint32_t)atoi(other->step));
    sruns_free(&sruns);
    return has;
}

/* Both have begun, and neither has ended. Of two that begin at once, one sees the other's line. */
static void note_sharing(struct mark *mark, struct mark *other)
{
    if (other->done >= 0 || !*other->output || strcmp(other->output, mark->output) || has_failed(other))
        return;
    add_size(mark, SHARED);
    add_size(other, SHARED);
}

static int has_later; /* of look_for_later: a step with a higher number has begun */

static void look_for_later(struct mark *mark, struct mark *other)
{
    has_later |= atoi(other->step) > atoi(mark->step);
}

/* So that what the script has said again does not come twice. */
static void cut_output(const struct mark *mark, intmax_t size)
{
    struct stat status;

    if (*mark->output && !stat(mark->output, &status) && S_ISREG(status.st_mode) && status.st_size > size && truncate(mark->output, size))
        slurm_error("stasis: %s: %m; it has lines twice", mark->output);
}

/* What a script has emptied with '>' would be lost without a word. */
_Noreturn static void end_at_once(struct mark *mark)
{
    struct stat status;

    if (*mark->output && (stat(mark->output, &status) || status.st_size < mark->done)) {
        slurm_error("stasis: R-FILE-CHANGED: this step had come to its end, but its output %s is shorter than it was then: let the script append "
                    "with '>>'; to run the step again, remove %s", mark->output, mark->path);
        _exit(EXIT_REFUSED);
    }
    walk_others(mark, look_for_later);
    if (!has_later && mark->shared < 0)
        cut_output(mark, mark->done);
    _exit(0);
}

static void begin_several(spank_t spank, struct mark *mark, int is_again)
{
    uint32_t task = 0, tasks = count_tasks(spank);

    *mark->output = 0;
    if (is_again && read_mark(mark) && tasks && mark->most >= tasks)
        _exit(0);
    if (mark->begun < 0 && spank_get_item(spank, S_TASK_GLOBAL_ID, &task) == ESPANK_SUCCESS && !task)
        add_line(mark, BEGUN, 0); /* so that what ended before does not cut their lines off */
}

static void begin_one(spank_t spank, struct mark *mark, int is_again, int has_image)
{
    if (!is_again || !read_mark(mark)) {
        add_size(mark, BEGUN);
        walk_others(mark, note_sharing);
        return;
    }
    if (mark->done >= 0)
        end_at_once(mark);
    if (mark->shared >= 0)
        spank_setenv(spank, ENV_SHARED_OUTPUT, mark->output, 1);
    else if (!has_image && mark->begun >= 0)
        cut_output(mark, mark->begun);
}

void steps_begin(spank_t spank, int is_again, int has_image)
{
    struct mark mark;

    if (!find_mark(spank, &mark))
        return;
    if (count_tasks(spank) == 1)
        begin_one(spank, &mark, is_again, has_image);
    else
        begin_several(spank, &mark, is_again);
}
