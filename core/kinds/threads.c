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
    uint32_t given;                         /* 1: these CPUs are what the program was started with, not of its own choice */
    uint64_t affinity[LAST_AFFINITY_WORDS]; /* CPUs; all 0: more than fit, or all there were */
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

/* All CPUs that this process can have; which it has is not changed. */
static void widest_cpus(uint64_t cpus[LAST_AFFINITY_WORDS])
{
    uint64_t own[LAST_AFFINITY_WORDS] = { 0 };
    int known = !sched_getaffinity(0, sizeof own, (cpu_set_t *)own);

    memset(cpus, 0xff, sizeof own);
    sched_setaffinity(0, sizeof own, (cpu_set_t *)cpus);
    memset(cpus, 0, sizeof own);
    sched_getaffinity(0, sizeof own, (cpu_set_t *)cpus);
    if (known)
        sched_setaffinity(0, sizeof own, (cpu_set_t *)own);
}

/* A thread that may use all CPUs of its cpuset is bound to none: on another machine it may use all of that. */
static void read_scheduling(const struct saving *saving, struct thread_record *record)
{
    static const uint64_t unknown[LAST_AFFINITY_WORDS];
    uint64_t widest[LAST_AFFINITY_WORDS];
    pid_t tid = (pid_t)record->thread.tid;

    record->nice = getpriority(PRIO_PROCESS, (id_t)tid);
    sched_getaffinity(tid, sizeof record->affinity, (cpu_set_t *)record->affinity);
    memcpy(widest, saving->page->widest_cpus, sizeof widest);
    if (!memcmp(widest, unknown, sizeof widest))
        widest_cpus(widest); /* no twin: we are most likely in the same */
    record->given = !memcmp(record->affinity, saving->page->given_cpus, sizeof widest);
    if (!memcmp(record->affinity, widest, sizeof widest))
        memset(record->affinity, 0, sizeof widest);
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
        read_scheduling(saving, &record);
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

uint32_t threads_others(const struct restoring *restoring, int *ret_tids)
{
    struct reader reader;
    struct thread_record record;
    uint32_t count = 0;

    if (image_find_record(restoring->image, TAG_THREADS, restoring->index, &reader))
        return 0;
    while (reader.at < reader.length && !reader_take(&reader, &record, sizeof record))
        if (record.thread.tid != (uint32_t)restoring->pid)
            ret_tids[count++] = (int)record.thread.tid;
    return count;
}

struct last_thread *threads_find(struct last_plan *plan, uint32_t tid, uint32_t *hint)
{
    for (uint32_t i = 0; i < plan->thread_count; i++, ++*hint)
        if (plan->threads[*hint % plan->thread_count].thread.tid == tid)
            return &plan->threads[(*hint)++ % plan->thread_count];
    return NULL;
}

/* What the program was started with gives way to what this command was started with, if that is bound (taskset(1), srun); what
 * a thread chose itself stays. */
static int is_bound(const uint64_t widest[LAST_AFFINITY_WORDS], uint64_t ret_own[LAST_AFFINITY_WORDS])
{
    const size_t bytes = LAST_AFFINITY_WORDS * sizeof *ret_own;

    memset(ret_own, 0, bytes);
    return !sched_getaffinity(0, bytes, (cpu_set_t *)ret_own) && memcmp(ret_own, widest, bytes);
}

static int threads_check(struct restoring *restoring, struct reader *reader)
{
    struct thread_record record;
    uint64_t widest[LAST_AFFINITY_WORDS], own[LAST_AFFINITY_WORDS];
    int bound;

    widest_cpus(widest);
    bound = is_bound(widest, own);
    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record)) {
        uint64_t lacking = 0, left = 0;
        for (int i = 0; i < LAST_AFFINITY_WORDS && !(bound && record.given); i++) {
            lacking |= record.affinity[i] & ~widest[i];
            left |= record.affinity[i] & widest[i];
        }
        if (lacking)
            adapted(restoring, "R-SCHEDULING", "threads were bound to CPUs of which %s; they are bound to %s", left ? "some are not here" :
                  "none is here", left ? "those that are" : "none");
    }
    return reader->error;
}

/* The main thread goes first: the process that the restorer has made becomes it. */
static int threads_last(struct restoring *restoring, struct reader *reader)
{
    struct last_plan *plan = restoring->plan;
    uint32_t count = (uint32_t)(reader->length / sizeof(struct thread_record)), next = 1;
    uint64_t widest[LAST_AFFINITY_WORDS];
    int bound;

    if (!count || reader->length % sizeof(struct thread_record) || count != plan->thread_count)
        return -EBADMSG;
    widest_cpus(widest);
    plan->note.is_bound = bound = is_bound(widest, plan->note.given_cpus);
    for (uint32_t i = 0; i < count; i++) {
        struct thread_record record;
        reader_take(reader, &record, sizeof record);
        uint32_t place = record.thread.tid == (uint32_t)restoring->pid ? 0 : next++;
        if (place >= count)
            return -EBADMSG;
        plan->threads[place].thread = record.thread;
        memcpy(plan->threads[place].name, record.name, sizeof record.name);
        plan->threads[place].nice = record.nice;
        if (!bound || !record.given)
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
    .soon = 1,
    .save = threads_save,
    .check = threads_check,
    .last = threads_last,
    .show = threads_show,
};
