/* SPDX-License-Identifier: MIT */
#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../core/floor/passing.h"
#include "bubble.h"

enum { OWN_ROOM = 64, MOST_NUMBERS = 1 << 20 /* /proc/sys/fs/nr_open */ };

/* The numbers that the image uses: descriptor records are known by starting alike. */
static int find_numbers(struct restoring *restoring, uint8_t *used)
{
    struct record_header header;
    struct reader record;
    int last = 2;

    for (size_t at = 0; image_next_record(restoring->image, &at, &header, &record);) {
        const struct kind *kind = kind_of_tag(header.tag);
        struct descriptor_record descriptor;
        if (!kind || !kind->claim || reader_take(&record, &descriptor, sizeof descriptor) || descriptor.number < 0 ||
            descriptor.number >= MOST_NUMBERS)
            continue;
        used[descriptor.number] = 1;
        if (descriptor.number > last)
            last = descriptor.number;
    }
    return last;
}

/* Where our own descriptors go: above the image's; or, where the limit leaves no room there, into the widest gap between them. */
void descriptors_find_room(struct restoring *restoring)
{
    uint8_t *used = calloc(MOST_NUMBERS, 1);
    struct rlimit limit = { .rlim_max = MOST_NUMBERS };
    int widest = 0;

    restoring->own_end = INT_MAX;
    restoring->highest = restoring->last_number = used ? find_numbers(restoring, used) : MOST_NUMBERS;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (used && (rlim_t)restoring->last_number + OWN_ROOM >= limit.rlim_max)
        for (int number = 3, start = 3; number <= restoring->last_number; number++) {
            if (!used[number])
                continue;
            if (number - start > widest && number - start > OWN_ROOM) {
                widest = number - start;
                restoring->highest = start - 1;
                restoring->own_end = number;
            }
            start = number + 1;
        }
    free(used);
}

int descriptors_clear(struct restoring *restoring)
{
    struct rlimit limit;
    int *const own[] = { &restoring->image->descriptor, bubble_descriptor() };

    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    for (int i = 0; i < 3; i++)
        restoring->streams[i] = fcntl(i, F_DUPFD_CLOEXEC, restoring->highest + 1);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (*own[i] < 0 || (*own[i] > restoring->highest && *own[i] < restoring->own_end))
            continue;
        *own[i] = fcntl(*own[i], F_DUPFD_CLOEXEC, restoring->highest + 1);
        if (*own[i] < 0)
            return -errno;
    }
    if (restoring->own_end < INT_MAX)
        close_range((unsigned)restoring->own_end, ~0U, 0);
    return close_range(0, (unsigned)restoring->highest, 0) ? -errno : 0;
}

/* ---- what is shared ---- */

static int make_mail(const struct restoring *task, struct shared_description *shared)
{
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, shared->mail))
        return -errno;
    for (int i = 0; i < 2; i++)
        if ((shared->mail[i] = descriptor_lift(task, shared->mail[i])) < 0)
            return shared->mail[i];
    return 0;
}

static int open_record(struct restoring *task, const struct kind *kind, struct reader *record, struct shared_description *shared)
{
    int error = kind->open ? kind->open(task, record) : 0;

    if (!error && kind->open && fcntl(shared->first_number, F_GETFD) >= 0) {
        shared->held = descriptor_lift(task, shared->first_number);
        return shared->held < 0 ? shared->held : 0;
    }
    return error ? error : make_mail(task, shared);
}

/* The kind sees the process that the record is of, and lists of what has been made already. */
static int hold_one(struct restoring *task, struct shared_description *shared, const char **ret_name)
{
    struct record_header header;
    struct reader record, start;
    struct descriptor_record descriptor;

    for (size_t at = 0; image_next_record(task->image, &at, &header, &record);) {
        const struct kind *kind = kind_of_tag(header.tag);
        start = record;
        if (header.process != shared->first || !kind || !kind->claim || reader_take(&record, &descriptor, sizeof descriptor) ||
            descriptor.number != shared->first_number)
            continue;
        *ret_name = kind->name;
        task->index = shared->first;
        int error = open_record(task, kind, &start, shared);
        task->index = 0;
        return error;
    }
    return -EBADMSG;
}

int descriptors_hold(struct restoring *task, const char **ret_name)
{
    int error = 0;

    *ret_name = "descriptors that processes share";
    for (size_t i = 0; i < task->sharing_count && !error; i++) {
        struct shared_description *shared = &task->sharing[i];
        size_t same = 0;
        while (task->sharing[same].first != shared->first || task->sharing[same].first_number != shared->first_number)
            same++;
        if (same == i)
            error = hold_one(task, shared, ret_name);
        shared->held = task->sharing[same].held;
        memcpy(shared->mail, task->sharing[same].mail, sizeof shared->mail);
    }
    return error;
}

/* What is known of a descriptor that is shared; NULL: it is not. */
static const struct shared_description *find(const struct restoring *restoring, int number, int *ret_is_first)
{
    for (size_t i = 0; i < restoring->sharing_count; i++) {
        const struct shared_description *shared = &restoring->sharing[i];
        *ret_is_first = shared->first == restoring->index && shared->first_number == number;
        if (*ret_is_first || (shared->process == restoring->index && shared->number == number))
            return shared;
    }
    return NULL;
}

static int place(const struct descriptor_record *descriptor, int held)
{
    return dup3(held, descriptor->number, descriptor->flags & O_CLOEXEC) < 0 ? -errno : 0;
}

int descriptors_open(struct restoring *restoring, struct reader record)
{
    struct descriptor_record descriptor;
    const struct shared_description *shared;
    int is_first, error;

    if (reader_take(&record, &descriptor, sizeof descriptor))
        return record.error;
    shared = find(restoring, descriptor.number, &is_first);
    if (!shared || (is_first && shared->held < 0))
        return 0;
    error = shared->held < 0 ? 0 : place(&descriptor, shared->held);
    return error ? error : 1;
}

int descriptors_wire(struct restoring *restoring, struct reader record)
{
    struct descriptor_record descriptor;
    const struct shared_description *shared;
    int is_first, fd, error;

    if (reader_take(&record, &descriptor, sizeof descriptor))
        return record.error;
    shared = find(restoring, descriptor.number, &is_first);
    if (!shared || is_first)
        return 0;
    if (shared->held >= 0)
        return 1;
    /* it stays there for the next one */
    error = (int)passing_receive(shared->mail[1], &fd, 1, MSG_PEEK | MSG_DONTWAIT);
    if (!error)
        error = descriptor_place(&descriptor, fd);
    return error ? error : 1;
}

int descriptors_send(struct restoring *restoring, struct reader record)
{
    struct descriptor_record descriptor;
    const struct shared_description *shared;
    int is_first;

    if (reader_take(&record, &descriptor, sizeof descriptor))
        return record.error;
    shared = find(restoring, descriptor.number, &is_first);
    return shared && is_first && shared->held < 0 ? (int)passing_send(shared->mail[0], &descriptor.number, 1) : 0;
}

void descriptors_let_go(struct restoring *restoring)
{
    for (size_t i = 0; i < restoring->sharing_count; i++) {
        struct shared_description *shared = &restoring->sharing[i];
        if (shared->held < 0)
            continue;
        for (size_t later = i + 1; later < restoring->sharing_count; later++)
            if (restoring->sharing[later].held == shared->held)
                restoring->sharing[later].held = -1;
        close(shared->held);
        shared->held = -1;
    }
}
