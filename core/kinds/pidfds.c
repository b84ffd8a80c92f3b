/* SPDX-License-Identifier: MIT */
/* pidfd: a handle of a process. Those of the program's own processes can be made again, when these are there: also of its children
 * that have ended and that nobody has waited for. One of a process that is gone for good is like any other of that sort. Other
 * processes are not of this image. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct pidfd_record {
    struct descriptor_record descriptor;
    int32_t pid;          /* GONE: of a process that has ended and was waited for */
    uint32_t reserved;
};
static_assert(sizeof(struct pidfd_record) == 32, "pidfd record");

enum { GONE = -1 }; /* as fdinfo has it */

static int pidfds_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return text_equal(descriptor->target, "anon_inode:[pidfd]");
}

static int pid_of(const struct descriptor *descriptor)
{
    char *info = descriptor_info(descriptor);
    const char *pid = info ? status_field(info, "Pid") : NULL;
    int is = pid ? atoi(pid) : 0;

    free(info);
    return is;
}

static int is_process(const struct saving *saving, int pid)
{
    for (const struct saving *process = saving->first; process; process = process->next)
        if (process->pid == pid)
            return 1;
    return 0;
}

/* Or a child that waits to be waited for: ended_children.c. */
static int is_inside(const struct saving *saving, int pid)
{
    uint64_t fields[STAT_FIELDS];

    return is_process(saving, pid) || (!proc_stat(pid, fields) && fields[STAT_STATE] == 'Z' && is_process(saving, (int)fields[STAT_PARENT]));
}

static int pidfds_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct pidfd_record record = { .pid = pid_of(descriptor) };

    if (record.pid != GONE && !is_inside(saving, record.pid))
        return refuse(saving, "R-PIDFD", "descriptor %d is a pidfd of process or thread %d", descriptor->number, record.pid);
    descriptor_describe(descriptor, &record.descriptor);
    return save_record(saving, TAG_PIDFD, &record, sizeof record);
}

static long open_gone(unsigned flags)
{
    pid_t child = fork();
    long fd;

    if (!child)
        _exit(0);
    fd = child < 0 ? child : syscall(SYS_pidfd_open, child, flags);
    if (child > 0)
        waitpid(child, NULL, 0);
    return fd;
}

/* Not in `open`: what several processes have is opened there before they exist. PIDFD_THREAD is O_EXCL, PIDFD_NONBLOCK O_NONBLOCK
 * (linux/pidfd.h). */
static int pidfds_wire(struct restoring *restoring, struct reader *reader)
{
    struct pidfd_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    unsigned flags = placed ? 0 : record.descriptor.flags & (O_EXCL | O_NONBLOCK);
    long fd;

    (void)restoring;
    if (placed)
        return placed < 0 ? placed : 0;
    fd = record.pid == GONE ? open_gone(flags) : syscall(SYS_pidfd_open, record.pid, flags);
    return fd < 0 ? -errno : descriptor_place(&record.descriptor, (int)fd);
}

static void pidfds_show(struct reader *reader, FILE *out)
{
    struct pidfd_record record;
    char what[64];

    if (reader_take(reader, &record, sizeof record))
        return;
    if (record.pid == GONE)
        snprintf(what, sizeof what, "pidfd of a process that is gone");
    else
        snprintf(what, sizeof what, "pidfd of process %d", record.pid);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_pidfds = {
    .name = "pidfd",
    .tag = TAG_PIDFD,
    .claim = pidfds_claim,
    .save = pidfds_save,
    .wire = pidfds_wire,
    .show = pidfds_show,
};
