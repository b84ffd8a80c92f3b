/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../floor/names.h"
#include "slurm.h"

static int state_path(const char *own, const char *home, char *path, size_t size)
{
    int length, is_own = own && *own == '/';

    if (!is_own && !(home && *home))
        return -ENOENT;
    length = is_own ? snprintf(path, size, "%s/stasis", own) : snprintf(path, size, "%s/.local/state/stasis", home);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

int slurm_state_directory(const char *own, const char *home, char *path, size_t size)
{
    int error = state_path(own, home, path, size);

    if (error)
        return error;
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(path, 0700); /* what cannot be made is said by the last one */
        *slash = '/';
    }
    return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

/* ---- where a job that is run again finds its images ---- */

enum { FROM_ROOM = MAX_ID + sizeof FROM_SUFFIX + 1 };

static void add_from(const char *job, char *path)
{
    snprintf(path + strlen(path), FROM_ROOM, "/%.*s" FROM_SUFFIX, MAX_ID - 1, job);
}

int slurm_note_from(const char *own, const char *home, const char *job, const char *directory)
{
    char path[MAX_PATH];
    int error = slurm_state_directory(own, home, path, sizeof path - FROM_ROOM), file;
    ssize_t length = (ssize_t)strlen(directory);

    if (error)
        return error;
    add_from(job, path);
    unlink(path); /* of another job of this number */
    file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return -errno;
    error = write(file, directory, (size_t)length) == length ? 0 : -ENOSPC;
    close(file);
    return error;
}

int slurm_take_from(const char *own, const char *home, const char *job, char *directory)
{
    char path[MAX_PATH];
    ssize_t length;
    int file;

    if (state_path(own, home, path, sizeof path - FROM_ROOM))
        return 0;
    add_from(job, path);
    file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0)
        return 0;
    length = read(file, directory, MAX_PATH - 1);
    close(file);
    unlink(path); /* for one life */
    directory[length > 0 ? length : 0] = 0;
    return length > 0;
}
