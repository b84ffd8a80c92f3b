/* SPDX-License-Identifier: MIT */
/* locks SECONDS: holds a flock, POSIX record locks and open file description locks, and looks at every tick, through other
 * descriptors, whether it has just these. It opens and closes nothing that has POSIX locks, for that would drop them. */
#include "guest.h"

#include <sys/file.h>

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

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 3);

    open_all();
    lock_all();
    look_at_all();
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        look_at_all();
        tick_sleep();
    }
    if (fcntl(held[1], F_SETLK, &(struct flock){ .l_type = F_UNLCK }))
        bad("unlock: %s", strerror(errno));
    look(1, 0, NULL);
    printf("OK locks\n");
    return 0;
}
