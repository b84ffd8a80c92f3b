/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "commit.h"
#include "entry.h"
#include "read.h"

/* 1 for an image of that run, also when what is behind its header is damaged. */
static int is_of_run(int directory, const char *name, const uint8_t run[UUID_BYTES])
{
    struct image image;

    image_open_at(&image, directory, name);
    image_close(&image);
    return image.header.magic == IMAGE_MAGIC && !memcmp(image.header.run, run, UUID_BYTES);
}

static int remove_one(int directory, const char *name, const uint8_t run[UUID_BYTES])
{
    return is_of_run(directory, name, run) && unlinkat(directory, name, 0) ? -errno : 0;
}

/* The oldest first: whoever is interrupted here leaves the newest, not one from which much would be done again. */
static int remove_generations(int directory, const char *name, const uint8_t run[UUID_BYTES])
{
    struct buffer numbers;
    struct entry generation;
    int error = entry_generations(directory, name, &numbers);

    for (size_t at = numbers.length; at && !error; at -= sizeof(unsigned)) {
        error = entry_format(&generation, "%s.%u", name, *(const unsigned *)(numbers.bytes + at - sizeof(unsigned)));
        if (!error)
            error = remove_one(directory, generation.name, run);
    }
    buffer_free(&numbers);
    return error;
}

int image_remove(const char *path, const char *job, const char *step, const uint8_t run[UUID_BYTES])
{
    struct entry name;
    int error = image_name(name.name, sizeof name.name, job, step);
    int directory = error ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0)
        return error ? error : -errno;
    error = remove_generations(directory, name.name, run);
    if (!error)
        error = remove_one(directory, name.name, run);
    close(directory);
    return error;
}
