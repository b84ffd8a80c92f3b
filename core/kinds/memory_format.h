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
    MAPPING_VDSO = 5,         /* the kernel's: vdso and its data */
    MAPPING_OBJECT,           /* of the object of memory that `object` and `file`, its sort, tell: shared_memory.h */
    MAPPING_OBJECT_PRIVATE,   /* the same, private; changed pages are stored */
    MAPPING_WRITTEN_FILE,     /* shared, of files[file], whose content regular_files.c gives back */
};

struct memory_record {
    uint32_t file_count;
    uint32_t mapping_count;
    uint64_t vdso_length;
    uint64_t guard_count;
    uint32_t inside_vdso;   /* a thread that was stopped inside the vdso, or came into a signal handler there; 0: none */
    uint32_t lock_future;   /* mlockall(2)'s flags for mappings to come */
    uint32_t thp_disabled;  /* PR_GET_THP_DISABLE */
    uint32_t no_exec_gain;  /* PR_GET_MDWE */
    uint32_t merges;        /* PR_GET_MEMORY_MERGE */
    uint32_t barriers;      /* commands of membarrier(2) by which the process has registered */
    uint32_t keys;          /* bit N: protection key N is the program's */
    uint32_t kernel_key;    /* the one that the kernel took for memory that may only be executed; 0: none */
    /* then: vdso_length bytes of the vdso; file_count times file_identity and path; mapping_count mapping_records;
     * guard_count guard_records; for each mapping with MAPPING_NAMED its name as a text */
};
static_assert(sizeof(struct memory_record) == 56, "memory record");

struct mapping_record {
    uint64_t start, end;
    uint64_t offset;      /* in the file or shared object, bytes */
    uint64_t object;
    uint16_t type;
    uint16_t key;         /* protection key: pkeys(7) */
    uint32_t protection;  /* PROT_ */
    uint32_t flags;       /* enum mapping_flag */
    int32_t file;         /* -1: none; of an object, its sort */
};
static_assert(sizeof(struct mapping_record) == 48, "mapping record");

/* Pages that MADV_GUARD_INSTALL has made untouchable, within one mapping. */
struct guard_record {
    uint64_t start, end;
};

enum { FILE_IS_WRITTEN = -1 }; /* as the modification time's nanoseconds of files[file]: whatever it is like now, regular_files.c knows */

#define MAPPING_NAME_START "[anon:" /* maps has the name of PR_SET_VMA_ANON_NAME so, and a closing bracket */

/* memory.c: not the program's own; has the content of a file below it */
int memory_is_foreign(const struct saving *saving, const struct mapping *mapping);
int memory_is_of_file(const struct mapping *mapping);

/* memory_pages.c: the guard pages; to be freed */
int memory_guards(struct saving *saving, struct page_range **ret_ranges, size_t *ret_count);

/* memory_restore.c */
int memory_check(struct restoring *restoring, struct reader *reader);
int memory_open(struct restoring *restoring, struct reader *reader);
int memory_wire(struct restoring *restoring, struct reader *reader);
int memory_last(struct restoring *restoring, struct reader *reader);
void memory_show(struct reader *reader, FILE *out);

#endif
