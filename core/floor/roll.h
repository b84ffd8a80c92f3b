/* SPDX-License-Identifier: MIT */
/* The roll of a step of several tasks: a file beside their parts by which the tasks' savers, on whatever node, take one image together,
 * and their restorers come back together. Nobody serves it: whoever changes it holds the lock of its head, and the last one of a phase
 * begins the next. Locks are those of fcntl(2), F_OFD_SETLK: network file systems have them too, and look at the server when one is
 * taken. Uses no libc.
 *
 *   0    roll_head
 *   512  roll_entry of task 0, 1, ...
 *        behind them MAX_PATH bytes: the directory that this one image is to go to; "": where the step's others are
 *
 * Each start of the step has a roll of its own (`roll` in its name), so that what is in it is of tasks that live, or of this
 * start's. Who works for task N holds the lock of byte ROLL_PULSE + N: it is lost with him. */
#ifndef STASIS_ROLL_H
#define STASIS_ROLL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"

enum { ROLL_ENTRIES_AT = 512, ROLL_PULSE = 1 << 30, MAX_TASKS = 1 << 20 };

/* Where the attempt of the head is. */
enum roll_phase {
    ROLL_REST,     /* there was none yet */
    ROLL_GATHER,   /* whose saver is there waits for those of the others; programs run */
    ROLL_STOP,     /* all are there: each stops its program */
    ROLL_LOOK,     /* all stand: each takes its twin, and looks at what the program holds */
    ROLL_WRITE,    /* all have: each lets its program go, and writes its part */
    ROLL_DONE,     /* the index is there: `done` */
    ROLL_AGAIN,    /* all begin again */
    ROLL_FAILED,
    ROLL_RETURN,   /* at a restart: nobody touches anything before all could come back */
    ROLL_WIRE,     /* all could: files are cut to their sizes, and nobody runs before they all are */
    ROLL_RETURNED,
};

enum roll_state {
    TASK_AWAY,
    TASK_HERE,
    TASK_STOPPED,
    TASK_TAKEN,
    TASK_WRITTEN,  /* its part has its name */
    TASK_ENDED,    /* had ended before all were there */
    TASK_BACK,     /* at a restart: could come back, */
    TASK_WIRED,    /* and could run */
};

struct roll_head {
    uint64_t magic;
    uint32_t tasks;
    uint32_t phase;        /* enum roll_phase */
    uint64_t attempt;      /* random; 0: none yet */
    uint64_t generation;   /* of the image that is being made */
    int64_t moved;         /* when the last task came: CLOCK_REALTIME nanoseconds */
    uint32_t failed_task;  /* who says why */
    uint32_t missed;       /* attempts in a row for which not all were there */
    uint64_t done;         /* the last attempt of which there is an index */
    uint32_t status;       /* exit status of the failure */
    uint32_t reserved;
    char message[448];
};
static_assert(sizeof(struct roll_head) == ROLL_ENTRIES_AT, "head of a roll");

struct roll_entry {
    uint8_t run[UUID_BYTES];
    uint64_t attempt;      /* that `state` is of */
    uint32_t state;        /* enum roll_state */
    uint32_t processes;
    uint64_t generation;   /* of its last part */
    uint64_t bytes;        /* of the part */
    uint64_t checksum;     /* of its header */
    uint32_t has_ended;    /* 1: on its own, with this status */
    uint32_t status;
};
static_assert(sizeof(struct roll_entry) == 64, "entry of a roll");

/* Which task of a step this is. */
struct task_place {
    uint32_t task, tasks;  /* tasks 0 or 1: there is but one */
    uint64_t roll;         /* a number of this start of the step; the same in all of its tasks, and of no other start */
};

/* As Slurm's variables tell. */
void roll_place(char *const *environment, struct task_place *ret_place);
/* "<directory>/<job>.<step>.ckpt.d", where the parts are, to path[MAX_PATH]; its length. */
size_t roll_directory(char *path, const char *directory, const char *job, const char *step);
/* Opens the roll of a directory of parts; made when it is missing, unless tasks is 0. A descriptor or -errno. */
int roll_open(const char *parts, uint64_t roll, uint32_t tasks);
/* The head's lock. Waits. 0 or -errno: -ENOLCK and the like where the file system has no locks. */
int roll_lock(int roll);
void roll_unlock(int roll);
/* Takes the lock of a task, which the descriptor keeps. -EAGAIN: somebody has it. */
int roll_take_pulse(int roll, uint32_t task);
int roll_has_pulse(int roll, uint32_t task);
/* With the head's lock held. 0 or -errno; -EBADMSG for a file that is no roll. */
int roll_read(int roll, struct roll_head *ret_head);
int roll_write(int roll, const struct roll_head *head);
int roll_read_entry(int roll, uint32_t task, struct roll_entry *ret_entry);
int roll_write_entry(int roll, uint32_t task, const struct roll_entry *entry);
/* The directory behind the entries; path[MAX_PATH]. */
int roll_read_images(int roll, uint32_t tasks, char *path);
int roll_write_images(int roll, uint32_t tasks, const char *path);
/* A task has ended on its own. The roll is removed when it was the last. */
void roll_note_end(const char *parts, const struct task_place *place, const uint8_t run[UUID_BYTES], int status);

#endif
