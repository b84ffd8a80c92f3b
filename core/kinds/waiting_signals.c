/* SPDX-License-Identifier: MIT */
/* Waiting signals, of each thread and of the process, in their order, with all that is known of each. The parked threads
 * have looked for themselves; see preload/shim/waiting.c. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "kind.h"

struct waiting_record {
    struct agent_waiting waiting;
};
static_assert(sizeof(struct waiting_record) == 56, "waiting record");

static int waiting_save(struct saving *saving, const struct descriptor *none)
{
    struct buffer payload = { 0 };
    int error;

    (void)none;
    for (uint32_t i = 0; i < saving->waiting_count; i++) {
        struct waiting_record record = { saving->page->waiting[i] };
        buffer_add(&payload, &record, sizeof record);
    }
    error = image_write_record(saving->writer, TAG_WAITING_SIGNALS, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

uint32_t waiting_count(const struct reader *record)
{
    return (uint32_t)(record->length / sizeof(struct waiting_record));
}

static int number_of(const struct agent_waiting *waiting)
{
    int number;
    memcpy(&number, waiting->info, sizeof number); /* si_signo stands first */
    return number;
}

static int waiting_check(struct restoring *restoring, struct reader *reader)
{
    struct waiting_record record;

    (void)restoring;
    if (reader->length % sizeof record || waiting_count(reader) > AGENT_MAX_WAITING)
        return -EBADMSG;
    while (reader->at < reader->length)
        if (reader_take(reader, &record, sizeof record) || number_of(&record.waiting) < 1 ||
            number_of(&record.waiting) > AGENT_SIGNALS)
            return -EBADMSG;
    return 0;
}

static int waiting_last(struct restoring *restoring, struct reader *reader)
{
    struct last_plan *plan = restoring->plan;

    if (waiting_count(reader) != plan->note.waiting_count)
        return -EBADMSG;
    return reader_take(reader, (void *)plan->note.waiting, reader->length);
}

static void waiting_show(struct reader *reader, FILE *out)
{
    struct waiting_record record;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record)) {
        fprintf(out, "  signal %d for ", number_of(&record.waiting));
        fprintf(out, record.waiting.tid ? "thread %u\n" : "the process\n", record.waiting.tid);
    }
}

const struct kind kind_waiting_signals = {
    .name = "waiting signals",
    .tag = TAG_WAITING_SIGNALS,
    .late = 1,
    .save = waiting_save,
    .check = waiting_check,
    .last = waiting_last,
    .show = waiting_show,
};
