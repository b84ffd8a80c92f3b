/* SPDX-License-Identifier: MIT */
/* The programs that run under the shim, as the registry of agent_page.h tells. */
#ifndef STASIS_REGISTRY_H
#define STASIS_REGISTRY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../floor/names.h"

/* A living page of the registry. */
struct program {
    char run_directory[128];
    uid_t owner;
    pid_t pid;             /* as seen from here; 0: it cannot be seen from here */
    ino_t tasks;           /* PID namespace of the run's tasks; 0: unknown */
    pid_t keeper;          /* a porter's: the keeper of its bubble, as seen from here; else 0 */
    uint32_t role;         /* enum agent_role */
    uint32_t first;        /* 1: the step's first process */
    uint32_t task, task_count; /* which of how many of a step of several; else 0 or 1 of them. A porter's: 0 */
    uint32_t bytes;        /* sizeof(struct agent_page) of the shim that made it */
    char name[2 * MAX_ID]; /* JOB.STEP */
    char as_slurm[2 * MAX_ID]; /* the same as Slurm has it now, where that is known to be another; a porter's: always; else "" */
};

/* Every program under the shim of this user, or of anybody for root. *ret_programs is malloc'ed. 0 or -ENOMEM. A user
 * who has no registry, or one that somebody else made, has no programs. */
int programs_find(struct program **ret_programs, size_t *ret_count);

struct agent_page;
struct stat;

/* Who holds the lock of a page's file, as seen from here; 0: nobody whom we can see. */
pid_t page_holder(const struct stat *status);
/* The PID namespace (its inode) that a page's process lives in; 0: it cannot be told. */
ino_t page_pid_namespace(const struct agent_page *page, pid_t holder);

/* summon.c: programs make their pages when they are asked to. */
enum summoned {
    SUMMON_CAME,     /* it has a page */
    SUMMON_STRANGER, /* it is gone, or no program under the shim */
    SUMMON_SILENT,   /* it is one, but does not answer: it blocks the stop signal, or cannot make a page */
};
enum summoned summon(pid_t pid, int64_t milliseconds);
/* One look at a process that has no page: asks it, with `may_ask`, if it can be asked. SUMMON_SILENT: it can be, or may be about to
 * become one that can. */
enum summoned summon_look(pid_t pid, int may_ask);
/* 1: it ignores the stop signal. */
int summon_is_ignored(pid_t pid);
/* Every program of this user (of anybody for root) that is not job-stopped; waits so long at most for all to come. How
 * many have not. */
size_t summon_all(int64_t milliseconds);

/* spare.c: a page's file for a program that may not make one (RLIMIT_FSIZE). A descriptor to be given back, -1: not needed. */
int spare_lay(pid_t pid);
void spare_take_away(int directory);

/* The inode of a process's PID namespace (0: it cannot be told), and of this process's own. */
ino_t pid_namespace_of(pid_t pid);
ino_t own_pid_namespace(void);

/* Removes what dead programs of this user left in the registry. Silent: what cannot be removed does no harm. */
void registry_sweep(void);

#endif
