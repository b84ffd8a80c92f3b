/* SPDX-License-Identifier: MIT */
/* Resource limits, set at the very end, by the shim: a small one may not stand in the way of the restart itself. */
#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kind.h"

struct limits_record {
    uint64_t limits[LAST_LIMITS][2]; /* soft, hard; index is RLIMIT_ */
};

static int limits_save(struct saving *saving, const struct descriptor *none)
{
    struct limits_record record = { 0 };
    int error = 0;

    (void)none;
    for (int i = 0; i < LAST_LIMITS; i++) {
        struct rlimit limit;
        if (prlimit(saving->view, (enum __rlimit_resource)i, NULL, &limit))
            error = -errno;
        record.limits[i][0] = limit.rlim_cur;
        record.limits[i][1] = limit.rlim_max;
    }
    return error ? error : save_record(saving, TAG_LIMITS, &record, sizeof record);
}

/* Different numbers. */
struct tally {
    void *seen; /* tsearch(3) */
    rlim_t count;
};

static int by_value(const void *a, const void *b)
{
    return (uintptr_t)a < (uintptr_t)b ? -1 : a != b;
}

static void add(struct tally *tally, uint64_t number)
{
    if (!tfind((void *)number, &tally->seen, by_value) && tsearch((void *)number, &tally->seen, by_value))
        tally->count++;
}

static void keep(void *number)
{
    (void)number;
}

/* A socket of the Internet's, told once for all its descriptors. */
static int is_made_before(const struct record_header *header, struct reader record)
{
    struct descriptor_record descriptor;

    if (header->tag != TAG_TCP && header->tag != TAG_UDP)
        return 0;
    return !reader_take(&record, &descriptor, sizeof descriptor) && descriptor.same_as == descriptor.number;
}

/* What is held until all of it is open: objects of memory, sockets; and, for several processes, what they share and both ends of
 * pipes. */
static rlim_t held_descriptors(const struct restoring *restoring)
{
    enum { FEW = 32 };
    int is_tree = restoring->image->header.process_count > 1;
    struct tally pipes = { 0 }, shared = { 0 };
    struct record_header header;
    struct reader record;
    rlim_t held = FEW;

    for (size_t at = 0; image_next_record(restoring->image, &at, &header, &record);) {
        held += header.tag == TAG_SHARED_MEMORY || is_made_before(&header, record);
        if (is_tree && header.tag == TAG_PIPE)
            add(&pipes, pipe_of_record(&record));
    }
    for (size_t i = 0; i < restoring->sharing_count; i++)
        add(&shared, (uint64_t)restoring->sharing[i].first << 32 | (uint32_t)restoring->sharing[i].first_number);
    tdestroy(pipes.seen, keep);
    tdestroy(shared.seen, keep);
    return held + 2 * pipes.count + shared.count;
}

/* While the program's descriptors are made, those of the restart are above them, or in a gap between them. Whoever may raise the
 * limit, does. */
static void check_descriptors(struct restoring *restoring)
{
    rlim_t held = held_descriptors(restoring);
    int has_gap = restoring->highest < restoring->last_number && (rlim_t)(restoring->own_end - restoring->highest) > held;
    rlim_t needed = (rlim_t)restoring->last_number + 1 + (has_gap ? 0 : held);
    struct rlimit limit, more;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_max >= needed)
        return;
    more = (struct rlimit){ needed, needed };
    if (restoring->highest < restoring->last_number || setrlimit(RLIMIT_NOFILE, &more))
        missing(restoring, "R-DESCRIPTOR-LIMIT: the program has a descriptor %d, and only %ju are allowed here; raise ulimit -Hn to %ju",
                restoring->last_number, (uintmax_t)limit.rlim_max, (uintmax_t)needed);
}

/* What the program has must fit; what it may have more of is another matter. Root's processes are not counted. */
static int limits_check(struct restoring *restoring, struct reader *reader)
{
    struct reader threads;
    struct rlimit limit;

    (void)reader;
    if (restoring->index == restoring->image->header.process_count - 1) /* what all share is known then */
        check_descriptors(restoring);
    if (geteuid() && !getrlimit(RLIMIT_NPROC, &limit) && !image_find_record(restoring->image, TAG_THREADS, restoring->index, &threads) &&
        threads_count(&threads) + 2 > limit.rlim_max)
        missing(restoring, "R-THREAD-LIMIT: the program has %u threads, and only %ju are allowed here; raise ulimit -Hu", threads_count(&threads),
                (uintmax_t)limit.rlim_max);
    return 0;
}

/* A hard limit that is lower here stays: only root of the machine may raise it. */
static int limits_last(struct restoring *restoring, struct reader *reader)
{
    struct limits_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    for (int i = 0; i < LAST_LIMITS; i++) {
        struct rlimit here;
        getrlimit((enum __rlimit_resource)i, &here);
        for (int j = 0; j < 2; j++)
            restoring->plan->note.limits[i][j] = record.limits[i][j] < here.rlim_max ? record.limits[i][j] : here.rlim_max;
    }
    return 0;
}

static void limits_show(struct reader *reader, FILE *out)
{
    struct limits_record record;

    if (!reader_take(reader, &record, sizeof record))
        for (int i = 0; i < LAST_LIMITS; i++)
            if (record.limits[i][0] != UINT64_MAX)
                fprintf(out, "  limit %d: %" PRIu64 "\n", i, record.limits[i][0]);
}

const struct kind kind_limits = {
    .name = "limits",
    .tag = TAG_LIMITS,
    .late = 1,
    .save = limits_save,
    .check = limits_check,
    .last = limits_last,
    .show = limits_show,
};
