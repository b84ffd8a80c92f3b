/* SPDX-License-Identifier: MIT */
/* While all stand still, nobody of the step can write into a pipe that one of them reads. Somebody else may: an srun, whose tasks have their own
 * image of another moment. What comes then would be in both, and is not taken. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "saver.h"

struct pipe_note {
    uint64_t inode;
    int bytes; /* that wait in it */
};

static int add(struct quiet *quiet, uint64_t inode, int bytes)
{
    struct pipe_note *more = reallocarray(quiet->pipes, quiet->count + 1, sizeof *more);

    if (!more)
        return -ENOMEM;
    quiet->pipes = more;
    more[quiet->count++] = (struct pipe_note){ inode, bytes };
    return 0;
}

/* A descriptor's link in /proc has the rights that it was opened with. */
static int look_at_descriptor(struct quiet *quiet, int directory, const char *name)
{
    struct stat link, status;
    int bytes = 0, pipe, error = 0;

    if (fstatat(directory, name, &link, AT_SYMLINK_NOFOLLOW) || !(link.st_mode & S_IRUSR) || fstatat(directory, name, &status, 0)
        || !S_ISFIFO(status.st_mode))
        return 0;
    pipe = openat(directory, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (pipe < 0)
        return 0;
    if (!ioctl(pipe, FIONREAD, &bytes))
        error = add(quiet, status.st_ino, bytes);
    close(pipe);
    return error;
}

static int look_at(struct quiet *quiet, int pid)
{
    char path[32];
    struct dirent *entry;
    int error = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *descriptors = opendir(path);
    while (descriptors && !error && (entry = readdir(descriptors)))
        if (*entry->d_name != '.')
            error = look_at_descriptor(quiet, dirfd(descriptors), entry->d_name);
    if (descriptors)
        closedir(descriptors);
    return error;
}

int quiet_note(const struct step *step, struct quiet *ret_quiet)
{
    int error = 0;

    *ret_quiet = (struct quiet){ 0 };
    for (const struct process *process = step->processes; process && !error; process = process->next)
        error = look_at(ret_quiet, process->pid);
    return error;
}

/* Nobody has opened or closed anything meanwhile. */
int quiet_holds(const struct step *step, const struct quiet *quiet)
{
    struct quiet now;
    int holds = !quiet_note(step, &now) && now.count == quiet->count;

    for (size_t i = 0; holds && i < now.count; i++)
        holds = now.pipes[i].inode == quiet->pipes[i].inode && now.pipes[i].bytes == quiet->pipes[i].bytes;
    quiet_free(&now);
    return holds;
}

void quiet_free(struct quiet *quiet)
{
    free(quiet->pipes);
    *quiet = (struct quiet){ 0 };
}
