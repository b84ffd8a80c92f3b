/* SPDX-License-Identifier: MIT */
/* What the restorer's last stage has to do: plain data, built by hosted code, obeyed when no libc is left. All of it lies
 * in the arena, a mapping that neither the image nor what must be kept overlaps. */
#ifndef STASIS_LAST_PLAN_H
#define STASIS_LAST_PLAN_H

#include <stdint.h>

#include "../floor/agent_page.h"

enum { LAST_VDSO_PARTS = 4, LAST_LIMITS = NOTE_LIMITS, LAST_AUXV_WORDS = 128, LAST_AFFINITY_WORDS = AGENT_MASK_WORDS };

enum last_operation_kind {
    LAST_MAP = 1,    /* a fresh private anonymous mapping at `to` */
    LAST_MOVE,       /* mremap from `from` to `to` */
    LAST_FILL,       /* copy `from` the staging area */
    LAST_DISCARD,    /* of the staging area, copied by now: its memory is given back */
    LAST_PROTECT,
    LAST_KEY,        /* protect with the key in map_flags: pkeys(7) */
    LAST_GUARD,      /* MADV_GUARD_INSTALL */
    LAST_SEAL,       /* mseal(2) */
};

struct last_operation {
    uint32_t kind;
    uint32_t protection;   /* PROT_ of the mapping in the end */
    uint32_t map_flags;    /* MAP_ flags for LAST_MAP */
    uint32_t advice_flags; /* enum mapping_flag: madvise and mlock to be repeated */
    uint64_t from, to, length;
    uint64_t name;         /* text for PR_SET_VMA_ANON_NAME, in the staging area; 0: none */
};

struct last_range {
    uint64_t start, end;
};

/* struct sched_attr of linux/sched/types.h, in its second size */
struct last_scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period; /* runtime of the ordinary policies: the slice (6.12); 0: the machine's */
    uint32_t least, most;               /* utilisation, 0 to 1024 */
};

struct last_thread {
    struct agent_thread thread;
    char name[16];
    int32_t nice;
    uint32_t io_priority;      /* ioprio_set(2); 0: by niceness */
    uint64_t affinity[LAST_AFFINITY_WORDS]; /* sched_setaffinity(2); all 0: stays as it is */
    struct last_scheduling scheduling;      /* sched_setattr(2); size 0: stays as it is */
    uint32_t scheduling_must;  /* 1: the check has found that it can be set */
    uint32_t has_traits;       /* 1: `traits` is filled in */
    struct agent_traits traits;
};

/* The signals of a descriptor: F_SETOWN_EX, F_SETSIG, O_ASYNC. */
struct last_owner {
    int32_t number;
    int32_t type;              /* F_OWNER_ */
    int32_t pid;               /* 0: nobody */
    int32_t signal;            /* 0: SIGIO */
    uint32_t asynchronous;
    uint32_t reserved;
};

/* A memory policy of a range: mbind(2). */
struct last_memory_policy {
    uint64_t start, end;
    uint32_t policy;           /* mode and flags */
    uint32_t reserved;
    uint64_t nodes[AGENT_MASK_WORDS];
};

/* struct prctl_mm_map of linux/prctl.h */
struct last_mm_map {
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
    uint64_t arg_start, arg_end, env_start, env_end;
    uint64_t auxv;
    uint32_t auxv_size, exe_fd;
};

/* What the processes of a step share while they come back: in memory that all have, futexes. */
enum { LAST_STAGES = 8 };
struct last_together {
    uint32_t processes;            /* that come back */
    uint32_t all;                  /* and those that have ended with them */
    uint32_t failed;               /* exit status; 0: none has */
    uint32_t turn;                 /* index of the process whose turn it is */
    uint32_t arrived[LAST_STAGES];
    uint32_t standing;             /* processes that are complete: nobody runs before all are */
};

struct last_plan {
    uint64_t arena_start, arena_length;
    struct last_range staging;       /* unmapped at the end */
    struct last_range vdso_now[LAST_VDSO_PARTS], vdso_then[LAST_VDSO_PARTS]; /* start 0: none */
    uint64_t vdso_parking;           /* in the arena, room for all parts */
    uint32_t operation_count;
    struct last_operation *operations;
    struct last_mm_map mm;
    uint64_t auxv[LAST_AUXV_WORDS];
    struct agent_action actions[AGENT_SIGNALS];
    uint64_t capabilities[4];        /* effective, permitted, inheritable, bounding */
    uint32_t thread_count;
    uint32_t dumpable;
    uint32_t no_new_privileges;
    uint32_t keep_capabilities, subreaper, parent_death;
    uint32_t lock_future, thp_disabled, no_exec_gain, merges, barriers; /* as in struct memory_record */
    struct last_thread *threads;     /* the main thread (tid == pid) first */
    uint32_t memory_policy_count;
    struct last_memory_policy *memory_policies;
    uint32_t owner_count;
    struct last_owner *owners;
    uint64_t stacks;                 /* LAST_STACK_BYTES for each thread */
    uint64_t note_address;           /* of struct restart_note in the program */
    struct restart_note note;
    uint32_t held;                   /* other threads that were made before, see restorer/numbers.c; 0: they are made here */
    uint32_t come, placed;           /* futexes: those of them that have come here; 1: memory is where it belongs */
    uint32_t is_on_host;             /* 1: without the right to change /proc/self/exe */
    uint32_t ready;                  /* threads that stand: futex */
    struct last_together *together;  /* in the arena */
};

enum { LAST_STACK_BYTES = 8192 };

#endif
