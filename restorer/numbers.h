/* SPDX-License-Identifier: MIT */
/* PIDs without the right to choose them. The kernel gives its numbers out in turn, and begins again from below: so a process
 * that waits until the turn is at its number has it, unless another is quicker. */
#ifndef STASIS_NUMBERS_H
#define STASIS_NUMBERS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../core/kinds/kind.h"

/* Why a process or thread can never have that number here, for a person; NULL: nothing speaks against it. */
const char *numbers_obstacle(pid_t number, char *text, size_t size);
/* Two that wait at once would pass over each other's numbers. So they do it one after the other, from the one call to the other: of the same
 * user, by a lock of this directory. A child that is made in between may end it. */
void numbers_begin(const char *directory);
void numbers_end(void);
/* fork(2), of a caller with one thread that gets no signals: 0 in the child, which has that number. -errno; -EEXIST: somebody
 * else always has it. */
pid_t numbers_fork(pid_t number);
/* The same, with none of these numbers. */
pid_t numbers_fork_beside(const pid_t *wanted, uint32_t count);
/* Makes the other threads of this process, each with its number, before anything is changed: 0 or -errno, as above, for
 * *ret_failed. They wait. */
int numbers_hold(const pid_t *numbers, uint32_t count, pid_t *ret_failed);
/* They go to the last stage, each as the thread of the plan that has its number. */
void numbers_let_go(struct last_plan *plan);

#endif
