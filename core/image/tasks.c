/* SPDX-License-Identifier: MIT */
#include "tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../floor/roll.h"
#include "check.h"
#include "entry.h"

enum { DAY = 24 * 60 * 60, ORPHAN_SECONDS = DAY, ROLL_SECONDS = 30 * DAY };

static int is_good_name(const char *name)
{
    return memchr(name, 0, MAX_PART_NAME) && !strncmp(name, PART_NAME, strlen(PART_NAME)) && !strchr(name, '/');
}

int tasks_read(struct image *index, const struct task_record **ret_tasks, uint32_t *ret_count)
{
    struct reader payload;
    struct task_list list;
    const struct task_record *tasks;

    if (image_find_record(index, TAG_TASKS, NO_PROCESS, &payload))
        return -ENOENT;
    if (reader_take(&payload, &list, sizeof list) || list.count > payload.length / sizeof *tasks)
        return check_says(index, -EBADMSG, "its list of tasks is cut off");
    tasks = reader_view(&payload, list.count * sizeof *tasks);
    for (uint32_t i = 0; i < list.count; i++)
        if (tasks[i].state != PART_ENDED && (tasks[i].state != PART_WRITTEN || !is_good_name(tasks[i].name)))
            return check_says(index, -EBADMSG, "what it says of task %u makes no sense", i);
    *ret_tasks = tasks;
    *ret_count = list.count;
    return 0;
}

const char *tasks_home(struct image *index)
{
    struct reader payload;
    struct task_list list;
    size_t length;
    const char *home;

    if (image_find_record(index, TAG_TASKS, NO_PROCESS, &payload) || reader_take(&payload, &list, sizeof list) ||
        !reader_view(&payload, list.count * sizeof(struct task_record)))
        return NULL;
    length = payload.length - payload.at;
    home = reader_view(&payload, length);
    return home && length && !home[length - 1] ? home : NULL;
}

static int compare(struct image *part, const struct task_record *task)
{
    const struct file_header *header = &part->header;

    if (header->checksum == task->checksum && header->file_size == task->bytes && header->generation == task->generation &&
        !memcmp(header->run, task->run, sizeof header->run))
        return 0;
    return check_says(part, -EBADMSG, "it is another one than was written with the others");
}

void tasks_directory(const struct image *index, const char *path, char *directory)
{
    char own[MAX_PATH];

    snprintf(own, sizeof own, "%s", path);
    roll_directory(directory, dirname(own), index->header.job, index->header.step);
}

static int check_part(int parts, const struct task_record *task, int is_deep, struct image *part, struct tasks_found *found)
{
    int error = image_open_at(part, parts, task->name);

    if (!error)
        error = compare(part, task);
    if (!error && is_deep)
        error = image_verify(part);
    if (!error) {
        found->bytes += part->header.file_size;
        found->blocks += part->block_count;
    }
    image_close(part);
    return error;
}

int tasks_check(struct image *index, const char *path, int is_deep, struct tasks_found *ret_found)
{
    const struct task_record *tasks;
    char directory[MAX_PATH];
    int parts, error;

    *ret_found = (struct tasks_found){ 0 };
    error = tasks_read(index, &tasks, &ret_found->count);
    if (error)
        return error == -ENOENT ? 0 : error;
    tasks_directory(index, path, directory);
    parts = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (uint32_t i = 0; i < ret_found->count && !error; i++) {
        struct image part = { 0 };
        if (tasks[i].state == PART_ENDED)
            continue;
        ret_found->bad = i;
        error = check_part(parts, &tasks[i], is_deep, &part, ret_found);
        if (error)
            check_says(index, error, "task %u: %.100s/%s: %.100s", i, basename(directory), tasks[i].name, part.reason);
    }
    if (parts >= 0)
        close(parts);
    return error;
}

void tasks_part_name(char *name, uint32_t task, uint64_t attempt)
{
    snprintf(name, MAX_PART_NAME, PART_NAME "%" PRIu32 ".%016" PRIx64, task, attempt);
}

int tasks_write(struct image_writer *writer, const struct task_record *tasks, uint32_t count, const char *home)
{
    struct task_list list = { count, 0 };
    struct buffer payload = { 0 };
    int error;

    buffer_add(&payload, &list, sizeof list);
    buffer_add(&payload, tasks, count * sizeof *tasks);
    buffer_add(&payload, home, strlen(home) + 1);
    error = image_write_record(writer, TAG_TASKS, RECORD_REQUIRED, NO_PROCESS, &payload);
    buffer_free(&payload);
    return error;
}

/* ---- what no index names ---- */

struct naming {
    int directory;
    const char *name;     /* of the index */
    struct buffer parts;  /* MAX_PART_NAME bytes for each that one names */
};

/* What cannot be read may name any. */
static int add_parts(void *context, const char *entry)
{
    struct naming *naming = context;
    const struct task_record *tasks;
    struct image index;
    struct stat file;
    uint32_t count = 0;
    int error;

    if (strncmp(entry, naming->name, strlen(naming->name)) || fstatat(naming->directory, entry, &file, AT_SYMLINK_NOFOLLOW) ||
        !S_ISREG(file.st_mode))
        return 0;
    error = image_open_at(&index, naming->directory, entry);
    if (!error)
        error = tasks_read(&index, &tasks, &count);
    for (uint32_t i = 0; !error && i < count; i++)
        if (tasks[i].state == PART_WRITTEN)
            buffer_add(&naming->parts, tasks[i].name, MAX_PART_NAME);
    image_close(&index);
    return error == -ENOENT ? 0 : error ? error : naming->parts.error;
}

static int is_named(const struct naming *naming, const char *part)
{
    for (size_t at = 0; at < naming->parts.length; at += MAX_PART_NAME)
        if (!strcmp((const char *)naming->parts.bytes + at, part))
            return 1;
    return 0;
}

struct part_sweep {
    const struct naming *before, *after;
    int parts;            /* the directory */
    time_t now;           /* as the file system sees it */
};

static int sweep_part(void *context, const char *entry)
{
    const struct part_sweep *sweep = context;
    int is_roll = !strncmp(entry, ROLL_NAME, strlen(ROLL_NAME));
    struct stat file;

    if ((!is_roll && strncmp(entry + (*entry == '.'), PART_NAME, strlen(PART_NAME))) || is_named(sweep->after, entry) ||
        fstatat(sweep->parts, entry, &file, AT_SYMLINK_NOFOLLOW))
        return 0;
    if (is_named(sweep->before, entry) || file.st_mtime < sweep->now - (is_roll ? ROLL_SECONDS : ORPHAN_SECONDS))
        unlinkat(sweep->parts, entry, 0);
    return 0;
}

static void sweep_parts(const struct naming *before, const struct naming *after)
{
    struct part_sweep sweep = { before, after, -1, 0 };
    struct entry directory;
    struct stat index;

    if (entry_format(&directory, "%s" PARTS_SUFFIX, after->name) || fstatat(after->directory, after->name, &index, 0))
        return;
    sweep.now = index.st_mtime;
    sweep.parts = openat(after->directory, directory.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sweep.parts < 0)
        return;
    entry_walk(sweep.parts, sweep_part, &sweep);
    close(sweep.parts);
}

int tasks_commit(struct image_writer *writer, const char *name, unsigned keep, char *ret_path)
{
    int directory = writer->directory_descriptor, error, cannot_know;
    struct naming before = { directory, name, { 0 } }, after = before;

    cannot_know = entry_walk(directory, add_parts, &before);
    error = image_commit(writer, name, keep, ret_path);
    if (!error && !cannot_know && !entry_walk(directory, add_parts, &after))
        sweep_parts(&before, &after);
    buffer_free(&before.parts);
    buffer_free(&after.parts);
    return error;
}
