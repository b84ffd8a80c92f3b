/* SPDX-License-Identifier: MIT */
/* Pipes whose both ends the program holds (many programs wake themselves through one). Bytes in flight are copied with
 * tee(2), which takes nothing out. A pipe that leads elsewhere is refused. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct pipe_record {
    struct descriptor_record descriptor;
    uint64_t pipe;      /* the inode: which descriptors are of the same pipe */
    uint32_t capacity;  /* bytes */
    uint32_t length;    /* bytes in flight that follow; only with the pipe's first record */
};

struct pipe_pair {
    struct pipe_pair *next;
    uint64_t pipe;
    int ends[2];
};

static int is_pipe(const struct descriptor *descriptor)
{
    return S_ISFIFO(descriptor->status.st_mode) && text_starts(descriptor->target, "pipe:[");
}

static int is_same_pipe(const struct descriptor *descriptor, const void *wanted)
{
    return is_pipe(descriptor) && descriptor->status.st_ino == ((const struct descriptor *)wanted)->status.st_ino;
}

static int is_reading_end(const struct descriptor *descriptor, const void *wanted)
{
    return is_same_pipe(descriptor, wanted) && (descriptor->flags & O_ACCMODE) != O_WRONLY;
}

static int is_writing_end(const struct descriptor *descriptor, const void *wanted)
{
    return is_same_pipe(descriptor, wanted) && (descriptor->flags & O_ACCMODE) != O_RDONLY;
}

static int pipes_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    return is_pipe(descriptor) && step_find(saving, is_reading_end, descriptor) && step_find(saving, is_writing_end, descriptor);
}

/* Reads what tee() has copied into a pipe of our own. */
static int drain(int fd, struct buffer *bytes)
{
    char chunk[PAGE_BYTES];
    ssize_t got;

    while ((got = read(fd, chunk, sizeof chunk)) > 0)
        buffer_add(bytes, chunk, (size_t)got);
    return got < 0 && errno != EAGAIN ? -errno : 0;
}

static int peek(const struct descriptor *reader, int capacity, struct buffer *bytes)
{
    char path[64];
    int copy[2], error = 0, fd;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", reader->holder->view, reader->number);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (pipe2(copy, O_NONBLOCK | O_CLOEXEC)) {
        error = -errno;
        close(fd);
        return error;
    }
    if (fcntl(copy[1], F_SETPIPE_SZ, capacity) < 0)
        error = -errno;
    else if (tee(fd, copy[1], INT_MAX, SPLICE_F_NONBLOCK) < 0 && errno != EAGAIN)
        error = -errno;
    if (!error)
        error = drain(copy[0], bytes);
    close(copy[0]);
    close(copy[1]);
    close(fd);
    return error;
}

static int pipe_capacity(const struct saving *saving, const struct descriptor *descriptor)
{
    char path[64];
    int fd, capacity;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", saving->view, descriptor->number);
    fd = open(path, (descriptor->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    capacity = fcntl(fd, F_GETPIPE_SZ);
    close(fd);
    return capacity < 0 ? -errno : capacity;
}

static int pipes_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct pipe_record record = { .pipe = descriptor->status.st_ino };
    struct buffer payload = { 0 }, bytes = { 0 };
    int capacity = pipe_capacity(saving, descriptor), error = capacity < 0 ? capacity : 0;

    if (!error && step_find(saving, is_same_pipe, descriptor) == descriptor)
        error = peek(step_find(saving, is_reading_end, descriptor), capacity, &bytes);
    if (!error && descriptor->flags & O_DIRECT && bytes.length)
        error = refuse(saving, "R-PIPE", "descriptor %d is a pipe of packets with packets in it", descriptor->number);
    descriptor_describe(descriptor, &record.descriptor);
    record.capacity = (uint32_t)capacity;
    record.length = (uint32_t)bytes.length;
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, bytes.bytes, bytes.length);
    if (!error)
        error = bytes.error ? bytes.error
                            : image_write_record(saving->writer, TAG_PIPE, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&bytes);
    buffer_free(&payload);
    return error;
}

/* Both ends of a new pipe, held above the image's numbers until the last stage closes all that is ours. */
static int make_pair(struct restoring *restoring, const struct pipe_record *record, const void *bytes)
{
    struct pipe_pair *pair = calloc(1, sizeof *pair);
    int ends[2], error = 0;

    if (!pair)
        return -ENOMEM;
    if (pipe2(ends, O_CLOEXEC)) {
        error = -errno;
        free(pair);
        return error;
    }
    for (int i = 0; i < 2; i++) {
        pair->ends[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, restoring->highest + 1);
        if (pair->ends[i] < 0)
            error = -errno;
        close(ends[i]);
    }
    if (!error && fcntl(pair->ends[1], F_SETPIPE_SZ, record->capacity) < 0)
        error = -errno;
    if (!error && record->length && write(pair->ends[1], bytes, record->length) != (ssize_t)record->length)
        error = -EIO;
    pair->pipe = record->pipe;
    pair->next = restoring->pipes;
    restoring->pipes = pair;
    return error;
}

/* Opening an end through /proc makes a new open file description of the same pipe. */
static int open_end(const struct pipe_pair *pair, const struct descriptor_record *descriptor)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/self/fd/%d", pair->ends[0]);
    fd = open(path, (descriptor->flags & (O_ACCMODE | O_NONBLOCK)) | O_CLOEXEC);
    if (fd < 0 || (descriptor->flags & O_DIRECT && fcntl(fd, F_SETFL, descriptor->flags & (O_NONBLOCK | O_DIRECT))))
        return -errno;
    return descriptor_place(descriptor, fd);
}

static const struct pipe_pair *find_pair(const struct restoring *restoring, const struct pipe_record *record)
{
    const struct pipe_pair *pair = restoring->pipes;

    while (pair && pair->pipe != record->pipe)
        pair = pair->next;
    return pair;
}

/* The first record of a pipe has its bytes. */
static int pipes_make(struct restoring *restoring, struct reader *reader)
{
    struct pipe_record record;
    const void *bytes;

    reader_take(reader, &record, sizeof record);
    bytes = reader_view(reader, record.length);
    if (reader->error)
        return reader->error;
    return find_pair(restoring, &record) ? 0 : make_pair(restoring, &record, bytes);
}

static int pipes_open(struct restoring *restoring, struct reader *reader)
{
    struct pipe_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    return record.descriptor.same_as != record.descriptor.number ? descriptor_share(&record.descriptor)
                                                                 : open_end(find_pair(restoring, &record), &record.descriptor);
}

static void pipes_show(struct reader *reader, FILE *out)
{
    struct pipe_record record;
    char what[64];

    if (reader_take(reader, &record, sizeof record))
        return;
    snprintf(what, sizeof what, "pipe %ju, %u bytes in it", (uintmax_t)record.pipe, record.length);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_pipes = {
    .name = "pipe",
    .tag = TAG_PIPE,
    .claim = pipes_claim,
    .save = pipes_save,
    .make = pipes_make,
    .open = pipes_open,
    .show = pipes_show,
};
