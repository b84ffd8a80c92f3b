/* SPDX-License-Identifier: MIT */
/* The image of a step of several tasks: an index, an ordinary image with nothing but a TAG_TASKS record, that names the parts in
 * <name>.d/. Each part is an ordinary image of one task; what the index says of it (size, run, generation, and the checksum of its header,
 * which covers that of its own index, which covers its blocks') fits no other file. So parts without an index are nothing, and parts of
 * two times never come together. */
#ifndef STASIS_TASKS_H
#define STASIS_TASKS_H

#include "commit.h"
#include "read.h"

enum { MAX_PART_NAME = 64 };

/* The payload of TAG_TASKS: task_list, then a task_record for each task, from 0, then the directory of the step's images, a text with its NUL:
 * this one may be elsewhere. */
struct task_list {
    uint32_t count;
    uint32_t reserved;
};

enum part_state { PART_WRITTEN = 1, PART_ENDED /* on its own: it has no part */ };

struct task_record {
    uint8_t run[UUID_BYTES];
    uint64_t generation;
    uint64_t bytes;
    uint64_t checksum;     /* file_header.checksum */
    uint32_t state;        /* enum part_state */
    uint32_t status;       /* exit status of a task that has ended */
    uint32_t processes;
    uint32_t reserved;
    char name[MAX_PART_NAME]; /* in the directory of parts */
};
static_assert(sizeof(struct task_record) == 120, "task");

/* The tasks of an index, in its memory. -ENOENT: it is an ordinary image; -EBADMSG with a reason. */
int tasks_read(struct image *index, const struct task_record **ret_tasks, uint32_t *ret_count);
/* The directory of the step's images, in its memory; NULL: it does not say. */
const char *tasks_home(struct image *index);
/* The directory of parts of the index at `path`, to directory[MAX_PATH]. */
void tasks_directory(const struct image *index, const char *path, char *directory);
/* Opens all parts of the index at `path` and compares; with is_deep every byte of them. -errno of the first that is not good, as image_open
 * and image_verify; then index->reason says of which task and why. 0, and all zeros, for an ordinary image. */
struct tasks_found {
    uint32_t count;        /* of tasks; 0: an ordinary image */
    uint32_t bad;          /* the task of an error */
    uint64_t bytes;        /* of all parts */
    size_t blocks;
};
int tasks_check(struct image *index, const char *path, int is_deep, struct tasks_found *ret_found);
/* The name of a task's part in an attempt, to name[MAX_PART_NAME]. */
void tasks_part_name(char *name, uint32_t task, uint64_t attempt);
/* Writes the record into the index. `home`: of tasks_home. */
int tasks_write(struct image_writer *writer, const struct task_record *tasks, uint32_t count, const char *home);
/* image_commit for a finished index: parts that no index names any more are removed, and what was left behind by tasks that were
 * killed, when it is a day old (rolls: a month). Nobody else may commit or sweep there meanwhile. */
int tasks_commit(struct image_writer *writer, const char *name, unsigned keep, char *ret_path);

#endif
