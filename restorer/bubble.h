/* SPDX-License-Identifier: MIT */
/* The bubble: user, PID, mount, IPC and time namespaces in which PIDs, clocks and /dev/shm are the program's own.
 *
 *   porter   the process `stasis restart` has become; outside; stands for the program to whoever waits
 *   keeper   PID 1 inside; belongs to no task; reaps; ends when the last process inside has ended
 *   task     the process that becomes the program; made with clone3(set_tid), a child of the keeper
 *
 * Who runs with CAP_SYS_ADMIN keeps its user namespace, and so all its ids; anybody else gets one in which only the
 * effective ids are mapped (the others show as 65534). */
#ifndef STASIS_BUBBLE_H
#define STASIS_BUBBLE_H

#include <stdint.h>
#include <sys/types.h>

struct bubble_plan {
    pid_t pid;                /* of the task, inside */
    int own_session;          /* 1: the task is a session leader: setsid() */
    int has_terminal;         /* 1: and has a controlling terminal there, see relay.c */
    int has_terminal_pairs;   /* 1: a /dev/pts of its own, in which all numbers are free */
    int is_on_host;           /* 1: no bubble, see host.h, */
    const pid_t *numbers;     /* and these PIDs and TIDs will be needed */
    uint32_t number_count;
    int own_group;            /* 1: leads its process group: setpgid(0, 0) */
    int64_t monotonic_offset[2]; /* seconds, nanoseconds to add to this host's initial CLOCK_MONOTONIC */
    int64_t boottime_offset[2];  /* nanoseconds are 0 to 999999999, the seconds may be negative */
    const char *registry;     /* directory to be seen inside at the same path, in the fresh /dev/shm too; or NULL */
    const char *run_directory; /* in the registry: the porter's page goes here; NULL: no page */
    const char *job, *step;   /* the program's name, in the porter's page */
    int (*task)(void *context); /* runs in the task; returns only on failure, with an exit status */
    void *context;
    void (*started)(void *context); /* runs in the porter when the task is about to jump; may be NULL */
    void (*succeeded)(void *context); /* the same, when it has ended with status 0 and nobody lives on inside */
    void (*look)(void *context); /* the same, from time to time while the task runs; may be NULL */
    int look_milliseconds;
    void (*over)(void *context, int status); /* the same, whatever has come of it; an exit status */
};

/* Checks without changing anything whether the bubble can be made here: user namespaces (needed unless root), clone3
 * with set_tid, time namespaces, a fresh /proc and /dev/shm. Adds one sentence per obstacle through say(); returns how
 * many. The plan may be NULL: then any PID will do. ENV_TEST_FAIL words: userns, clone3, timens, procmount, shm. */
int bubble_check(const struct bubble_plan *plan, void (*say)(void *context, const char *sentence), void *context);

/* Of what bubble_check has said: is it that there are no namespaces at all? */
int bubble_is_forbidden(void);

/* Makes the bubble and the task, then stands for it until it ends: forwards signals and job control, mirrors how it
 * ended (exit status, or dies of the same signal, without a core of its own). Returns only when it could not be made:
 * exit status, with the reason on stderr. The caller has one thread. Once the task has started, the porter keeps of its
 * descriptors only stderr and those that are close-on-exec. */
int bubble_run(const struct bubble_plan *plan);

/* The task begins with all 64 signals blocked (32 and 33 too: glibc's cancel and setxid wait for ever), all
 * dispositions default, cwd, descriptors and memory of the caller of bubble_run, all capabilities of its user
 * namespace, and one descriptor of ours, as high as it will go below 1024. It may be moved: write its new number
 * here. */
int *bubble_descriptor(void);

/* In the task: the keeper's PID, as the task sees it. */
pid_t bubble_keeper(void);

/* In the task: "about to jump". The porter calls plan->started. Closes our descriptor; a second call does nothing. */
void bubble_started(void);

#endif
