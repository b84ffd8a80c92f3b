/* SPDX-License-Identifier: MIT */
#include "write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "entry.h"

/* Keeps the first error: a hole is in the file from then on. */
static int fail(struct image_writer *writer, int error)
{
    int none = 0;

    if (error)
        atomic_compare_exchange_strong(&writer->error, &none, error);
    return error;
}

static int open_named(struct image_writer *writer, const char *name)
{
    struct entry temporary;
    int error, tries = 100;

    do {
        error = image_temporary_name(temporary.name, sizeof temporary.name, name);
        if (error)
            return error;
        writer->descriptor = openat(writer->directory_descriptor, temporary.name,
                                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    } while (writer->descriptor < 0 && errno == EEXIST && --tries);
    if (writer->descriptor < 0)
        return -errno;
    writer->temporary = strdup(temporary.name);
    if (writer->temporary)
        return 0;
    unlinkat(writer->directory_descriptor, temporary.name, 0);
    return -ENOMEM;
}

static int open_file(struct image_writer *writer, const char *name)
{
    int error = 0;

    writer->descriptor = openat(writer->directory_descriptor, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (writer->descriptor < 0) {
        /* No O_TMPFILE: EOPNOTSUPP from most, EISDIR and EINVAL from some (NFS, FUSE). */
        if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
            return -errno;
        error = open_named(writer, name);
    }
    /* The umask is the program's, and may take away even our own right to read. */
    if (!error && fchmod(writer->descriptor, 0600))
        error = -errno;
    return error;
}

int image_writer_open(struct image_writer *writer, const char *directory, const char *name)
{
    int error;

    *writer = (struct image_writer){ .descriptor = -1, .directory_descriptor = -1, .end = HEADER_BYTES };
    writer->directory = entry_absolute(directory);
    if (!writer->directory)
        return -errno;
    writer->directory_descriptor = open(writer->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    error = writer->directory_descriptor < 0 ? -errno : open_file(writer, name);
    if (error)
        image_writer_close(writer);
    return error;
}

int image_write_at(int descriptor, const void *bytes, size_t length, uint64_t offset)
{
    const char *at = bytes;

    while (length) {
        ssize_t written = pwrite(descriptor, at, length, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written ? -errno : -EIO;
        at += written;
        offset += (uint64_t)written;
        length -= (size_t)written;
    }
    return 0;
}

int image_write_block(struct image_writer *writer, const void *bytes, size_t length, struct block_record *block)
{
    int error = atomic_load(&writer->error);

    if (error)
        return error;
    if (!length || length > BLOCK_BYTES || length % PAGE_BYTES)
        return -EINVAL;
    block->offset = atomic_fetch_add(&writer->end, length);
    block->stored = block->raw = (uint32_t)length;
    block->codec = CODEC_RAW;
    block->reserved = 0;
    block->checksum = checksum_of(bytes, length);
    error = fail(writer, image_write_at(writer->descriptor, bytes, length, block->offset));
    /* Only a hint, so that image_write_end has little left to wait for; errors of the disk come out there. */
    if (!error)
        (void)sync_file_range(writer->descriptor, (off_t)block->offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
    return error;
}

int image_write_record(struct image_writer *writer, uint16_t tag, uint16_t flags, uint32_t process,
                       const struct buffer *payload)
{
    static const uint8_t zeros[8];
    struct record_header header = { .tag = tag, .flags = flags, .process = process, .length = payload->length };
    const struct iovec parts[2] = {
        { &header, offsetof(struct record_header, checksum) },
        { payload->bytes, payload->length },
    };
    int error = atomic_load(&writer->error);

    if (!error)
        error = payload->error;
    if (!error)
        error = checksum_parts(parts, 2, &header.checksum);
    if (error)
        return fail(writer, error);
    buffer_add(&writer->index, &header, sizeof header);
    buffer_add(&writer->index, payload->bytes, payload->length);
    buffer_add(&writer->index, zeros, -payload->length % 8);
    return fail(writer, writer->index.error);
}

static void finish_header(struct image_writer *writer)
{
    struct file_header *header = &writer->header;

    header->magic = IMAGE_MAGIC;
    header->version = IMAGE_VERSION;
    header->machine = IMAGE_X86_64;
    header->index_offset = atomic_load(&writer->end);
    header->index_length = writer->index.length;
    header->file_size = header->index_offset + header->index_length;
    header->index_checksum = checksum_of(writer->index.bytes, writer->index.length);
    header->job[sizeof header->job - 1] = 0;
    header->step[sizeof header->step - 1] = 0;
    header->host[sizeof header->host - 1] = 0;
    header->command[sizeof header->command - 1] = 0;
    memset(header->zero, 0, sizeof header->zero);
    header->checksum = checksum_of(header, offsetof(struct file_header, checksum));
}

static int sync_data(int descriptor)
{
    int result;

    do
        result = fdatasync(descriptor);
    while (result && errno == EINTR);
    return result ? -errno : 0;
}

int image_write_end(struct image_writer *writer)
{
    int error = atomic_load(&writer->error);

    if (error)
        return error;
    finish_header(writer);
    error = image_write_at(writer->descriptor, writer->index.bytes, writer->index.length, writer->header.index_offset);
    if (!error)
        error = image_write_at(writer->descriptor, &writer->header, sizeof writer->header, 0);
    if (!error)
        error = sync_data(writer->descriptor);
    return fail(writer, error);
}

void image_writer_close(struct image_writer *writer)
{
    if (!writer->directory)
        return;
    if (writer->temporary)
        unlinkat(writer->directory_descriptor, writer->temporary, 0);
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    if (writer->directory_descriptor >= 0)
        close(writer->directory_descriptor);
    free(writer->temporary);
    free(writer->directory);
    buffer_free(&writer->index);
    writer->temporary = writer->directory = NULL;
    writer->descriptor = writer->directory_descriptor = -1;
}
