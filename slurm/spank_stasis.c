/* SPDX-License-Identifier: MIT */
/* The SPANK plugin (spank(8)): srun, sbatch and salloc have --checkpoint, --checkpoint-dir and --restart-dir again. One line in
 * plugstack.conf:
 *
 *   optional /usr/lib/x86_64-linux-gnu/stasis/spank_stasis.so [dir=PATTERN] [keep=N] [shim=PATH] [stasis=PATH]
 *
 * It talks to the shim by the environment alone. In srun, sbatch and salloc the options become variables, which Slurm hands on
 * even with --export=NONE; in the task that is about to be executed, as the user, the shim is preloaded when one of them is set.
 * Without them it does nothing, nothing as root, and each of its own failures lets the job run. */
#include <errno.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

#include "../core/floor/interval.h"
#include "../core/floor/names.h"
#include "../core/slurm/slurm.h"
#include "plugin.h"

SPANK_PLUGIN(stasis, 1)

enum option { OPTION_INTERVAL, OPTION_DIRECTORY, OPTION_RESTART, WANTING /* those before it want images */, OPTION_CLEANUP = WANTING, OPTIONS };

static int take_option(int option, const char *value, int remote);

/* What an option sets; `batch`: the variable by which sbatch was told so, which Slurm gave another name there. */
static struct {
    struct spank_option option;
    const char *variable, *batch;
    int is_path;
    char *given;
} options[OPTIONS] = {
    [OPTION_INTERVAL] = { { "checkpoint", "interval", "take an image of each step every interval: minutes, M:S, H:M:S, D-H ...", 1,
                            OPTION_INTERVAL, take_option },
                          ENV_INTERVAL, ENV_BATCH_INTERVAL, 0, NULL },
    [OPTION_DIRECTORY] = { { "checkpoint-dir", "dir", "put images in dir; default: the working directory", 1, OPTION_DIRECTORY,
                             take_option },
                           ENV_DIRECTORY, ENV_BATCH_DIRECTORY, 1, NULL },
    [OPTION_RESTART] = { { "restart-dir", "dir", "instead of running the program, go on from its newest image in dir", 1,
                           OPTION_RESTART, take_option },
                         ENV_RESTART, NULL, 1, NULL },
    [OPTION_CLEANUP] = { { "cleanup", NULL, "sbatch: remove the images of the job when it has ended with status 0", 0, OPTION_CLEANUP, take_option },
                         ENV_CLEANUP, NULL, 0, NULL },
};

/* Remotely it comes by the environment: with --export=NONE a batch step's options do not come at all. */
static int take_option(int option, const char *value, int remote)
{
    uint32_t seconds;

    if (remote)
        return 0;
    if (option == OPTION_INTERVAL && interval_parse(value, &seconds)) {
        slurm_error("%s%s", INTERVAL_BAD, value);
        return -1;
    }
    if (option == OPTION_CLEANUP && strcmp(program_invocation_short_name, "sbatch") && !getenv(ENV_CLEANUP)) { /* a script's srun is told, too */
        slurm_error("stasis: " CLEANUP_BAD);
        return -1;
    }
    free(options[option].given);
    options[option].given = strdup(value ? value : "1");
    if (spank_context() == S_CTX_ALLOCATOR)
        submitted_append();
    return 0;
}

int slurm_spank_init(spank_t spank, int count, char **arguments)
{
    (void)count, (void)arguments;
    for (int i = 0; i < OPTIONS; i++)
        if (spank_option_register(spank, &options[i].option) != ESPANK_SUCCESS)
            slurm_error("stasis: --%s cannot be offered", options[i].option.name);
    for (int i = 0; i < WANTING && spank_context() == S_CTX_ALLOCATOR; i++)
        if (getenv(options[i].variable) || (options[i].batch && getenv(options[i].batch)))
            submitted_append();
    if (spank_context() == S_CTX_ALLOCATOR)
        submitted_look();
    return 0;
}

/* sbatch has taken its options with getopt_long(3): what is behind them is the script. */
static void keep_options(void)
{
    int count = 0;
    char **line = command_line(&count);

    if (line && optind <= count)
        submitted_keep(line, optind);
    free(line);
}

/* What sbatch was given, Slurm gives to its script's sruns as well, wherever the script is by then: the variable has the whole path. */
static int is_sbatchs(const char *option, const char *value)
{
    char name[128] = "SLURM_SPANK__SLURM_SPANK_OPTION_stasis_";
    size_t length = strlen(name);
    const char *given;

    snprintf(name + length, sizeof name - length, "%s", option);
    for (char *at = name + length; (at = strchr(at, '-'));)
        *at = '_';
    given = getenv(name);
    return given && !strcmp(given, value);
}

/* In srun, sbatch and salloc, as the user: option over environment. */
int slurm_spank_init_post_opt(spank_t spank, int count, char **arguments)
{
    spank_context_t where = spank_context();
    int wanted = 0;

    (void)spank, (void)count, (void)arguments;
    if (where == S_CTX_LOCAL) {
        output_note();
    } else if (where == S_CTX_ALLOCATOR) {
        submitted_end_append();
        submitted_note();
    } else {
        return 0;
    }
    for (int i = 0; i < OPTIONS; i++) {
        const char *value = options[i].given;
        if (!value && where == S_CTX_ALLOCATOR && options[i].batch)
            value = getenv(options[i].batch);
        if (value && where == S_CTX_LOCAL && options[i].is_path && getenv(options[i].variable) && is_sbatchs(options[i].option.name, value))
            value = NULL;
        if (!value)
            value = getenv(options[i].variable);
        if (!value || !*value)
            continue;
        wanted |= i < WANTING;
        if (options[i].is_path)
            slurm_export_path(options[i].variable, value);
        else
            setenv(options[i].variable, value, 1);
    }
    if (where == S_CTX_ALLOCATOR && wanted)
        keep_options();
    return 0;
}

/* ---- in the task, as the user, before it is executed ---- */

/* The value of NAME=value among the plugin's arguments, or NULL. */
static const char *argument(int count, char **arguments, const char *name)
{
    size_t length = strlen(name);

    for (int i = 0; i < count; i++)
        if (!strncmp(arguments[i], name, length) && arguments[i][length] == '=')
            return arguments[i] + length + 1;
    return NULL;
}

/* A variable of the task's; "" when it has none. */
static const char *task_variable(spank_t spank, const char *name, char *value, int size)
{
    if (spank_getenv(spank, name, value, size) != ESPANK_SUCCESS)
        *value = 0;
    return value;
}

static uint32_t step_number(spank_t spank)
{
    uint32_t step = NO_VAL;

    return spank_get_item(spank, S_JOB_STEPID, &step) == ESPANK_SUCCESS ? step : NO_VAL;
}

/* The site's pattern: %u the user, %j the job's id, %x its name, %% a percent sign. */
static void expand(spank_t spank, const char *pattern, char *path, size_t size)
{
    char job[64], name[256];
    const struct passwd *user = getpwuid(getuid());
    size_t at = 0;

    task_variable(spank, "SLURM_JOB_ID", job, sizeof job);
    task_variable(spank, "SLURM_JOB_NAME", name, sizeof name);
    for (; *pattern && at + 1 < size; pattern++) {
        const char *piece = NULL;
        if (*pattern == '%' && pattern[1])
            switch (*++pattern) {
            case 'u': piece = user ? user->pw_name : "unknown"; break;
            case 'j': piece = job; break;
            case 'x': piece = name; break;
            default: break;
            }
        if (!piece) {
            path[at++] = *pattern;
            continue;
        }
        for (; *piece && at + 1 < size; piece++)
            path[at++] = *piece == '/' ? '_' : *piece;
    }
    path[at] = 0;
}

/* The site's defaults, where the user has said nothing. */
static void set_defaults(spank_t spank, int count, char **arguments)
{
    const char *pattern = argument(count, arguments, "dir"), *keep = argument(count, arguments, "keep");
    char value[MAX_PATH];

    if (pattern && !*task_variable(spank, ENV_DIRECTORY, value, sizeof value)) {
        expand(spank, pattern, value, sizeof value);
        if (mkdir(value, 0700) && errno != EEXIST)
            slurm_error("stasis: images cannot be put in %s: %m", value);
        spank_setenv(spank, ENV_DIRECTORY, value, 1);
    }
    if (keep)
        spank_setenv(spank, ENV_KEEP, keep, 0);
}

/* 0: the task will not have it. */
static int preload(spank_t spank, const char *shim)
{
    char others[MAX_PATH], value[2 * MAX_PATH];

    task_variable(spank, "LD_PRELOAD", others, sizeof others);
    if (strstr(others, SHIM_NAME))
        return 1;
    if (access(shim, R_OK)) {
        slurm_error("stasis: %s: %m; the task runs without checkpoints", shim);
        return 0;
    }
    snprintf(value, sizeof value, "%s%s%s", shim, *others ? ":" : "", others);
    spank_setenv(spank, "LD_PRELOAD", value, 1);
    snprintf(value, sizeof value, "%d", (int)getpid());
    spank_setenv(spank, ENV_TASK_PID, value, 1); /* a prolog, which comes before the task is executed, has all this, too */
    return 1;
}

static int has_former(spank_t spank, struct former *ret_former)
{
    char value[128], job[64];

    return slurm_former(task_variable(spank, ENV_FORMER, value, sizeof value), task_variable(spank, ENV_SLURM_JOB, job, sizeof job), ret_former);
}

/* Not S_SLURM_RESTART_COUNT, which is 0 in the steps of some jobs. */
static int is_later_life(spank_t spank)
{
    char count[16];
    struct former former;

    return atoi(task_variable(spank, ENV_SLURM_RESTARTS, count, sizeof count)) > 0 || has_former(spank, &former);
}

/* 1: the step has an image of this job in this directory, and goes on from it. */
static int goes_on_from(spank_t spank, const char *directory, const char *job)
{
    char step[64], image[2 * MAX_PATH];

    steps_name(spank, step, sizeof step);
    snprintf(image, sizeof image, "%s/%s.%s" IMAGE_SUFFIX, directory, job, step);
    if (!*directory || !*job || access(image, F_OK))
        return 0;
    spank_setenv(spank, ENV_RESTART, directory, 1);
    spank_setenv(spank, ENV_JOB, job, 1); /* there may be images of other jobs */
    return 1;
}

/* A step of a job that was requeued goes on from its image, if it had one. 1: it does. A script that has come back from its own image knows from
 * which. */
static int goes_on(spank_t spank)
{
    char from[MAX_PATH], directory[MAX_PATH], job[64];
    struct former former;

    if (*task_variable(spank, ENV_SRUN_IMAGE, from, sizeof from) && strcmp(from, SRUN_FRESH))
        spank_setenv(spank, ENV_RESTART, from, 1);
    if (*from)
        return strcmp(from, SRUN_FRESH) != 0;
    if (!is_later_life(spank))
        return 0;
    has_former(spank, &former);
    task_variable(spank, ENV_SLURM_JOB, job, sizeof job);
    if (!*task_variable(spank, ENV_DIRECTORY, directory, sizeof directory) && !getcwd(directory, sizeof directory))
        return 0;
    task_variable(spank, ENV_FROM, from, sizeof from);
    return goes_on_from(spank, from, job) || goes_on_from(spank, directory, job) || goes_on_from(spank, from, former.images)
           || goes_on_from(spank, directory, former.images);
}

/* What the user has asked for; *ret_is_restart: also to restart. */
static int is_wanted(spank_t spank, int *ret_is_restart)
{
    char value[MAX_PATH];
    int is = 0;

    *ret_is_restart = 0;
    for (int i = 0; i < WANTING; i++)
        if (*task_variable(spank, options[i].variable, value, sizeof value)) {
            is = 1;
            *ret_is_restart |= i == OPTION_RESTART;
        }
    return is;
}

static int is_single(spank_t spank)
{
    uint32_t tasks = 0;

    return spank_get_item(spank, S_JOB_TOTAL_TASK_COUNT, &tasks) == ESPANK_SUCCESS && tasks == 1;
}

/* What goes on from its image is another program than the command line says. */
static void choose_program(spank_t spank, int count, char **arguments, int is_restart)
{
    const char *stasis = argument(count, arguments, "stasis");

    if (is_restart)
        program_replace(spank, stasis ? stasis : STASIS_BINDIR "/stasis");
    else
        program_check(spank);
}

/* Which srun of its script it is; what is there of the program that has started srun is not the step's. */
static void settle_name(spank_t spank)
{
    char name[MAX_ID], interval[64], prefix[MAX_PATH];
    uint32_t task = 0;

    if (*task_variable(spank, ENV_SRUN, name, sizeof name) && *task_variable(spank, ENV_SRUNS, prefix, sizeof prefix)
        && spank_get_item(spank, S_TASK_GLOBAL_ID, &task) == ESPANK_SUCCESS && !task)
        sruns_tasks(prefix, atoi(name));
    spank_unsetenv(spank, ENV_RUN);
    spank_unsetenv(spank, ENV_TASK_PID);
    spank_unsetenv(spank, ENV_STEP);
    spank_unsetenv(spank, ENV_SRUNS);
    if (*name)
        spank_setenv(spank, ENV_STEP, name, 1);
    spank_unsetenv(spank, ENV_SRUN);
    spank_unsetenv(spank, ENV_SRUN_IMAGE);
    if (*task_variable(spank, ENV_JOB_INTERVAL, interval, sizeof interval))
        spank_unsetenv(spank, ENV_INTERVAL); /* stasis attend takes images of all */
}

/* Of several tasks none knows where the others are in their file: their output goes by way of srun. */
static void begin_step(spank_t spank, int count, char **arguments)
{
    const char *shim = argument(count, arguments, "shim");
    int is_restart, wanted = is_wanted(spank, &is_restart), single = is_single(spank);

    if (wanted)
        set_defaults(spank, count, arguments);
    if (wanted && !is_restart)
        is_restart = goes_on(spank);
    output_check(spank, wanted && single);
    if (wanted)
        steps_begin(spank, is_later_life(spank), is_restart);
    settle_name(spank);
    if (wanted && preload(spank, shim ? shim : STASIS_LIBDIR "/" SHIM_NAME))
        choose_program(spank, count, arguments, is_restart);
}

static void take_from(spank_t spank)
{
    char own[MAX_PATH], home[MAX_PATH], job[64], directory[MAX_PATH];

    task_variable(spank, "XDG_STATE_HOME", own, sizeof own);
    task_variable(spank, "HOME", home, sizeof home);
    if (slurm_take_from(own, home, task_variable(spank, ENV_SLURM_JOB, job, sizeof job), directory))
        spank_setenv(spank, ENV_FROM, directory, 1);
}

/* The marks and the book of the former job, before the script or anybody else looks for them. */
static void take_over(spank_t spank, const char *directory)
{
    char value[128], job[64], whole[192];
    struct former former;

    task_variable(spank, ENV_SLURM_JOB, job, sizeof job);
    if (slurm_former_begins(task_variable(spank, ENV_FORMER, value, sizeof value), job, whole, sizeof whole))
        spank_setenv(spank, ENV_FORMER, whole, 1);
    if (has_former(spank, &former))
        slurm_take_over(directory, former.job, job);
    else
        spank_unsetenv(spank, ENV_FORMER); /* of the job that has submitted this one */
}

/* sbatch's interval is the whole job's. What the job that has submitted this one has of its own is not this one's. */
static void settle_job(spank_t spank)
{
    char interval[64];

    if (*task_variable(spank, ENV_INTERVAL, interval, sizeof interval))
        spank_setenv(spank, ENV_JOB_INTERVAL, interval, 1);
    else
        spank_unsetenv(spank, ENV_JOB_INTERVAL);
    spank_unsetenv(spank, ENV_INTERVAL);
    spank_unsetenv(spank, ENV_RUN);
    spank_unsetenv(spank, ENV_SRUNS);
    spank_unsetenv(spank, ENV_STEP);
    spank_unsetenv(spank, ENV_FROM);
}

static void begin_batch(spank_t spank, int count, char **arguments)
{
    const char *stasis = argument(count, arguments, "stasis"), *shim = argument(count, arguments, "shim");
    char directory[MAX_PATH];
    int is_restart;

    if (!is_wanted(spank, &is_restart))
        return;
    set_defaults(spank, count, arguments);
    if (!*task_variable(spank, ENV_DIRECTORY, directory, sizeof directory) && getcwd(directory, sizeof directory))
        spank_setenv(spank, ENV_DIRECTORY, directory, 1); /* one for all steps, wherever the script goes */
    take_over(spank, task_variable(spank, ENV_DIRECTORY, directory, sizeof directory));
    settle_job(spank);
    if (is_later_life(spank))
        take_from(spank);
    if (is_later_life(spank))
        spank_setenv(spank, "SLURM_OPEN_MODE", "append", 0); /* files that srun opens for a task */
    spank_setenv(spank, ENV_ATTENDED, "1", 1);
    if (batch_attend(spank, stasis ? stasis : STASIS_BINDIR "/stasis"))
        preload(spank, shim ? shim : STASIS_LIBDIR "/" SHIM_NAME);
}

/* In srun, when it has its step. */
int slurm_spank_local_user_init(spank_t spank, int count, char **arguments)
{
    (void)count, (void)arguments;
    cr_socket_tell(spank);
    return 0;
}

int slurm_spank_task_init(spank_t spank, int count, char **arguments)
{
    uint32_t step = step_number(spank);

    if (step == SLURM_BATCH_SCRIPT)
        begin_batch(spank, count, arguments);
    else if (step < SLURM_MAX_NORMAL_STEP_ID)
        begin_step(spank, count, arguments);
    return 0;
}

int slurm_spank_task_exit(spank_t spank, int count, char **arguments)
{
    (void)count, (void)arguments;
    if (step_number(spank) < SLURM_MAX_NORMAL_STEP_ID)
        steps_note_end(spank);
    return 0;
}
