/* SPDX-License-Identifier: MIT */
/* stasis show: says what an image holds. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "../core/floor/names.h"
#include "../core/floor/text.h"
#include "../core/image/tasks.h"
#include "../core/kinds/kind.h"
#include "commands.h"
#include "print.h"

static const struct choice choices[] = { { 0 } };

static void show_field(const char *name, const char *field, size_t size)
{
    char text[256];

    printf("%-12s%s\n", name, print_clean(text, sizeof text, field, size));
}

static void show_header(const struct file_header *header)
{
    char run[UUID_TEXT], taken[TIME_TEXT], size[SIZE_TEXT];

    text_from_uuid(header->run, run);
    show_field("job", header->job, sizeof header->job);
    show_field("step", header->step, sizeof header->step);
    printf("%-12s%s\n", "run", run);
    printf("%-12s%" PRIu64 "\n", "generation", header->generation);
    printf("%-12s%s\n", "taken", print_time(header->taken_seconds, 1, taken));
    show_field("host", header->host, sizeof header->host);
    printf("%-12s%" PRIu32 "\n", "owner", header->owner);
    show_field("command", header->command, sizeof header->command);
    printf("%-12s%" PRIu32 "\n", "processes", header->process_count);
    printf("%-12s%s (%" PRIu64 " bytes)\n", "size", print_size(header->file_size, size), header->file_size);
    printf("%-12s%" PRIu32 "\n", "version", header->version);
}

static void show_blocks(const struct image *image)
{
    char stored[SIZE_TEXT], raw[SIZE_TEXT];
    uint64_t stored_bytes = 0, raw_bytes = 0;

    for (size_t i = 0; i < image->block_count; i++) {
        stored_bytes += image->blocks[i].block.stored;
        raw_bytes += image->blocks[i].block.raw;
    }
    printf("%-12s%zu: %s of memory and files in %s\n", "blocks", image->block_count, print_size(raw_bytes, raw),
           print_size(stored_bytes, stored));
}

/* Tables of blocks are the image's own; every other record is shown by its kind. */
static int show_records(struct image *image)
{
    struct record_header header;
    struct reader payload;
    size_t at = 0;
    int error = 0;

    while (image_next_record(image, &at, &header, &payload)) {
        const struct kind *kind = kind_of_tag(header.tag);
        if (header.tag == TAG_BLOCKS || header.tag == TAG_FILES)
            continue;
        printf("\nprocess %" PRIu32 ": ", header.process);
        if (!kind || !kind->show) {
            printf("record %u, %" PRIu64 " bytes\n", header.tag, header.length);
            continue;
        }
        printf("%s\n", kind->name);
        kind->show(&payload, stdout);
        error = payload.error ? payload.error : error;
    }
    return error;
}

/* 1: it is an index of several tasks, and has nothing else in it. */
static int show_tasks(struct image *image)
{
    const struct task_record *tasks;
    char size[SIZE_TEXT];
    uint32_t count;
    int error = tasks_read(image, &tasks, &count);

    if (error)
        return 0;
    printf("%-12s%" PRIu32 "\n", "tasks", count);
    for (uint32_t i = 0; i < count; i++)
        if (tasks[i].state == PART_ENDED)
            printf("task %" PRIu32 ": had ended with status %" PRIu32 "\n", i, tasks[i].status);
        else
            printf("task %" PRIu32 ": %s, processes %" PRIu32 ", %s (%" PRIu64 " bytes)\n", i, tasks[i].name, tasks[i].processes,
                   print_size(tasks[i].bytes, size), tasks[i].bytes);
    return 1;
}

static int show_image(const char *path)
{
    struct image image = { 0 };
    int error = image_open(&image, path);

    if (error)
        return complain(image_exit_status(error), "%s: %s", path, image.reason);
    show_header(&image.header);
    if (!show_tasks(&image)) {
        show_blocks(&image);
        if (show_records(&image))
            error = complain(EXIT_DAMAGED, "%s: a record is shorter than its kind needs", path);
    }
    image_close(&image);
    return error;
}

static int show(int argc, char **argv)
{
    const char *value;

    while (options_next(&command_show, argc, argv, &value) >= 0)
        continue;
    if (argc - optind != 1)
        return complain_usage(&command_show, "give one image");
    return show_image(argv[optind]);
}

const struct command command_show = {
    .name = "show",
    .operands = "IMAGE",
    .summary = "Say what an image holds",
    .choices = choices,
    .run = show,
};
