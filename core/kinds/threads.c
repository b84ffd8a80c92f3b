/* SPDX-License-Identifier: MIT */
/* Threads: where each is parked, and its name. Registers, signal mask and alternate stack lie in the signal frame on
 * the thread's own stack, which is memory. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "kind.h"

struct thread_record {
    struct agent_thread thread;
    char name[16];
    int32_t nice;
    uint32_t reserved;
    uint64_t affinity[LAST_AFFINITY_WORDS]; /* CPUs; all 0: more than fit */
};
static_assert(sizeof(struct thread_record) == 232, "thread record");

static void read_name(const struct saving *saving, uint32_t tid, char name[16])
{
    char path[64];
    char *text;

    snprintf(path, sizeof path, "task/%u/comm", tid);
    text = proc_read(saving->pid, path, NULL);
    if (text)
        snprintf(name, 16, "%.*s", (int)strcspn(text, "\n"), text);
    free(text);
}

/* Only the ordinary policy comes back yet. */
static int read_scheduling(struct saving *saving, struct thread_record *record)
{
    pid_t tid = (pid_t)record->thread.tid;
    int policy = sched_getscheduler(tid);

    if (policy > 0)
        return refuse(saving, "R-SCHEDULING", "thread %d has scheduling policy %d", tid, policy & ~SCHED_RESET_ON_FORK);
    errno = 0;
    record->nice = getpriority(PRIO_PROCESS, (id_t)tid);
    sched_getaffinity(tid, sizeof record->affinity, (cpu_set_t *)record->affinity);
    return 0;
}

static int threads_save(struct saving *saving, const struct descriptor *none)
{
    struct buffer payload = { 0 };
    int error = 0, has_main = 0;

    (void)none;
    for (uint32_t i = 0; !error && i < saving->thread_count; i++) {
        struct thread_record record = { .thread = saving->page->threads[i] };
        has_main |= record.thread.tid == saving->page->pid;
        read_name(saving, record.thread.tid, record.name);
        error = read_scheduling(saving, &record);
        buffer_add(&payload, &record, sizeof record);
    }
    if (!error)
        error = has_main ? image_write_record(saving->writer, TAG_THREADS, RECORD_REQUIRED, saving->index, &payload)
                         : refuse(saving, "R-MAIN-THREAD", "the main thread has ended while others run on");
    buffer_free(&payload);
    return error;
}

uint32_t threads_count(const struct reader *record)
{
    return (uint32_t)(record->length / sizeof(struct thread_record));
}

/* The main thread goes first: the process that the restorer has made becomes it. */
static int threads_last(struct restoring *restoring, struct reader *reader)
{
    struct last_plan *plan = restoring->plan;
    uint32_t count = (uint32_t)(reader->length / sizeof(struct thread_record)), next = 1;

    if (!count || reader->length % sizeof(struct thread_record) || count != plan->thread_count)
        return -EBADMSG;
    for (uint32_t i = 0; i < count; i++) {
        struct thread_record record;
        reader_take(reader, &record, sizeof record);
        uint32_t place = record.thread.tid == (uint32_t)restoring->pid ? 0 : next++;
        if (place >= count)
            return -EBADMSG;
        plan->threads[place].thread = record.thread;
        memcpy(plan->threads[place].name, record.name, sizeof record.name);
        plan->threads[place].nice = record.nice;
        memcpy(plan->threads[place].affinity, record.affinity, sizeof record.affinity);
    }
    plan->note.threads = count;
    return 0;
}

static void threads_show(struct reader *reader, FILE *out)
{
    struct thread_record record;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record))
        fprintf(out, "  tid %u %.16s\n", record.thread.tid, record.name);
}

const struct kind kind_threads = {
    .name = "threads",
    .tag = TAG_THREADS,
    .save = threads_save,
    .last = threads_last,
    .show = threads_show,
};
