/* SPDX-License-Identifier: MIT */
/* Processes that job control had stopped (Ctrl-Z, SIGSTOP): they come back stopped, and their parents know of it what they knew. When the
 * step's first process was stopped, somebody had stopped the whole: that runs when it comes back, as `fg` has it. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "kind.h"

struct jobs_record {
    uint32_t stop;        /* signal by which the process is stopped; 0: it runs */
    uint32_t with_parent; /* 1: its parent comes back, too; CHILD_GOES_ON: it runs, which its parent has not been told */
    /* then: struct agent_job for each child that is stopped */
};
static_assert(sizeof(struct jobs_record) == 8 && sizeof(struct agent_job) == 8, "jobs record");

static int jobs_save(struct saving *saving, const struct descriptor *none)
{
    struct jobs_record record = { .stop = (uint32_t)(saving->goes_on ? SIGSTOP : saving->job_stop),
                                  .with_parent = saving->goes_on ? CHILD_GOES_ON : saving->job_parent != 0 };
    struct buffer payload = { 0 };
    int error = 0;

    (void)none;
    if (saving->first->job_stop)
        return 0;
    buffer_add(&payload, &record, sizeof record);
    for (const struct saving *other = saving->first; other; other = other->next) {
        struct agent_job job = { .pid = other->pid, .is_reported = other->goes_on ? CHILD_GOES_ON : (uint32_t)other->job_is_reported };
        if ((other->job_stop || other->goes_on) && other->job_parent == saving->pid)
            buffer_add(&payload, &job, sizeof job);
    }
    if (record.stop || payload.length > sizeof record)
        error = image_write_record(saving->writer, TAG_JOBS, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

uint32_t jobs_count(const struct reader *record)
{
    return record->length < sizeof(struct jobs_record) ? 0 : (uint32_t)((record->length - sizeof(struct jobs_record)) / sizeof(struct agent_job));
}

static int jobs_check(struct restoring *restoring, struct reader *reader)
{
    struct jobs_record record;

    (void)restoring;
    if (reader_take(reader, &record, sizeof record) || (reader->length - sizeof record) % sizeof(struct agent_job))
        return -EBADMSG;
    return !record.stop || (record.stop >= SIGSTOP && record.stop <= SIGTTOU) ? 0 : -EBADMSG;
}

static int jobs_last(struct restoring *restoring, struct reader *reader)
{
    struct restart_note *note = &restoring->plan->note;
    struct jobs_record record;

    reader_take(reader, &record, sizeof record);
    note->stop = record.stop;
    note->stop_with_parent = record.with_parent;
    return reader_take(reader, (void *)note->jobs, note->job_count * sizeof(struct agent_job));
}

static void jobs_show(struct reader *reader, FILE *out)
{
    struct jobs_record record;
    struct agent_job job;

    if (!reader_take(reader, &record, sizeof record) && record.stop && record.with_parent != CHILD_GOES_ON)
        fprintf(out, "  stopped by signal %u\n", record.stop);
    while (reader->at < reader->length && !reader_take(reader, &job, sizeof job))
        fprintf(out, "  child %d %s%s\n", job.pid, job.is_reported == CHILD_GOES_ON ? "goes on" : "is stopped",
                job.is_reported == 1 ? "" : ", which nobody has been told");
}

const struct kind kind_jobs = {
    .name = "jobs",
    .tag = TAG_JOBS,
    .late = 1,
    .save = jobs_save,
    .check = jobs_check,
    .last = jobs_last,
    .show = jobs_show,
};
