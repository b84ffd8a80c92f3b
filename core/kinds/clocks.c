/* SPDX-License-Identifier: MIT */
/* Monotonic clocks: they go on from where they were, in a time namespace (time_namespaces(7)). */
#include <inttypes.h>

#include "kind.h"

struct clocks_record {
    uint64_t monotonic[2]; /* seconds, nanoseconds, as the program saw them */
    uint64_t boottime[2];
};

static int clocks_save(struct saving *saving, const struct descriptor *none)
{
    struct clocks_record record = {
        .monotonic = { saving->page->monotonic[0], saving->page->monotonic[1] },
        .boottime = { saving->page->boottime[0], saving->page->boottime[1] },
    };

    (void)none;
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
