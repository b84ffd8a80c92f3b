/* SPDX-License-Identifier: MIT */
/* stasis run --cleanup, --requests: this process stands for the program to whoever waits for it. It looks for requests while the program
 * runs, and removes its images when it has ended with status 0, each if that is wanted. */
#ifndef STASIS_STAND_IN_H
#define STASIS_STAND_IN_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

#include "../core/floor/names.h"

struct stand_in {
    pid_t pid;               /* of the program; 0 in the program itself */
    uint8_t run[UUID_BYTES]; /* its run */
    sigset_t mask;           /* what it was started with */
    struct sigaction child;  /* the same, for SIGCHLD */
};

/* Makes the process that is to become the program, with its run in the environment. 0, or an exit status, said already. */
int stand_in_fork(struct stand_in *program);
/* Waits, and ends as the program has ended. job NULL: the program's PID. `tool`: of struct requests; NULL: nobody looks for any. */
_Noreturn int stand_in_wait(const struct stand_in *program, const char *job, const char *step, int cleans_up, const char *tool);

/* --requests: the path of this very command. It ends with a complaint when that cannot be had, or there are several tasks, each of which would ask. */
const char *stand_in_tool(void);

/* The parts of it. All signals must be blocked. */
void stand_in_let_go(void);
void stand_in_forward(pid_t program, const siginfo_t *info);
/* 1 when it has ended: *ret_status as of waitpid(2). */
int stand_in_look(pid_t program, int *ret_status);
_Noreturn void stand_in_end_as(int status);

#endif
