/* SPDX-License-Identifier: MIT */
/* Writing an image: blocks first, from several threads, then the index, then the header. Nothing has a name in the
 * file system before image_commit (commit.h). */
#ifndef STASIS_WRITE_H
#define STASIS_WRITE_H

#include <stdatomic.h>
#include <pthread.h>

#include "buffer.h"
#include "layout.h"

struct image_writer {
    int descriptor;
    int directory_descriptor;   /* what the names below are relative to, should somebody move the directory */
    char *directory;            /* absolute; NULL: not open */
    char *temporary;            /* name in `directory`, or NULL when the file has none (O_TMPFILE) */
    struct file_header header;
    _Atomic uint64_t end;       /* where the next block goes */
    _Atomic int error;          /* the first failure; all later calls give it back: close the writer */
    struct buffer index;
    uint32_t content_count;     /* the last number given to a file's content */
};

/* Opens a nameless file in `directory` (O_TMPFILE, mode 0600; where the file system has none, a name made from
 * `name` by image_temporary_name). -errno on failure; nothing is left then. */
int image_writer_open(struct image_writer *writer, const char *directory, const char *name);

/* A name for a file that is not yet an image: ".<name>.<8 random hex digits>.tmp". -ENAMETOOLONG, -errno. */
int image_temporary_name(char *to, size_t size, const char *name);

/* Writes one block's stored bytes and fills in offset, stored, raw, codec (CODEC_RAW), reserved and checksum of *block;
 * run_count is the caller's. `length`: whole pages, BLOCK_BYTES at most. Safe to call from several threads. Starts
 * writeback early. -errno, -ENOSPC, -EDQUOT and -EFBIG (ignore SIGXFSZ!) among them. */
int image_write_block(struct image_writer *writer, const void *bytes, size_t length, struct block_record *block);

/* All of it, whoever interrupts. 0 or -errno. */
int image_write_at(int descriptor, const void *bytes, size_t length, uint64_t offset);

/* Appends a record to the index. The payload is copied. From one thread at a time. -errno (also payload->error). */
int image_write_record(struct image_writer *writer, uint16_t tag, uint16_t flags, uint32_t process,
                       const struct buffer *payload);

/* Writes index and header (writer->header's fields from `run` to `command` are the caller's to fill before, the rest
 * is filled here; texts are cut to end in NUL) and syncs the data. No block may be in the writing. */
int image_write_end(struct image_writer *writer);

/* Closes; removes the temporary name unless committed. Safe to call twice, and on a writer of zeros. */
void image_writer_close(struct image_writer *writer);

#endif
