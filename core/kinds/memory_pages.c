/* SPDX-License-Identifier: MIT */
/* Which pages of a process must be stored, and which are guard pages: what the kernel's page tables tell. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../floor/text.h"
#include "memory_format.h"

/* linux/fs.h from 6.7 on; the numbers are ABI (Documentation/admin-guide/mm/pagemap.rst). */
struct scan_region {
    uint64_t start, end, categories;
};
struct scan_arguments {
    uint64_t size, flags, start, end, walk_end, vector, vector_length, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
enum { SCAN_FILE = 4, SCAN_PRESENT = 8, SCAN_SWAPPED = 16, SCAN_ZERO = 32, SCAN_GUARD = 256 };
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct scan_arguments)
/* bits of a /proc/PID/pagemap entry */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_FILE    (UINT64_C(1) << 61)
#define PAGEMAP_GUARD   (UINT64_C(1) << 58) /* 6.15 */

enum { SCAN_REGIONS = 4096, PAGEMAP_ENTRIES = 8192 };
#define PAGEMAP_READ_LIMIT (UINT64_C(1) << 40)

struct ranges {
    struct page_range *items;
    size_t count, room;
};

static int add_range(struct ranges *ranges, struct page_range range)
{
    struct page_range *last = ranges->count ? &ranges->items[ranges->count - 1] : NULL;

    if (last && !range.copied && !last->copied && last->end == range.start && last->keep_zeros == range.keep_zeros && last->may_end == range.may_end &&
        last->offset == range.offset) {
        last->end = range.end;
        return 0;
    }
    if (ranges->count == ranges->room) {
        size_t room = ranges->room ? ranges->room * 2 : 1024;
        struct page_range *items = realloc(ranges->items, room * sizeof *items);
        if (!items)
            return -ENOMEM;
        ranges->items = items;
        ranges->room = room;
    }
    ranges->items[ranges->count++] = range;
    return 0;
}

/* What is asked of a page: is its content needed, of memory or of a changed file, or is it a guard page? */
enum question { ASK_MEMORY, ASK_CHANGED, ASK_GUARD };

static struct page_range answer(enum question question, const struct mapping *mapping, uint64_t start, uint64_t end)
{
    return (struct page_range){ .start = start, .end = end, .keep_zeros = question == ASK_CHANGED,
                                .offset = mapping->start };
}

/* A kernel that does not know guard pages refuses the bit; 6.13 and 6.14 have such pages but do not tell, and call them
 * swapped: then they cannot be read, and the checkpoint is refused. */
static int scan_call(struct saving *saving, struct scan_arguments *scan)
{
    int count = ioctl(saving->pagemap, PAGEMAP_SCAN_CALL, scan);

    if (count >= 0 || errno != EINVAL || !(scan->category_mask & SCAN_GUARD))
        return count < 0 ? -errno : count;
    if (!(scan->category_inverted & SCAN_GUARD))
        return -EOPNOTSUPP;
    scan->category_mask &= ~(uint64_t)SCAN_GUARD;
    scan->category_inverted &= ~(uint64_t)SCAN_GUARD;
    count = ioctl(saving->pagemap, PAGEMAP_SCAN_CALL, scan);
    return count < 0 ? -errno : count;
}

/* `offset` of a range that is not copied is its mapping's start: runs never cross mappings. */
static int scan_fast(struct saving *saving, const struct mapping *mapping, enum question question, struct ranges *ranges)
{
    const uint64_t without = SCAN_GUARD | (question == ASK_CHANGED ? SCAN_FILE : SCAN_ZERO);
    struct scan_region regions[SCAN_REGIONS];
    struct scan_arguments scan = {
        .size = sizeof scan,
        .start = mapping->start,
        .end = mapping->end,
        .vector = (uint64_t)regions,
        .vector_length = SCAN_REGIONS,
        .category_inverted = question == ASK_GUARD ? 0 : without,
        .category_mask = question == ASK_GUARD ? SCAN_GUARD : without,
        .category_anyof_mask = question == ASK_GUARD ? 0 : SCAN_PRESENT | SCAN_SWAPPED,
        .return_mask = SCAN_PRESENT | SCAN_SWAPPED,
    };

    while (scan.start < mapping->end) {
        int count = scan_call(saving, &scan);
        if (count < 0)
            return count;
        for (int i = 0; i < count; i++) {
            int error = add_range(ranges, answer(question, mapping, regions[i].start, regions[i].end));
            if (error)
                return error;
        }
        /* When the regions just fit, 6.18 names an end before the last of them, and would give those twice. */
        if (count && scan.walk_end < regions[count - 1].end)
            scan.walk_end = regions[count - 1].end;
        if (scan.walk_end <= scan.start)
            return -EIO;
        scan.start = scan.walk_end;
    }
    return 0;
}

static int is_wanted(uint64_t entry, enum question question)
{
    if (question == ASK_GUARD || entry & PAGEMAP_GUARD)
        return question == ASK_GUARD && entry & PAGEMAP_GUARD;
    return entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED) && !(question == ASK_CHANGED && entry & PAGEMAP_FILE);
}

/* The rung below: the pagemap file itself, eight bytes a page. */
static int scan_slowly(struct saving *saving, const struct mapping *mapping, enum question question, struct ranges *ranges)
{
    static uint64_t entries[PAGEMAP_ENTRIES];

    if (mapping->end - mapping->start > PAGEMAP_READ_LIMIT)
        return refuse(saving, "R-PAGEMAP-SCAN", "a mapping of over 1 TB needs a kernel with PAGEMAP_SCAN (6.7)");
    for (uint64_t at = mapping->start; at < mapping->end;) {
        ssize_t got = pread(saving->pagemap, entries, sizeof entries, (off_t)(at / PAGE_BYTES * 8));
        if (got <= 0)
            return got ? -errno : -EIO;
        for (ssize_t i = 0; i < got / 8 && at < mapping->end; i++, at += PAGE_BYTES) {
            if (!is_wanted(entries[i], question))
                continue;
            int error = add_range(ranges, answer(question, mapping, at, at + PAGE_BYTES));
            if (error)
                return error;
        }
    }
    return 0;
}

static int scan(struct saving *saving, const struct mapping *mapping, enum question question, struct ranges *ranges)
{
    int error = -ENOTTY;

    if (!text_list_holds(saving->test_fail, "pagemap_scan"))
        error = scan_fast(saving, mapping, question, ranges);
    if (error == -ENOTTY || error == -ENOSYS)
        error = scan_slowly(saving, mapping, question, ranges);
    return error;
}

/* Private, and what has not been changed in it comes from what is mapped. */
static int is_changed_file(const struct mapping *mapping)
{
    return mapping->type == MAPPING_FILE || mapping->type == MAPPING_OBJECT_PRIVATE;
}

/* The copies are a sparse file: what was absent is a hole in it. A hole over a file's page is a page of zeros. */
static int copied_ranges(const struct saving *saving, const struct mapping *mapping, struct ranges *ranges)
{
    const off_t first = (off_t)mapping->copy_offset, end = first + (off_t)(mapping->end - mapping->start);
    struct page_range whole = { .start = mapping->start, .end = mapping->end, .copied = 1,
                                .keep_zeros = is_changed_file(mapping), .offset = mapping->copy_offset };
    int error = 0;

    if (whole.keep_zeros)
        return add_range(ranges, whole);
    for (off_t hole = first, data; !error && hole < end;) {
        data = lseek(saving->copies, hole, SEEK_DATA);
        if (data < 0 || data >= end)
            return data < 0 && errno != ENXIO ? -errno : 0;
        hole = lseek(saving->copies, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        hole = hole < end ? hole : end;
        error = add_range(ranges, (struct page_range){ .start = mapping->start + (uint64_t)(data - first),
                                                       .end = mapping->start + (uint64_t)(hole - first), .copied = 1,
                                                       .offset = (uint64_t)data });
    }
    return error;
}

static int mapping_ranges(struct saving *saving, const struct mapping *mapping, struct ranges *ranges)
{
    if (mapping->flags & MAPPING_DROPPABLE)
        return 0; /* the kernel may take it at any moment; and it holds keys that no two restarts may share */
    if (mapping->type == MAPPING_OBJECT)
        return 0; /* shared_memory.c stores it, once for all its mappings */
    if (mapping->copied)
        return copied_ranges(saving, mapping, ranges);
    if (mapping->type == MAPPING_ANONYMOUS && memory_is_of_file(mapping))
        return add_range(ranges, (struct page_range){ .start = mapping->start, .end = mapping->end, .may_end = 1,
                                                      .offset = mapping->start });
    if (mapping->type != MAPPING_ANONYMOUS && !is_changed_file(mapping))
        return 0;
    return scan(saving, mapping, is_changed_file(mapping) ? ASK_CHANGED : ASK_MEMORY, ranges);
}

static int guard_ranges(struct saving *saving, const struct mapping *mapping, struct ranges *ranges)
{
    return scan(saving, mapping, ASK_GUARD, ranges);
}

static int all_ranges(struct saving *saving, int (*of)(struct saving *, const struct mapping *, struct ranges *),
                      struct page_range **ret_ranges, size_t *ret_count)
{
    struct ranges ranges = { 0 };
    int error = 0;

    for (size_t i = 0; !error && i < saving->mappings.count; i++)
        if (!memory_is_foreign(saving, &saving->mappings.items[i]))
            error = of(saving, &saving->mappings.items[i], &ranges);
    *ret_ranges = ranges.items;
    *ret_count = ranges.count;
    return error;
}

/* ---- what the program wants left out ---- */

static int may_be_left_out(const struct mapping *mapping)
{
    return mapping->type == MAPPING_ANONYMOUS && !memory_is_of_file(mapping) && mapping->flags & MAPPING_DONT_DUMP;
}

/* The table is in the memory that is read, so it is of the same moment. -errno. */
static int read_excluded(struct saving *saving, struct agent_range table[AGENT_MAX_EXCLUDED], size_t *ret_count)
{
    const struct agent_range *place = &saving->page->excluded;
    uint64_t bytes = place->end - place->start;

    *ret_count = 0;
    if (bytes > AGENT_MAX_EXCLUDED * sizeof *table || bytes % sizeof *table)
        return -EPROTO;
    if (bytes && pread(saving->memory, table, bytes, (off_t)place->start) != (ssize_t)bytes)
        return -ESRCH;
    *ret_count = bytes / sizeof *table;
    return 0;
}

static int add_part(struct ranges *ranges, const struct page_range *of, uint64_t start, uint64_t end)
{
    struct page_range part = *of;

    if (start >= end)
        return 0;
    part.start = start;
    part.end = end;
    if (part.copied)
        part.offset += start - of->start;
    return add_range(ranges, part);
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static int leave_out(struct ranges *ranges, uint64_t start, uint64_t end)
{
    struct ranges rest = { 0 };
    int error = 0;

    for (size_t i = 0; i < ranges->count && !error; i++) {
        const struct page_range *range = &ranges->items[i];
        error = add_part(&rest, range, range->start, lesser(range->end, start));
        if (!error)
            error = add_part(&rest, range, greater(range->start, end), range->end);
    }
    free(ranges->items);
    *ranges = rest;
    return error;
}

/* What has been unmapped since it was excluded, and is other memory by now, has not the kernel's mark: it stays. */
static int leave_out_excluded(struct saving *saving, struct ranges *ranges)
{
    struct agent_range table[AGENT_MAX_EXCLUDED];
    size_t count;
    int error = read_excluded(saving, table, &count);

    for (size_t i = 0; i < saving->mappings.count && count && !error; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        for (size_t j = 0; j < count && !error && may_be_left_out(mapping); j++) {
            uint64_t start = greater(mapping->start, table[j].start), end = lesser(mapping->end, table[j].end);
            if (start < end)
                error = leave_out(ranges, start, end);
        }
    }
    return error;
}

int memory_page_ranges(struct saving *saving, struct page_range **ret_ranges, size_t *ret_count)
{
    struct ranges ranges = { 0 };
    int error = all_ranges(saving, mapping_ranges, &ranges.items, &ranges.count);

    ranges.room = ranges.count;
    if (!error)
        error = leave_out_excluded(saving, &ranges);
    *ret_ranges = ranges.items;
    *ret_count = ranges.count;
    return error;
}

int memory_guards(struct saving *saving, struct page_range **ret_ranges, size_t *ret_count)
{
    return all_ranges(saving, guard_ranges, ret_ranges, ret_count);
}
