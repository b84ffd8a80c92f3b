/* SPDX-License-Identifier: MIT */
/* Monotonic clocks: they go on from where they were, in a time namespace (time_namespaces(7)). */
#include <inttypes.h>

#include "kind.h"

struct clocks_record {
    uint64_t monotonic[2]; /* seconds, nanoseconds, as the program saw them */
    uint64_t boottime[2];
};

static void take(const struct saving *saving, clockid_t clock, uint64_t time[2])
{
    uint64_t now = (uint64_t)(clock_now(clock) + clock_ahead(saving, clock));

    time[0] = now / 1000000000;
    time[1] = now % 1000000000;
}

/* Of a moment behind all that is saved of timers and their signals: what is in the image as expired may not lie in the time to
 * come. */
static int clocks_save(struct saving *saving, const struct descriptor *none)
{
    struct clocks_record record;

    (void)none;
    take(saving, CLOCK_MONOTONIC, record.monotonic);
    take(saving, CLOCK_BOOTTIME, record.boottime);
    return save_record(saving, TAG_CLOCKS, &record, sizeof record);
}

static int clocks_check(struct restoring *restoring, struct reader *reader)
{
    struct clocks_record record;

    reader_take(reader, &record, sizeof record);
    for (int i = 0; i < 2; i++) {
        restoring->monotonic[i] = (int64_t)record.monotonic[i];
        restoring->boottime[i] = (int64_t)record.boottime[i];
    }
    return reader->error;
}

static void clocks_show(struct reader *reader, FILE *out)
{
    struct clocks_record record;

    if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  monotonic %" PRIu64 ".%09" PRIu64 " s, boot time %" PRIu64 ".%09" PRIu64 " s\n",
                record.monotonic[0], record.monotonic[1], record.boottime[0], record.boottime[1]);
}

const struct kind kind_clocks = {
    .name = "clocks",
    .tag = TAG_CLOCKS,
    .save = clocks_save,
    .check = clocks_check,
    .show = clocks_show,
};
