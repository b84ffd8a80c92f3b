/* SPDX-License-Identifier: MIT */
/* What bubble.c, keeper.c and porter.c are to one another. Nobody else includes this.
 *
 * Two socket pairs: porter and keeper (struct report one way; one byte back: "let the rest live"), porter and task
 * (one byte in: go; one byte out: about to jump). */
#ifndef STASIS_BUBBLE_PRIVATE_H
#define STASIS_BUBBLE_PRIVATE_H

#include <poll.h>

#include "bubble.h"

/* In the order in which they are done; the last two are one or the other. */
enum bubble_step {
    STEP_SPACES, /* clone3 of the keeper into its namespaces */
    STEP_MAPS,   /* own ids in the user namespace */
    STEP_SLAVE,  /* mounts of the host still come in, ours do not go out */
    STEP_PROC,   /* a fresh /proc */
    STEP_SHM,    /* a private /dev/shm, with the registry */
    STEP_PTS,    /* a /dev/pts of its own */
    STEP_TIME,   /* clock offsets for the keeper's children */
    STEP_TASK,   /* clone3 of the task with set_tid */
    STEP_NUMBER, /* or, without a bubble, its turn: numbers.h */
    STEP_COUNT,
};

enum report_kind {
    REPORT_FAILED = 1, /* value: enum bubble_step, more: -errno; the keeper ends */
    REPORT_TASK,       /* with the task's pidfd (SCM_RIGHTS) and PID (SCM_CREDENTIALS; without a bubble it is the value) */
    REPORT_STATUS,     /* value: of waitpid(); more: 1 when the task ended and others live on */
    REPORT_DETACHED,   /* the rest lives on without the porter */
};

struct report {
    uint32_t kind;
    int32_t value;
    int32_t more;
};

/* bubble.c */
/* clone3 like fork, with glibc's idea of the own TID kept true; pid 0: any. The child's PID, 0 in it, or -errno. */
pid_t bubble_clone(uint64_t flags, pid_t pid, int exit_signal, int *ret_handle);
/* Everything from STEP_MAPS to STEP_TIME, in the keeper. Fills errors[] (0 or -errno), stops at the first unless `all`;
 * returns the first step that failed, or STEP_COUNT. */
enum bubble_step bubble_furnish(const struct bubble_plan *plan, int errors[STEP_COUNT], int all);
/* The task itself: as bubble_clone; ENV_TEST_FAIL can refuse it. */
pid_t bubble_clone_task(const struct bubble_plan *plan, int *ret_handle);
/* Says on stderr why a step failed; returns the exit status for it. */
int bubble_complain(enum bubble_step step, int error);
/* Moves a descriptor to `lowest` or above, close-on-exec, if there is room. */
int bubble_lift(int descriptor, int lowest);
/* Sets the whole signal mask, 32 and 33 too (glibc's sigprocmask leaves them open); returns the one before. */
uint64_t bubble_mask(uint64_t mask);
void bubble_default(int signal);
void bubble_forget(int signal); /* the same; and what waits of it is gone */
/* Ends as a status of wait(2) says, but leaves no core: that would be one of the wrong program. */
_Noreturn void bubble_mirror(int status);

/* keeper.c */
_Noreturn void keeper_run(const struct bubble_plan *plan, int link, int task_link);

/* porter.c */
/* Makes the directories of the plan where they are missing, checks whose they are, and puts the porter's page there: 0 or -errno. */
int porter_claim(const struct bubble_plan *plan);
void porter_give_back(void); /* the page is not needed any more, */
void porter_let_go(void);    /* or belongs to another: the keeper */
/* Returns only when the bubble could not be made: exit status, said on stderr. */
int porter_run(const struct bubble_plan *plan, pid_t keeper, int link, int task_link);

/* relay.c: the controlling terminal of a task that leads its own session */
/* In the porter, before the keeper is there, with all signals blocked: 0, or -errno when no pair can be had. */
int relay_prepare(const struct bubble_plan *plan);
/* In the porter, when the keeper has inherited it: one that is handed over is held no longer. */
void relay_let_go(void);
/* In the task: it becomes the controlling one, and takes the place of the command's on the standard streams. */
void relay_take(void);
/* In the porter, while the task runs. */
int relay_is_on(void);
int relay_slave(void);           /* -1: none */
void relay_resize(void);
void relay_leave_terminal(void); /* about to be stopped, */
void relay_come_back(void);      /* and continued */
enum { RELAY_POLLS = 2 };

int relay_poll(struct pollfd ready[RELAY_POLLS]); /* what to wait for; how long at most, in milliseconds, or -1 */
void relay_carry(const struct pollfd ready[RELAY_POLLS]);
void relay_end(void);            /* the task has ended */

enum { LIFTED = 100 }; /* our descriptors stay above the standard ones, even when those are closed */
#define ALL_SIGNALS UINT64_MAX
#define SIGNAL_BIT(signal) (UINT64_C(1) << ((signal) - 1))

#endif
