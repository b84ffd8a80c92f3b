/* SPDX-License-Identifier: MIT */
/* Descriptors of shared memory: memfds and what shm_open(3) gives. The memory itself is made by shared_memory.c; each
 * open file description is then opened anew, by way of the one that we hold. */
#include <inttypes.h>

#include "shared_memory.h"

struct shared_descriptor_record {
    struct descriptor_record descriptor;
    uint64_t number; /* of the object, whose sort is: */
    uint32_t sort;
    uint32_t reserved;
};
static_assert(sizeof(struct shared_descriptor_record) == 40, "shared descriptor");

static int shared_descriptors_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return object_of_descriptor(descriptor) != 0;
}

static int shared_descriptors_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct shared_descriptor_record record = { .number = descriptor->status.st_ino,
                                               .sort = object_of_descriptor(descriptor) };

    descriptor_describe(descriptor, &record.descriptor);
    return save_record(saving, TAG_SHARED_DESCRIPTOR, &record, sizeof record);
}

static int shared_descriptors_open(struct restoring *restoring, struct reader *reader)
{
    struct shared_descriptor_record record;
    int placed = descriptor_take(reader, &record, sizeof record);

    if (placed)
        return placed < 0 ? placed : 0;
    return object_place(restoring, record.sort, record.number, &record.descriptor);
}

static void shared_descriptors_show(struct reader *reader, FILE *out)
{
    struct shared_descriptor_record record;
    char what[64];

    if (reader_take(reader, &record, sizeof record))
        return;
    snprintf(what, sizeof what, "%s %" PRIu64, record.sort == OBJECT_MEMFD ? "memfd" : "shared memory", record.number);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_shared_descriptors = {
    .name = "shared memory descriptor",
    .tag = TAG_SHARED_DESCRIPTOR,
    .claim = shared_descriptors_claim,
    .save = shared_descriptors_save,
    .open = shared_descriptors_open,
    .show = shared_descriptors_show,
};
