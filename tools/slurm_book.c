/* SPDX-License-Identifier: MIT */
#include "slurm_book.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/names.h"

static int book_open(const char *directory, const char *job, int flags)
{
    char path[MAX_PATH + MAX_ID + 16];

    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    return open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* The marks of its steps that had come to their end (slurm/finished.c). */
static void remove_marks(const char *directory, const char *job)
{
    size_t length = strlen(job);
    DIR *entries = opendir(directory);
    struct dirent *entry;

    while (entries && (entry = readdir(entries))) {
        size_t whole = strlen(entry->d_name), suffix = sizeof DONE_SUFFIX - 1;
        if (whole > length + suffix && !strncmp(entry->d_name, job, length) && entry->d_name[length] == '.'
            && !strcmp(entry->d_name + whole - suffix, DONE_SUFFIX))
            unlinkat(dirfd(entries), entry->d_name, 0);
    }
    if (entries)
        closedir(entries);
}

/* A directory that cannot be written to has no images either, which their savers say. */
void book_begin(const char *directory, const char *job)
{
    int book = book_open(directory, job, O_WRONLY | O_CREAT | O_TRUNC);

    remove_marks(directory, job); /* of another job of this number */
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

    remove_marks(directory, job);
    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    unlink(path);
}
