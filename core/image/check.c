/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checksum.h"

int check_says(struct image *image, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(image->reason, sizeof image->reason, format, arguments);
    va_end(arguments);
    return error;
}

int check_file(struct image *image, const struct stat *file)
{
    if (!S_ISREG(file->st_mode))
        return check_says(image, -EPERM, "it is not a regular file");
    if (file->st_uid != geteuid() && geteuid() != 0)
        return check_says(image, -EPERM, "it belongs to another user (uid %u)", (unsigned)file->st_uid);
    return 0;
}

static int ends_in_nul(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

/* Nothing but the magic may be looked at before the checksum; the version only after it, so that a flipped bit is
 * damage and not a newer version. The checksum stays at the end of the first HEADER_BYTES in every version. */
static int check_header_itself(struct image *image, size_t got)
{
    const struct file_header *header = &image->header;
    const uint64_t magic = IMAGE_MAGIC;

    if (memcmp(header, &magic, got < sizeof magic ? got : sizeof magic))
        return check_says(image, -ENOEXEC, "it is not a Stasis image");
    if (got < sizeof *header)
        return check_says(image, -EBADMSG, "it is cut off in its header, after %zu bytes", got);
    if (checksum_of(header, offsetof(struct file_header, checksum)) != header->checksum)
        return check_says(image, -EBADMSG, "its header is damaged");
    return 0;
}

static int check_header_fields(struct image *image, uint64_t file_size)
{
    const struct file_header *header = &image->header;

    if (header->version != IMAGE_VERSION)
        return check_says(image, -EPROTO, "it has version %u of the format, this program reads %u", header->version,
                          (unsigned)IMAGE_VERSION);
    if (header->machine != IMAGE_X86_64)
        return check_says(image, -ENOEXEC, "it is of another machine (ELF number %u)", header->machine);
    if (header->file_size != file_size)
        return check_says(image, -EBADMSG, "it has %llu bytes and should have %llu", (unsigned long long)file_size,
                          (unsigned long long)header->file_size);
    if (header->index_offset < HEADER_BYTES || header->index_offset > file_size ||
        header->index_length != file_size - header->index_offset || header->index_length % 8)
        return check_says(image, -EBADMSG, "its header contradicts itself");
    if (!ends_in_nul(header->job, sizeof header->job) || !ends_in_nul(header->step, sizeof header->step) ||
        !ends_in_nul(header->host, sizeof header->host) || !ends_in_nul(header->command, sizeof header->command))
        return check_says(image, -EBADMSG, "a text in its header does not end");
    return 0;
}

int check_header(struct image *image, size_t got, uint64_t file_size)
{
    int error = check_header_itself(image, got);

    if (error) {
        memset(&image->header, 0, sizeof image->header);
        return error;
    }
    return check_header_fields(image, file_size);
}

static int check_record(struct image *image, size_t at, size_t left)
{
    struct record_header header;
    uint64_t checksum;

    if (left < sizeof header)
        return check_says(image, -EBADMSG, "its index is cut off at byte %zu", at);
    memcpy(&header, image->index + at, sizeof header);
    left -= sizeof header;
    if (header.length > left)
        return check_says(image, -EBADMSG, "a record at byte %zu of its index is too long", at);

    uint8_t *payload = image->index + at + sizeof header;
    const struct iovec parts[2] = { { &header, offsetof(struct record_header, checksum) }, { payload, header.length } };
    if (checksum_parts(parts, 2, &checksum))
        return check_says(image, -ENOMEM, "no memory");
    if (checksum != header.checksum)
        return check_says(image, -EBADMSG, "a record at byte %zu of its index is damaged", at);
    for (size_t i = header.length; i % 8; i++)
        if (payload[i])
            return check_says(image, -EBADMSG, "the padding of a record at byte %zu of its index is damaged", at);
    if ((header.flags & RECORD_REQUIRED) && !image_known_tag(header.tag))
        return check_says(image, -EPROTO, "it needs a newer version of this program (record %u)", header.tag);
    return 0;
}

int check_records(struct image *image)
{
    struct record_header header;
    size_t length = image->header.index_length, at = 0;

    if (checksum_of(image->index, length) != image->header.index_checksum)
        return check_says(image, -EBADMSG, "its index is damaged");
    while (at < length) {
        int error = check_record(image, at, length - at);
        if (error)
            return error;
        /* Whole: index_length is a multiple of 8, and check_record found header and payload inside of it. */
        memcpy(&header, image->index + at, sizeof header);
        at += sizeof header + (header.length + 7) / 8 * 8;
    }
    return 0;
}

/* The runs must be whole pages at addresses that can be added up, and make the block's raw bytes: whoever places them
 * relies on it. */
static int check_runs(const struct image_block *block)
{
    uint64_t pages = 0;

    for (unsigned i = 0; i < block->block.run_count; i++) {
        const struct run_record *run = &block->runs[i];
        if (!run->pages || run->pages > BLOCK_PAGES || run->address % PAGE_BYTES ||
            run->address > UINT64_MAX - run->pages * PAGE_BYTES)
            return -EBADMSG;
        pages += run->pages;
    }
    return pages && pages * PAGE_BYTES == block->block.raw && block->block.raw <= BLOCK_BYTES ? 0 : -EBADMSG;
}

static int check_block(struct image *image, const struct image_block *block)
{
    unsigned long long offset = block->block.offset;

    if (block->block.codec != CODEC_RAW)
        return check_says(image, -EPROTO, "it needs a newer version of this program (codec %u)", block->block.codec);
    if (block->block.stored != block->block.raw)
        return check_says(image, -EBADMSG, "the block at offset %llu has two lengths", offset);
    if (check_runs(block))
        return check_says(image, -EBADMSG, "the block at offset %llu does not fit its pages", offset);
    return 0;
}

/* The next block in a payload of blocks. 1, 0 at its end, -EBADMSG. */
static int next_block(struct reader *payload, struct image_block *ret)
{
    if (payload->at == payload->length)
        return 0;
    reader_take(payload, &ret->block, sizeof ret->block);
    ret->runs = reader_view(payload, ret->block.run_count * sizeof *ret->runs);
    return payload->error ? payload->error : 1;
}

/* Whose blocks a record holds: 1, or 0 when it holds none. */
static int begin_blocks(const struct record_header *header, struct reader *payload, struct image_block *ret)
{
    struct content_record content;

    ret->process = header->tag == TAG_FILES ? NO_PROCESS : header->process;
    ret->content = 0;
    if (header->tag == TAG_FILES && !reader_take(payload, &content, sizeof content))
        ret->content = content.number;
    return header->tag == TAG_BLOCKS || header->tag == TAG_FILES;
}

/* Calls each block of the index; fills image->blocks when there are any, else only counts. */
static int walk_blocks(struct image *image, size_t *ret_count)
{
    struct record_header header;
    struct reader payload;
    struct image_block block;
    size_t at = 0;
    int more;

    *ret_count = 0;
    while (image_next_record(image, &at, &header, &payload)) {
        if (!begin_blocks(&header, &payload, &block))
            continue;
        while ((more = payload.error ? payload.error : next_block(&payload, &block)) > 0) {
            if (image->blocks)
                image->blocks[*ret_count] = block;
            ++*ret_count;
        }
        if (more < 0)
            return check_says(image, more, "a table of blocks in its index is cut off");
    }
    return 0;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct image_block *left = *(struct image_block *const *)a, *right = *(struct image_block *const *)b;
    return (left->block.offset > right->block.offset) - (left->block.offset < right->block.offset);
}

/* One behind the other from the header to the index: then no byte of the file is without a checksum. */
static int check_cover(struct image *image)
{
    struct image_block **sorted = calloc(image->block_count + 1, sizeof *sorted);
    uint64_t end = HEADER_BYTES;
    size_t i;

    if (!sorted)
        return check_says(image, -ENOMEM, "no memory for its table of blocks");
    for (i = 0; i < image->block_count; i++)
        sorted[i] = &image->blocks[i];
    qsort(sorted, image->block_count, sizeof *sorted, compare_offsets);
    for (i = 0; i < image->block_count && sorted[i]->block.offset == end; i++)
        end += sorted[i]->block.stored;
    free(sorted);
    if (i < image->block_count || end != image->header.index_offset)
        return check_says(image, -EBADMSG, "its blocks do not fill its data area, from offset %llu",
                          (unsigned long long)end);
    return 0;
}

int check_blocks(struct image *image)
{
    int error = walk_blocks(image, &image->block_count);

    if (error)
        return error;
    image->blocks = calloc(image->block_count + 1, sizeof *image->blocks);
    if (!image->blocks)
        return check_says(image, -ENOMEM, "no memory for its table of blocks");
    walk_blocks(image, &image->block_count);
    for (size_t i = 0; i < image->block_count; i++) {
        error = check_block(image, &image->blocks[i]);
        if (error)
            return error;
    }
    return check_cover(image);
}
