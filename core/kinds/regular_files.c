/* SPDX-License-Identifier: MIT */
/* Regular files by their path: position and flags come back; one that is written gets the size it had, so that what
 * was written after the checkpoint is not there twice. One that was only read must be unchanged. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct file_record {
    struct descriptor_record descriptor;
    struct file_identity identity; /* at the checkpoint; without hash */
    /* then: the path as a text */
};

static int files_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return S_ISREG(descriptor->status.st_mode) && !(descriptor->flags & O_PATH) &&
           !text_starts(descriptor->target, "/memfd:");
}

static int may_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

/* Through this descriptor or any other of the program's. */
static int is_written_by(const struct saving *saving, const struct stat *file)
{
    for (size_t i = 0; i < saving->descriptor_count; i++) {
        const struct descriptor *other = &saving->descriptors[i];
        if (may_write(other->flags) && other->status.st_ino == file->st_ino && other->status.st_dev == file->st_dev)
            return 1;
    }
    return 0;
}

static int files_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct file_record record = { .identity = { .size = (uint64_t)descriptor->status.st_size,
                                                .mtime_seconds = descriptor->status.st_mtim.tv_sec,
                                                .mtime_nanoseconds = descriptor->status.st_mtim.tv_nsec } };
    struct buffer payload = { 0 };
    struct stat there;
    int error;

    if (stat(descriptor->target, &there) || there.st_dev != descriptor->status.st_dev ||
        there.st_ino != descriptor->status.st_ino)
        return refuse(saving, "R-UNLINKED-FILE", "descriptor %d: %s is deleted, or another file now", descriptor->number,
                      descriptor->target);
    if (text_starts(descriptor->target, "/dev/shm/"))
        return refuse(saving, "R-SHARED-MEMORY", "descriptor %d: %s is POSIX shared memory", descriptor->number,
                      descriptor->target);
    descriptor_describe(descriptor, &record.descriptor);
    record.descriptor.written = (uint32_t)is_written_by(saving, &descriptor->status);
    buffer_add(&payload, &record, sizeof record);
    buffer_add_text(&payload, descriptor->target);
    error = image_write_record(saving->writer, TAG_REGULAR_FILE, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

static char *take_record(struct reader *reader, struct file_record *record)
{
    reader_take(reader, record, sizeof *record);
    return reader_text(reader);
}

/* Made by the kernel at each look; nothing to compare. */
static int is_virtual(const char *path)
{
    return text_starts(path, "/proc/") || text_starts(path, "/sys/");
}

static void check_written(struct restoring *restoring, const char *path, const struct file_record *record)
{
    struct stat status;

    if (stat(path, &status))
        missing(restoring, "R-FILE-MISSING: %s: %s; it was being written at the checkpoint", path, strerror(errno));
    else if (!S_ISREG(status.st_mode))
        missing(restoring, "R-FILE-CHANGED: %s is no regular file any more", path);
    else if ((uint64_t)status.st_size < record->identity.size)
        missing(restoring, "R-FILE-CHANGED: %s is shorter (%jd bytes) than at the checkpoint (%" PRIu64 ")", path,
                (intmax_t)status.st_size, record->identity.size);
    else if (may_write(record->descriptor.flags) && access(path, W_OK))
        missing(restoring, "R-FILE-MISSING: %s cannot be written: %s", path, strerror(errno));
}

static int files_check(struct restoring *restoring, struct reader *reader)
{
    struct file_record record;
    char *path = take_record(reader, &record);

    if (!path)
        return reader->error;
    if (record.descriptor.written)
        check_written(restoring, path, &record);
    else if (!is_virtual(path))
        file_identity_check(restoring, path, &record.identity);
    free(path);
    return 0;
}

static int files_open(struct restoring *restoring, struct reader *reader)
{
    struct file_record record;
    char *path = take_record(reader, &record);
    int fd;

    (void)restoring;
    if (!path)
        return reader->error;
    if (record.descriptor.same_as != record.descriptor.number) {
        free(path);
        return descriptor_share(&record.descriptor);
    }
    fd = open(path, (record.descriptor.flags & ~(O_CLOEXEC | O_CREAT | O_EXCL | O_TRUNC)) | O_NOCTTY);
    free(path);
    return fd < 0 ? -errno : descriptor_place(&record.descriptor, fd);
}

static int files_wire(struct restoring *restoring, struct reader *reader)
{
    struct file_record record;
    char *path = take_record(reader, &record);
    struct stat status;

    (void)restoring;
    free(path);
    if (!path)
        return reader->error;
    if (may_write(record.descriptor.flags)) {
        if (fstat(record.descriptor.number, &status))
            return -errno;
        if ((uint64_t)status.st_size > record.identity.size &&
            ftruncate(record.descriptor.number, (off_t)record.identity.size))
            return -errno;
    }
    return lseek(record.descriptor.number, record.descriptor.position, SEEK_SET) < 0 ? -errno : 0;
}

static void files_show(struct reader *reader, FILE *out)
{
    struct file_record record;
    char *path = take_record(reader, &record);

    if (path)
        descriptor_show(&record.descriptor, path, out);
    free(path);
}

const struct kind kind_regular_files = {
    .name = "regular file",
    .tag = TAG_REGULAR_FILE,
    .claim = files_claim,
    .save = files_save,
    .check = files_check,
    .open = files_open,
    .wire = files_wire,
    .show = files_show,
};
