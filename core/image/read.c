/* SPDX-License-Identifier: MIT */
#include "read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "check.h"
#include "checksum.h"

/* Reads until `length` bytes or the end of the file. The bytes read, or -errno. */
static ssize_t read_at(int descriptor, void *to, size_t length, uint64_t offset)
{
    size_t done = 0;

    while (done < length) {
        ssize_t got = pread(descriptor, (char *)to + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (!got)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static int open_file(struct image *image, int directory, const char *name, struct stat *ret_file)
{
    /* O_NONBLOCK: a planted FIFO must not hold us. */
    image->descriptor = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (image->descriptor >= 0)
        return fstat(image->descriptor, ret_file) ? check_says(image, -errno, "it cannot be looked at: %m")
                                                  : check_file(image, ret_file);
    if (errno == ELOOP)
        return check_says(image, -EPERM, "it is a symbolic link");
    if (errno == ENXIO) /* a socket, or a device without a driver */
        return check_says(image, -EPERM, "it is not a regular file");
    return check_says(image, -errno, "it cannot be opened: %m");
}

static int read_header(struct image *image, uint64_t file_size)
{
    ssize_t got = read_at(image->descriptor, &image->header, sizeof image->header, 0);

    if (got < 0) {
        memset(&image->header, 0, sizeof image->header);
        return check_says(image, (int)got, "its header cannot be read: %s", strerror((int)-got));
    }
    return check_header(image, (size_t)got, file_size);
}

static int read_index(struct image *image)
{
    size_t length = image->header.index_length;

    /* Never NULL when open, not even for no record at all. */
    image->index = malloc(length + 8);
    if (!image->index)
        return check_says(image, -ENOMEM, "no memory for its index of %zu bytes", length);
    ssize_t got = read_at(image->descriptor, image->index, length, image->header.index_offset);
    if (got < 0)
        return check_says(image, (int)got, "its index cannot be read: %s", strerror((int)-got));
    if ((size_t)got != length)
        return check_says(image, -EBADMSG, "its index is cut off");
    return check_records(image);
}

struct record_place {
    uint16_t tag;
    uint32_t process;
    size_t at; /* in the index */
};

static int compare_places(const void *a, const void *b)
{
    const struct record_place *left = a, *right = b;

    if (left->tag != right->tag)
        return left->tag < right->tag ? -1 : 1;
    if (left->process != right->process)
        return left->process < right->process ? -1 : 1;
    return (left->at > right->at) - (left->at < right->at);
}

static int sort_records(struct image *image)
{
    struct record_header header;
    struct reader payload;
    size_t count = 0;

    for (size_t at = 0; image_next_record(image, &at, &header, &payload);)
        count++;
    image->places = calloc(count + 1, sizeof *image->places);
    if (!image->places)
        return check_says(image, -ENOMEM, "no memory for its table of records");
    for (size_t at = 0, next = 0; image_next_record(image, &next, &header, &payload); at = next)
        image->places[image->place_count++] = (struct record_place){ header.tag, header.process, at };
    qsort(image->places, count, sizeof *image->places, compare_places);
    return 0;
}

static void release(struct image *image)
{
    if (image->descriptor >= 0)
        close(image->descriptor);
    free(image->index);
    free(image->blocks);
    free(image->places);
    image->descriptor = -1;
    image->index = NULL;
    image->places = NULL;
    image->place_count = 0;
    image->blocks = NULL;
    image->block_count = 0;
}

int image_open_at(struct image *image, int directory, const char *name)
{
    struct stat file;
    int error;

    memset(image, 0, sizeof *image);
    error = open_file(image, directory, name, &file);
    if (!error)
        error = read_header(image, (uint64_t)file.st_size);
    if (!error)
        error = read_index(image);
    if (!error)
        error = check_blocks(image);
    if (!error)
        error = sort_records(image);
    if (error)
        release(image);
    return error;
}

int image_open(struct image *image, const char *path)
{
    return image_open_at(image, AT_FDCWD, path);
}

void image_close(struct image *image)
{
    if (image->index)
        release(image);
}

int image_next_record(const struct image *image, size_t *at, struct record_header *ret_header, struct reader *ret_payload)
{
    /* Bounds were tested by check_records. */
    if (*at >= image->header.index_length)
        return 0;
    memcpy(ret_header, image->index + *at, sizeof *ret_header);
    *at += sizeof *ret_header;
    *ret_payload = (struct reader){ .bytes = image->index + *at, .length = ret_header->length };
    *at += (ret_header->length + 7) / 8 * 8;
    return 1;
}

/* Where the first place is that comes not before. */
static size_t find_place(const struct image *image, struct record_place wanted)
{
    size_t low = 0, high = image->place_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_places(&image->places[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int image_next_of(const struct image *image, uint16_t tag, uint32_t process, size_t *at, struct reader *ret_payload)
{
    int is_any = process == ANY_PROCESS;
    size_t next = *at ? *at : find_place(image, (struct record_place){ .tag = tag, .process = is_any ? 0 : process });
    struct record_header header;

    if (next == image->place_count || image->places[next].tag != tag || (!is_any && image->places[next].process != process))
        return 0;
    *at = next + 1;
    return image_next_record(image, &(size_t){ image->places[next].at }, &header, ret_payload);
}

int image_find_record(const struct image *image, uint16_t tag, uint32_t process, struct reader *ret_payload)
{
    size_t at = 0;

    if (image_next_of(image, tag, process, &at, ret_payload))
        return 0;
    *ret_payload = (struct reader){ 0 };
    return -ENOENT;
}

/* Fills all the parts from the file; uses them up. -EBADMSG when the file ends before. */
static int read_parts(int descriptor, struct iovec *parts, size_t count, uint64_t offset)
{
    while (count) {
        ssize_t got = preadv(descriptor, parts, (int)count, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got ? -errno : -EBADMSG;
        offset += (uint64_t)got;
        for (; count && (size_t)got >= parts->iov_len; parts++, count--)
            got -= (ssize_t)parts->iov_len;
        if (count) {
            parts->iov_base = (char *)parts->iov_base + got;
            parts->iov_len -= (size_t)got;
        }
    }
    return 0;
}

int image_read_block(const struct image *image, const struct image_block *block,
                     void *(*place)(void *context, uint64_t address, uint64_t pages), void *context)
{
    /* At most one run a page, so 256 of 1024 that preadv takes. */
    struct iovec parts[BLOCK_PAGES], left[BLOCK_PAGES];
    size_t count = block->block.run_count;
    uint64_t checksum;
    int error;

    for (size_t i = 0; i < count; i++) {
        const struct run_record *run = &block->runs[i];
        parts[i].iov_base = place(context, run->address, run->pages);
        parts[i].iov_len = run->pages * PAGE_BYTES;
        if (!parts[i].iov_base)
            return -EFAULT;
    }
    memcpy(left, parts, count * sizeof *parts);
    error = read_parts(image->descriptor, left, count, block->block.offset);
    if (!error)
        error = checksum_parts(parts, count, &checksum);
    if (!error && checksum != block->block.checksum)
        error = -EBADMSG;
    return error;
}

void *image_place_behind(void *context, uint64_t address, uint64_t pages)
{
    char **next = context, *here = *next;

    (void)address;
    *next += pages * PAGE_BYTES;
    return here;
}

int image_verify(struct image *image)
{
    char *bytes = malloc(BLOCK_BYTES);
    int error = bytes ? 0 : check_says(image, -ENOMEM, "no memory to read its blocks");

    for (size_t i = 0; i < image->block_count && !error; i++) {
        const struct image_block *block = &image->blocks[i];
        char *next = bytes;
        error = image_read_block(image, block, image_place_behind, &next);
        if (error)
            check_says(image, error, "block %zu, at offset %llu, %s%s", i, (unsigned long long)block->block.offset,
                       error == -EBADMSG ? "is damaged" : "cannot be read: ",
                       error == -EBADMSG ? "" : strerror(-error));
    }
    free(bytes);
    return error;
}

int image_known_tag(uint16_t tag)
{
    return tag == TAG_BLOCKS || tag == TAG_TASKS || tag == TAG_FILES || (tag >= TAG_PROCESS && tag < TAG_END);
}

int image_error_is_of_file(int error)
{
    switch (-error) {
    case ENOENT:
    case EBADMSG:
    case EPROTO:
    case ENOEXEC:
    case EPERM:
    case EACCES:
    case EIO: /* a bad disk sector stays bad */
        return 1;
    }
    return 0;
}

int image_exit_status(int error)
{
    switch (-error) {
    case 0:
        return 0;
    case EBADMSG:
    case ENOEXEC:
    case EIO:
        return EXIT_DAMAGED;
    case ENOENT:
    case ENOTDIR:
        return EXIT_NO_IMAGE;
    case EPROTO:
        return EXIT_REFUSED;
    case EPERM:
    case EACCES:
    case ELOOP:
        return EXIT_NOT_ALLOWED;
    case ENOTUNIQ:
    case EINVAL:
    case ENAMETOOLONG:
        return EXIT_USAGE;
    }
    return EXIT_SYSTEM;
}
