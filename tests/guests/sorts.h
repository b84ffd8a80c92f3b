/* SPDX-License-Identifier: MIT */
/* Guests that hold things of the sort that their first argument names, and find them as they must be at every tick. */
#ifndef SORTS_H
#define SORTS_H

#include "guest.h"

struct sort { /* each gives 1 when all is well; the last of a list has no name */
    const char *name;
    int (*make)(void); /* 0: this machine has no such thing */
    int (*works)(void);
    int (*ends)(void); /* NULL: nothing is left to be seen */
};

static long tick;
static const char *given = ""; /* the second argument */

static inline void check(int good, const char *what)
{
    if (!good)
        bad("%s at tick %ld: %s", what, tick, strerror(errno));
}

static inline int run_sort(const struct sort *sort, int argc, char **argv, long ticks)
{
    while (sort->name && (argc < 2 || strcmp(sort->name, argv[1])))
        sort++;
    if (!sort->name)
        return 2;
    if (argc > 2)
        given = argv[2];
    if (!sort->make()) {
        printf("CANNOT %s: %s\n", sort->name, strerror(errno));
        return 3;
    }
    ready();
    for (; tick < ticks; tick++) {
        errno = 0;
        check(sort->works(), sort->name);
        tick_sleep();
    }
    check(!sort->ends || sort->ends(), sort->name);
    printf("OK %s\n", sort->name);
    return 0;
}

/* For guests whose sorts have little in common. */
struct life { /* the last of a list has no name */
    const char *name;
    void (*run)(long ticks); /* ready, to its end */
};

static inline int run_life(const struct life *life, int argc, char **argv)
{
    while (life->name && (argc < 2 || strcmp(life->name, argv[1])))
        life++;
    if (!life->name)
        return 2;
    life->run(ticks_wanted(argc, argv, 2, 2));
    printf("OK %s\n", life->name);
    return 0;
}

#endif
