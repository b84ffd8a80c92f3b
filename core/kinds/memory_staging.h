/* SPDX-License-Identifier: MIT */
/* Between memory_restore.c, which reads the record and plans, and memory_staging.c, which fills memory beside its place. */
#ifndef STASIS_MEMORY_STAGING_H
#define STASIS_MEMORY_STAGING_H

#include "memory_format.h"

#define ADDRESS_END UINT64_C(0x7ffffffff000) /* of user space with 4-level page tables */

struct staged {
    struct mapping_record record;
    uint64_t at;           /* staging address; 0: has none */
    uint64_t pages;        /* that the image has of it */
    char *name;            /* PR_SET_VMA_ANON_NAME's, or NULL */
    int scattered;         /* 1: few pages in much room. They are staged side by side, as pieces, and copied */
};

/* Pages of a scattered mapping. */
struct piece {
    uint64_t address, pages, at;
};

struct staging {
    struct staged *items;
    uint32_t count;
    struct guard_record *guards;
    uint64_t guard_count;
    struct piece *pieces;  /* sorted by address */
    size_t piece_count;
    struct last_range area;
    struct last_range vdso_new;  /* room for this kernel's vdso when the image's is another's; 0: it is the same */
    uint8_t *vdso;         /* then: the image's, its entries leading there */
    uint64_t vdso_length;
    char **files;
    uint32_t file_count;
    struct last_operation *operations;
    uint32_t operation_count;
    _Atomic size_t next_block;
    _Atomic int error;
    struct restoring *restoring;
};

/* memory_staging.c */
struct staged *staging_find(struct staging *staging, uint64_t address);
int staging_holds(const struct staged *staged, const struct staging *staging); /* 1: is filled beside its place as a whole */
int staging_make(struct restoring *restoring); /* counts the image's pages, lays all out, maps it. 0 or -errno */
int staging_map_written(struct staging *staging); /* MAPPING_WRITTEN_FILE, whose places were only held. 0 or -errno */
int staging_own_mappings(struct mappings *ret_mappings, int with_flags);

/* memory_restore.c */
int memory_plan_operations(struct staging *staging);

#endif
