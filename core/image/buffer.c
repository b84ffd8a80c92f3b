/* SPDX-License-Identifier: MIT */
#include "buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

/* Makes room for `more` bytes; doubling keeps the copying linear. */
static int buffer_grow(struct buffer *buffer, size_t more)
{
    size_t capacity = buffer->capacity ? buffer->capacity : FIRST_CAPACITY;

    if (more > SIZE_MAX / 2 - buffer->length)
        return -ENOMEM;
    while (capacity < buffer->length + more)
        capacity *= 2;
    if (capacity == buffer->capacity)
        return 0;

    uint8_t *bytes = realloc(buffer->bytes, capacity);
    if (!bytes)
        return -ENOMEM;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t length)
{
    if (buffer->error || !length)
        return;
    buffer->error = buffer_grow(buffer, length);
    if (buffer->error)
        return;
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

void buffer_add_text(struct buffer *buffer, const char *text)
{
    size_t length = strlen(text);
    uint32_t stored = (uint32_t)length;

    if (stored != length) {
        buffer->error = buffer->error ? buffer->error : -E2BIG;
        return;
    }
    buffer_add(buffer, &stored, sizeof stored);
    buffer_add(buffer, text, length);
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){ 0 };
}

const void *reader_view(struct reader *reader, size_t length)
{
    if (!reader->error && length > reader->length - reader->at)
        reader->error = -EBADMSG;
    if (reader->error)
        return NULL;
    if (!length)
        return ""; /* not NULL, also where the reader has no bytes at all */

    const uint8_t *view = reader->bytes + reader->at;
    reader->at += length;
    return view;
}

int reader_take(struct reader *reader, void *to, size_t length)
{
    const void *view = reader_view(reader, length);

    if (view)
        memcpy(to, view, length);
    else
        memset(to, 0, length);
    return reader->error;
}

char *reader_text(struct reader *reader)
{
    uint32_t length;

    if (reader_take(reader, &length, sizeof length))
        return NULL;
    const char *view = reader_view(reader, length);
    if (!view)
        return NULL;
    if (memchr(view, 0, length)) {
        reader->error = -EBADMSG;
        return NULL;
    }
    char *text = strndup(view, length);
    if (!text)
        reader->error = -ENOMEM;
    return text;
}

char *reader_take_text(struct reader *reader, void *to, size_t length)
{
    reader_take(reader, to, length);
    return reader_text(reader);
}

int reader_end(const struct reader *reader)
{
    if (reader->error)
        return reader->error;
    return reader->at == reader->length ? 0 : -EBADMSG;
}
