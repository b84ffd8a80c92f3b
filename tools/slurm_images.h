/* SPDX-License-Identifier: MIT */
/* The images of a job in its directory. */
#ifndef STASIS_SLURM_IMAGES_H
#define STASIS_SLURM_IMAGES_H

#include <stdint.h>

struct job_images {
    int count;         /* of steps that have one */
    int64_t newest;    /* when the newest was taken: seconds since 1970 */
    int64_t seconds;   /* what the dearest has cost, from its moment until it was safe */
    uint64_t bytes;    /* of all of them */
};

/* Adds those of a job in a directory to what is in *images. */
void job_images_add(const char *directory, const char *job, struct job_images *images);
/* Removes all that were taken since then (seconds since 1970), of all its steps, and the parts that belong to them. */
void job_images_remove(const char *directory, const char *job, int64_t since);

#endif
