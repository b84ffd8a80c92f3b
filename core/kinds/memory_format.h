/* SPDX-License-Identifier: MIT */
/* The memory record, shared by memory.c (saving) and memory_restore.c. */
#ifndef STASIS_MEMORY_FORMAT_H
#define STASIS_MEMORY_FORMAT_H

#include <sys/mman.h>

#include "kind.h"

enum mapping_type {
    MAPPING_ANONYMOUS = 1,    /* private; also a private mapping of a file that is gone: all its bytes are stored */
    MAPPING_FILE,             /* private, of files[file]; changed pages are stored */
    MAPPING_SHARED_FILE,      /* not writable */
    MAPPING_SHARED_ANONYMOUS, /* `object` tells which mappings are of the same memory */
    MAPPING_VDSO,             /* the kernel's: vdso and its data */
};

struct memory_record {
    uint32_t file_count;
    uint32_t mapping_count;
    uint64_t vdso_length;
    /* then: vdso_length bytes of the vdso; file_count times file_identity and path; mapping_count mapping_records */
};

struct mapping_record {
    uint64_t start, end;
    uint64_t offset;      /* in the file or shared object, bytes */
    uint64_t object;
    uint32_t type;
    uint32_t protection;  /* PROT_ */
    uint32_t flags;       /* enum mapping_flag */
    int32_t file;         /* -1: none */
};

/* memory.c: not the program's own, and what a mapping is (enum mapping_type) */
int memory_is_foreign(const struct saving *saving, const struct mapping *mapping);
uint32_t memory_type_of(const struct mapping *mapping);

/* memory_restore.c */
int memory_check(struct restoring *restoring, struct reader *reader);
int memory_open(struct restoring *restoring, struct reader *reader);
int memory_last(struct restoring *restoring, struct reader *reader);
void memory_show(struct reader *reader, FILE *out);

#endif
