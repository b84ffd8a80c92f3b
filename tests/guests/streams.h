/* SPDX-License-Identifier: MIT */
/* Streams of bytes over connected descriptors: each byte is known by its place, so a lost, doubled or changed one shows at once. */
#ifndef STREAMS_H
#define STREAMS_H

#include "guest.h"

#include <poll.h>
#include <sys/socket.h>

struct stream {
    int from, to;
    uint64_t seed, sent, got;
};

static inline char stream_byte(const struct stream *stream, uint64_t place)
{
    return (char)(mix(stream->seed * 1000003 + place / 8) >> place % 8 * 8);
}

/* Sends up to `most` bytes, and fewer when no more is taken: how many. */
static inline long stream_send(struct stream *stream, long most)
{
    static char bytes[1 << 16];
    long done = 0;

    while (done < most) {
        long part = most - done < (long)sizeof bytes ? most - done : (long)sizeof bytes;
        for (long i = 0; i < part; i++)
            bytes[i] = stream_byte(stream, stream->sent + (uint64_t)i);
        long wrote = send(stream->from, bytes, (size_t)part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (wrote < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (wrote < 0)
            bad("stream %d: send after %ld bytes: %s", (int)stream->seed, (long)stream->sent, strerror(errno));
        stream->sent += (uint64_t)wrote;
        done += wrote;
    }
    return done;
}

/* Reads `most` bytes, or what is left of those sent, however long they take: how many. */
static inline long stream_receive(struct stream *stream, long most)
{
    static char bytes[1 << 16];
    long left = (long)(stream->sent - stream->got), done = 0;

    most = most < left ? most : left;
    while (done < most) {
        long part = most - done < (long)sizeof bytes ? most - done : (long)sizeof bytes;
        long got = recv(stream->to, bytes, (size_t)part, 0);
        if (got < 0 && errno == EAGAIN) {
            struct pollfd wait = { .fd = stream->to, .events = POLLIN };
            poll(&wait, 1, 1000);
            continue;
        }
        if (got <= 0)
            bad("stream %d: %ld bytes of %ld came, then %s", (int)stream->seed, (long)stream->got, (long)stream->sent,
                got ? strerror(errno) : "the end");
        for (long i = 0; i < got; i++)
            if (bytes[i] != stream_byte(stream, stream->got + (uint64_t)i))
                bad("stream %d: byte %ld is wrong", (int)stream->seed, (long)stream->got + i);
        stream->got += (uint64_t)got;
        done += got;
    }
    return done;
}

/* The stream ends here, and not before. */
static inline void stream_ends(struct stream *stream)
{
    char byte;
    long got;

    stream_receive(stream, (long)(stream->sent - stream->got));
    do {
        struct pollfd wait = { .fd = stream->to, .events = POLLIN };
        poll(&wait, 1, 1000);
        got = recv(stream->to, &byte, 1, 0);
    } while (got < 0 && errno == EAGAIN);
    if (got)
        bad("stream %d does not end: %ld, %s", (int)stream->seed, got, strerror(errno));
}

#endif
