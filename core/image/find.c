/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commit.h"
#include "entry.h"
#include "read.h"

/* One image_find on its way. */
struct find {
    int directory;
    const char *job;
    const char *step;
    struct buffer names; /* struct entry, one for each file that fits, without generation number */
};

static void add_line(struct buffer *lines, const char *line, const char *reason)
{
    if (!lines)
        return;
    buffer_add(lines, line, strlen(line));
    if (reason) {
        buffer_add(lines, ": ", 2);
        buffer_add(lines, reason, strlen(reason));
    }
    buffer_add(lines, "\n", 2);
    /* The NUL stands behind the text, not in it. */
    if (!lines->error)
        lines->length--;
}

/* 1 when id is NULL or the same as text[length]. */
static int fits(const char *id, const char *text, size_t length)
{
    return !id || (strlen(id) == length && !memcmp(id, text, length));
}

static int fits_step(const char *id, const char *text, size_t length, size_t job)
{
    if (entry_is_whole_job(length, job))
        return fits(id, BATCH_STEP, strlen(BATCH_STEP));
    return fits(id, text + job + 1, length - strlen(IMAGE_SUFFIX) - job - 1);
}

static int add_name(void *context, const char *text)
{
    struct find *find = context;
    struct entry entry = { "" };
    size_t job, length = entry_stem(text, &job);

    if (!length || !fits(find->job, text, job) || !fits_step(find->step, text, length, job))
        return 0;
    memcpy(entry.name, text, length);
    buffer_add(&find->names, &entry, sizeof entry);
    return find->names.error;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* Sorts, and keeps one of each. Returns how many there are. */
static size_t unique_names(struct find *find)
{
    struct entry *names = (struct entry *)find->names.bytes;
    size_t count = find->names.length / sizeof *names, kept = 0;

    if (count)
        qsort(names, count, sizeof *names, compare_entries);
    for (size_t i = 0; i < count; i++)
        if (!kept || compare_entries(&names[kept - 1], &names[i]))
            names[kept++] = names[i];
    return kept;
}

/* Drops those of whole batch jobs where there are others. Returns how many are left. */
static size_t prefer_steps(struct entry *names, size_t count)
{
    size_t kept = 0, job, length;

    for (size_t i = 0; i < count; i++) {
        length = entry_stem(names[i].name, &job);
        if (!entry_is_whole_job(length, job))
            names[kept++] = names[i];
    }
    return kept ? kept : count;
}

static int choose_name(struct find *find, struct entry *ret_name, struct buffer *candidates)
{
    int error = entry_walk(find->directory, add_name, find);
    size_t count = error ? 0 : unique_names(find);
    struct entry *names = (struct entry *)find->names.bytes;

    if (!find->step)
        count = prefer_steps(names, count);

    if (error || !count)
        return error ? error : -ENOENT;
    if (count == 1) {
        *ret_name = names[0];
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        add_line(candidates, names[i].name, NULL);
    return -ENOTUNIQ;
}

/* Whether entry opens. A file that is not there is not worth a line. */
static int try_one(const struct find *find, const char *entry, struct buffer *candidates)
{
    struct image image;
    int error = image_open_at(&image, find->directory, entry);

    image_close(&image);
    if (error && error != -ENOENT)
        add_line(candidates, entry, image.reason);
    return error;
}

/* Turns name into that of its newest generation that opens. An error that is ours (no memory) ends the search: it must
 * not bring back an older state than there is. */
static int choose_generation(struct find *find, struct entry *name, struct buffer *candidates)
{
    struct buffer numbers;
    struct entry generation;
    int error = entry_generations(find->directory, name->name, &numbers), first;

    if (error)
        return error;
    first = error = try_one(find, name->name, candidates);
    for (size_t at = 0; error && image_error_is_of_file(error) && at < numbers.length; at += sizeof(unsigned)) {
        error = entry_format(&generation, "%s.%u", name->name, *(const unsigned *)(numbers.bytes + at));
        if (!error)
            error = try_one(find, generation.name, candidates);
        if (first == -ENOENT)
            first = error;
        if (!error)
            *name = generation;
    }
    buffer_free(&numbers);
    return error && image_error_is_of_file(error) ? first : error;
}

static int format_path(const char *directory, const char *name, char *ret_path)
{
    char *absolute = entry_absolute(directory);

    if (!absolute)
        return -errno;
    int length = snprintf(ret_path, MAX_PATH, "%s/%s", absolute, name);
    free(absolute);
    return length < 0 || length >= MAX_PATH ? -ENAMETOOLONG : 0;
}

int image_find(const char *directory, const char *job, const char *step, char *ret_path, struct buffer *candidates)
{
    struct find find = { .directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .job = job, .step = step };
    struct entry name;
    int error;

    if (find.directory < 0)
        return -errno;
    error = choose_name(&find, &name, candidates);
    if (!error)
        error = choose_generation(&find, &name, candidates);
    if (!error)
        error = format_path(directory, name.name, ret_path);
    close(find.directory);
    buffer_free(&find.names);
    return error;
}
