/* SPDX-License-Identifier: MIT */
/* The tail of an output file: what was written behind the size it had at the checkpoint. The program writes that again, so
 * the file is cut; before, its tail goes into a file of its own beside it. No tail is ever overwritten: the first
 * free name of FILE.stasis-tail, FILE.stasis-tail.1, .2 and so on is taken. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "kind.h"

enum { MAX_TAILS = 1000, NUMBER_ROOM = 8 };

struct kept_tail {
    struct kept_tail *next;
    uint64_t device, inode; /* of the file it was cut from */
    char path[];
};

void tails_check(struct restoring *restoring, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash && slash != path ? strndup(path, (size_t)(slash - path)) : strdup("/");

    if (restoring->policy.no_tails || !slash || !directory) {
        free(directory);
        return;
    }
    if (strlen(slash + 1) + sizeof TAIL_SUFFIX + NUMBER_ROOM > NAME_MAX || strlen(path) + sizeof TAIL_SUFFIX + NUMBER_ROOM > PATH_MAX)
        errno = ENAMETOOLONG;
    else if (!eaccess(directory, W_OK | X_OK)) {
        free(directory);
        return;
    }
    missing(restoring, "R-FILE-CHANGED: %s has grown, and what was written after the checkpoint cannot be kept as %s" TAIL_SUFFIX
            ": %s; --no-tails cuts it off", path, path, strerror(errno));
    free(directory);
}

static int copy(int from, int to, off_t at, off_t end)
{
    while (at < end) {
        size_t wanted = end - at < INT_MAX ? (size_t)(end - at) : INT_MAX;
        ssize_t got = sendfile(to, from, &at, wanted);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (!got)
            return 0; /* somebody has cut it meanwhile */
    }
    return 0;
}

static int open_free_name(const char *path, mode_t mode, char *to, size_t size)
{
    int fd = -1;

    for (int i = 0; fd < 0 && i <= MAX_TAILS; i++) {
        if (i)
            snprintf(to, size, "%s" TAIL_SUFFIX ".%d", path, i);
        else
            snprintf(to, size, "%s" TAIL_SUFFIX, path);
        fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0666);
        if (fd < 0 && errno != EEXIST)
            return -errno;
    }
    return fd < 0 ? -EEXIST : fd;
}

static int copy_tail(struct restoring *restoring, const char *path, int from, const struct stat *status, uint64_t size)
{
    size_t room = strlen(path) + sizeof TAIL_SUFFIX + NUMBER_ROOM;
    struct kept_tail *tail = calloc(1, sizeof *tail + room);
    int to, error;

    if (!tail)
        return -ENOMEM;
    to = open_free_name(path, status->st_mode, tail->path, room);
    if (to < 0) {
        free(tail);
        return to;
    }
    tail->device = status->st_dev;
    tail->inode = status->st_ino;
    tail->next = restoring->tails;
    restoring->tails = tail;
    error = copy(from, to, (off_t)size, status->st_size);
    return close(to) && !error ? -errno : error;
}

int tails_keep(struct restoring *restoring, const char *path, uint64_t size)
{
    const struct kept_tail *tail = restoring->tails;
    struct stat status;
    int fd, error = 0;

    if (restoring->policy.no_tails || stat(path, &status) || (uint64_t)status.st_size <= size)
        return 0;
    while (tail && (tail->inode != status.st_ino || tail->device != status.st_dev))
        tail = tail->next;
    if (tail)
        return 0;
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    error = copy_tail(restoring, path, fd, &status, size);
    close(fd);
    return error;
}

void tails_forget(struct restoring *restoring, int remove_them)
{
    for (struct kept_tail *next; restoring->tails; restoring->tails = next) {
        next = restoring->tails->next;
        if (remove_them)
            unlink(restoring->tails->path);
        free(restoring->tails);
    }
}
