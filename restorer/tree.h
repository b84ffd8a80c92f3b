/* SPDX-License-Identifier: MIT */
/* The processes of an image. The task, which is the first of them, makes its children, they make theirs, and so on; every one with
 * its PID, parent, session and process group. Then they go through the stages of a restart together. */
#ifndef STASIS_TREE_H
#define STASIS_TREE_H

#include "../core/kinds/kind.h"

/* The barriers of a restart, in their order: nobody passes one before all have come there. */
enum stage {
    STAGE_BORN,    /* all processes are there, in their sessions, */
    STAGE_LED,     /* leaders of process groups lead them, */
    STAGE_GROUPED, /* and all others are in theirs */
    STAGE_OPEN,    /* descriptors are there, memory is verified: nothing outside has been touched */
    STAGE_WIRED,
    STAGE_READY,   /* the last stage is all that is left */
    STAGE_COUNT,
};

struct tree {
    struct restoring *processes; /* by index */
    uint32_t count;
    int is_on_host;              /* see host.h */
    struct node *nodes;          /* tree.c's own */
    size_t node_count;
    struct last_together *together; /* shared by all */
};

/* Plans who makes whom. -ENOTSUP: such a tree cannot be made; missing() of the first process has said so. */
int tree_plan(struct tree *tree);
/* What is one process's own, from its record, to what is known of all. */
void tree_take_place(struct restoring *to, const struct restoring *from);
/* In the task: makes all the others. Returns in each process, with its own in *ret_own, when all are there; those that have ended
 * at the checkpoint never return. Exit status on failure, said already. */
int tree_grow(struct tree *tree, struct restoring **ret_own);
/* Waits for all others. Not 0 when one of them has failed: the exit status. */
int tree_meet(struct tree *tree, const struct restoring *own, enum stage stage);
/* One after the other, by their index, between two barriers. */
int tree_await_turn(struct tree *tree, const struct restoring *own);
void tree_end_turn(struct tree *tree);
/* This process has failed, and with it all. */
_Noreturn void tree_fail(struct tree *tree, const struct restoring *own, int status);

#endif
