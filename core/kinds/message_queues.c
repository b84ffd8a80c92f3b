/* SPDX-License-Identifier: MIT */
/* Message queues of System V: those that the program has made, with the messages in them, which are copied and not
 * taken (MSG_COPY). Who sent and received last, and when, cannot be given back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <unistd.h>

#include "system_v.h"

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

struct queue_record {
    struct system_v_record object;
    uint64_t bytes; /* msg_qbytes: what it holds at most */
    uint64_t count;
    /* then, for each message: its type, 8 bytes; its length, 4 bytes; its bytes */
};
static_assert(sizeof(struct queue_record) == 32, "message queue");

struct message {
    long type;
    char bytes[];
};

/* Adds all messages; `room`: no message is larger. */
static int peek(struct saving *saving, int id, uint64_t count, size_t room, struct buffer *payload)
{
    struct message *message = malloc(sizeof *message + room);
    int error = message ? 0 : -ENOMEM;

    for (uint64_t i = 0; !error && i < count; i++) {
        ssize_t got = msgrcv(id, message, room, (long)i, MSG_COPY | IPC_NOWAIT);
        if (got < 0 && errno == ENOSYS)
            error = refuse(saving, "R-SYSTEM-V",
                           "this kernel (without CONFIG_CHECKPOINT_RESTORE) does not let the messages of queue %d "
                           "be looked at",
                           id);
        else if (got < 0)
            error =
                refuse(saving, "R-SYSTEM-V", "the message queue with id %d cannot be read: %s", id, strerror(errno));
        if (error)
            break;
        buffer_add(payload, &(int64_t){ message->type }, sizeof(int64_t));
        buffer_add(payload, &(uint32_t){ (uint32_t)got }, sizeof(uint32_t));
        buffer_add(payload, message->bytes, (size_t)got);
    }
    free(message);
    return error;
}

static int save_queue(struct saving *saving, int id)
{
    struct msqid_ds status;
    struct queue_record record;
    struct buffer payload = { 0 };
    int error;

    if (msgctl(id, IPC_STAT, &status))
        return errno == EINVAL || errno == EIDRM
                   ? 0 /* gone meanwhile */
                   : refuse(saving, "R-SYSTEM-V", "the message queue with id %d cannot be read", id);
    error = system_v_check_owner(saving, IPC_SORT_MESSAGES, id, &status.msg_perm, "the message queue");
    record = (struct queue_record){ .object = system_v_describe(id, &status.msg_perm),
                                    .bytes = status.msg_qbytes,
                                    .count = status.msg_qnum };
    buffer_add(&payload, &record, sizeof record);
    if (!error)
        error = peek(saving, id, record.count, status.__msg_cbytes, &payload);
    if (!error)
        error = image_write_record(saving->writer, TAG_MESSAGE_QUEUE, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

static int queues_save(struct saving *saving, const struct descriptor *none)
{
    (void)none;
    return system_v_each(saving, IPC_SORT_MESSAGES, save_queue);
}

/* The next message of a record: its length, or -EBADMSG. */
static int64_t next_message(struct reader *reader, int64_t *ret_type, const void **ret_bytes)
{
    uint32_t length;

    reader_take(reader, ret_type, sizeof *ret_type);
    reader_take(reader, &length, sizeof length);
    *ret_bytes = reader_view(reader, length);
    return reader->error || *ret_type <= 0 ? -EBADMSG : (int64_t)length;
}

/* What a new namespace allows, whatever the host's own says (linux/msg.h); only root may raise it there. */
enum { QUEUE_BYTES = 16384, MESSAGE_BYTES = 8192 };

static int queues_check(struct restoring *restoring, struct reader *reader)
{
    struct queue_record record;
    int64_t type, length = 0, largest = 0;
    const void *bytes;

    reader_take(reader, &record, sizeof record);
    for (uint64_t i = 0; !reader->error && length >= 0 && i < record.count; i++) {
        length = next_message(reader, &type, &bytes);
        largest = length > largest ? length : largest;
    }
    system_v_check_numbers(restoring);
    if (!reader->error && geteuid() && (record.bytes > QUEUE_BYTES || largest > MESSAGE_BYTES))
        missing(restoring,
                "R-QUEUE-SIZE: a message queue of the program holds %ju bytes or messages of %jd; only root can have "
                "more than %d "
                "and %d after a restart",
                (uintmax_t)record.bytes, (intmax_t)largest, QUEUE_BYTES, MESSAGE_BYTES);
    return length < 0 ? -EBADMSG : reader->error;
}

static int send_all(int id, uint64_t count, struct reader *reader)
{
    int error = 0;

    for (uint64_t i = 0; !error && i < count; i++) {
        int64_t type, length;
        const void *bytes;
        struct message *message;
        length = next_message(reader, &type, &bytes);
        if (length < 0)
            return -EBADMSG;
        message = malloc(sizeof *message + (size_t)length);
        if (!message)
            return -ENOMEM;
        message->type = type;
        memcpy(message->bytes, bytes, (size_t)length);
        error = msgsnd(id, message, (size_t)length, IPC_NOWAIT) ? -errno : 0;
        free(message);
    }
    return error;
}

static int make_queue(const struct queue_record *record, struct reader *reader)
{
    struct msqid_ds status;
    int error = system_v_next_id("msg", record->object.id), id;

    if (error)
        return error;
    id = msgget(record->object.key, IPC_CREAT | IPC_EXCL | (int)record->object.mode);
    if (id < 0 || msgctl(id, IPC_STAT, &status))
        return -errno;
    if (id != record->object.id)
        return -EEXIST;
    if (status.msg_qbytes < record->bytes) { /* a smaller one may hold more than it may, made smaller later */
        status.msg_qbytes = record->bytes;
        error = msgctl(id, IPC_SET, &status) ? -errno : 0;
    }
    if (!error)
        error = send_all(id, record->count, reader);
    if (!error && status.msg_qbytes > record->bytes) {
        status.msg_qbytes = record->bytes;
        error = msgctl(id, IPC_SET, &status) ? -errno : 0;
    }
    return error;
}

static int queues_make(struct restoring *restoring, struct reader *reader)
{
    struct queue_record record;
    struct msqid_ds status;

    (void)restoring;
    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    if (record.object.mode > 0777)
        return -EBADMSG;
    return msgctl(record.object.id, IPC_STAT, &status) ? make_queue(&record, reader) : 0;
}

static void queues_show(struct reader *reader, FILE *out)
{
    struct queue_record record;

    if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  id %d, key %#x, %ju messages\n", record.object.id, (unsigned)record.object.key,
                (uintmax_t)record.count);
}

const struct kind kind_message_queues = {
    .name = "message queue",
    .tag = TAG_MESSAGE_QUEUE,
    .save = queues_save,
    .check = queues_check,
    .make = queues_make,
    .show = queues_show,
};
