/* SPDX-License-Identifier: MIT */
/* stasis verify: reads every byte of images and tests its checksum. */
#include <getopt.h>
#include <stdio.h>

#include "../core/floor/names.h"
#include "../core/image/tasks.h"
#include "commands.h"
#include "print.h"

static const struct choice choices[] = { { 0 } };

static int verify_one(const char *path)
{
    struct image image = { 0 };
    struct tasks_found tasks = { 0 };
    char size[SIZE_TEXT];
    int error = image_open(&image, path);

    if (!error)
        error = image_verify(&image);
    if (!error)
        error = tasks_check(&image, path, 1, &tasks);
    if (error)
        complain(0, "%s: %s", path, image.reason);
    else if (tasks.count)
        printf("%s: whole (%u tasks, %zu blocks, %s)\n", path, tasks.count, tasks.blocks, print_size(tasks.bytes, size));
    else
        printf("%s: whole (%zu blocks, %s)\n", path, image.block_count, print_size(image.header.file_size, size));
    image_close(&image);
    return image_exit_status(error);
}

static int verify(int argc, char **argv)
{
    const char *value;
    int status = 0;

    while (options_next(&command_verify, argc, argv, &value) >= 0)
        continue;
    if (optind == argc)
        return complain_usage(&command_verify, "give one image or more");
    for (; optind < argc; optind++) {
        int one = verify_one(argv[optind]);
        status = status ? status : one;
    }
    return status;
}

const struct command command_verify = {
    .name = "verify",
    .operands = "IMAGE...",
    .summary = "Test every byte of images against its checksum",
    .notes = "Of a step of several tasks name its JOB.STEP.ckpt; all parts are read, too.\n"
             "The exit status is that of the first image that is not whole.",
    .choices = choices,
    .run = verify,
};
