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
    struct content_part *parts; /* NULL: it is stored; else what is to be stored when the program runs on */
    size_t part_count;
};

/* One file on its way into the image. */
struct gathering {
    struct saving *saving;
    struct content_part part;
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

/* Zeros where the file ends, or, in memory, where what is mapped ends. */
static int read_chunk(const struct content_part *part, uint8_t *to, uint64_t length, uint64_t offset)
{
    for (uint64_t done = 0; done < length;) {
        ssize_t got = pread(part->fd, to + done, length - done, (off_t)(offset - part->offset + part->at + done));
        if (got < 0 && errno != EINTR && !(part->of_memory && errno == EIO))
            return -errno;
        if (got == 0 || (got < 0 && errno == EIO)) {
            memset(to + done, 0, length - done);
            return 0;
        }
        done += got > 0 ? (uint64_t)got : 0;
    }
    return 0;
}

static int is_late(const struct saving *saving)
{
    return clock_now(CLOCK_MONOTONIC) > saving->deadline;
}

/* Whole pages from `at` to `end`. */
static int gather(struct gathering *gathering, uint64_t at, uint64_t end)
{
    while (at < end) {
        uint8_t *chunk = gathering->bytes + gathering->pages * PAGE_BYTES;
        uint64_t length = BLOCK_BYTES - gathering->pages * PAGE_BYTES;
        length = end - at < length ? end - at : length;
        int error = is_late(gathering->saving) ? -ETIMEDOUT : read_chunk(&gathering->part, chunk, length, at);
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

/* All of a part that is no hole; a file system that knows none says so (EINVAL), or shows one piece of data. */
static int gather_part(struct gathering *gathering)
{
    const struct content_part *part = &gathering->part;
    const uint64_t size = part->length;
    uint64_t at = 0, end = 0;
    int error = 0;

    while (!error && at < size) {
        off_t data = part->of_memory ? -1 : lseek(part->fd, (off_t)(part->at + at), SEEK_DATA);
        if (data < 0 && !part->of_memory && errno == ENXIO)
            break;
        off_t hole = data < 0 ? -1 : lseek(part->fd, data, SEEK_HOLE);
        at = data < 0 ? at : ((uint64_t)data - part->at) / PAGE_BYTES * PAGE_BYTES;
        if (at < end)
            at = end; /* the page that two pieces share */
        end = hole < 0 || (uint64_t)hole - part->at > size ? round_up(size) : round_up((uint64_t)hole - part->at);
        if (at < end)
            error = gather(gathering, part->offset + at, part->offset + end);
        at = end;
    }
    return error;
}

static int gather_all(struct gathering *gathering, const struct content_part *parts, size_t count)
{
    int error = 0;

    for (size_t i = 0; !error && i < count; i++) {
        gathering->part = parts[i];
        error = gather_part(gathering);
    }
    return error ? error : flush(gathering);
}

static int store(struct saving *saving, const struct content_part *parts, size_t count, uint32_t number)
{
    struct gathering *gathering = calloc(1, sizeof *gathering);
    struct content_record content = { .number = number };
    int error = -ENOMEM;

    if (!gathering)
        return error;
    gathering->saving = saving;
    gathering->bytes = aligned_alloc(PAGE_BYTES, BLOCK_BYTES);
    buffer_add(&gathering->payload, &content, sizeof content);
    if (gathering->bytes)
        error = gather_all(gathering, parts, count);
    if (!error)
        error = image_write_record(saving->writer, TAG_FILES, RECORD_REQUIRED, saving->index, &gathering->payload);
    buffer_free(&gathering->payload);
    free(gathering->bytes);
    free(gathering);
    return error;
}

/* The content of that file; *ret_is_new: it has not been there before. The processes of a step share the list. NULL: no memory. */
static struct saved_content *content_of(struct saving *saving, uint64_t device, uint64_t inode, int *ret_is_new)
{
    struct saved_content *content = saving->first->contents;

    *ret_is_new = 0;
    while (content && (content->inode != inode || content->device != device))
        content = content->next;
    if (content)
        return content;
    content = calloc(1, sizeof *content);
    if (!content)
        return NULL;
    *ret_is_new = 1;
    *content = (struct saved_content){ saving->first->contents, device, inode, ++saving->writer->content_count, NULL, 0 };
    return saving->first->contents = content;
}

static int store_once(struct saving *saving, int fd, const struct stat *status, uint32_t *ret_number)
{
    const struct content_part whole = { .fd = fd, .length = (uint64_t)status->st_size };
    int is_new;
    struct saved_content *content = content_of(saving, status->st_dev, status->st_ino, &is_new);

    if (!content)
        return -ENOMEM;
    *ret_number = content->number;
    return is_new ? store(saving, &whole, 1, content->number) : 0;
}

struct kept_file kept_file_of(const struct stat *status)
{
    return (struct kept_file){ .size = (uint64_t)status->st_size, .mode = status->st_mode & 07777,
                               .mtime_seconds = status->st_mtim.tv_sec, .mtime_nanoseconds = status->st_mtim.tv_nsec,
                               .user = status->st_uid, .group = status->st_gid };
}

int contents_save(struct saving *saving, const char *name, const struct stat *status, struct kept_file *kept)
{
    char path[64];
    int fd, error;

    *kept = kept_file_of(status);
    snprintf(path, sizeof path, "/proc/%d/%s", saving->look, name);
    fd = open(*name == '/' ? name : path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    error = store_once(saving, fd, status, &kept->content);
    close(fd);
    return error;
}

int contents_save_later(struct saving *saving, uint64_t device, uint64_t inode, const struct content_part *parts, size_t count,
                        uint32_t *ret_number)
{
    int is_new;
    struct saved_content *content = content_of(saving, device, inode, &is_new);

    if (content && is_new) {
        content->parts = calloc(count + 1, sizeof *parts);
        content->part_count = content->parts ? count : 0;
        memcpy(content->parts, parts, content->part_count * sizeof *parts);
    }
    if (!content || (is_new && !content->parts))
        return -ENOMEM;
    *ret_number = content->number;
    return 0;
}

int contents_store(struct saving *saving)
{
    int error = 0;

    for (struct saved_content *content = saving->first->contents; content && !error; content = content->next) {
        if (!content->parts)
            continue;
        error = store(saving, content->parts, content->part_count, content->number);
        free(content->parts);
        content->parts = NULL;
    }
    return error;
}

void contents_forget(struct saving *saving)
{
    for (struct saved_content *next; saving->contents; saving->contents = next) {
        next = saving->contents->next;
        free(saving->contents->parts);
        free(saving->contents);
    }
}

/* One content on its way out of the image. */
struct filling {
    const struct kept_file *kept;
    int fd;               /* -1: it is only verified, or goes to */
    uint8_t *memory;      /* fresh memory, whole pages, NULL: none */
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
            error = image_write_at(filling->fd, zeros, end - at < PAGE_BYTES ? end - at : PAGE_BYTES, at);
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
        if (!error && filling->memory)
            memcpy(filling->memory + run->address, bytes, length);
        else if (!error && filling->fd >= 0)
            error = image_write_at(filling->fd, bytes, end > size ? size - run->address : length, run->address);
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

int contents_fill(struct restoring *restoring, const struct kept_file *kept, void *memory)
{
    return fill(restoring, &(struct filling){ .kept = kept, .fd = -1, .memory = memory });
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
