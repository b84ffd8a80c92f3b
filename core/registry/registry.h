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
    uint32_t bytes;        /* sizeof(struct agent_page) of the shim that made it */
    char name[2 * MAX_ID]; /* JOB.STEP */
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

/* What the name and target of a marker (agent_page.h) say. */
struct marker {
    pid_t pid;
    ino_t pid_namespace;
    uint64_t born;         /* second of CLOCK_BOOTTIME */
    char name[2 * MAX_ID]; /* JOB.STEP */
};

/* 0, or -EINVAL when `name` is none. */
int marker_read(int run_descriptor, const char *name, struct marker *ret_marker);

/* The inode of a process's PID namespace (0: it cannot be told), and of this process's own. */
ino_t pid_namespace_of(pid_t pid);
ino_t own_pid_namespace(void);

/* Removes what dead programs of this user left in the registry. Silent: what cannot be removed does no harm. */
void registry_sweep(void);

#endif
