/* SPDX-License-Identifier: MIT */
/* Pipes whose both ends the program holds (many programs wake themselves through one), or whose other end nobody holds any
 * more. Bytes in flight are copied with tee(2), which takes nothing out, packets (O_DIRECT, pipe(2)) as packets. A pipe that
 * leads elsewhere is refused. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct pipe_record {
    struct descriptor_record descriptor;
    uint64_t pipe;      /* the inode: which descriptors are of the same pipe */
    uint32_t capacity;  /* bytes */
    uint32_t length;    /* bytes in flight that follow; only with the pipe's first record */
    uint32_t packets;   /* 0: a stream of bytes; otherwise behind the bytes so many uint32_t, their lengths */
    uint32_t reserved;
};

struct pipe_pair {
    struct pipe_pair *next;
    uint64_t pipe;
    int ends[2];          /* the second is -1 when the first is the program's own, */
    int number;           /* under this number; else -1 */
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

static int is_packet_end(const struct descriptor *descriptor, const void *wanted)
{
    return is_writing_end(descriptor, wanted) && descriptor->flags & O_DIRECT;
}

/* A description of our own. */
static int open_here(const struct saving *holder, const struct descriptor *descriptor, int access)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/fd/%d", holder->look, descriptor->number);
    return open(path, access | O_NONBLOCK | O_CLOEXEC);
}

/* Nobody holds the other end, here or elsewhere: pipe(7), and poll(2) tells. */
static int other_end_is_gone(const struct saving *saving, const struct descriptor *descriptor)
{
    struct pollfd pipe = { .fd = open_here(saving, descriptor, descriptor->flags & O_ACCMODE) };
    int gone = pipe.fd >= 0 && poll(&pipe, 1, 0) > 0 && pipe.revents & (POLLHUP | POLLERR);

    close(pipe.fd);
    return gone;
}

int pipe_is_inside(const struct saving *saving, const struct descriptor *descriptor)
{
    return is_pipe(descriptor) && step_find_file(saving, &descriptor->status, is_reading_end, descriptor) &&
           step_find_file(saving, &descriptor->status, is_writing_end, descriptor);
}

static int pipes_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    return is_pipe(descriptor) && (pipe_is_inside(saving, descriptor) || other_end_is_gone(saving, descriptor));
}

/* Reads what tee() has copied into a pipe of our own. All bytes come at once, but for packets: those come one by one. */
static int drain(int fd, int capacity, struct buffer *bytes, struct buffer *packets)
{
    char *chunk = malloc((size_t)capacity);
    ssize_t got = chunk ? 0 : -1;

    while (chunk && (got = read(fd, chunk, (size_t)capacity)) > 0) {
        uint32_t length = (uint32_t)got;
        buffer_add(bytes, chunk, length);
        buffer_add(packets, &length, sizeof length);
    }
    free(chunk);
    return got < 0 && errno != EAGAIN ? -errno : 0;
}

/* Most pipes are empty, and a user may not have as many as he likes: pipe(7). */
int pipe_peek(int fd, int capacity, struct buffer *bytes, struct buffer *packets)
{
    int copy[2], error = 0, there = 0;

    if (ioctl(fd, FIONREAD, &there))
        return -errno;
    if (!there)
        return 0;
    if (pipe2(copy, O_NONBLOCK | O_CLOEXEC))
        return -errno;
    if (fcntl(copy[1], F_SETPIPE_SZ, capacity) < 0)
        error = -errno;
    else if (tee(fd, copy[1], INT_MAX, SPLICE_F_NONBLOCK) < 0 && errno != EAGAIN)
        error = -errno;
    if (!error)
        error = drain(copy[0], capacity, bytes, packets);
    close(copy[0]);
    close(copy[1]);
    return error;
}

static int peek(const struct descriptor *reader, int capacity, struct buffer *bytes, struct buffer *packets)
{
    int fd = open_here(reader->holder, reader, O_RDONLY), error;

    if (fd < 0)
        return -errno;
    error = pipe_peek(fd, capacity, bytes, packets);
    close(fd);
    return error;
}

static int pipe_capacity(const struct saving *saving, const struct descriptor *descriptor)
{
    int fd = open_here(saving, descriptor, descriptor->flags & O_ACCMODE), capacity;

    if (fd < 0)
        return -errno;
    capacity = fcntl(fd, F_GETPIPE_SZ);
    close(fd);
    return capacity < 0 ? -errno : capacity;
}

/* What is in the pipe; and where packets end, if it has any. */
static int look_inside(struct saving *saving, const struct descriptor *descriptor, struct pipe_record *record, struct buffer *bytes,
                       struct buffer *packets)
{
    const struct descriptor *reader = step_find_file(saving, &descriptor->status, is_reading_end, descriptor);
    int error = peek(reader ? reader : descriptor, (int)record->capacity, bytes, packets);
    size_t count = packets->length / sizeof(uint32_t);

    if (!error && (count > 1 || (count && step_find_file(saving, &descriptor->status, is_packet_end, descriptor))))
        record->packets = (uint32_t)count;
    for (size_t i = 0; !error && i < record->packets; i++)
        if (((const uint32_t *)packets->bytes)[i] > PIPE_BUF) /* no packet is that long: some bytes before it are none */
            error = refuse(saving, "R-PIPE", "descriptor %d is a pipe with packets and other bytes in it", descriptor->number);
    return error;
}

static int pipes_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct pipe_record record = { .pipe = descriptor->status.st_ino };
    struct buffer payload = { 0 }, bytes = { 0 }, packets = { 0 };
    int capacity = pipe_capacity(saving, descriptor), error = capacity < 0 ? capacity : 0;

    descriptor_describe(descriptor, &record.descriptor);
    record.capacity = (uint32_t)capacity;
    if (!error && step_find_file(saving, &descriptor->status, is_same_pipe, descriptor) == descriptor)
        error = look_inside(saving, descriptor, &record, &bytes, &packets);
    record.length = (uint32_t)bytes.length;
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, bytes.bytes, bytes.length);
    buffer_add(&payload, packets.bytes, record.packets * sizeof(uint32_t));
    if (!error)
        error = bytes.error ? bytes.error : packets.error;
    if (!error)
        error = image_write_record(saving->writer, TAG_PIPE, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&packets);
    buffer_free(&bytes);
    buffer_free(&payload);
    return error;
}

static int put(int fd, const char *bytes, size_t length)
{
    return !length || write(fd, bytes, length) == (ssize_t)length ? 0 : -EIO;
}

static int put_packets(int fd, const struct pipe_record *record, const char *bytes, const uint32_t *packets)
{
    int error = fcntl(fd, F_SETFL, O_DIRECT) ? -errno : 0;

    for (uint32_t i = 0; !error && i < record->packets; bytes += packets[i++])
        error = put(fd, bytes, packets[i]);
    return !error && fcntl(fd, F_SETFL, 0) ? -errno : error;
}

static int lift_ends(struct restoring *restoring, struct pipe_pair *pair)
{
    int ends[2], error = 0;

    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    for (int i = 0; i < 2; i++) {
        pair->ends[i] = descriptor_lift(restoring, ends[i]);
        if (pair->ends[i] < 0)
            error = pair->ends[i];
    }
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

/* Where there is one process, the first of the program's ends keeps the pipe: above all numbers there may be no room for as many
 * again. Others would need it once it is theirs. */
static int settle(struct restoring *restoring, const struct pipe_record *record, struct pipe_pair *pair)
{
    int error;

    pair->number = -1;
    if (restoring->image->header.process_count != 1)
        return 0;
    error = open_end(pair, &record->descriptor);
    close(pair->ends[0]);
    close(pair->ends[1]);
    pair->ends[0] = pair->number = record->descriptor.number;
    pair->ends[1] = -1;
    return error;
}

/* Both ends of a new pipe, held above the image's numbers until the last stage closes all that is ours. */
static int make_pair(struct restoring *restoring, const struct pipe_record *record, const void *bytes, const uint32_t *packets)
{
    struct pipe_pair *pair = calloc(1, sizeof *pair);
    int error;

    if (!pair)
        return -ENOMEM;
    pair->pipe = record->pipe;
    pair->next = restoring->pipes;
    restoring->pipes = pair;
    error = lift_ends(restoring, pair);
    if (!error && fcntl(pair->ends[1], F_SETPIPE_SZ, record->capacity) < 0)
        error = -errno;
    if (!error)
        error = record->packets ? put_packets(pair->ends[1], record, bytes, packets) : put(pair->ends[1], bytes, record->length);
    return error ? error : settle(restoring, record, pair);
}

/* The first record of a pipe has its bytes. */
static int pipes_make(struct restoring *restoring, struct reader *reader)
{
    struct pipe_record record;
    const void *bytes;
    uint32_t *packets;
    uint64_t length = 0;
    int error;

    reader_take(reader, &record, sizeof record);
    bytes = reader_view(reader, record.length);
    if (reader->error || record.packets > record.length)
        return reader->error ? reader->error : -EBADMSG;
    packets = calloc(record.packets + 1, sizeof *packets);
    if (!packets)
        return -ENOMEM;
    error = reader_take(reader, packets, record.packets * sizeof *packets);
    for (uint32_t i = 0; !error && i < record.packets; i++)
        length += packets[i];
    if (!error && record.packets && length != record.length)
        error = -EBADMSG;
    if (!error && !find_pair(restoring, &record))
        error = make_pair(restoring, &record, bytes, packets);
    free(packets);
    return error;
}

uint64_t pipe_of_record(const struct reader *record)
{
    struct reader reader = *record;
    struct pipe_record pipe;

    return reader_take(&reader, &pipe, sizeof pipe) ? 0 : pipe.pipe;
}

static int pipes_open(struct restoring *restoring, struct reader *reader)
{
    struct pipe_record record;
    const struct pipe_pair *pair;
    int placed = descriptor_take(reader, &record, sizeof record);

    if (placed)
        return placed < 0 ? placed : 0;
    pair = find_pair(restoring, &record);
    return pair->number == record.descriptor.number ? 0 : open_end(pair, &record.descriptor);
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
