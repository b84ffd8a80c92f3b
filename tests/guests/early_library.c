/* SPDX-License-Identifier: MIT */
/* A library whose constructor makes a thread, as that of OpenBLAS does: see early.c. */
#include "guest.h"

#include <pthread.h>

unsigned long early_turns(void);

static unsigned long turns;

static void *count(void *none)
{
    for (;;) {
        __atomic_fetch_add(&turns, 1, __ATOMIC_SEQ_CST);
        tick_sleep();
    }
    return none;
}

__attribute__((constructor)) static void begin(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, count, NULL))
        bad("no thread in a constructor");
}

unsigned long early_turns(void)
{
    return __atomic_load_n(&turns, __ATOMIC_SEQ_CST);
}
