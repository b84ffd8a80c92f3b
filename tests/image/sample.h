/* SPDX-License-Identifier: MIT */
/* Images and directories for the tests of this room. */
#ifndef STASIS_TEST_SAMPLE_H
#define STASIS_TEST_SAMPLE_H

#include "../../core/image/write.h"

enum {
    SAMPLE_BLOCKS = 2,
    SAMPLE_PROCESS = 3, /* index of the process in the sample's records */
};

#define SAMPLE_ADDRESS UINT64_C(0x7f0000000000) /* of the first block; the second is 1 MiB behind it */
#define SAMPLE_PAYLOAD "this payload has 29 bytes now"
#define SAMPLE_SECONDS UINT64_C(1700000000)

/* A new directory in TMPDIR or /tmp, malloc'ed; and away with it and all in it. */
char *sample_directory(void);
void sample_remove(char *directory);

/* Page `page` of the sample. */
void sample_page(unsigned page, uint8_t *to);

/* The header's fields that are the caller's. Every byte of the run is `run`. */
void sample_header(struct image_writer *writer, uint8_t run, uint64_t generation);

/* Two blocks of one page each, their table and one TAG_PROCESS record; no end yet. 0 or -errno. */
int sample_fill(struct image_writer *writer);

/* The small image, whole, under directory/name. 0 or -errno. */
int sample_write(const char *directory, const char *name, uint8_t run, uint64_t generation, unsigned keep);

#endif
