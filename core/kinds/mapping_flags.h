/* SPDX-License-Identifier: MIT */
/* Bits for what smaps calls VmFlags (proc(5)); on disk, in the plan, and in mappings. */
#ifndef STASIS_MAPPING_FLAGS_H
#define STASIS_MAPPING_FLAGS_H

#include <sys/mman.h>

enum mapping_flag {
    MAPPING_GROWS_DOWN = 1,
    MAPPING_NO_RESERVE = 2,
    MAPPING_LOCKED = 4,
    MAPPING_HUGE = 8,
    MAPPING_NO_HUGE = 16,
    MAPPING_DONT_FORK = 32,
    MAPPING_WIPE_ON_FORK = 64,
    MAPPING_DONT_DUMP = 128,
    MAPPING_MERGEABLE = 256,
    MAPPING_SEALED = 512,
    MAPPING_LOCKED_ON_FAULT = 1024,
    MAPPING_SEQUENTIAL = 2048,
    MAPPING_RANDOM = 4096,
    MAPPING_ACCOUNTED = 8192,
    MAPPING_DROPPABLE = 16384,
    MAPPING_MAY_WRITE = 32768,
    MAPPING_POOL = 65536,         /* of huge pages */
    MAPPING_SHADOW_STACK = 131072,
    MAPPING_NAMED = 262144,       /* not from smaps: maps has a name that the program gave */
};

/* What madvise(2) is told again for them. */
static const __attribute__((unused)) struct mapping_advice {
    unsigned flag;
    int advice;
} mapping_advices[] = {
    { MAPPING_HUGE, MADV_HUGEPAGE },      { MAPPING_NO_HUGE, MADV_NOHUGEPAGE },
    { MAPPING_DONT_FORK, MADV_DONTFORK }, { MAPPING_WIPE_ON_FORK, MADV_WIPEONFORK },
    { MAPPING_DONT_DUMP, MADV_DONTDUMP }, { MAPPING_MERGEABLE, MADV_MERGEABLE },
    { MAPPING_SEQUENTIAL, MADV_SEQUENTIAL }, { MAPPING_RANDOM, MADV_RANDOM },
};
/* Newer than the headers we are built with; linux/mman.h and asm-generic/mman-common.h. */
enum {
    MAPPING_MAP_DROPPABLE = 8,         /* MAP_DROPPABLE, 6.11: zeros whenever memory is short */
    MAPPING_ADVICE_GUARD_INSTALL = 102, /* MADV_GUARD_INSTALL, 6.13 */
    SYS_MSEAL = 462,                    /* mseal(2), 6.10 */
};
enum { MAPPING_ADVICES = sizeof mapping_advices / sizeof *mapping_advices };

#endif
