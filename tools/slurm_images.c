/* SPDX-License-Identifier: MIT */
#include "slurm_images.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "../core/image/entry.h"
#include "../core/image/read.h"
#include "../core/image/tasks.h"

/* <job>.<step>.ckpt, <job>.ckpt */
static int is_of_job(const char *name, const char *job)
{
    size_t length = strlen(job), whole = strlen(name);
    static const size_t suffix = sizeof IMAGE_SUFFIX - 1;

    return whole >= length + suffix && !strncmp(name, job, length) && name[length] == '.'
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

void job_images_add(const char *directory, const char *job, struct job_images *images)
{
    char path[MAX_PATH + 256];
    DIR *entries = opendir(directory);
    struct dirent *entry;

    while (entries && (entry = readdir(entries)))
        if (is_of_job(entry->d_name, job)) {
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
            add(images, path);
        }
    if (entries)
        closedir(entries);
}

/* The index first: without it the parts are nothing. */
static void remove_image(struct image *image, const char *path)
{
    char parts[MAX_PATH], part[MAX_PATH + MAX_PART_NAME];
    const struct task_record *tasks;
    uint32_t count;
    int is_index = !tasks_read(image, &tasks, &count);

    if (unlink(path) || !is_index)
        return;
    tasks_directory(image, path, parts);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(part, sizeof part, "%s/%s", parts, tasks[i].name);
        if (tasks[i].state == PART_WRITTEN)
            unlink(part);
    }
    snprintf(part, sizeof part, "%s/" PARTS_LOCK, parts);
    unlink(part); /* the job is over; who wants it makes it again */
    rmdir(parts); /* not while there are others */
}

struct removal {
    const char *directory, *job;
    int64_t since;
};

static int remove_one(void *context, const char *name)
{
    const struct removal *removal = context;
    struct image image = { 0 };
    char path[MAX_PATH + NAME_MAX];
    size_t job;

    if (!entry_stem(name, &job) || job != strlen(removal->job) || strncmp(name, removal->job, job))
        return 0;
    snprintf(path, sizeof path, "%s/%s", removal->directory, name);
    if (!image_open(&image, path) && (int64_t)image.header.taken_seconds >= removal->since)
        remove_image(&image, path);
    image_close(&image);
    return 0;
}

void job_images_remove(const char *directory, const char *job, int64_t since)
{
    struct removal removal = { directory, job, since };
    int entries = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (entries < 0)
        return;
    entry_walk(entries, remove_one, &removal);
    close(entries);
}
