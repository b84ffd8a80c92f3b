/* SPDX-License-Identifier: MIT */
#include "slurm_book.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../core/floor/names.h"

static int book_open(const char *directory, const char *job, int flags)
{
    char path[MAX_PATH + MAX_ID + 16];

    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    return open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* The marks of its steps (slurm/steps.c): how many there are, or were until now. */
static int count_marks(const char *directory, const char *job, int removes)
{
    size_t length = strlen(job);
    int count = 0;
    DIR *entries = opendir(directory);
    struct dirent *entry;

    while (entries && (entry = readdir(entries))) {
        size_t whole = strlen(entry->d_name), suffix = sizeof MARK_SUFFIX - 1;
        if (whole > length + suffix && !strncmp(entry->d_name, job, length) && entry->d_name[length] == '.'
            && !strcmp(entry->d_name + whole - suffix, MARK_SUFFIX)) {
            count++;
            if (removes)
                unlinkat(dirfd(entries), entry->d_name, 0);
        }
    }
    if (entries)
        closedir(entries);
    return count;
}

/* A directory that cannot be written to has no images either, which their savers say. */
void book_begin(const char *directory, const char *job)
{
    int book = book_open(directory, job, O_WRONLY | O_CREAT | O_TRUNC);

    count_marks(directory, job, 1); /* of another job of this number */
    for (int stream = 1; book >= 0 && stream <= 2; stream++) {
        struct stat status;
        if (!fstat(stream, &status) && S_ISREG(status.st_mode))
            dprintf(book, "output %d %ju %ju\n", stream, (uintmax_t)status.st_ino, (uintmax_t)status.st_size);
    }
    if (book < 0)
        return;
    dprintf(book, "began %jd\n", (intmax_t)time(NULL));
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
    int book = count_marks(directory, job, 0) ? -1 : book_open(directory, job, O_RDONLY), stream; /* steps cut it themselves */
    FILE *lines = book >= 0 ? fdopen(book, "r") : NULL;
    uintmax_t inode, size;

    while (lines && fscanf(lines, "output %d %ju %ju\n", &stream, &inode, &size) == 3)
        cut(stream, inode, size);
    if (lines)
        fclose(lines);
}

int64_t book_began(const char *directory, const char *job)
{
    int book = book_open(directory, job, O_RDONLY);
    FILE *lines = book >= 0 ? fdopen(book, "r") : NULL;
    char line[128];
    int64_t began = -1;

    while (lines && began < 0 && fgets(line, sizeof line, lines))
        sscanf(line, "began %" SCNd64, &began);
    if (lines)
        fclose(lines);
    return began;
}

void book_remove(const char *directory, const char *job)
{
    char path[MAX_PATH + MAX_ID + 16];

    count_marks(directory, job, 1);
    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    unlink(path);
}
