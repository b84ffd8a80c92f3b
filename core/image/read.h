/* SPDX-License-Identifier: MIT */
/* Reading an image. image_open checks the header, the index and each record; blocks are checked when they are read. */
#ifndef STASIS_READ_H
#define STASIS_READ_H

#include <sys/types.h>

#include "buffer.h"
#include "layout.h"

enum { NO_PROCESS = UINT32_MAX, ANY_PROCESS = UINT32_MAX - 1 };

struct image_block {
    struct block_record block;
    uint32_t process;              /* whose memory; NO_PROCESS: content of a file */
    uint32_t content;              /* the number of that content, else 0 */
    const struct run_record *runs; /* block.run_count of them, in the index; 8-byte aligned */
};

struct image {
    int descriptor;
    struct file_header header;
    uint8_t *index;                /* NULL: not open */
    struct record_place *places;   /* read.c's own: the records by tag and process */
    size_t place_count;
    struct image_block *blocks;    /* in the order of the index */
    size_t block_count;
    char reason[256];              /* why it is not good, for people, without the path; set when a call fails */
};

/* Opens with O_NOFOLLOW|O_CLOEXEC; refuses what is no regular file, and what neither this user nor (for root) anybody
 * owns: -EPERM. Checks: magic, version, machine, header checksum, sizes, index checksum, every record's checksum,
 * that no record with RECORD_REQUIRED is unknown (image_known_tag), and that the blocks lie in the data area without gap or
 * overlap, run pages add up to raw bytes, raw <= BLOCK_BYTES, codec known.
 * 0; -ENOENT no such file; -EPERM a link, no regular file, or somebody else's; -EBADMSG damaged; -EPROTO a newer version,
 * unknown required record or codec; -ENOEXEC not an image at all or another machine's; else -errno. On failure everything
 * is closed, `reason` says why, and `header` is the file's if it could be trusted (its magic is set then), else zeros. */
int image_open(struct image *image, const char *path);
/* The same for a name in an open directory. */
int image_open_at(struct image *image, int directory, const char *name);
/* Safe to call twice, after a failed image_open, and on an image of zeros. */
void image_close(struct image *image);

/* Walks the records: *at starts at 0; returns 1 and fills header and payload (a reader over the index, 8-byte aligned),
 * or 0 at the end. */
int image_next_record(const struct image *image, size_t *at, struct record_header *ret_header, struct reader *ret_payload);

/* The same for the records of one tag, and of one process or of ANY_PROCESS, process by process: quick, however many others there are. */
int image_next_of(const struct image *image, uint16_t tag, uint32_t process, size_t *at, struct reader *ret_payload);

/* Finds the first record of this tag and process. 0 or -ENOENT. */
int image_find_record(const struct image *image, uint16_t tag, uint32_t process, struct reader *ret_payload);

/* Reads a block's raw bytes straight into memory: the run at address A goes to place(context, A, pages), which must
 * be writable. Verifies the checksum of what was read, in place. Safe to call from several threads. -EBADMSG when damaged,
 * -errno; the caller formats the reason. place may return NULL: -EFAULT. */
int image_read_block(const struct image *image, const struct image_block *block,
                     void *(*place)(void *context, uint64_t address, uint64_t pages), void *context);

/* For image_read_block: puts the runs one behind the other; context: a char * that moves. */
void *image_place_behind(void *context, uint64_t address, uint64_t pages);

/* Reads and checks every block: "stasis verify". 0, -EBADMSG, -errno; reason names block and offset. */
int image_verify(struct image *image);

/* 1 when this build knows the tag: those of layout.h that are not reserved. */
int image_known_tag(uint16_t tag);

/* 1 when an error of image_open is about that file, so that another one may do; 0 when it is about us (memory,
 * descriptors). */
int image_error_is_of_file(int error);

/* The exit status for an error of image_open, image_verify and image_find; the sentence is image->reason. */
int image_exit_status(int error);

#endif
