/* SPDX-License-Identifier: MIT */
/* Signals: dispositions of the process, and standard signals that wait. Masks and alternate stacks are in the threads'
 * frames. Ours come back like the program's own: handlers and their code are in the image. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kind.h"

struct signals_record {
    struct agent_action actions[AGENT_SIGNALS];
    uint64_t pending; /* of the process; bit n - 1 is signal n */
};

static uint64_t mask_of(const char *status, const char *key)
{
    const char *text = status_field(status, key);
    return text ? strtoull(text, NULL, 16) : 0;
}

/* The stop signal, and the trigger while nobody but us wants it. */
static uint64_t ours(const struct saving *saving)
{
    uint64_t trigger = saving->page->trigger_owned ? 0 : UINT64_C(1) << (saving->page->trigger_signal - 1);
    return UINT64_C(1) << (STOP_SIGNAL - 1) | trigger;
}

/* Pending signals of threads, and real-time ones with their values, are not carried yet. */
static int refuse_pending(struct saving *saving, uint64_t process)
{
    const uint64_t standard = (UINT64_C(1) << 31) - 1;

    if (process & ~standard)
        return refuse(saving, "R-PENDING-SIGNAL", "a real-time signal is waiting (mask %#" PRIx64 ")", process);
    for (uint32_t i = 0; i < saving->thread_count; i++) {
        char path[64];
        snprintf(path, sizeof path, "task/%u/status", saving->page->threads[i].tid);
        char *status = proc_read(saving->pid, path, NULL);
        uint64_t waiting = status ? mask_of(status, "SigPnd") & ~ours(saving) : 0;
        free(status);
        if (waiting)
            return refuse(saving, "R-PENDING-SIGNAL", "a signal is waiting for thread %u (mask %#" PRIx64 ")",
                          saving->page->threads[i].tid, waiting);
    }
    return 0;
}

static int refuse_timers(struct saving *saving)
{
    for (int i = 0; i < 3; i++)
        if (saving->page->itimers[i][0] || saving->page->itimers[i][1] || saving->page->itimers[i][2] ||
            saving->page->itimers[i][3]) /* no value while its signal is pending: it goes on when that is delivered */
            return refuse(saving, "R-TIMER", "an interval timer (setitimer or alarm) is running");
    char *timers = proc_read(saving->pid, "timers", NULL);
    int foreign = 0;
    for (const char *at = timers; at && (at = strstr(at, "\nsignal: ")); at += 9)
        foreign |= atoi(at + 9) != STOP_SIGNAL; /* ours is the interval's */
    free(timers);
    return foreign ? refuse(saving, "R-TIMER", "a POSIX timer (timer_create) exists") : 0;
}

static int signals_save(struct saving *saving, const struct descriptor *none)
{
    struct signals_record record = { 0 };
    char *status = proc_read(saving->pid, "status", NULL);
    int error = status ? 0 : -ESRCH;

    (void)none;
    memcpy(record.actions, saving->page->actions, sizeof record.actions);
    record.pending = status ? mask_of(status, "ShdPnd") & ~ours(saving) : 0;
    free(status);
    if (!error)
        error = refuse_pending(saving, record.pending);
    if (!error)
        error = refuse_timers(saving);
    return error ? error : save_record(saving, TAG_SIGNALS, &record, sizeof record);
}

static int signals_last(struct restoring *restoring, struct reader *reader)
{
    struct signals_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    memcpy(restoring->plan->actions, record.actions, sizeof record.actions);
    restoring->plan->process_pending = record.pending;
    return 0;
}

static void signals_show(struct reader *reader, FILE *out)
{
    struct signals_record record;

    if (reader_take(reader, &record, sizeof record))
        return;
    for (int i = 0; i < AGENT_SIGNALS; i++)
        if (record.actions[i].handler)
            fprintf(out, "  signal %d: %s\n", i + 1, record.actions[i].handler == 1 ? "ignored" : "has a handler");
    if (record.pending)
        fprintf(out, "  waiting: %#" PRIx64 "\n", record.pending);
}

const struct kind kind_signals = {
    .name = "signals",
    .tag = TAG_SIGNALS,
    .save = signals_save,
    .last = signals_last,
    .show = signals_show,
};
