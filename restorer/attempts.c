/* SPDX-License-Identifier: MIT */
#include "attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../core/floor/text.h"

/* A node may fail, and the next one; three that fail at the same place are the program's own doing. */
enum { MAX_ATTEMPTS = 3, LINE_BYTES = UUID_TEXT + 40 };

/* "<directory of the image>/<job>.<step>.resumed" */
static int attempts_path(const char *image, const struct file_header *header, char path[MAX_PATH])
{
    const char *slash = strrchr(image, '/');
    int directory = slash ? (int)(slash - image) + 1 : 0;
    int length = snprintf(path, MAX_PATH, "%.*s%.*s.%.*s" RESUMED_SUFFIX, directory, image, MAX_ID - 1, header->job, MAX_ID - 1,
                          header->step);

    return length < 0 || length >= MAX_PATH ? -ENAMETOOLONG : 0;
}

/* What was counted of this image; 0 when the line is of another. */
static unsigned read_count(int file, const struct file_header *header)
{
    char line[LINE_BYTES + 1] = "", then[UUID_TEXT], run[UUID_TEXT];
    uint64_t generation;
    unsigned count;

    text_from_uuid(header->run, run);
    if (pread(file, line, LINE_BYTES, 0) < 1 || sscanf(line, "%36s %" SCNu64 " %u", then, &generation, &count) != 3 ||
        strcmp(then, run) || generation != header->generation)
        return 0;
    return count;
}

/* In place and always as long: it has its room on a disk that is full meanwhile. */
static int write_count(int file, const struct file_header *header, unsigned count)
{
    char line[LINE_BYTES + 1], run[UUID_TEXT];
    int length;

    text_from_uuid(header->run, run);
    length = snprintf(line, sizeof line, "%s %020" PRIu64 " %u\n", run, header->generation, count);
    return pwrite(file, line, (size_t)length, 0) == length ? 0 : errno ? -errno : -ENOSPC;
}

static int refuse_another(const char *image, const char *path)
{
    fprintf(stderr, "stasis: R-NO-PROGRESS: the program was brought back from %s %d times and ended each time before its next image. "
            "Look why it ends; 'stasis restart' tries once more, and without %s it is tried again as before\n", image, MAX_ATTEMPTS, path);
    return EXIT_REFUSED;
}

int attempts_count(const char *image, const struct file_header *header)
{
    char path[MAX_PATH];
    int error = attempts_path(image, header, path);
    int file = error ? -1 : open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    unsigned count = file < 0 ? 0 : read_count(file, header);

    if (file < 0)
        error = error ? error : -errno;
    else if (count < MAX_ATTEMPTS)
        error = write_count(file, header, count + 1);
    if (file >= 0)
        close(file);
    if (error)
        fprintf(stderr, "stasis: cannot restart: that it is tried cannot be counted in %s: %s\n", path, strerror(-error));
    return error ? EXIT_CANNOT_CREATE : count < MAX_ATTEMPTS ? 0 : refuse_another(image, path);
}

void attempts_forget(const char *image, const struct file_header *header)
{
    char path[MAX_PATH];

    if (!attempts_path(image, header, path))
        unlink(path);
}
