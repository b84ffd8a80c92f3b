/* SPDX-License-Identifier: MIT */
/* The messages of a POSIX queue: who wants to see them must take them out. That is done here, in a thread of the program, while all of
 * its processes stand still, and not by the saver: if that is killed meanwhile, what was taken is put back all the same. The queue gives
 * them by priority, and of one priority the oldest first; put back in that order they are as they were. Island: no libc. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

enum { WAITS = 10000 }; /* of a millisecond each, for room in a queue that somebody outside has filled */

static struct agent_message *message_at(struct agent_queue *queue, uint32_t offset)
{
    return (struct agent_message *)(void *)(queue->messages + offset);
}

static uint32_t message_bytes(uint32_t length)
{
    return (uint32_t)sizeof(struct agent_message) + (length + 3) / 4 * 4;
}

/* -EAGAIN when there is none any more, which is the good end. `largest`: of one message. */
static long take_all(int fd, uint32_t largest, struct agent_queue *queue)
{
    queue->count = queue->used = 0;
    while (queue->used + message_bytes(largest) <= AGENT_QUEUE_BYTES) {
        struct agent_message *message = message_at(queue, queue->used);
        long got = SYS_CALL(mq_timedreceive, fd, message + 1, largest, &message->priority, NULL, 0);
        if (got < 0)
            return got;
        message->length = (uint32_t)got;
        queue->used += message_bytes(message->length);
        queue->count++;
    }
    return -E2BIG;
}

static long put_one(int fd, const struct agent_message *message)
{
    const struct timespec time = { .tv_nsec = 1000000 };
    long error = -EAGAIN;

    for (int i = 0; error == -EAGAIN && i < WAITS; i++) {
        error = SYS_CALL(mq_timedsend, fd, message + 1, message->length, message->priority, NULL, 0);
        if (error == -EAGAIN)
            SYS_CALL(nanosleep, &time, NULL, 0, 0, 0, 0);
    }
    return error;
}

static long put_all(int fd, struct agent_queue *queue)
{
    uint32_t offset = 0;
    long error = 0;

    for (uint32_t i = 0; i < queue->count; i++) {
        const struct agent_message *message = message_at(queue, offset);
        long failed = put_one(fd, message);
        error = error ? error : failed;
        offset += message_bytes(message->length);
    }
    return error;
}

/* By a description of our own, as the program's may be for one direction only, or wait. */
static long look(void *argument)
{
    struct agent_page *page = argument;
    struct mq_attr attributes;
    char path[64];
    long fd, taken, error;

    text_add_number(path, sizeof path, text_add(path, sizeof path, 0, "/proc/thread-self/fd/"), page->argument);
    fd = sys_openat(AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    taken = SYS_CALL(mq_getsetattr, fd, NULL, &attributes, 0, 0, 0);
    if (!taken) {
        taken = take_all((int)fd, (uint32_t)attributes.mq_msgsize, &page->queue);
        error = put_all((int)fd, &page->queue);
        taken = error ? error : taken == -EAGAIN ? 0 : taken;
    }
    sys_close((int)fd);
    return taken;
}

long messages_look(struct agent_page *page)
{
    int queue = (int)page->argument;
    return room_with(look, page, &queue, 1);
}
