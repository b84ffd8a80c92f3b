/* SPDX-License-Identifier: MIT */
/* locks SECONDS [family]: holds a flock, POSIX record locks and open file description locks, and looks at every tick, through other
 * descriptors, whether it has just these; with `family`, a child inherits all and has a record lock of its own. It opens and closes nothing that has POSIX locks, for that would drop them. */
#include "guest.h"

#include <sys/file.h>
#include <sys/wait.h>

enum { FILES = 3, RANGES = 3 };
static const char *const names[FILES] = { "flocked", "recorded", "described" };
static const struct flock ranges[RANGES] = {
    { .l_type = F_WRLCK, .l_start = 3, .l_len = 4 },
    { .l_type = F_RDLCK, .l_start = 100, .l_len = 1000 },
    { .l_type = F_WRLCK, .l_start = 1L << 40, .l_len = 0 },
};
static int held[FILES], other[FILES];

static void open_all(void)
{
    for (int i = 0; i < FILES; i++) {
        held[i] = open(names[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        other[i] = open(names[i], O_RDWR | O_CLOEXEC);
        if (held[i] < 0 || other[i] < 0)
            bad("open: %s", strerror(errno));
    }
}

static void lock_all(void)
{
    if (flock(held[0], LOCK_EX | LOCK_NB))
        bad("flock: %s", strerror(errno));
    held[0] = dup(held[0]); /* two numbers, one lock */
    for (int i = 0; i < RANGES; i++)
        if (fcntl(held[1], F_SETLK, &ranges[i]) || fcntl(held[2], F_OFD_SETLK, &ranges[i]))
            bad("record lock %d: %s", i, strerror(errno));
}

/* What another would meet when it wanted to write to all from `start` on. */
static void look(int file, off_t start, const struct flock *wanted)
{
    struct flock found = { .l_type = F_WRLCK, .l_start = start };

    if (fcntl(other[file], F_OFD_GETLK, &found))
        bad("%s: %s", names[file], strerror(errno));
    if (!wanted ? found.l_type != F_UNLCK
                : found.l_type != wanted->l_type || found.l_start != wanted->l_start || found.l_len != wanted->l_len)
        bad("%s from %jd: type %d, start %jd, length %jd", names[file], (intmax_t)start, found.l_type,
            (intmax_t)found.l_start, (intmax_t)found.l_len);
}

static void look_at_all(void)
{
    if (!flock(other[0], LOCK_SH | LOCK_NB) || errno != EWOULDBLOCK)
        bad("the flock is lost");
    for (int file = 1; file < FILES; file++)
        for (int i = 0; i < RANGES; i++)
            look(file, i ? ranges[i - 1].l_start + ranges[i - 1].l_len : 0, &ranges[i]);
}

/* The child's lock, through a descriptor that both have. */
static const struct flock of_child = { .l_type = F_WRLCK, .l_start = 7, .l_len = 3 };
static int inherited, beside_it, child_ends[2];
static pid_t child;

static void make_child(void)
{
    int locked[2];
    char byte;

    inherited = open("inherited", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    beside_it = open("inherited", O_RDWR | O_CLOEXEC);
    if (inherited < 0 || beside_it < 0 || pipe(locked) || pipe(child_ends) || (child = fork()) < 0)
        bad("a child: %s", strerror(errno));
    if (!child) {
        close(child_ends[1]);
        if (fcntl(inherited, F_SETLK, &of_child) || write(locked[1], "", 1) != 1)
            bad("the child's lock: %s", strerror(errno));
        while (read(child_ends[0], &byte, 1) < 0 && errno == EINTR)
            ;
        _exit(0);
    }
    if (read(locked[0], &byte, 1) != 1)
        bad("the child has not locked");
}

static void look_at_childs(void)
{
    struct flock found = { .l_type = F_RDLCK };

    if (fcntl(beside_it, F_OFD_GETLK, &found) || found.l_type != F_WRLCK || found.l_start != of_child.l_start ||
        found.l_len != of_child.l_len || found.l_pid != child)
        bad("the child's lock: type %d, start %jd, length %jd, process %d", found.l_type, (intmax_t)found.l_start,
            (intmax_t)found.l_len, (int)found.l_pid);
}

static void end_child(void)
{
    int status;

    close(child_ends[1]);
    if (waitpid(child, &status, 0) != child || status)
        bad("the child ended with %x", status);
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 3);

    open_all();
    lock_all();
    look_at_all();
    if (count > 2)
        make_child();
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        look_at_all();
        if (child)
            look_at_childs();
        tick_sleep();
    }
    if (fcntl(held[1], F_SETLK, &(struct flock){ .l_type = F_UNLCK }))
        bad("unlock: %s", strerror(errno));
    look(1, 0, NULL);
    if (child)
        end_child();
    printf("OK locks\n");
    return 0;
}
