/* SPDX-License-Identifier: MIT */
/* Bytes of files in the image: of those that have no name any more, and of those that are open for writing when that was
 * asked for. They are copied while the program stands still, so that they fit its memory. Holes and pages of zeros are
 * left out. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kind.h"

struct saved_content {
    struct saved_content *next;
    uint64_t device, inode;
    uint32_t number;
};

/* One file on its way into the image. */
struct gathering {
    struct saving *saving;
    int fd;
    uint8_t *bytes;       /* BLOCK_BYTES: the pages of the next block */
    uint64_t pages;       /* that are in it */
    struct run_record runs[BLOCK_PAGES];
    uint16_t run_count;
    struct buffer payload;
};

static int flush(struct gathering *gathering)
{
    struct block_record block = { .run_count = gathering->run_count };
    int error;

    if (!gathering->pages)
        return 0;
    error = image_write_block(gathering->saving->writer, gathering->bytes, gathering->pages * PAGE_BYTES, &block);
    buffer_add(&gathering->payload, &block, sizeof block);
    buffer_add(&gathering->payload, gathering->runs, gathering->run_count * sizeof *gathering->runs);
    gathering->pages = gathering->run_count = 0;
    return error;
}

/* The page of the file at `offset`, which stands at `page`. */
static void keep_page(struct gathering *gathering, const uint8_t *page, uint64_t offset)
{
    static const uint8_t zeros[PAGE_BYTES];
    struct run_record *last = gathering->run_count ? &gathering->runs[gathering->run_count - 1] : NULL;
    uint8_t *to = gathering->bytes + gathering->pages * PAGE_BYTES;

    if (!memcmp(page, zeros, PAGE_BYTES))
        return;
    if (to != page)
        memcpy(to, page, PAGE_BYTES);
    if (last && last->address + last->pages * PAGE_BYTES == offset)
        last->pages++;
    else
        gathering->runs[gathering->run_count++] = (struct run_record){ offset, 1 };
    gathering->pages++;
}

/* Zeros where the file ends. */
static int read_chunk(int fd, uint8_t *to, uint64_t length, uint64_t offset)
{
    for (uint64_t done = 0; done < length;) {
        ssize_t got = pread(fd, to + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0) {
            memset(to + done, 0, length - done);
            return 0;
        }
        done += got > 0 ? (uint64_t)got : 0;
    }
    return 0;
}

static int is_late(const struct saving *saving)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec > saving->deadline;
}

/* Whole pages from `at` to `end`. */
static int gather(struct gathering *gathering, uint64_t at, uint64_t end)
{
    while (at < end) {
        uint8_t *chunk = gathering->bytes + gathering->pages * PAGE_BYTES;
        uint64_t length = BLOCK_BYTES - gathering->pages * PAGE_BYTES;
        length = end - at < length ? end - at : length;
        int error = is_late(gathering->saving) ? -ETIMEDOUT : read_chunk(gathering->fd, chunk, length, at);
        for (uint64_t done = 0; !error && done < length; done += PAGE_BYTES)
            keep_page(gathering, chunk + done, at + done);
        if (!error && gathering->pages == BLOCK_PAGES)
            error = flush(gathering);
        if (error)
            return error;
        at += length;
    }
    return 0;
}

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/* All that is no hole; a file system that knows none says so (EINVAL), or shows one piece of data. */
static int gather_all(struct gathering *gathering, uint64_t size)
{
    uint64_t at = 0, end = 0;
    int error = 0;

    while (!error && at < size) {
        off_t data = lseek(gathering->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data < 0 ? -1 : lseek(gathering->fd, data, SEEK_HOLE);
        at = data < 0 ? at : (uint64_t)data / PAGE_BYTES * PAGE_BYTES;
        if (at < end)
            at = end; /* the page that two pieces share */
        end = hole < 0 || (uint64_t)hole > size ? round_up(size) : round_up((uint64_t)hole);
        error = gather(gathering, at, end);
        at = end;
    }
    return error ? error : flush(gathering);
}

static int store(struct saving *saving, int fd, uint64_t size, uint32_t number)
{
    struct gathering *gathering = calloc(1, sizeof *gathering);
    struct content_record content = { .number = number };
    int error = -ENOMEM;

    if (!gathering)
        return error;
    gathering->saving = saving;
    gathering->fd = fd;
    gathering->bytes = aligned_alloc(PAGE_BYTES, BLOCK_BYTES);
    buffer_add(&gathering->payload, &content, sizeof content);
    if (gathering->bytes)
        error = gather_all(gathering, size);
    if (!error)
        error = image_write_record(saving->writer, TAG_FILES, RECORD_REQUIRED, saving->index, &gathering->payload);
    buffer_free(&gathering->payload);
    free(gathering->bytes);
    free(gathering);
    return error;
}

static int store_once(struct saving *saving, int fd, const struct stat *status, uint32_t *ret_number)
{
    struct saved_content *content = saving->contents;
    int error;

    while (content && (content->inode != status->st_ino || content->device != status->st_dev))
        content = content->next;
    if (!content) {
        content = calloc(1, sizeof *content);
        if (!content)
            return -ENOMEM;
        *content = (struct saved_content){ saving->contents, status->st_dev, status->st_ino, ++saving->writer->content_count };
        saving->contents = content;
        error = store(saving, fd, (uint64_t)status->st_size, content->number);
        if (error)
            return error;
    }
    *ret_number = content->number;
    return 0;
}

int contents_save(struct saving *saving, const char *name, const struct stat *status, struct kept_file *kept)
{
    char path[64];
    int fd, error;

    *kept = (struct kept_file){ .size = (uint64_t)status->st_size, .mode = status->st_mode & 07777,
                                .mtime_seconds = status->st_mtim.tv_sec, .mtime_nanoseconds = status->st_mtim.tv_nsec,
                                .user = status->st_uid, .group = status->st_gid };
    snprintf(path, sizeof path, "/proc/%d/%s", saving->view, name);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    error = store_once(saving, fd, status, &kept->content);
    close(fd);
    return error;
}

void contents_forget(struct saving *saving)
{
    for (struct saved_content *next; saving->contents; saving->contents = next) {
        next = saving->contents->next;
        free(saving->contents);
    }
}

static int write_at(int fd, const uint8_t *bytes, uint64_t length, uint64_t offset)
{
    while (length) {
        ssize_t wrote = pwrite(fd, bytes, length, (off_t)offset);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return wrote ? -errno : -EIO;
        bytes += wrote, offset += (uint64_t)wrote, length -= (uint64_t)wrote;
    }
    return 0;
}

/* One content on its way out of the image. */
struct filling {
    const struct kept_file *kept;
    int fd;               /* -1: it is only verified */
    int clear;            /* 1: there may be something where the content has a hole */
    uint64_t at;          /* what lies before is done */
};

/* Punching leaves the changed pages of private mappings alone, which truncating does not. */
static int clear_to(struct filling *filling, uint64_t end)
{
    static const uint8_t zeros[PAGE_BYTES];
    int error = 0;

    if (filling->clear && filling->at < end &&
        fallocate(filling->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)filling->at, (off_t)(end - filling->at)))
        for (uint64_t at = filling->at; !error && at < end; at += PAGE_BYTES)
            error = write_at(filling->fd, zeros, end - at < PAGE_BYTES ? end - at : PAGE_BYTES, at);
    return error;
}

/* The pages of a block, verified, to where they belong; blocks and runs are in the order of the file. */
static int write_block(struct filling *filling, const struct image_block *block, const uint8_t *bytes)
{
    uint64_t size = filling->kept->size;
    int error = 0;

    for (uint32_t i = 0; !error && i < block->block.run_count; i++) {
        const struct run_record *run = &block->runs[i];
        uint64_t length = run->pages * PAGE_BYTES, end = run->address + length;
        if (run->address < filling->at || end > round_up(size))
            return -EBADMSG;
        error = clear_to(filling, run->address);
        if (!error && filling->fd >= 0)
            error = write_at(filling->fd, bytes, end > size ? size - run->address : length, run->address);
        filling->at = end;
        bytes += length;
    }
    return error;
}

static int fill(struct restoring *restoring, struct filling *filling)
{
    struct image *image = restoring->image;
    uint8_t *bytes = malloc(BLOCK_BYTES);
    int error = bytes ? 0 : -ENOMEM;

    for (size_t i = 0; !error && i < image->block_count; i++) {
        const struct image_block *block = &image->blocks[i];
        char *next = (char *)bytes;
        if (block->process != NO_PROCESS || block->content != filling->kept->content)
            continue;
        error = image_read_block(image, block, image_place_behind, &next);
        if (!error)
            error = write_block(filling, block, bytes);
        if (error)
            snprintf(image->reason, sizeof image->reason, "block %zu at offset %" PRIu64 ", of a file: %s", i, block->block.offset,
                     error == -EBADMSG ? "it is damaged" : strerror(-error));
    }
    free(bytes);
    return error ? error : clear_to(filling, filling->kept->size);
}

int contents_verify(struct restoring *restoring, const struct kept_file *kept)
{
    return fill(restoring, &(struct filling){ .kept = kept, .fd = -1 });
}

int contents_restore(struct restoring *restoring, const struct kept_file *kept, int fd)
{
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { kept->mtime_seconds, kept->mtime_nanoseconds } };
    struct filling filling = { .kept = kept, .fd = fd };
    struct stat status;
    int error;

    if (fstat(fd, &status) || ftruncate(fd, (off_t)kept->size))
        return -errno;
    filling.clear = status.st_size > 0;
    error = fill(restoring, &filling);
    /* Another's file, which only root could have made, stays ours where the restart is not root: only the number differs. */
    if (!error && (status.st_uid != kept->user || status.st_gid != kept->group) && fchown(fd, kept->user, kept->group) &&
        errno != EPERM && errno != EINVAL)
        error = -errno;
    if (!error && (fchmod(fd, kept->mode & 07777) || futimens(fd, times)))
        error = -errno;
    return error;
}
