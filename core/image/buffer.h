/* SPDX-License-Identifier: MIT */
/* Bytes that grow, for writing records; and a reader with bounds, for taking them apart again. */
#ifndef STASIS_BUFFER_H
#define STASIS_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
    int error; /* -ENOMEM once a growth has failed, -E2BIG a text over 4 GiB; adding then does nothing */
};

void buffer_add(struct buffer *buffer, const void *bytes, size_t length);
/* A u32 length, the bytes, without NUL. */
void buffer_add_text(struct buffer *buffer, const char *text);
void buffer_free(struct buffer *buffer);

/* Reading: every call past the end sets `error` to -EBADMSG and gives zeros or NULL. */
struct reader {
    const uint8_t *bytes;
    size_t length;
    size_t at;
    int error;
};

/* Copies `length` bytes out; to is zeroed when there are not as many. Returns the reader's error. */
int reader_take(struct reader *reader, void *to, size_t length);
/* The next `length` bytes in place, or NULL. */
const void *reader_view(struct reader *reader, size_t length);
/* A text as buffer_add_text wrote it, malloc'ed, or NULL (`error` is -ENOMEM or -EBADMSG). Refuses embedded NULs. */
char *reader_text(struct reader *reader);
/* Bytes as reader_take, and the text that follows them. */
char *reader_take_text(struct reader *reader, void *to, size_t length);
/* 0 when all was read without error, else the reader's error, or -EBADMSG for bytes left over. */
int reader_end(const struct reader *reader);

#endif
