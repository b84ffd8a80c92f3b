/* SPDX-License-Identifier: MIT */
/* many WHAT COUNT SECONDS: so many descriptors, of one sort: `same` (one file, opened again and again), `files`, `pipes`, `tree` (pipes
 * that a child has, too), `sockets` (TCP, both ends), `copies` (of few), or `sparse`: some at the highest numbers there may be, and nothing between. Some are looked at at each tick, all
 * at the end. */
#include "guest.h"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int *fds, count;
static long most;
static const char *what;

static int is(const char *name)
{
    return !strcmp(what, name);
}

static int are_pipes(void)
{
    return is("pipes") || is("tree") || is("sockets");
}

static int connected(int ends[2])
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&address, &length) ||
        connect(ends[0], (struct sockaddr *)&address, length))
        return -1;
    ends[1] = accept(listener, NULL, NULL);
    return close(listener) || ends[1] < 0 ? -1 : 0;
}

static void make(int i)
{
    char name[32];
    int ends[2];

    if (are_pipes()) {
        if (i % 2 == 0 && (is("sockets") ? connected(ends) : pipe(ends)))
            bad("pipe %d: %s", i, strerror(errno));
        if (i % 2 == 0)
            fds[i] = ends[0], fds[i + 1] = ends[1];
        return;
    }
    snprintf(name, sizeof name, "many.%d", is("files") ? i : i % 10 * is("copies"));
    if (is("copies") && i >= 10)
        fds[i] = dup(fds[i % 10]);
    else
        fds[i] = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (is("sparse")) {
        int high = dup3(fds[i], (int)(most - 1 - (i < 3 ? i : i * (most / count / 2))), 0);
        close(fds[i]);
        fds[i] = high;
    }
    if (fds[i] < 0)
        bad("descriptor %d: %s", i, strerror(errno));
}

static void look(int i)
{
    char byte = (char)i, got = 0;

    if (are_pipes()) {
        if (write(fds[i | 1], &byte, 1) != 1 || read(fds[i & ~1], &got, 1) != 1 || got != byte)
            bad("pipe %d", i);
    } else {
        off_t before = lseek(fds[i], 0, SEEK_CUR), other = lseek(fds[(i + 1) % count], 0, SEEK_CUR);
        if (before < 0 || lseek(fds[i], 1, SEEK_CUR) != before + 1 || lseek(fds[(i + 1) % count], 0, SEEK_CUR) != other)
            bad("descriptor %d: %s", fds[i], strerror(errno));
        if (is("copies") && lseek(fds[(i + 10) % count], 0, SEEK_CUR) != before + 1)
            bad("descriptor %d is no copy any more", fds[i]);
    }
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 3, 1);
    struct rlimit files;
    pid_t child;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    most = files.rlim_max > 1048576 ? 1048576 : (long)files.rlim_max;
    if (argc < 3)
        return 2;
    what = argv[1];
    count = atoi(argv[2]);
    if (count > most - 100 && !is("sparse"))
        count = (int)most - 100;
    count -= count % 10;
    fds = calloc((size_t)count + 10, sizeof *fds);
    for (int i = 0; i < count; i++)
        make(i);
    child = is("tree") ? fork() : 1;
    while (!child)
        pause();
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        look((int)(mix((uint64_t)tick) % (unsigned)count));
        tick_sleep();
    }
    for (int i = 0; i < count; i++)
        look(i);
    if (is("tree"))
        kill(child, SIGKILL);
    printf("OK many %s\n", what);
    return 0;
}
