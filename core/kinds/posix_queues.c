/* SPDX-License-Identifier: MIT */
/* POSIX message queues that are open (mq_overview(7)). A message in one can be looked at only by taking it out, which the program
 * itself does (preload/shim/messages.c); one that has somebody to notify is refused, as he would be told of it. */
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

struct messages_record {
    uint64_t number; /* of the queue */
    uint32_t count;
    uint32_t reserved;
    /* then, for each as it is received: struct agent_message and its bytes, with 0 to 3 behind them to a whole word */
};
static_assert(sizeof(struct messages_record) == 16, "messages of a POSIX queue");

static void path_of(const struct descriptor *descriptor, char path[64])
{
    snprintf(path, 64, "/proc/%d/fd/%d", descriptor->holder->look, descriptor->number);
}

/* Many descriptors are of one file system. */
static int is_of_queues(const struct descriptor *descriptor)
{
    static struct {
        dev_t device;
        int is_known, is;
    } last;
    char path[64];
    struct statfs system;

    if (!last.is_known || last.device != descriptor->status.st_dev) {
        path_of(descriptor, path);
        last.is_known = !statfs(path, &system);
        last.device = descriptor->status.st_dev;
        last.is = last.is_known && system.f_type == MQUEUE_MAGIC;
    }
    return last.is;
}

static int queues_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return S_ISREG(descriptor->status.st_mode) && !(descriptor->flags & O_PATH) && is_of_queues(descriptor);
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
    else if (has_notification(fd))
        error = refuse(saving, "R-MESSAGE-QUEUE", "descriptor %d, the queue %s, has a process to notify (mq_notify)",
                       descriptor->number, descriptor->target);
    if (fd >= 0)
        close(fd);
    if (error)
        return error;
    record->most = (uint64_t)attributes.mq_maxmsg;
    record->size = (uint64_t)attributes.mq_msgsize;
    return attributes.mq_curmsgs ? 1 : 0;
}

/* All that are in the queue, after its first record. */
static int save_messages(struct saving *saving, const struct descriptor *descriptor, const struct queue_record *queue)
{
    const struct agent_queue *taken = &saving->page->queue;
    struct messages_record record = { .number = queue->number };
    struct buffer payload = { 0 };
    int error;

    if (queue->most * (queue->size + sizeof(struct agent_message) + 3) > AGENT_QUEUE_BYTES)
        return refuse(saving, "R-MESSAGE-QUEUE", "descriptor %d, the queue %s, may hold more than can be looked at", descriptor->number,
                      descriptor->target);
    error = saving->ask(saving, ORDER_QUEUE, (uint32_t)descriptor->number);
    if (error == -EACCES)
        return refuse(saving, "R-MESSAGE-QUEUE", "descriptor %d, the queue %s, has messages and cannot be opened to look at them",
                      descriptor->number, descriptor->target);
    if (error)
        return error;
    if (taken->used > AGENT_QUEUE_BYTES)
        return -EPROTO;
    record.count = taken->count;
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, taken->messages, taken->used);
    error = image_write_record(saving->writer, TAG_POSIX_MESSAGES, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* Is this the descriptor of that file by which its messages are saved? A descriptor with O_PATH is none. */
static int is_of_queue(const struct descriptor *descriptor, const void *none)
{
    (void)none;
    return !(descriptor->flags & O_PATH);
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
    int has_messages = take_queue(saving, descriptor, &record);
    int error = has_messages < 0 ? has_messages : object_watch(saving, descriptor);

    descriptor_describe(descriptor, &record.descriptor);
    take_name(descriptor, (int)record.named, name);
    if (!error)
        error = save_record_with_text(saving, TAG_POSIX_QUEUE, &record, sizeof record, name);
    return !error && has_messages && step_find_file(saving, &descriptor->status, is_of_queue, NULL) == descriptor ? save_messages(saving, descriptor, &record) : error;
}

/* What a new namespace allows, whatever the host's own says (linux/ipc_namespace.h); only root may have more. */
enum { MOST_MESSAGES = 10, MESSAGE_BYTES = 8192 };

static int queues_check(struct restoring *restoring, struct reader *reader)
{
    struct queue_record record;

    needs_bubble(restoring, "POSIX message queues");
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

static int send_all(int fd, struct reader *reader, uint32_t count)
{
    struct agent_message message;
    int error = 0;

    for (uint32_t i = 0; !error && i < count && !reader_take(reader, &message, sizeof message); i++) {
        const char *bytes = reader_view(reader, message.length);
        reader_view(reader, -message.length % 4);
        if (!reader->error && mq_timedsend(fd, bytes, message.length, message.priority, &(struct timespec){ 0 }))
            error = -errno;
    }
    return error ? error : reader->error;
}

static int messages_make(struct restoring *restoring, struct reader *reader)
{
    const struct made_object *queue;
    struct messages_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    queue = object_find(restoring, OBJECT_QUEUE, record.number);
    return queue ? send_all(queue->fd, reader, record.count) : -EBADMSG;
}

static void messages_show(struct reader *reader, FILE *out)
{
    struct messages_record record;

    if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  %" PRIu32 " in the queue with inode %" PRIu64 "\n", record.count, record.number);
}

const struct kind kind_posix_messages = {
    .name = "messages of a POSIX queue",
    .tag = TAG_POSIX_MESSAGES,
    .make = messages_make,
    .show = messages_show,
};

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
