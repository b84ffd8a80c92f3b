/* SPDX-License-Identifier: MIT */
/* pidfd: a handle of a process. That of the program itself can be made again; others are not of this image. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

static int pidfds_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return text_equal(descriptor->target, "anon_inode:[pidfd]");
}

/* -1: it has ended, and nobody can have it any more */
static int pid_of(const struct descriptor *descriptor)
{
    char *info = descriptor_info(descriptor);
    const char *pid = info ? status_field(info, "Pid") : NULL;
    int is = pid ? atoi(pid) : 0;

    free(info);
    return is;
}

static int pidfds_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct descriptor_record record;
    int pid = pid_of(descriptor);

    if (pid < 0)
        return refuse(saving, "R-PIDFD", "descriptor %d is a pidfd of a process that has ended", descriptor->number);
    if (pid != saving->pid)
        return refuse(saving, "R-PIDFD", "descriptor %d is a pidfd of process or thread %d", descriptor->number, pid);
    descriptor_describe(descriptor, &record);
    return save_record(saving, TAG_PIDFD, &record, sizeof record);
}

/* This very process becomes the program. PIDFD_THREAD is O_EXCL, PIDFD_NONBLOCK O_NONBLOCK (linux/pidfd.h). */
static int pidfds_open(struct restoring *restoring, struct reader *reader)
{
    struct descriptor_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    long fd;

    (void)restoring;
    if (placed)
        return placed < 0 ? placed : 0;
    fd = syscall(SYS_pidfd_open, getpid(), record.flags & (O_EXCL | O_NONBLOCK));
    return fd < 0 ? -errno : descriptor_place(&record, (int)fd);
}

static void pidfds_show(struct reader *reader, FILE *out)
{
    struct descriptor_record record;

    if (!reader_take(reader, &record, sizeof record))
        descriptor_show(&record, "pidfd of the process itself", out);
}

const struct kind kind_pidfds = {
    .name = "pidfd",
    .tag = TAG_PIDFD,
    .claim = pidfds_claim,
    .save = pidfds_save,
    .open = pidfds_open,
    .show = pidfds_show,
};
