/* SPDX-License-Identifier: MIT */
/* posix_aio SECONDS: asynchronous I/O of libc, which has threads for it: one request waits for a pipe all the time, and at each tick a
 * block is written and read again: each at a place of its own, as the original may be ticks ahead of an image that was taken between the two. */
#include "guest.h"

#include <aio.h>

enum { BLOCK = 1000 };

static void end(struct aiocb *request, ssize_t wanted, const char *what)
{
    const struct aiocb *list[] = { request };
    int error;

    while ((error = aio_error(request)) == EINPROGRESS)
        if (aio_suspend(list, 1, NULL) && errno != EINTR)
            bad("%s: aio_suspend: %s", what, strerror(errno));
    if (error || aio_return(request) != wanted)
        bad("%s: %s", what, strerror(error));
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 1);
    char block[BLOCK], got[BLOCK], byte = 0;
    int pipes[2], file = open("aio", O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct aiocb waiting = { .aio_buf = &byte, .aio_nbytes = 1 };

    if (file < 0 || pipe(pipes))
        bad("files: %s", strerror(errno));
    waiting.aio_fildes = pipes[0];
    if (aio_read(&waiting))
        bad("aio_read: %s", strerror(errno));
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        struct aiocb out = { .aio_fildes = file, .aio_buf = block, .aio_nbytes = BLOCK, .aio_offset = tick * BLOCK };
        struct aiocb in = { .aio_fildes = file, .aio_buf = got, .aio_nbytes = BLOCK, .aio_offset = tick * BLOCK };
        memset(block, (int)tick, BLOCK);
        memset(got, 0, BLOCK);
        if (aio_write(&out))
            bad("aio_write: %s", strerror(errno));
        end(&out, BLOCK, "a write");
        if (aio_read(&in))
            bad("aio_read: %s", strerror(errno));
        end(&in, BLOCK, "a read");
        if (memcmp(block, got, BLOCK) || aio_error(&waiting) != EINPROGRESS)
            bad("what was read, or a request that waits");
        tick_sleep();
    }
    if (write(pipes[1], "x", 1) != 1)
        bad("write: %s", strerror(errno));
    end(&waiting, 1, "a request that waits");
    puts(byte == 'x' ? "OK posix_aio" : "BAD byte");
    return 0;
}
