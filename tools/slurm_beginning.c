/* SPDX-License-Identifier: MIT */
/* How a batch script begins: with its first line, or where it was at the moment of an image of the whole job. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "locate.h"
#include "slurm_attend.h"
#include "slurm_book.h"
#include "slurm_commands.h"
#include "slurm_moment.h"

static void add_variable(struct beginning *beginning, const char *name, const char *value)
{
    if (beginning->count < MOST_VARIABLES && asprintf(&beginning->variables[beginning->count], "%s=%s", name, value) > 0)
        beginning->count++;
}

/* The last moment of which all images are there. */
static int find_moment(const struct attended *job, struct moment *moment)
{
    const char *directories[] = { getenv(ENV_FROM), job->directory }, *jobs[] = { job->number, job->former.images };

    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        for (size_t j = 0; j < sizeof directories / sizeof *directories; j++)
            if (directories[j] && *jobs[i] && !moment_find(directories[j], jobs[i], moment))
                return 1;
    return 0;
}

/* The restorer says what is missing. Without the right to make namespaces, say, a script of several processes cannot. */
static int can_come_back(const struct moment *moment)
{
    return !slurm_run((char *[]){ (char *)locate_self(), "restart", "--check", (char *)moment->image.path, NULL });
}

/* The files of the job lie elsewhere on each node. */
static void map_script(const struct moment *moment, const char *script, struct beginning *beginning)
{
    char map[2 * MAX_PATH + 1];

    if (!*moment->script || !strcmp(moment->script, script))
        return;
    snprintf(map, sizeof map, "%s=%s", moment->script, script);
    setenv(ENV_PATH_MAP, map, 1); /* for can_come_back() */
    add_variable(beginning, ENV_PATH_MAP, map);
}

static int goes_on(struct attended *job, const char *script, struct beginning *beginning)
{
    struct moment moment;
    int error = 0, is;

    if (!find_moment(job, &moment))
        return 0;
    moment_settle_script(&moment, script);
    map_script(&moment, script, beginning);
    is = can_come_back(&moment) && !(error = moment_prepare(&moment, job->number, script));
    if (is) {
        snprintf(job->prefix, sizeof job->prefix, "%s", moment.prefix);
        add_variable(beginning, ENV_RESTART, moment.image.path);
    } else {
        complain(0, "%s cannot be gone back to%s%s; job %s begins with its script's first line", moment.image.path, error ? ": " : "",
                 error ? strerror(-error) : "", job->name);
        beginning->count = 0;
    }
    unsetenv(ENV_PATH_MAP);
    moment_free(&moment);
    return is;
}

/* The highest number of a step that has begun in a former life, by its mark or its image; -1: none has. */
static int last_step(const struct attended *job)
{
    size_t length = strlen(job->number), former = strlen(job->former.images);
    DIR *entries = opendir(job->directory);
    struct dirent *entry;
    int last = -1, number, end;

    while (entries && (entry = readdir(entries))) {
        const char *name = entry->d_name;
        if (!strncmp(name, job->number, length) && name[length] == '.')
            name += length;
        else if (former && !strncmp(name, job->former.images, former) && name[former] == '.')
            name += former;
        else
            continue;
        if (((end = 0, sscanf(name, ".%d" MARK_SUFFIX "%n", &number, &end)) == 1 && end && !name[end])
            || ((end = 0, sscanf(name, ".%d" IMAGE_SUFFIX "%n", &number, &end)) == 1 && end && !name[end]))
            last = number > last ? number : last;
    }
    if (entries)
        closedir(entries);
    return last;
}

static void begins_anew(struct attended *job, const char *script, int is_later)
{
    int is_fresh = is_later && book_began(job->directory, job->number) < 0, error;

    moment_remove(job->directory, job->number);
    if (*job->former.images)
        moment_remove(job->directory, job->former.images);
    snprintf(job->prefix, sizeof job->prefix, "%s/%s", job->directory, job->number);
    error = sruns_begin_anew(job->prefix, is_later && !is_fresh ? last_step(job) : -1);
    if (!error)
        error = life_begin(job->prefix, script, NULL);
    if (!error && is_fresh) /* the former life had come to its end with status 0: no srun goes on from its images */
        error = life_begin(job->prefix, script, (char *[]){ LIFE_WITH_IMAGE, NULL });
    if (error)
        *job->prefix = 0; /* nor can there be images */
}

/* With sbatch --restart-dir the steps go on from other jobs' images: then the script is not part of it. */
void beginning_settle(struct attended *job, const char *script, struct beginning *beginning)
{
    const char *restarts = getenv(ENV_SLURM_RESTARTS), *restart = getenv(ENV_RESTART);
    int is_later = *job->former.job || (restarts && atoi(restarts));

    *beginning = (struct beginning){ 0 };
    if (restart && *restart)
        return;
    if (!is_later || !goes_on(job, script, beginning))
        begins_anew(job, script, is_later);
    if (!*job->prefix)
        return; /* where nothing can be written, it is not under the shim */
    add_variable(beginning, ENV_SRUNS, job->prefix);
    add_variable(beginning, ENV_STEP, BATCH_STEP);
}

void beginning_tell(int pipe, const struct beginning *beginning)
{
    for (int i = 0; i < beginning->count; i++)
        dprintf(pipe, "%s\n", beginning->variables[i]);
    close(pipe);
}

/* Without the plugin: a plain `srun` of the script's is ours. */
static void prefer_wrappers(void)
{
    char directory[MAX_PATH], *value;
    const char *path = getenv("PATH");

    if (locate_helper(WRAPPERS "/srun", directory, NULL) || asprintf(&value, "%s/" WRAPPERS ":%s", directory, path ? path : "/usr/bin:/bin") < 0)
        return;
    setenv("PATH", value, 1);
    free(value);
}

static void take_from(const struct attended *job)
{
    const char *restarts = getenv(ENV_SLURM_RESTARTS);
    char directory[MAX_PATH];

    unsetenv(ENV_FROM); /* of the job that has submitted this one */
    if (restarts && atoi(restarts) && slurm_take_from(getenv("XDG_STATE_HOME"), getenv("HOME"), job->number, directory))
        setenv(ENV_FROM, directory, 1);
}

static void preload(void)
{
    const char *others = getenv("LD_PRELOAD");
    char shim[MAX_PATH], value[3 * MAX_PATH];

    if (locate_shim(shim))
        return;
    snprintf(value, sizeof value, "%s/" SHIM_NAME "%s%s", shim, others && *others ? ":" : "", others ? others : "");
    setenv("LD_PRELOAD", value, 1);
}

static void become_script(char **argv, const struct beginning *beginning)
{
    for (int i = 0; i < beginning->count; i++)
        putenv(beginning->variables[i]);
    if (beginning->count)
        preload();
    execvp(argv[0], argv);
    complain(0, "cannot run '%s': %m", argv[0]);
    _exit(EXIT_NO_IMAGE);
}

int beginning_start(struct attended *job, char **argv, const struct beginning *beginning)
{
    sigset_t all, before;

    setenv(ENV_ATTENDED, "1", 1);
    prefer_wrappers();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    job->script = fork();
    if (job->script < 0)
        return complain(EXIT_SYSTEM, "cannot make a process: %m");
    if (job->script)
        return 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    become_script(argv, beginning);
    return 0;
}

void beginning_prepare(const struct attended *job)
{
    const char *interval = getenv(ENV_INTERVAL);

    take_from(job);
    setenv(ENV_DIRECTORY, job->directory, 1);
    if (interval)
        setenv(ENV_JOB_INTERVAL, interval, 1);
    else
        unsetenv(ENV_JOB_INTERVAL); /* of the job that has submitted this one */
    unsetenv(ENV_INTERVAL);
}
