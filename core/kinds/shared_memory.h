/* SPDX-License-Identifier: MIT */
/* Memory that is an object of its own, since several mappings, descriptors and processes may be of the same: between
 * shared_memory.c, which saves and makes the objects, and memory.c and memory_staging.c, which map them. */
#ifndef STASIS_SHARED_MEMORY_H
#define STASIS_SHARED_MEMORY_H

#include "kind.h"

/* On disk. An object is known by sort and number, which is the same for all processes: its inode; of a segment, its id. */
enum object_sort {
    OBJECT_ANONYMOUS = 1,  /* MAP_SHARED | MAP_ANONYMOUS */
    OBJECT_MEMFD,          /* memfd_create(2) */
    OBJECT_POSIX,          /* a file in /dev/shm: shm_open(3), sem_open(3) */
    OBJECT_DELETED_FILE,   /* a file that has no name any more, mapped shared */
    OBJECT_SEGMENT,        /* shmget(2) */
    OBJECT_QUEUE,          /* mq_open(3): no memory, but made and opened like it */
};

/* Saver. What a mapping is of, or 0: neither shared nor of an object that comes back as one. */
enum object_sort object_of_mapping(const struct mapping *mapping);
enum object_sort object_of_descriptor(const struct descriptor *descriptor);
/* 1: its bytes can be had without the process, by a descriptor or by name. */
int object_has_source(const struct saving *saving, const struct mapping *mapping);
/* The stretches of the object that the processes of the step have mapped, to be freed; by rising offset. 0 or -ENOMEM. */
int object_mapped_parts(struct saving *saving, enum object_sort sort, const struct mapping *like, struct content_part **ret_parts,
                        size_t *ret_count);

/* Closed when the step has been saved. */
int object_keep_open(struct saving *saving, int fd);
/* Refuses the checkpoint when a process outside has it open as well. */
int object_watch(struct saving *saving, const struct descriptor *descriptor);

/* Restorer. An object that was made: by a descriptor, an address, or a segment's id. */
struct made_object {
    struct made_object *next;
    enum object_sort sort;
    uint64_t number;
    int fd;               /* above the image's numbers; -1: none; of a segment, its id */
    void *memory;         /* of anonymous memory: all of it; the processes inherit it */
    uint64_t length;      /* of that, in whole pages */
    uint32_t seals;       /* of a memfd */
};
int object_add(struct restoring *restoring, const struct made_object *object);
const struct made_object *object_find(const struct restoring *restoring, enum object_sort sort, uint64_t number);
/* Another open file description of the object, at its number and position. 0 or -errno. */
int object_place(const struct restoring *restoring, enum object_sort sort, uint64_t number, const struct descriptor_record *record);
/* Maps a part at an address that is free. `may_write`: mprotect(2) may make it writable. 0 or -errno. */
int object_map(const struct made_object *object, uint64_t at, uint64_t length, uint64_t offset, int protection, int may_write);

#endif
