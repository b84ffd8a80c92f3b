/* SPDX-License-Identifier: MIT */
/* The contents of memory: units of up to a block are read, their pages of zeros dropped, checked and written by
 * several workers. A worker needs no lock: the file's end is an atomic counter, and each unit has its own result. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "saver.h"

enum { MAX_WORKERS = 8, ZERO_WORDS = PAGE_BYTES / 8 };

struct unit {
    uint64_t start, pages;
    const struct page_range *range;
    struct block_record block;
    struct run_record *runs;
};

struct work {
    struct saving *saving;
    int64_t deadline;
    struct unit *units;
    size_t count;
    _Atomic size_t next;
    _Atomic int error;
    _Atomic uint64_t unreadable; /* address of a page that should be there */
};

static int is_zero(const uint8_t *page)
{
    const uint64_t *words = (const uint64_t *)page;
    for (int i = 0; i < ZERO_WORDS; i++)
        if (words[i])
            return 0;
    return 1;
}

/* Pages behind the end of a mapped file cannot be read, and count as zeros: they have no content. Any other page must
 * be there. Memory of a process that has been killed reads as an end of file. */
static int read_pages(int fd, uint8_t *to, uint64_t length, uint64_t offset, const struct page_range *range)
{
    for (uint64_t done = 0; done < length;) {
        ssize_t got = pread(fd, to + done, length - done, (off_t)(offset + done));
        if (got > 0) {
            done += (uint64_t)got;
        } else if (got == 0 && !range->copied) {
            return -ESRCH;
        } else if (got == 0 || (range->may_end && (errno == EIO || errno == EFAULT))) {
            uint64_t rest = PAGE_BYTES - done % PAGE_BYTES;
            memset(to + done, 0, rest);
            done += rest;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Drops pages of zeros where that is allowed; returns the pages left, moved together, and their runs. */
static uint64_t gather(struct unit *unit, uint8_t *bytes, struct run_record *runs)
{
    uint64_t kept = 0;
    uint16_t count = 0;

    for (uint64_t i = 0; i < unit->pages; i++) {
        uint64_t address = unit->start + i * PAGE_BYTES;
        if (!unit->range->keep_zeros && is_zero(bytes + i * PAGE_BYTES))
            continue;
        if (kept != i)
            memcpy(bytes + kept * PAGE_BYTES, bytes + i * PAGE_BYTES, PAGE_BYTES);
        if (count && runs[count - 1].address + runs[count - 1].pages * PAGE_BYTES == address)
            runs[count - 1].pages++;
        else
            runs[count++] = (struct run_record){ address, 1 };
        kept++;
    }
    unit->block.run_count = count;
    return kept;
}

static int save_unit(struct work *work, struct unit *unit, uint8_t *bytes)
{
    const struct page_range *range = unit->range;
    struct run_record runs[BLOCK_PAGES];
    uint64_t offset = range->copied ? range->offset + (unit->start - range->start) : unit->start, kept;
    int error = read_pages(range->copied ? work->saving->copies : work->saving->memory, bytes, unit->pages * PAGE_BYTES, offset,
                           range);
    uint16_t count;

    if (error == -EIO || error == -EFAULT)
        work->unreadable = unit->start;
    if (error)
        return error;
    kept = gather(unit, bytes, runs);
    if (!kept)
        return 0;
    count = unit->block.run_count;
    unit->runs = malloc(count * sizeof *runs);
    if (!unit->runs)
        return -ENOMEM;
    memcpy(unit->runs, runs, count * sizeof *runs);
    error = image_write_block(work->saving->writer, bytes, kept * PAGE_BYTES, &unit->block);
    unit->block.run_count = count;
    return error;
}

static void *worker(void *context)
{
    struct work *work = context;
    uint8_t *bytes = aligned_alloc(PAGE_BYTES, BLOCK_BYTES);
    int error = bytes ? 0 : -ENOMEM;

    while (!error && !work->error) {
        size_t next = work->next++;
        if (next >= work->count)
            break;
        error = now_nanoseconds() > work->deadline ? -ETIMEDOUT : save_unit(work, &work->units[next], bytes);
    }
    if (error) {
        int none = 0;
        atomic_compare_exchange_strong(&work->error, &none, error);
    }
    free(bytes);
    return NULL;
}

static int cut_into_units(struct work *work, const struct page_range *ranges, size_t count)
{
    size_t total = 0;

    for (size_t i = 0; i < count; i++)
        total += ((ranges[i].end - ranges[i].start) / PAGE_BYTES + BLOCK_PAGES - 1) / BLOCK_PAGES;
    work->units = calloc(total + 1, sizeof *work->units);
    if (!work->units)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        for (uint64_t at = ranges[i].start; at < ranges[i].end; at += BLOCK_BYTES) {
            uint64_t left = (ranges[i].end - at) / PAGE_BYTES;
            work->units[work->count++] = (struct unit){ .start = at, .pages = left < BLOCK_PAGES ? left : BLOCK_PAGES,
                                                        .range = &ranges[i] };
        }
    return 0;
}

static void run_workers(struct work *work)
{
    pthread_t threads[MAX_WORKERS];
    cpu_set_t cpus;
    int wanted = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus), count = 0;

    while (count < wanted - 1 && count < MAX_WORKERS && !pthread_create(&threads[count], NULL, worker, work))
        count++;
    worker(work);
    while (count)
        pthread_join(threads[--count], NULL);
}

static int write_table(struct work *work)
{
    struct buffer payload = { 0 };
    int error;

    for (size_t i = 0; i < work->count; i++) {
        const struct unit *unit = &work->units[i];
        if (!unit->runs)
            continue;
        buffer_add(&payload, &unit->block, sizeof unit->block);
        buffer_add(&payload, unit->runs, unit->block.run_count * sizeof *unit->runs);
    }
    error = image_write_record(work->saving->writer, TAG_BLOCKS, RECORD_REQUIRED, work->saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* A scan of dead memory finds nothing, without an error: so who was read must still be there at the end. */
static int is_dead(const struct saving *saving)
{
    char byte;
    return saving->mappings.count && pread(saving->memory, &byte, 1, (off_t)saving->mappings.items[0].start) == 0;
}

int pages_save(struct saving *saving, int64_t deadline)
{
    struct work work = { .saving = saving, .deadline = deadline };
    struct page_range *ranges = NULL;
    size_t count = 0;
    int error = memory_page_ranges(saving, &ranges, &count);

    if (!error)
        error = cut_into_units(&work, ranges, count);
    if (!error) {
        run_workers(&work);
        error = work.error;
    }
    if (error && work.unreadable)
        error = refuse(saving, "R-GUARD-PAGE", "the pages from %#" PRIx64 " on cannot be read: guard pages, which this "
                                               "kernel does not tell of", (uint64_t)work.unreadable);
    if (!error && is_dead(saving))
        error = -ESRCH;
    if (!error)
        error = write_table(&work);
    for (size_t i = 0; i < work.count; i++)
        free(work.units[i].runs);
    free(work.units);
    free(ranges);
    return error;
}
