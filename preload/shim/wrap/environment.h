/* SPDX-License-Identifier: MIT */
/* Our variables in the environment of a program that is about to be executed: the program may have made that as it liked. */
#ifndef STASIS_WRAP_ENVIRONMENT_H
#define STASIS_WRAP_ENVIRONMENT_H

#include <stddef.h>

#pragma GCC visibility push(hidden)

enum { ENVIRONMENT_PRELOAD = 8192 };

/* At the start: notes those that there are. */
void environment_note(void);
/* How many pointers a whole one takes; 0: nothing is missing in this one. */
size_t environment_size(char *const *environment);
/* Fills `whole`, of that size; `preload` has room for ENVIRONMENT_PRELOAD bytes. Returns it, or when nothing is missing what was given.
 * Async-signal-safe. */
char *const *environment_complete(char *const *environment, size_t size, char **whole, char *preload);

/* Before a fork: finds what every child would find anew. */
void exec_prepare(void);

/* Declares `whole`, which is `environment` with all of ours, on the caller's stack: between vfork and exec there is nothing else. */
#define ENVIRONMENT_WHOLE(whole, environment)                                                         \
    size_t whole##_size = environment_size(environment);                                              \
    char *whole##_room[whole##_size + 1], whole##_preload[whole##_size ? ENVIRONMENT_PRELOAD : 1];    \
    char *const *whole = environment_complete(environment, whole##_size, whole##_room, whole##_preload)

#pragma GCC visibility pop

#endif
