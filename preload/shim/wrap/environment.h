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
/* Fills `whole`, of that size; `preload` has room for ENVIRONMENT_PRELOAD bytes. Async-signal-safe. */
void environment_complete(char *const *environment, char **whole, char *preload);

#pragma GCC visibility pop

#endif
