/* SPDX-License-Identifier: MIT */
/* What shared memory, semaphores and messages of System V have in common (sysvipc(7)): numbers, keys, owners, and whose they are. */
#ifndef STASIS_SYSTEM_V_H
#define STASIS_SYSTEM_V_H

#include <sys/ipc.h>

#include "kind.h"

struct system_v_record {
    int32_t id;
    int32_t key;
    uint32_t mode;        /* permissions */
    uint32_t reserved;
};
static_assert(sizeof(struct system_v_record) == 16, "System V record");

struct system_v_record system_v_describe(int id, const struct ipc_perm *permissions);
/* Calls save() for each object of that sort that a process has used and none before it in the step. */
int system_v_each(struct saving *saving, enum agent_ipc_sort sort, int (*save)(struct saving *saving, int id));
/* Has a process of the step made it? */
int system_v_is_own(const struct saving *saving, enum agent_ipc_sort sort, int id);
int system_v_is_known(const struct saving *saving, enum agent_ipc_sort sort, int id); /* is it in its or an earlier process's books? */
/* 0, or refuses what is another's. `what`: "the semaphores" */
int system_v_check_owner(struct saving *saving, enum agent_ipc_sort sort, int id, const struct ipc_perm *permissions, const char *what);
/* Wall clock, in seconds, a little early. */
int64_t process_began(int pid);
/* May the restart choose numbers? missing() says why not. */
void system_v_check_numbers(struct restoring *restoring);
/* The next object made gets this id: "shm", "sem", "msg". 0 or -errno. */
int system_v_next_id(const char *sort, int id);

#endif
