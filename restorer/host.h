/* SPDX-License-Identifier: MIT */
/* A restart without a bubble, where the kernel gives no namespaces: among the host's processes, with the PIDs of the image all the
 * same (numbers.h). It is for programs of one process that hold nothing which would clash with what others have. */
#ifndef STASIS_HOST_H
#define STASIS_HOST_H

#include "bubble.h"
#include "tree.h"

/* 1: it can be. 0: what speaks against it is added to missing of `obstacles`. Fills in the plan, and changes nothing else. */
int host_check(struct tree *tree, struct bubble_plan *plan, struct restoring *obstacles);
/* What will be otherwise than it was, by adapted(); nothing in a bubble. */
void host_say(struct restoring *task);
/* In the task, first of all, while it has one thread; nothing to do in a bubble. Exit status, said. */
int host_hold_threads(struct restoring *own);

#endif
