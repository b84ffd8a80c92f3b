/* SPDX-License-Identifier: MIT */
/* Open file descriptions that several processes have: fork inherits them, and they have one position and one set of flags. The
 * record of a process says which of its descriptors are those of a process before it. */
#include <errno.h>
#include <stdlib.h>

#include "kind.h"

struct sharing_record {
    int32_t number;
    uint32_t first;       /* index of the first process that has it, */
    int32_t first_number; /* and its number there */
    uint32_t reserved;
};
static_assert(sizeof(struct sharing_record) == 16, "sharing record");

static int sharing_save(struct saving *saving, const struct descriptor *none)
{
    struct buffer payload = { 0 };
    int error = 0;

    (void)none;
    for (size_t i = 0; i < saving->descriptor_count; i++) {
        const struct descriptor *first = saving->descriptors[i].shares;
        if (!first)
            continue;
        struct sharing_record record = { saving->descriptors[i].number, first->holder->index, first->number, 0 };
        buffer_add(&payload, &record, sizeof record);
    }
    if (payload.length)
        error = image_write_record(saving->writer, TAG_SHARING, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* Adds to the step's list, which grows from process to process. */
static int sharing_check(struct restoring *restoring, struct reader *reader)
{
    struct sharing_record record;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record)) {
        struct shared_description *more = reallocarray(restoring->sharing, restoring->sharing_count + 1, sizeof *more);
        if (!more)
            return -ENOMEM;
        restoring->sharing = more;
        if (record.first >= restoring->index || record.number < 0 || record.first_number < 0)
            return -EBADMSG;
        more[restoring->sharing_count++] = (struct shared_description){ restoring->index, record.number, record.first, record.first_number, -1, { -1, -1 } };
    }
    return reader->error;
}

int sharing_is_later(const struct restoring *restoring, int number)
{
    for (size_t i = 0; i < restoring->sharing_count; i++)
        if (restoring->sharing[i].process == restoring->index && restoring->sharing[i].number == number)
            return 1;
    return 0;
}

static void sharing_show(struct reader *reader, FILE *out)
{
    struct sharing_record record;

    while (reader->at < reader->length && !reader_take(reader, &record, sizeof record))
        fprintf(out, "  %d: that of %d in process %u\n", record.number, record.first_number, record.first);
}

const struct kind kind_sharing = {
    .name = "sharing",
    .tag = TAG_SHARING,
    .late = 1,
    .save = sharing_save,
    .check = sharing_check,
    .show = sharing_show,
};
