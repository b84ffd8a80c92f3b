/* SPDX-License-Identifier: MIT */
/* Files that are open and have no name any more: deleted ones, and those of O_TMPFILE. Their content is in the image; they
 * come back without a name in the directory they were in, or, where none can be made there, in another. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "kind.h"

struct nameless_file {
    struct nameless_file *next;
    uint32_t content;
    int fd;               /* for reading and writing, above the image's numbers */
};

/* In this order, behind the directory the file was in. */
static const char *other_directory(int which)
{
    const char *const others[] = { getenv("TMPDIR"), "/tmp", "/var/tmp" };
    const int count = sizeof others / sizeof *others;

    if (!which && (!others[0] || others[0][0] != '/'))
        return "/tmp";
    return which < count ? others[which] : NULL;
}

static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash != path ? strndup(path, (size_t)(slash - path)) : strdup("/");
}

static int can_hold(const char *directory)
{
    return !eaccess(directory, W_OK | X_OK);
}

void nameless_check(struct restoring *restoring, const char *path)
{
    char *directory = directory_of(path);
    int possible = !directory || can_hold(directory);

    if (directory && !possible && restoring->policy.strict)
        missing(restoring, "R-FILE-MISSING: %s: %s; a deleted file was there, and --strict forbids another place for it",
                directory, strerror(errno));
    else if (directory && !possible) {
        for (int i = 0; !possible && other_directory(i); i++)
            possible = can_hold(other_directory(i));
        if (!possible)
            missing(restoring, "R-FILE-MISSING: %s: %s; a deleted file was there, and TMPDIR, /tmp and /var/tmp cannot be written",
                    directory, strerror(errno));
    }
    free(directory);
}

/* Where the file system has no O_TMPFILE (NFS, FUSE): a name for a moment. */
static int make_and_unlink(const char *directory)
{
    char path[MAX_PATH + 32];
    uint64_t random;
    int fd, error;

    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -errno;
    snprintf(path, sizeof path, "%s/.stasis-%016jx.tmp", directory, (uintmax_t)random);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && unlink(path)) {
        error = -errno;
        close(fd);
        return error;
    }
    return fd < 0 ? -errno : fd;
}

static int make_in(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd < 0 ? make_and_unlink(directory) : fd;
}

static int make(const struct restoring *restoring, const char *path)
{
    char *directory = directory_of(path);
    int fd = directory ? make_in(directory) : -ENOMEM;

    free(directory);
    for (int i = 0; fd < 0 && fd != -ENOMEM && !restoring->policy.strict && other_directory(i); i++)
        fd = make_in(other_directory(i));
    return descriptor_lift(restoring, fd);
}

int nameless_file(struct restoring *restoring, const char *path, const struct kept_file *kept)
{
    struct nameless_file *file = restoring->nameless;
    int error;

    while (file && file->content != kept->content)
        file = file->next;
    if (file)
        return file->fd;
    file = calloc(1, sizeof *file);
    if (!file)
        return -ENOMEM;
    file->fd = make(restoring, path);
    error = file->fd < 0 ? file->fd : contents_restore(restoring, kept, file->fd);
    if (error) {
        if (file->fd >= 0)
            close(file->fd);
        free(file);
        return error;
    }
    file->content = kept->content;
    file->next = restoring->nameless;
    restoring->nameless = file;
    return file->fd;
}

void nameless_forget(struct restoring *restoring)
{
    for (struct nameless_file *next; restoring->nameless; restoring->nameless = next) {
        next = restoring->nameless->next;
        close(restoring->nameless->fd);
        free(restoring->nameless);
    }
}
