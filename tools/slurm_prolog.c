/* SPDX-License-Identifier: MIT */
/* stasis task-prolog: what the plugin does in a task that is about to be executed, where there is none. What it prints, slurmstepd puts into
 * the task's environment: srun(1), --task-prolog. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "../core/slurm/slurm.h"
#include "commands.h"
#include "locate.h"

static const struct choice choices[] = { { 0 } };

static const char *setting(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* Where a step of a job that goes on has its image, and under which number. */
struct image_place {
    char directory[MAX_PATH], job[MAX_ID];
};

static int is_in(struct image_place *place, const char *directory, const char *job)
{
    const char *srun = setting(ENV_SRUN), *step = srun ? srun : setting(ENV_SLURM_STEP);
    char image[MAX_PATH + 2 * MAX_ID];

    if (!directory || !*job || !step)
        return 0;
    snprintf(image, sizeof image, "%s/%s.%s" IMAGE_SUFFIX, directory, job, step);
    snprintf(place->directory, sizeof place->directory, "%s", directory);
    snprintf(place->job, sizeof place->job, "%s", job);
    return !access(image, F_OK);
}

/* A step of a job that was requeued goes on from its image, if it had one. */
static int goes_on(struct image_place *place)
{
    const char *restarts = setting(ENV_SLURM_RESTARTS), *where = setting(ENV_DIRECTORY), *from = setting(ENV_FROM), *job = setting(ENV_SLURM_JOB);
    char here[MAX_PATH];
    struct former former;

    if ((!slurm_former(setting(ENV_FORMER), job, &former) && (!restarts || !atoi(restarts))) || !job)
        return 0;
    if (!where)
        where = getcwd(here, sizeof here);
    return is_in(place, from, job) || is_in(place, where, job) || is_in(place, from, former.images) || is_in(place, where, former.images);
}

static int print_preload(void)
{
    char shim[MAX_PATH];
    const char *others = getenv("LD_PRELOAD");

    if (others && strstr(others, SHIM_NAME))
        return 0;
    if (locate_shim(shim))
        return complain(EXIT_INTERNAL, "%s is not on this node; the task runs without checkpoints", SHIM_NAME);
    printf("export LD_PRELOAD=%s/" SHIM_NAME "%s%s\n", shim, others && *others ? ":" : "", others ? others : "");
    return 0;
}

static int print_variables(void)
{
    const char *srun = setting(ENV_SRUN), *image = setting(ENV_SRUN_IMAGE);
    const char *prefix = setting(ENV_SRUNS), *task = setting(ENV_SLURM_TASK);
    struct image_place place;

    if (srun && prefix && task && !strcmp(task, "0"))
        sruns_tasks(prefix, atoi(srun));
    printf("unset " ENV_RUN "\nunset " ENV_STEP "\nunset " ENV_SRUNS "\n"); /* of the program that has started srun */
    if (setting(ENV_JOB_INTERVAL))
        printf("unset " ENV_INTERVAL "\n"); /* stasis attend takes images of all */
    if (srun)
        printf("export " ENV_STEP "=%s\n", srun);
    if (!setting(ENV_RESTART) && image && strcmp(image, SRUN_FRESH))
        printf("export " ENV_RESTART "=%s\n", image);
    else if (!setting(ENV_RESTART) && !image && goes_on(&place))
        printf("export " ENV_RESTART "=%s\nexport " ENV_JOB "=%s\n", place.directory, place.job);
    printf("unset " ENV_SRUN "\nunset " ENV_SRUN_IMAGE "\n");
    return print_preload();
}

static int run_prolog(int argc, char **argv)
{
    const char *own = setting(ENV_PROLOG);

    (void)argc;
    if (setting(ENV_INTERVAL) || setting(ENV_DIRECTORY) || setting(ENV_RESTART))
        print_variables(); /* of what is wrong, the task is told; it runs */
    fflush(stdout);
    if (own) {
        argv[0] = (char *)own;
        execv(own, argv);
        return complain(EXIT_SYSTEM, "cannot run %s: %m", own);
    }
    return 0;
}

const struct command command_task_prolog = {
    .name = PROLOG_NAME,
    .operands = "",
    .summary = "Slurm's task prolog, for 'stasis srun' and 'stasis sbatch'",
    .notes = NULL,
    .choices = choices,
    .run = run_prolog,
};
