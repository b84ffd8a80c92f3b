/* SPDX-License-Identifier: MIT */
/* Numbers of descriptors, and open file descriptions that several processes have. The task opens those before the others are
 * made, which inherit them. What only its first process can open, at the end, goes to the others by mail. */
#ifndef STASIS_DESCRIPTORS_H
#define STASIS_DESCRIPTORS_H

#include "../core/kinds/kind.h"

/* Where our own descriptors go: restoring->highest and own_end. */
void descriptors_find_room(struct restoring *restoring);
/* Descriptors of our own out of the way of the image's; the program's numbers are then all free. 0 or -errno. */
int descriptors_clear(struct restoring *restoring);
/* In the task: holds what is shared, by way of its kind's `open`, or has mail for it. -errno, with the kind's name. */
int descriptors_hold(struct restoring *task, const char **ret_name);
/* In each process, for each record of a descriptor. 1: its kind has nothing to do with it; 0: it has; -errno. */
int descriptors_open(struct restoring *restoring, struct reader record);
int descriptors_wire(struct restoring *restoring, struct reader record);
/* Behind its kind's `wire`: others may wait for it. 0 or -errno. */
int descriptors_send(struct restoring *restoring, struct reader record);
/* In each process, when all its descriptors are in place: what is held besides them is closed. A POSIX lock would be lost by that
 * later: that happens whenever its process closes any descriptor of the file. */
void descriptors_let_go(struct restoring *restoring);

#endif
