/* SPDX-License-Identifier: MIT */
/* The steps' side of a moment, while their script stands still. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/image/read.h"
#include "../core/slurm/slurm.h"
#include "locate.h"
#include "options.h"
#include "slurm_commands.h"
#include "slurm_moment.h"

/* Of a job that goes on for another: its steps' images may have either number. The newer one. */
static void look_at_image(const struct moment_wish *wish, const char *job, uint32_t number, struct moment_image *image, uint64_t *taken)
{
    char path[MAX_PATH];
    struct image opened = { 0 };
    int length = snprintf(path, sizeof path, "%s/%s.%" PRIu32 IMAGE_SUFFIX, wish->directory, job, number);

    if (length > 0 && (size_t)length < sizeof path && !image_open(&opened, path)
        && opened.header.taken_seconds * UINT64_C(1000000000) + opened.header.taken_nanoseconds > *taken) {
        *taken = opened.header.taken_seconds * UINT64_C(1000000000) + opened.header.taken_nanoseconds;
        memcpy(image->run, opened.header.run, sizeof image->run);
        image->generation = opened.header.generation;
    }
    image_close(&opened);
}

static struct moment_image newest_image(const struct moment_wish *wish, uint32_t number)
{
    struct moment_image image = { .path = "" };
    uint64_t taken = 0;

    look_at_image(wish, wish->slurm_job, number, &image, &taken);
    look_at_image(wish, strrchr(wish->prefix, '/') + 1, number, &image, &taken);
    return image;
}

static int same_image(const struct moment_image *a, const struct moment_image *b)
{
    return a->generation == b->generation && !memcmp(a->run, b->run, sizeof a->run);
}

/* Of those sruns that wait for the script and have begun: what is their newest image? */
static int list_steps(const struct moment_wish *wish, const struct sruns *sruns, struct moment *moment)
{
    moment->steps = calloc(sruns->running_count + 1, sizeof *moment->steps);
    if (!moment->steps)
        return complain(EXIT_SYSTEM, "no memory");
    for (size_t i = 0; i < sruns->running_count; i++)
        if (sruns->running[i].has_tasks)
            moment->steps[moment->step_count++] = (struct moment_step){ .number = sruns->running[i].number,
                                                                        .image = newest_image(wish, sruns->running[i].number) };
    return 0;
}

/* A step that has ended meanwhile is no failure: in a moment it will not be asked for. */
static int take_images(const struct moment_wish *wish)
{
    char wait[32], images[MAX_PATH + 16];
    char *words[8] = { (char *)locate_self(), "scontrol", "checkpoint", "create", (char *)wish->slurm_job };
    int count = 5, status;

    if (wish->max_wait) {
        snprintf(wait, sizeof wait, "MaxWait=%s", wish->max_wait);
        words[count++] = wait;
    }
    if (wish->is_given) {
        snprintf(images, sizeof images, "ImageDir=%s", wish->directory);
        words[count++] = images;
    }
    setenv(ENV_ATTENDING, "1", 1);
    status = slurm_run(words);
    return status == EXIT_NO_IMAGE || status == EXIT_FAILURE ? EXIT_RUN_AGAIN : status;
}

static size_t count_with_tasks(const char *prefix)
{
    struct sruns sruns;
    size_t count = 0;

    if (sruns_read(prefix, &sruns))
        return SIZE_MAX;
    for (size_t i = 0; i < sruns.running_count; i++)
        count += sruns.running[i].has_tasks != 0;
    sruns_free(&sruns);
    return count;
}

/* Each has an image that it did not have, and none has begun meanwhile. */
static int check_steps(const struct moment_wish *wish, struct moment *moment)
{
    for (size_t i = 0; i < moment->step_count; i++) {
        struct moment_image image = newest_image(wish, moment->steps[i].number);
        if (same_image(&image, &moment->steps[i].image))
            return complain(EXIT_RUN_AGAIN, "srun %" PRIu32 " of job %s has no new image in %s: its step is just ending, or puts its images elsewhere, or its srun was killed with SIGKILL",
                            moment->steps[i].number, wish->slurm_job, wish->directory);
        moment->steps[i].image = image;
    }
    return count_with_tasks(wish->prefix) == moment->step_count ? 0 : complain(EXIT_RUN_AGAIN, "a step of job %s was just beginning", wish->slurm_job);
}

static void know_script(const struct moment_wish *wish, struct moment *moment)
{
    struct stat status;

    if (life_script(wish->prefix, moment->script) || stat(moment->script, &status)) {
        *moment->script = 0;
        return;
    }
    moment->seconds = status.st_mtim.tv_sec;
    moment->nanoseconds = status.st_mtim.tv_nsec;
}

int moment_gather(const struct moment_wish *wish, struct moment *ret_moment)
{
    struct sruns sruns;
    int error = sruns_read(wish->prefix, &sruns), status;

    moment_free(ret_moment);
    if (error)
        return complain(EXIT_SYSTEM, "%s" SRUNS_SUFFIX ": %s", wish->prefix, strerror(-error));
    snprintf(ret_moment->prefix, sizeof ret_moment->prefix, "%s", wish->prefix);
    ret_moment->sruns_length = sruns.length;
    know_script(wish, ret_moment);
    status = sruns.until < 0 ? list_steps(wish, &sruns, ret_moment)
                             : complain(EXIT_REFUSED, "the script of job %s was begun anew, and has not come to where it was before yet", wish->slurm_job);
    if (!status && ret_moment->step_count)
        status = take_images(wish);
    if (!status)
        status = check_steps(wish, ret_moment);
    sruns_free(&sruns);
    return status;
}
