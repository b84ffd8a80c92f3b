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
};

/* What madvise(2) is told again for them. */
static const __attribute__((unused)) struct mapping_advice {
    unsigned flag;
    int advice;
} mapping_advices[] = {
    { MAPPING_HUGE, MADV_HUGEPAGE },      { MAPPING_NO_HUGE, MADV_NOHUGEPAGE },
    { MAPPING_DONT_FORK, MADV_DONTFORK }, { MAPPING_WIPE_ON_FORK, MADV_WIPEONFORK },
    { MAPPING_DONT_DUMP, MADV_DONTDUMP }, { MAPPING_MERGEABLE, MADV_MERGEABLE },
};
enum { MAPPING_ADVICES = sizeof mapping_advices / sizeof *mapping_advices };

#endif
