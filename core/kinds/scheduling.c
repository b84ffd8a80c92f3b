/* SPDX-License-Identifier: MIT */
/* Scheduling policy and I/O priority of each thread. What a restart may not set (real time, deadlines) is said, and the thread
 * goes on with the ordinary policy; --strict refuses. Niceness and CPUs are threads.c's. */
#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kind.h"

struct scheduling_record {
    uint32_t tid;
    uint32_t io_priority;      /* ioprio_get(2); class 0: by niceness */
    struct last_scheduling scheduling;
};
static_assert(sizeof(struct scheduling_record) == 64, "scheduling record");

enum { IO_PROCESS = 1 /* IOPRIO_WHO_PROCESS: a thread */, IO_CLASS_SHIFT = 13, IO_REAL_TIME = 1, UTILISATION_MOST = 1024 };

static int is_fair(const struct last_scheduling *scheduling)
{
    return scheduling->policy == SCHED_NORMAL || scheduling->policy == SCHED_BATCH;
}

/* A slice of its own is told from the machine's by that of PID 1. */
static void forget_ordinary_slice(struct last_scheduling *scheduling)
{
    struct last_scheduling first;

    if (is_fair(scheduling) && (syscall(SYS_sched_getattr, 1, &first, sizeof first, 0) ||
                                (is_fair(&first) && first.runtime == scheduling->runtime)))
        scheduling->runtime = 0;
}

static int scheduling_save(struct saving *saving, const struct descriptor *none)
{
    struct buffer payload = { 0 };
    int error = 0;

    (void)none;
    for (uint32_t i = 0; !error && i < saving->thread_count; i++) {
        struct scheduling_record record = { .tid = saving->page->threads[i].tid };
        long priority = syscall(SYS_ioprio_get, IO_PROCESS, record.tid);
        if (syscall(SYS_sched_getattr, record.tid, &record.scheduling, sizeof record.scheduling, 0))
            error = -errno;
        record.io_priority = priority > 0 ? (uint32_t)priority : 0;
        forget_ordinary_slice(&record.scheduling);
        buffer_add(&payload, &record, sizeof record);
    }
    if (!error)
        error = image_write_record(saving->writer, TAG_SCHEDULING, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* As sched_setattr(2) wants it: without what sched_getattr(2) says only. Niceness is another's, and may not fail us here. */
static struct last_scheduling settable(const struct last_scheduling *then)
{
    struct last_scheduling scheduling = *then;

    scheduling.size = sizeof scheduling;
    scheduling.nice = getpriority(PRIO_PROCESS, 0);
    scheduling.flags &= SCHED_FLAG_RESET_ON_FORK | SCHED_FLAG_RECLAIM | SCHED_FLAG_DL_OVERRUN;
    if (then->least || (then->most && then->most != UTILISATION_MOST))
        scheduling.flags |= SCHED_FLAG_UTIL_CLAMP;
    return scheduling;
}

enum { CANNOT_POLICY = 1, CANNOT_IO = 2 };

static int anybody_may(const struct scheduling_record *record, const struct last_scheduling *scheduling)
{
    return (is_fair(scheduling) || scheduling->policy == SCHED_IDLE) && !(scheduling->flags & SCHED_FLAG_UTIL_CLAMP) &&
           record->io_priority >> IO_CLASS_SHIFT != IO_REAL_TIME;
}

/* A child tries, and ends. */
static int rehearse(const struct scheduling_record *record)
{
    struct last_scheduling scheduling = settable(&record->scheduling);
    int status = 0;
    pid_t child;

    if (anybody_may(record, &scheduling))
        return 0;
    child = fork();
    if (child == 0)
        _exit((syscall(SYS_sched_setattr, 0, &scheduling, 0) ? CANNOT_POLICY : 0) |
              (record->io_priority && syscall(SYS_ioprio_set, IO_PROCESS, 0, record->io_priority) ? CANNOT_IO : 0));
    if (child < 0)
        return 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

static const char *policy_name(uint32_t policy)
{
    static const char *const names[] = { "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "a policy without a name", "SCHED_IDLE",
                                         "SCHED_DEADLINE", "SCHED_EXT" };
    return names[policy < sizeof names / sizeof *names ? policy : 4];
}

/* Threads are often alike: one is tried for all those behind it. */
static int scheduling_check(struct restoring *restoring, struct reader *reader)
{
    struct scheduling_record record, last = { 0 };
    int cannot = 0;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record)) {
        last.tid = record.tid;
        if (!memcmp(&last, &record, sizeof record))
            continue;
        last = record;
        cannot = rehearse(&record);
        restoring->cannot_schedule |= cannot;
        if (cannot & CANNOT_POLICY)
            adapted(restoring, "R-SCHEDULING", "threads had the scheduling policy %s, which this restart may not set; they go on with the "
                             "ordinary one", policy_name(record.scheduling.policy));
        if (cannot & CANNOT_IO)
            adapted(restoring, "R-SCHEDULING", "threads had I/O priority %u of class %u, which this restart may not set",
                  record.io_priority & ((1 << IO_CLASS_SHIFT) - 1), record.io_priority >> IO_CLASS_SHIFT);
    }
    return reader->error;
}

static int scheduling_last(struct restoring *restoring, struct reader *reader)
{
    struct scheduling_record record;
    uint32_t hint = 0;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record)) {
        struct last_thread *thread = threads_find(restoring->plan, record.tid, &hint);
        if (!thread)
            return -EBADMSG;
        thread->scheduling = settable(&record.scheduling);
        thread->scheduling_must = !(restoring->cannot_schedule & CANNOT_POLICY);
        thread->io_priority = record.io_priority;
    }
    return reader->error;
}

static void scheduling_show(struct reader *reader, FILE *out)
{
    struct scheduling_record record;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record))
        if (record.scheduling.policy || record.scheduling.flags || record.io_priority)
            fprintf(out, "  tid %u: %s, priority %u, I/O priority %u\n", record.tid, policy_name(record.scheduling.policy),
                    record.scheduling.priority, record.io_priority);
}

const struct kind kind_scheduling = {
    .name = "scheduling",
    .tag = TAG_SCHEDULING,
    .save = scheduling_save,
    .check = scheduling_check,
    .last = scheduling_last,
    .show = scheduling_show,
};
