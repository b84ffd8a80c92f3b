/* SPDX-License-Identifier: MIT */
/* fifos WHAT SECONDS: named pipes in the working directory, of one sort. At every tick bytes go through one that the program has
 * both ends of, while others wait in it. */
#include "guest.h"

#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum { LEFT = 5000, ROOM = 1 << 17 };
static int in = -1, out = -1, copy = -1, flags[2];
static unsigned written, got;

static int open_one(int how)
{
    int fd = open("fifo", how);

    if (fd < 0)
        bad("open: %s", strerror(errno));
    return fd;
}

/* Bytes that tell their place in the stream. */
static void put(unsigned count)
{
    while (count--) {
        uint8_t byte = (uint8_t)mix(written++);
        if (write(out, &byte, 1) != 1)
            bad("write: %s", strerror(errno));
    }
}

static void take(unsigned count)
{
    while (count--) {
        uint8_t byte = 0;
        if (read(in, &byte, 1) != 1 || byte != (uint8_t)mix(got++))
            bad("byte %u is another", got - 1);
    }
}

static int waiting(void)
{
    int count = -1;

    return ioctl(in, FIONREAD, &count) ? -1 : count;
}

static void make_both(void)
{
    in = open_one(O_RDONLY | O_NONBLOCK);
    out = open_one(O_WRONLY | O_CLOEXEC);
    copy = dup(out);
    if (fcntl(in, F_SETFL, 0) || fcntl(out, F_SETPIPE_SZ, ROOM) != ROOM)
        bad("fcntl: %s", strerror(errno));
    put(LEFT);
}

static void use_both(void)
{
    struct stat by_path, open_in;

    if (waiting() != LEFT || fcntl(in, F_GETPIPE_SZ) != ROOM || fcntl(in, F_GETFL) != flags[0] || fcntl(copy, F_GETFL) != flags[1] ||
        fcntl(out, F_GETFD) != FD_CLOEXEC || fcntl(copy, F_GETFD))
        bad("%d bytes wait, room for %d, flags %o %o", waiting(), fcntl(in, F_GETPIPE_SZ), fcntl(in, F_GETFL), fcntl(copy, F_GETFL));
    if (fstat(in, &open_in) || (!stat("fifo", &by_path) && by_path.st_ino != open_in.st_ino) || (open_in.st_mode & 0777) != 0640)
        bad("it is another one");
    put(100);
    take(100);
}

static void make_single(void) /* one descriptor for both */
{
    in = out = copy = open_one(O_RDWR | O_CLOEXEC | O_NONBLOCK);
    fcntl(in, F_SETPIPE_SZ, ROOM);
    put(LEFT);
    copy = dup(in);
}

static void make_gone(void)
{
    make_both();
    unlink("fifo");
}

static void make_reader(void) /* the test writes */
{
    in = open_one(O_RDONLY | O_NONBLOCK);
}

static void use_reader(void)
{
    uint8_t bytes[64];
    ssize_t length = read(in, bytes, sizeof bytes);

    if (length < 0 && errno != EAGAIN)
        bad("read: %s", strerror(errno));
    for (ssize_t i = 0; i < length; i++)
        if (bytes[i] != 'a' + got++ % 26)
            bad("byte %u is another", got - 1);
}

static void make_writer(void) /* the test reads */
{
    out = open_one(O_WRONLY);
    signal(SIGPIPE, SIG_IGN);
}

static void use_writer(void)
{
    if (write(out, "line\n", 5) != 5 && errno != EPIPE)
        bad("write: %s", strerror(errno));
}

static const struct thing {
    const char *name;
    void (*make)(void), (*use)(void);
} things[] = {
    { "both", make_both, use_both },       { "single", make_single, use_both },   { "gone", make_gone, use_both },
    { "reader", make_reader, use_reader }, { "writer", make_writer, use_writer },
};

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 2, 1);
    const struct thing *thing = NULL;

    for (size_t i = 0; i < sizeof things / sizeof *things; i++)
        if (argc > 1 && !strcmp(argv[1], things[i].name))
            thing = &things[i];
    umask(0);
    if (!thing || (mkfifo("fifo", 0640) && errno != EEXIST))
        return 2;
    thing->make();
    flags[0] = fcntl(in, F_GETFL);
    flags[1] = fcntl(copy, F_GETFL);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        thing->use();
        tick_sleep();
    }
    if (in >= 0 && in != out && thing->make != make_reader) { /* the rest, then the end: all that was ever written */
        close(out);
        close(copy);
        take(LEFT);
        if (read(in, flags, 1) != 0)
            bad("no end of file");
    }
    printf("OK fifos %s\n", thing->name);
    return 0;
}
