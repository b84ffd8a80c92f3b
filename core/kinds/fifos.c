/* SPDX-License-Identifier: MIT */
/* Named pipes, fifo(7). With both ends in the step they come back with the bytes in them. One that leads to another program is
 * opened again by its path, without waiting: whoever has it open then is the other end. One without a name is made again in
 * the bubble's own /dev/shm. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kind.h"

struct fifo_record {
    struct descriptor_record descriptor;
    uint64_t device, inode; /* which FIFO: the same in all its records */
    uint32_t mode;
    uint32_t capacity;      /* bytes */
    uint32_t nameless;
    uint32_t leads_out;     /* 1: no descriptor of the step is of the other end */
    uint32_t length;        /* bytes in flight, behind the path; only with the first record */
    uint32_t reserved;
    /* then: path, bytes */
};

struct fifo {
    struct fifo *next;
    uint64_t device, inode;
    int fd;                 /* open for both, so that no open waits for the other end; above restoring->highest */
};

static int is_fifo(const struct descriptor *descriptor)
{
    return S_ISFIFO(descriptor->status.st_mode) && descriptor->target[0] == '/' && !(descriptor->flags & O_PATH);
}

static int is_same_fifo(const struct descriptor *descriptor, const void *wanted)
{
    const struct stat *status = &((const struct descriptor *)wanted)->status;
    return is_fifo(descriptor) && descriptor->status.st_ino == status->st_ino && descriptor->status.st_dev == status->st_dev;
}

static int reads_fifo(const struct descriptor *descriptor, const void *wanted)
{
    return is_same_fifo(descriptor, wanted) && (descriptor->flags & O_ACCMODE) != O_WRONLY;
}

static int writes_fifo(const struct descriptor *descriptor, const void *wanted)
{
    return is_same_fifo(descriptor, wanted) && (descriptor->flags & O_ACCMODE) != O_RDONLY;
}

static int fifos_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return is_fifo(descriptor);
}

/* Bytes that nobody of us will read are the other program's. */
static int look_inside(struct saving *saving, const struct descriptor *descriptor, int handle, struct fifo_record *record, struct buffer *bytes)
{
    struct buffer packets = { 0 };
    int error;

    if (!step_find_file(saving, &descriptor->status, reads_fifo, descriptor))
        return 0;
    error = pipe_peek(handle, (int)record->capacity, bytes, &packets);
    if (!error && packets.length > sizeof(uint32_t))
        error = refuse(saving, "R-PIPE", "descriptor %d is a named pipe with packets in it", descriptor->number);
    record->length = (uint32_t)bytes->length;
    buffer_free(&packets);
    return error ? error : bytes->error;
}

/* Which end is looked into does not matter, but tee(2) wants one that can be read. */
static int describe(struct saving *saving, const struct descriptor *descriptor, struct fifo_record *record, struct buffer *bytes)
{
    const struct descriptor *reader = step_find_file(saving, &descriptor->status, reads_fifo, descriptor);
    int handle = handle_of(reader ? reader : descriptor), capacity;

    if (handle < 0)
        return handle;
    capacity = fcntl(handle, F_GETPIPE_SZ);
    if (capacity < 0)
        return -errno;
    record->capacity = (uint32_t)capacity;
    return step_find_file(saving, &descriptor->status, is_same_fifo, descriptor) == descriptor ? look_inside(saving, descriptor, handle, record, bytes) : 0;
}

static int fifos_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct fifo_record record = { .device = descriptor->status.st_dev, .inode = descriptor->status.st_ino,
                                  .mode = descriptor->status.st_mode & 07777, .nameless = !descriptor_is_at_target(descriptor) };
    struct buffer payload = { 0 }, bytes = { 0 };
    int error;

    descriptor_describe(descriptor, &record.descriptor);
    record.leads_out = !step_find_file(saving, &descriptor->status, reads_fifo, descriptor) || !step_find_file(saving, &descriptor->status, writes_fifo, descriptor);
    if (record.nameless && record.leads_out)
        error = refuse(saving, "R-PIPE", "descriptor %d is a named pipe to another program, %s, and has lost its name", descriptor->number,
                       descriptor->target);
    else
        error = describe(saving, descriptor, &record, &bytes);
    buffer_add(&payload, &record, sizeof record);
    buffer_add_text(&payload, descriptor->target);
    buffer_add(&payload, bytes.bytes, bytes.length);
    if (!error)
        error = image_write_record(saving->writer, TAG_FIFO, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    buffer_free(&bytes);
    return error;
}

/* The path as it is now; to be freed. NULL: the record is bad, or memory is short. */
static char *read_record(struct restoring *restoring, struct reader *reader, struct fifo_record *record, const void **ret_bytes)
{
    char *path = path_read(restoring, reader, reader_take_text(reader, record, sizeof *record));

    *ret_bytes = reader_view(reader, record->length);
    if (!reader->error && path)
        return path;
    free(path);
    return NULL;
}

/* Nothing is opened here: that would let go on whoever waits for the other end. */
static int fifos_check(struct restoring *restoring, struct reader *reader)
{
    struct fifo_record record;
    struct stat there;
    const void *bytes;
    char *path = read_record(restoring, reader, &record, &bytes);

    if (!path)
        return reader->error;
    if (!record.nameless && stat(path, &there))
        missing(restoring, "R-FILE-MISSING: %s: %s; put the named pipe back (mkfifo)", path, strerror(errno));
    else if (!record.nameless && !S_ISFIFO(there.st_mode))
        missing(restoring, "R-FILE-CHANGED: %s: it is no named pipe any more", path);
    else if (record.leads_out)
        adapted(restoring, "R-PIPE", "the named pipe %s led to another program; its other end is whoever has it open now", path);
    free(path);
    return 0;
}

static struct fifo *find(const struct restoring *restoring, const struct fifo_record *record)
{
    struct fifo *fifo = restoring->fifos;

    while (fifo && (fifo->inode != record->inode || fifo->device != record->device))
        fifo = fifo->next;
    return fifo;
}

static int open_nameless(uint32_t mode)
{
    char path[64];
    uint64_t random;
    int fd, error;

    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -errno;
    snprintf(path, sizeof path, "/dev/shm/stasis-fifo-%016" PRIx64, random);
    if (mkfifo(path, 0600))
        return -errno;
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    error = fd < 0 || fchmod(fd, mode) ? -errno : 0;
    unlink(path);
    if (error && fd >= 0)
        close(fd);
    return error ? error : fd;
}

/* Who may not have both ends has one: reading never waits, writing fails without a reader. */
static int open_holder(const struct fifo_record *record, const char *path)
{
    int fd = record->nameless ? open_nameless(record->mode) : open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0 && errno == EACCES && !record->nameless)
        fd = open(path, (record->descriptor.flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
    return fd == -1 ? -errno : fd;
}

/* What somebody has put into it meanwhile lies before the bytes that the program has not read yet: it cannot be so. */
static int prepare(struct restoring *restoring, const struct fifo_record *record, int fd)
{
    int there = 0;

    if (record->length && !ioctl(fd, FIONREAD, &there) && there) {
        snprintf(restoring->image->reason, sizeof restoring->image->reason, "R-PIPE: a named pipe has bytes in it that somebody has put there; "
                 "those that the program had not read yet can no longer stand before them");
        return -EEXIST;
    }
    return record->capacity && fcntl(fd, F_GETPIPE_SZ) < (int)record->capacity && fcntl(fd, F_SETPIPE_SZ, record->capacity) < 0 ? -errno : 0;
}

static int fifos_make(struct restoring *restoring, struct reader *reader)
{
    struct fifo_record record;
    const void *bytes;
    char *path = read_record(restoring, reader, &record, &bytes);
    struct fifo *fifo = path && !find(restoring, &record) ? calloc(1, sizeof *fifo) : NULL;
    int fd, error;

    if (!fifo) {
        error = !path ? reader->error : find(restoring, &record) ? 0 : -ENOMEM;
        free(path);
        return error;
    }
    fd = open_holder(&record, path);
    free(path);
    error = fd < 0 ? fd : prepare(restoring, &record, fd);
    *fifo = (struct fifo){ .next = restoring->fifos, .device = record.device, .inode = record.inode, .fd = -1 };
    restoring->fifos = fifo;
    if (!error) {
        fifo->fd = descriptor_lift(restoring, fd);
        return fifo->fd < 0 ? fifo->fd : 0;
    }
    if (fd >= 0)
        close(fd);
    return error;
}

/* O_NONBLOCK is for the open alone. */
static int open_end(const struct fifo *fifo, const struct descriptor_record *descriptor)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fifo->fd);
    fd = open(path, (descriptor->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_SETFL, descriptor->flags & (O_NONBLOCK | O_DIRECT | O_APPEND | O_NOATIME)))
        return -errno;
    return descriptor_place(descriptor, fd);
}

static int fifos_open(struct restoring *restoring, struct reader *reader)
{
    struct fifo_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    const struct fifo *fifo;

    if (placed)
        return placed < 0 ? placed : 0;
    fifo = find(restoring, &record);
    return fifo ? open_end(fifo, &record.descriptor) : -EBADMSG;
}

/* Others see these bytes, so it is done last. */
static int fifos_wire(struct restoring *restoring, struct reader *reader)
{
    struct fifo_record record;
    const void *bytes;
    char *path = read_record(restoring, reader, &record, &bytes);
    const struct fifo *fifo = path ? find(restoring, &record) : NULL;

    free(path);
    if (!fifo)
        return reader->error ? reader->error : -EBADMSG;
    return !record.length || write(fifo->fd, bytes, record.length) == (ssize_t)record.length ? 0 : -EIO;
}

static void fifos_show(struct reader *reader, FILE *out)
{
    struct fifo_record record;
    char *path = reader_take_text(reader, &record, sizeof record);

    if (path) {
        descriptor_show(&record.descriptor, path, out);
        fprintf(out, "     named pipe, %u bytes in it%s\n", record.length, record.leads_out ? ", to another program" : "");
    }
    free(path);
}

const struct kind kind_fifos = {
    .name = "FIFO",
    .tag = TAG_FIFO,
    .claim = fifos_claim,
    .save = fifos_save,
    .check = fifos_check,
    .make = fifos_make,
    .open = fifos_open,
    .wire = fifos_wire,
    .show = fifos_show,
};
