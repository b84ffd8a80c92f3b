/* SPDX-License-Identifier: MIT */
/* Small attributes of the process: umask, dumpable, no-new-privs; and the states that are refused. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "kind.h"

struct attributes_record {
    uint32_t umask;
    uint32_t dumpable;
    uint32_t no_new_privileges;
    uint32_t keep_capabilities;
    uint32_t subreaper;
    uint32_t parent_death; /* signal, as the stop's first thread has it */
};
static_assert(sizeof(struct attributes_record) == 24, "attributes record");

static long number_of(const char *status, const char *key, int base)
{
    const char *text = status_field(status, key);
    return text ? strtol(text, NULL, base) : 0;
}

static int attributes_save(struct saving *saving, const struct descriptor *none)
{
    char *status = proc_read(saving->pid, "status", NULL);
    struct attributes_record record = { .dumpable = saving->page->dumpable,
                                        .no_new_privileges = saving->page->no_new_privileges,
                                        .keep_capabilities = saving->page->keep_capabilities,
                                        .subreaper = saving->page->subreaper,
                                        .parent_death = saving->page->parent_death };
    int error = 0;

    (void)none;
    if (!status)
        return -ESRCH;
    record.umask = (uint32_t)number_of(status, "Umask", 8);
    if (number_of(status, "Seccomp", 10))
        error = refuse(saving, "R-SECCOMP", "the program runs under a seccomp filter");
    else if (number_of(status, "TracerPid", 10))
        error = refuse(saving, "R-TRACED", "the program is being traced by process %ld",
                       number_of(status, "TracerPid", 10));
    free(status);
    return error ? error : save_record(saving, TAG_ATTRIBUTES, &record, sizeof record);
}

static int attributes_last(struct restoring *restoring, struct reader *reader)
{
    struct attributes_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    umask((mode_t)record.umask);
    restoring->plan->dumpable = record.dumpable;
    restoring->plan->no_new_privileges = record.no_new_privileges;
    restoring->plan->keep_capabilities = record.keep_capabilities;
    restoring->plan->subreaper = record.subreaper;
    restoring->plan->parent_death = record.parent_death;
    return 0;
}

static void attributes_show(struct reader *reader, FILE *out)
{
    struct attributes_record record;

    if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  umask %03o%s%s\n", record.umask, record.dumpable ? "" : ", not dumpable",
                record.no_new_privileges ? ", no new privileges" : "");
}

const struct kind kind_attributes = {
    .name = "attributes",
    .tag = TAG_ATTRIBUTES,
    .save = attributes_save,
    .last = attributes_last,
    .show = attributes_show,
};
