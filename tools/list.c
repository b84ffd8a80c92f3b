/* SPDX-License-Identifier: MIT */
/* stasis list: the images in a directory, newest first. Header and index are checked, the blocks are not: that is
 * what verify is for. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../core/floor/names.h"
#include "../core/floor/text.h"
#include "../core/image/tasks.h"
#include "commands.h"
#include "print.h"

enum { LIST_JSON };

static const struct choice choices[] = {
    [LIST_JSON] = { "json", NULL, NULL, "print a JSON array instead of a table" },
    { 0 },
};

struct entry {
    char *path;
    const char *file;          /* its last part */
    int error;                 /* 0: whole */
    char reason[256];
    uint64_t bytes;
    uint64_t seconds, nanoseconds; /* when it was taken; of a damaged one, when it was written */
    struct tasks_found tasks;  /* of a step of several */
    struct file_header header; /* zeros when it could not be trusted */
};

struct entries {
    struct entry *list;
    size_t count;
};

/* ---- finding them ---- */

/* <job>.<step>.ckpt, and the same with something behind it: .1, .run-1a2b3c4d. */
static int is_image_name(const struct dirent *entry)
{
    const char *suffix = entry->d_name[0] == '.' ? NULL : strstr(entry->d_name, IMAGE_SUFFIX);
    char next = suffix ? suffix[sizeof IMAGE_SUFFIX - 1] : 'x';

    return next == 0 || next == '.';
}

static const char *state_name(int error)
{
    switch (error) {
    case 0: return "whole";
    case -EBADMSG: return "damaged";
    case -EPROTO: return "newer";
    case -ENOEXEC: return "foreign";
    default: return "unreadable";
    }
}

static void look_at(struct entry *entry, const struct stat *status)
{
    struct image image = { 0 };

    entry->bytes = (uint64_t)status->st_size;
    entry->seconds = (uint64_t)status->st_mtim.tv_sec;
    entry->nanoseconds = (uint64_t)status->st_mtim.tv_nsec;
    entry->error = image_open(&image, entry->path);
    if (!entry->error)
        entry->error = tasks_check(&image, entry->path, 0, &entry->tasks);
    if (entry->error == -ENOENT)
        entry->error = -EBADMSG; /* a part is missing */
    entry->bytes += entry->tasks.bytes;
    memcpy(entry->reason, image.reason, sizeof entry->reason);
    entry->header = image.header;
    image_close(&image);
    if (!entry->header.magic)
        return;
    entry->seconds = entry->header.taken_seconds;
    entry->nanoseconds = entry->header.taken_nanoseconds;
}

/* 0 or -ENOMEM. What is no regular file (JOB.STEP.ckpt.d) or has gone meanwhile is passed over. */
static int add_entry(struct entries *entries, const char *directory, const char *file)
{
    struct stat status;
    struct entry *list, *entry;
    char *path;

    if (asprintf(&path, "%s/%s", directory, file) < 0)
        return -ENOMEM;
    list = lstat(path, &status) || !S_ISREG(status.st_mode) ? NULL
                                                             : reallocarray(entries->list, entries->count + 1, sizeof *list);
    if (!list) {
        free(path);
        return 0;
    }
    entries->list = list;
    entry = &list[entries->count++];
    *entry = (struct entry){ .path = path };
    entry->file = strrchr(path, '/') + 1;
    look_at(entry, &status);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;

    if (left->seconds != right->seconds)
        return left->seconds < right->seconds ? 1 : -1;
    if (left->nanoseconds != right->nanoseconds)
        return left->nanoseconds < right->nanoseconds ? 1 : -1;
    return strcmp(left->file, right->file);
}

static int find_entries(struct entries *entries, const char *directory)
{
    struct dirent **names;
    int count = scandir(directory, &names, is_image_name, NULL), error = 0;

    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++) {
        error = error ? error : add_entry(entries, directory, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    if (entries->count)
        qsort(entries->list, entries->count, sizeof *entries->list, newest_first);
    return error;
}

static void free_entries(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        free(entries->list[i].path);
    free(entries->list);
}

/* ---- as a table ---- */

enum { COLUMNS = 8, CELL = 300 };

/* One row's cells. The command comes last: it is the longest. An image that is not whole says there what is wrong. */
static void fill_row(const struct entry *entry, char cells[COLUMNS][CELL])
{
    const struct file_header *header = &entry->header;
    char job[MAX_ID], step[MAX_ID], size[SIZE_TEXT], taken[TIME_TEXT];

    if (header->magic) {
        snprintf(cells[0], CELL, "%s.%s", print_clean(job, MAX_ID, header->job, MAX_ID),
                 print_clean(step, MAX_ID, header->step, MAX_ID));
        snprintf(cells[1], CELL, "%" PRIu64, header->generation);
        print_clean(cells[4], CELL, header->host, MAX_ID);
        print_clean(cells[7], CELL, header->command, sizeof header->command);
    } else {
        print_clean(cells[0], CELL, entry->file, (size_t)(strstr(entry->file, IMAGE_SUFFIX) - entry->file));
        snprintf(cells[1], CELL, "-");
        snprintf(cells[4], CELL, "-");
    }
    snprintf(cells[2], CELL, "%s", print_time(entry->seconds, 0, taken));
    snprintf(cells[3], CELL, "%s", print_size(entry->bytes, size));
    snprintf(cells[5], CELL, "%s", state_name(entry->error));
    print_clean(cells[6], CELL, entry->file, CELL);
    if (entry->error)
        snprintf(cells[7], CELL, "(%s)", entry->reason);
}

static void print_row(char cells[COLUMNS][CELL], const int widths[COLUMNS])
{
    for (int i = 0; i < COLUMNS - 1; i++)
        printf("%-*s  ", widths[i], cells[i]);
    printf("%s\n", cells[COLUMNS - 1]);
}

static void print_table(const struct entries *entries)
{
    char cells[COLUMNS][CELL] = { "JOB.STEP", "GEN", "TAKEN", "SIZE", "HOST", "STATE", "IMAGE", "COMMAND" };
    char heading[COLUMNS][CELL];
    int widths[COLUMNS] = { 0 };

    memcpy(heading, cells, sizeof heading);
    for (size_t row = 0; row <= entries->count; row++) {
        if (row)
            fill_row(&entries->list[row - 1], cells);
        for (int i = 0; i < COLUMNS; i++)
            widths[i] = (int)strlen(cells[i]) > widths[i] ? (int)strlen(cells[i]) : widths[i];
    }
    print_row(heading, widths);
    for (size_t row = 0; row < entries->count; row++) {
        fill_row(&entries->list[row], cells);
        print_row(cells, widths);
    }
}

/* ---- as JSON ---- */

static void put_text(struct json_object *object, const char *key, const char *text, size_t size)
{
    json_object_object_add(object, key, json_object_new_string_len(text, (int)strnlen(text, size)));
}

static struct json_object *as_json(const struct entry *entry)
{
    struct json_object *object = json_object_new_object();
    const struct file_header *header = &entry->header;
    char text[64];

    json_object_object_add(object, "path", json_object_new_string(entry->path));
    json_object_object_add(object, "state", json_object_new_string(state_name(entry->error)));
    json_object_object_add(object, "bytes", json_object_new_uint64(entry->bytes));
    json_object_object_add(object, "taken", json_object_new_string(print_time(entry->seconds, 1, text)));
    if (entry->error)
        put_text(object, "reason", entry->reason, sizeof entry->reason);
    if (!header->magic)
        return object;
    put_text(object, "job", header->job, sizeof header->job);
    put_text(object, "step", header->step, sizeof header->step);
    json_object_object_add(object, "generation", json_object_new_uint64(header->generation));
    text_from_uuid(header->run, text);
    put_text(object, "run", text, sizeof text);
    put_text(object, "host", header->host, sizeof header->host);
    put_text(object, "command", header->command, sizeof header->command);
    if (entry->tasks.count)
        json_object_object_add(object, "tasks", json_object_new_uint64(entry->tasks.count));
    return object;
}

static void print_json(const struct entries *entries)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < entries->count; i++)
        json_object_array_add(array, as_json(&entries->list[i]));
    puts(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(array);
}

/* ---- the command ---- */

static int list_directory(const char *directory, int json)
{
    struct entries entries = { 0 };
    int error = find_entries(&entries, directory);

    if (error)
        complain(0, "cannot list '%s': %s; give a directory that holds images", directory, strerror(-error));
    else if (json)
        print_json(&entries);
    else if (entries.count)
        print_table(&entries);
    else
        fprintf(stderr, "There is no image in '%s'.\n", directory);
    free_entries(&entries);
    return error == -EACCES ? EXIT_NOT_ALLOWED : error == -ENOMEM ? EXIT_SYSTEM : error ? EXIT_NO_IMAGE : 0;
}

static int list(int argc, char **argv)
{
    const char *directory = getenv(ENV_DIRECTORY), *value;
    int json = 0;

    while (options_next(&command_list, argc, argv, &value) >= 0)
        json = 1;
    if (argc - optind > 1)
        return complain_usage(&command_list, "give one directory");
    if (optind < argc)
        directory = argv[optind];
    return list_directory(directory && *directory ? directory : ".", json);
}

const struct command command_list = {
    .name = "list",
    .operands = "[DIR]",
    .summary = "List the images in a directory, newest first",
    .notes = "DIR: default $" ENV_DIRECTORY ", or the current directory. Header and\n"
             "index are checked; 'stasis verify' checks all. States: whole; damaged; newer\n"
             "(made by a newer Stasis); foreign (no image, or another machine's); unreadable.",
    .choices = choices,
    .run = list,
};
