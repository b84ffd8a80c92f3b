/* SPDX-License-Identifier: MIT */
/* A step of several tasks: which part is this task's, and that all come back or none. */
#ifndef STASIS_RESTORER_TASKS_H
#define STASIS_RESTORER_TASKS_H

#include <stdint.h>

#include "../core/floor/names.h"

/* Of an image of several tasks, `image` becomes the path of this task's part, when the step has as many tasks and all parts are there and
 * of one time. With is_found, `image` was found in a directory and not named: then it must be one of this step's kind. *ret_roll: the
 * number of this start of the step. Exit status; a task that had ended ends here as it did. */
int tasks_choose(char image[MAX_PATH], int is_found, uint64_t *ret_roll);

/* Returns when all tasks can run on, and none has touched anything yet. Exit status: another could not, which is said to the
 * descriptor `out`. */
int tasks_meet(int out);

/* The same when all have their files as they were, and none has run yet: a file that they all write to is cut before the first writes to it. */
int tasks_meet_again(int out);

/* This task could not, and ends with that status; unless it already has come back. */
void tasks_give_up(int status);

#endif
