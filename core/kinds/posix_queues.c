/* SPDX-License-Identifier: MIT */
/* POSIX message queues that are open (mq_overview(7)). A message in one can be looked at only by taking it out, which a
 * checkpoint does not do: so a queue comes back when it is empty, and is refused while it is not. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../floor/text.h"
#include "shared_memory.h"

#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202 /* linux/magic.h */
#endif

struct queue_record {
    struct descriptor_record descriptor;
    uint64_t number;     /* inode: which descriptors are of the same queue */
    uint64_t most, size; /* messages it holds, and bytes of one, at most */
    uint32_t mode;
    uint32_t named; /* 0: mq_unlink(3) */
    /* then: its name as a text, with the slash */
};
static_assert(sizeof(struct queue_record) == 56, "POSIX queue");

static void path_of(const struct descriptor *descriptor, char path[64])
{
    snprintf(path, 64, "/proc/%d/fd/%d", descriptor->holder->view, descriptor->number);
}

static int queues_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    char path[64];
    struct statfs system;

    (void)saving;
    if (!S_ISREG(descriptor->status.st_mode) || descriptor->flags & O_PATH)
        return 0;
    path_of(descriptor, path);
    return !statfs(path, &system) && system.f_type == MQUEUE_MAGIC;
}

/* What the file says: "QSIZE:0 NOTIFY:0 SIGNO:0 NOTIFY_PID:0". */
static int has_notification(int fd)
{
    char text[128] = "";
    const char *pid = pread(fd, text, sizeof text - 1, 0) > 0 ? strstr(text, "NOTIFY_PID:") : NULL;

    return !pid || atoi(pid + strlen("NOTIFY_PID:")) != 0;
}

static int take_queue(struct saving *saving, const struct descriptor *descriptor, struct queue_record *record)
{
    struct mq_attr attributes;
    char path[64];
    int fd, error = 0;

    path_of(descriptor, path);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || mq_getattr(fd, &attributes))
        error = refuse(saving, "R-MESSAGE-QUEUE", "descriptor %d, the queue %s, cannot be read: %s", descriptor->number,
                       descriptor->target, strerror(errno));
    else if (attributes.mq_curmsgs)
        error = refuse(saving, "R-MESSAGE-QUEUE", "descriptor %d, the queue %s, has %ld messages in it",
                       descriptor->number, descriptor->target, attributes.mq_curmsgs);
    else if (has_notification(fd))
        error = refuse(saving, "R-MESSAGE-QUEUE", "descriptor %d, the queue %s, has a process to notify (mq_notify)",
                       descriptor->number, descriptor->target);
    if (fd >= 0)
        close(fd);
    if (error)
        return error;
    record->most = (uint64_t)attributes.mq_maxmsg;
    record->size = (uint64_t)attributes.mq_msgsize;
    return 0;
}

/* The target is the path in the file system of queues, or where that is mounted. */
static void take_name(const struct descriptor *descriptor, int named, char name[MAX_PATH])
{
    const char *slash = strrchr(descriptor->target, '/');
    size_t length = strlen(slash ? slash : "/");

    if (!named && length > strlen(" (deleted)"))
        length -= strlen(" (deleted)");
    snprintf(name, MAX_PATH, "%.*s", (int)length, slash ? slash : "/");
}

static int queues_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct queue_record record = { .number = descriptor->status.st_ino,
                                   .mode = descriptor->status.st_mode & 0777,
                                   .named = descriptor->status.st_nlink > 0 };
    char name[MAX_PATH];
    int error = take_queue(saving, descriptor, &record);

    if (!error)
        error = object_watch(saving, descriptor);
    descriptor_describe(descriptor, &record.descriptor);
    take_name(descriptor, (int)record.named, name);
    return error ? error : save_record_with_text(saving, TAG_POSIX_QUEUE, &record, sizeof record, name);
}

/* What a new namespace allows, whatever the host's own says (linux/ipc_namespace.h); only root may have more. */
enum { MOST_MESSAGES = 10, MESSAGE_BYTES = 8192 };

static int queues_check(struct restoring *restoring, struct reader *reader)
{
    struct queue_record record;

    if (!reader_take(reader, &record, sizeof record) && geteuid() &&
        (record.most > MOST_MESSAGES || record.size > MESSAGE_BYTES))
        missing(restoring,
                "R-QUEUE-SIZE: a POSIX queue of the program holds %" PRIu64 " messages of %" PRIu64
                " bytes; only root can have "
                "more than %d and %d after a restart",
                record.most, record.size, MOST_MESSAGES, MESSAGE_BYTES);
    return reader->error;
}

static int make_queue(struct restoring *restoring, const struct queue_record *record, const char *name)
{
    struct mq_attr attributes = { .mq_maxmsg = (long)record->most, .mq_msgsize = (long)record->size };
    int fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);

    if (fd < 0 || (!record->named && mq_unlink(name)) || fchmod(fd, record->mode & 0777))
        return -errno;
    fd = descriptor_lift(restoring, fd);
    return fd < 0 ? fd : object_add(restoring, &(struct made_object){ .sort = OBJECT_QUEUE, .number = record->number, .fd = fd });
}

static int queues_make(struct restoring *restoring, struct reader *reader)
{
    struct queue_record record;
    char *name = reader_take_text(reader, &record, sizeof record);
    int error = 0;

    if (name && !object_find(restoring, OBJECT_QUEUE, record.number))
        error = make_queue(restoring, &record, name);
    free(name);
    return error ? error : reader->error;
}

static int queues_open(struct restoring *restoring, struct reader *reader)
{
    struct queue_record record;
    int placed = descriptor_take(reader, &record, sizeof record);

    if (placed)
        return placed < 0 ? placed : 0;
    return object_place(restoring, OBJECT_QUEUE, record.number, &record.descriptor);
}

static void queues_show(struct reader *reader, FILE *out)
{
    struct queue_record record;
    char *name = reader_take_text(reader, &record, sizeof record);

    if (name)
        descriptor_show(&record.descriptor, name, out);
    free(name);
}

const struct kind kind_posix_queues = {
    .name = "POSIX queue",
    .tag = TAG_POSIX_QUEUE,
    .claim = queues_claim,
    .save = queues_save,
    .check = queues_check,
    .make = queues_make,
    .open = queues_open,
    .show = queues_show,
};
