/* SPDX-License-Identifier: MIT */
/* Timers: those of setitimer() and alarm(), and POSIX timers with their ids. What is left of each comes back: wall time in
 * the program's own time, which stood still meanwhile, and CPU time. Signals that they have sent are waiting signals. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "../floor/text.h"
#include "kind.h"

struct timer_record {
    struct agent_timer timer;
};
static_assert(sizeof(struct timer_record) == 56, "timer record");

enum { RESTORE_IDS = 77 /* PR_TIMER_CREATE_RESTORE_IDS */, RESTORE_IDS_GET = 2, HIGHEST_COUNTED_ID = 1 << 20 };

/* The lines of one timer in /proc/PID/timers (proc(5)):
 *   ID: 1 / signal: 60/00007fff86e452a8 / notify: signal/pid.2634 (or tid.) / ClockID: 0 */
static int parse_one(const char *text, struct agent_timer *timer)
{
    static const struct {
        char word[8];
        uint32_t notify;
    } words[] = { { "signal", SIGEV_SIGNAL }, { "none", SIGEV_NONE }, { "thread", SIGEV_THREAD } };
    char word[8], target[4];
    uint32_t id;

    memset(timer, 0, sizeof *timer);
    if (sscanf(text, "ID: %" SCNd32 " signal: %" SCNu32 "/%" SCNx64 " notify: %7[a-z]/%3[a-z].%" SCNu32 " ClockID: %" SCNd32,
               &timer->id, &timer->signal, &timer->value, word, target, &id, &timer->clock) != 7)
        return -EPROTO;
    if (!strcmp(target, "tid"))
        timer->target = id;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i].word)) {
            timer->notify = words[i].notify;
            return 0;
        }
    return -EPROTO;
}

static int is_ours(const struct agent_timer *timer)
{
    return timer->signal == STOP_SIGNAL && timer->value == VALUE_INTERVAL;
}

static int by_id(const void *a, const void *b)
{
    const struct agent_timer *one = a, *two = b;
    return (one->id > two->id) - (one->id < two->id);
}

uint32_t timers_of_all(struct agent_timer timers[INTERVAL_TIMERS])
{
    for (uint32_t i = 0; i < INTERVAL_TIMERS; i++)
        timers[i] = (struct agent_timer){ .interval_timer = i + 1 };
    return INTERVAL_TIMERS;
}

int timers_list(struct saving *saving, const char *text, struct agent_timer *timers, uint32_t *ret_count)
{
    uint32_t count = timers_of_all(timers);
    int error = 0;

    for (const char *at = strstr(text, "ID: "); !error && at; at = strstr(at + 1, "\nID: "), at += !!at) {
        if (count == AGENT_MAX_TIMERS)
            error = refuse(saving, "R-TIMER", "more than %d timers", AGENT_MAX_TIMERS - INTERVAL_TIMERS);
        else if (!(error = parse_one(at, &timers[count])))
            count += !is_ours(&timers[count]);
    }
    if (!error)
        qsort(timers + INTERVAL_TIMERS, count - INTERVAL_TIMERS, sizeof *timers, by_id);
    *ret_count = count;
    return error;
}

static int has_thread(const struct saving *saving, uint32_t tid)
{
    for (uint32_t i = 0; i < saving->thread_count; i++)
        if (saving->page->threads[i].tid == tid)
            return 1;
    return 0;
}

enum { CLOCK_TYPE = 3, CLOCK_OF_THREAD = 4, CLOCK_ID_SHIFT = 3, CLOCK_DEVICE = 3 }; /* linux/posix-timers.h */

/* Of threads that are there, of the process; that of "this thread" in a program of several is told by nobody. */
static int knows_clock(const struct saving *saving, int clock)
{
    uint32_t id = ~(uint32_t)(clock >> CLOCK_ID_SHIFT);

    if (clock >= 0)
        return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME || clock == CLOCK_TAI;
    if ((clock & CLOCK_TYPE) == CLOCK_DEVICE)
        return 0;
    if (clock & CLOCK_OF_THREAD)
        return id ? has_thread(saving, id) : saving->thread_count == 1;
    return !id || id == saving->page->pid;
}

static int timers_save(struct saving *saving, const struct descriptor *none)
{
    const struct agent_page *page = saving->page;
    struct buffer payload = { 0 };
    int error = 0;

    (void)none;
    for (uint32_t i = 0; !error && i < page->timer_count; i++) {
        struct timer_record record = { page->timers[i] };
        if (!record.timer.interval_timer && !knows_clock(saving, record.timer.clock))
            error = refuse(saving, "R-TIMER", "timer %d is on clock %d", record.timer.id, record.timer.clock);
        else if (record.timer.target && !has_thread(saving, record.timer.target))
            error = refuse(saving, "R-TIMER", "timer %d is for thread %u, which has ended", record.timer.id,
                           record.timer.target);
        buffer_add(&payload, &record, sizeof record);
    }
    if (!error)
        error = image_write_record(saving->writer, TAG_TIMERS, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

uint32_t timers_count(const struct reader *record)
{
    return (uint32_t)(record->length / sizeof(struct timer_record));
}

static int is_sound(const struct agent_timer *timer, const struct agent_timer *before)
{
    if (timer->interval > INT64_MAX || timer->due < 0)
        return 0;
    if (timer->interval_timer)
        return timer->interval_timer <= INTERVAL_TIMERS;
    return timer->id >= 0 && (!before || before->interval_timer || before->id < timer->id) && timer->notify <= SIGEV_THREAD &&
           (timer->notify == SIGEV_NONE || (timer->signal >= 1 && timer->signal <= AGENT_SIGNALS));
}

static int timers_check(struct restoring *restoring, struct reader *reader)
{
    uint32_t count = timers_count(reader);
    struct timer_record record, before;

    if (reader->length % sizeof record || count > AGENT_MAX_TIMERS)
        return -EBADMSG;
    restoring->timer_ids_by_request =
        !text_list_holds(restoring->test_fail, "timer-ids") && prctl(RESTORE_IDS, RESTORE_IDS_GET, 0, 0, 0) >= 0;
    for (uint32_t i = 0; i < count; i++, before = record)
        if (reader_take(reader, &record, sizeof record) || !is_sound(&record.timer, i ? &before.timer : NULL))
            return -EBADMSG;
    if (count && !restoring->timer_ids_by_request && record.timer.id > HIGHEST_COUNTED_ID)
        missing(restoring, "R-TIMER-ID: a timer has the id %d, which only Linux 6.15 and later can give again", record.timer.id);
    return 0;
}

static int timers_last(struct restoring *restoring, struct reader *reader)
{
    struct last_plan *plan = restoring->plan;

    if (timers_count(reader) != plan->note.timer_count)
        return -EBADMSG;
    reader_take(reader, (void *)plan->note.timers, reader->length);
    plan->note.ids_by_request = (uint64_t)restoring->timer_ids_by_request;
    return reader->error;
}

static void timers_show(struct reader *reader, FILE *out)
{
    static const char *const names[] = { "real", "virtual", "prof" };
    struct timer_record record;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record)) {
        const struct agent_timer *timer = &record.timer;
        if (timer->interval_timer > INTERVAL_TIMERS || (timer->interval_timer && !timer->armed))
            continue;
        if (timer->interval_timer)
            fprintf(out, "  interval timer %s", names[timer->interval_timer - 1]);
        else
            fprintf(out, "  timer %d on clock %d, signal %u", timer->id, timer->clock, timer->signal);
        fprintf(out, "%s, every %" PRIu64 ".%09" PRIu64 " s\n", timer->armed ? "" : ", not set",
                timer->interval / 1000000000, timer->interval % 1000000000);
    }
}

const struct kind kind_timers = {
    .name = "timers",
    .tag = TAG_TIMERS,
    .late = 1,
    .save = timers_save,
    .check = timers_check,
    .last = timers_last,
    .show = timers_show,
};
