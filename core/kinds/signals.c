/* SPDX-License-Identifier: MIT */
/* Signals: dispositions of the process. Masks and alternate stacks are in the threads' frames. Ours come back like the
 * program's own: handlers and their code are in the image. */
#include <string.h>

#include "kind.h"

struct signals_record {
    struct agent_action actions[AGENT_SIGNALS];
};

static int signals_save(struct saving *saving, const struct descriptor *none)
{
    struct signals_record record;

    (void)none;
    memcpy(record.actions, saving->inherited.actions, sizeof record.actions);
    return save_record(saving, TAG_SIGNALS, &record, sizeof record);
}

static int signals_last(struct restoring *restoring, struct reader *reader)
{
    struct signals_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    memcpy(restoring->plan->actions, record.actions, sizeof record.actions);
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
}

const struct kind kind_signals = {
    .name = "signals",
    .tag = TAG_SIGNALS,
    .late = 1,
    .save = signals_save,
    .last = signals_last,
    .show = signals_show,
};
