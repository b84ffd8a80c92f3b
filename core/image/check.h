/* SPDX-License-Identifier: MIT */
/* What image_open tests before anybody trusts a byte, in this order. All return 0 or set image->reason and return -errno. */
#ifndef STASIS_CHECK_H
#define STASIS_CHECK_H

#include <sys/stat.h>

#include "read.h"

/* Sets image->reason; returns error. */
int check_says(struct image *image, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A regular file of this user; anybody's for root. */
int check_file(struct image *image, const struct stat *file);

/* image->header as read from the file, `got` bytes of it: its own checksum, version, machine, and that its sizes fit
 * the file. */
int check_header(struct image *image, size_t got, uint64_t file_size);

/* image->index: its checksum, every record's bounds, checksum and padding, and no required record unknown. */
int check_records(struct image *image);

/* Makes image->blocks from the TAG_BLOCKS records, and tests that they fill the data area without gap or overlap. */
int check_blocks(struct image *image);

#endif
