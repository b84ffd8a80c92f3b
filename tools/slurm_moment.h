/* SPDX-License-Identifier: MIT */
/* The image of a whole batch job: that of its script (<dir>/<job>.ckpt), and of each step that ran then an image of its own, all of one moment.
 * <dir>/<job>.moment says which belong together. */
#ifndef STASIS_SLURM_MOMENT_H
#define STASIS_SLURM_MOMENT_H

#include <stddef.h>
#include <stdint.h>

#include "../core/floor/names.h"

/* Which image. */
struct moment_image {
    char path[MAX_PATH];
    uint8_t run[UUID_BYTES];
    uint64_t generation;
};

struct moment_step {
    uint32_t number;       /* which srun of the script: core/slurm/sruns.c */
    struct moment_image image;
};

struct moment {
    char prefix[MAX_PATH]; /* ENV_SRUNS of the script */
    struct moment_image image; /* the script's */
    char script[MAX_PATH]; /* the file that its shell reads; "": none is known */
    int64_t seconds, nanoseconds; /* of that file's last change */
    int64_t sruns_length;  /* of the list of its sruns */
    struct moment_step *steps;
    size_t step_count;
};

void moment_free(struct moment *moment);

/* While the script stands still: takes an image of each of its steps that run, and notes it. slurm_job: Slurm's number of the job now; directory: where
 * images go, with is_given because somebody wished so. 0 or an exit status, said already; EXIT_RUN_AGAIN: in a moment it may be otherwise. */
struct moment_wish {
    const char *prefix, *slurm_job, *directory, *max_wait;
    int is_given;
};
int moment_gather(const struct moment_wish *wish, struct moment *ret_moment);
/* When the script's image is safe: `job` is in its name. 0 or an exit status. */
int moment_write(struct moment *moment, const char *directory, const char *job);

/* The last one of job in directory of which all images are there. 0 or -errno. */
int moment_find(const char *directory, const char *job, struct moment *ret_moment);
/* The script's file, which is here now, becomes as it was then. */
void moment_settle_script(const struct moment *moment, const char *script);
/* Makes all but that and the images as it was then, for a life that begins with it. 0 or -errno. */
int moment_prepare(const struct moment *moment, const char *slurm_job, const char *script);
void moment_remove(const char *directory, const char *job);

#endif
