/* SPDX-License-Identifier: MIT */
#include "slurm_book.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/names.h"

static int book_open(const char *directory, const char *job, int flags)
{
    char path[MAX_PATH + MAX_ID + 16];

    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    return open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* A directory that cannot be written to has no images either, which their savers say. */
void book_begin(const char *directory, const char *job)
{
    int book = book_open(directory, job, O_WRONLY | O_CREAT | O_TRUNC);

    for (int stream = 1; book >= 0 && stream <= 2; stream++) {
        struct stat status;
        if (!fstat(stream, &status) && S_ISREG(status.st_mode))
            dprintf(book, "output %d %ju %ju\n", stream, (uintmax_t)status.st_ino, (uintmax_t)status.st_size);
    }
    if (book >= 0)
        close(book);
}

/* The same file still, and grown. */
static void cut(int stream, uintmax_t inode, uintmax_t size)
{
    struct stat status;

    if ((stream == 1 || stream == 2) && !fstat(stream, &status) && S_ISREG(status.st_mode) && status.st_ino == inode
        && (uintmax_t)status.st_size > size && ftruncate(stream, (off_t)size))
        return; /* then lines come twice */
}

void book_cut_output(const char *directory, const char *job)
{
    int book = book_open(directory, job, O_RDONLY), stream;
    FILE *lines = book >= 0 ? fdopen(book, "r") : NULL;
    uintmax_t inode, size;

    while (lines && fscanf(lines, "output %d %ju %ju\n", &stream, &inode, &size) == 3)
        cut(stream, inode, size);
    if (lines)
        fclose(lines);
}

void book_remove(const char *directory, const char *job)
{
    char path[MAX_PATH + MAX_ID + 16];

    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    unlink(path);
}
