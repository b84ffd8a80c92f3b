/* SPDX-License-Identifier: MIT */
#include "slurm_images.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../core/floor/names.h"
#include "../core/image/read.h"

/* <job>.<step>.ckpt */
static int is_of_job(const char *name, const char *job)
{
    size_t length = strlen(job), whole = strlen(name);
    static const size_t suffix = sizeof IMAGE_SUFFIX - 1;

    return whole > length + 1 + suffix && !strncmp(name, job, length) && name[length] == '.'
           && !strcmp(name + whole - suffix, IMAGE_SUFFIX);
}

static void add(struct job_images *images, const char *path)
{
    struct image image = { 0 };
    struct stat status;

    if (!image_open(&image, path) && !fstat(image.descriptor, &status)) {
        int64_t taken = (int64_t)image.header.taken_seconds, cost = status.st_mtim.tv_sec - taken;
        images->count++;
        images->bytes += image.header.file_size;
        images->newest = taken > images->newest ? taken : images->newest;
        images->seconds = cost > images->seconds ? cost : images->seconds;
    }
    image_close(&image);
}

void job_images_find(const char *directory, const char *job, struct job_images *ret_images)
{
    char path[MAX_PATH + 256];
    DIR *entries = opendir(directory);
    struct dirent *entry;

    *ret_images = (struct job_images){ 0 };
    while (entries && (entry = readdir(entries)))
        if (is_of_job(entry->d_name, job)) {
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
            add(ret_images, path);
        }
    if (entries)
        closedir(entries);
}
