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
enum { SCAN_FILE = 4, SCAN_PRESENT = 8, SCAN_SWAPPED = 16, SCAN_ZERO = 32 };
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct scan_arguments)
/* bits of a /proc/PID/pagemap entry */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_FILE    (UINT64_C(1) << 61)

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

/* `offset` of a range that is not copied is its mapping's start: runs never cross mappings. */
static int scan_fast(struct saving *saving, const struct mapping *mapping, int changed_only, struct ranges *ranges)
{
    struct scan_region regions[SCAN_REGIONS];
    struct scan_arguments scan = {
        .size = sizeof scan,
        .start = mapping->start,
        .end = mapping->end,
        .vector = (uint64_t)regions,
        .vector_length = SCAN_REGIONS,
        .category_inverted = changed_only ? SCAN_FILE : SCAN_ZERO,
        .category_mask = changed_only ? SCAN_FILE : SCAN_ZERO,
        .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
        .return_mask = SCAN_PRESENT | SCAN_SWAPPED,
    };

    while (scan.start < mapping->end) {
        int count = ioctl(saving->pagemap, PAGEMAP_SCAN_CALL, &scan);
        if (count < 0)
            return -errno;
        for (int i = 0; i < count; i++) {
            int error = add_range(ranges, (struct page_range){ .start = regions[i].start, .end = regions[i].end,
                                                               .keep_zeros = changed_only, .offset = mapping->start });
            if (error)
                return error;
        }
        if (scan.walk_end <= scan.start)
            return -EIO;
        scan.start = scan.walk_end;
    }
    return 0;
}

/* The rung below: the pagemap file itself, eight bytes a page. */
static int scan_slowly(struct saving *saving, const struct mapping *mapping, int changed_only, struct ranges *ranges)
{
    static uint64_t entries[PAGEMAP_ENTRIES];

    if (mapping->end - mapping->start > PAGEMAP_READ_LIMIT)
        return refuse(saving, "R-PAGEMAP-SCAN", "a mapping of over 1 TB needs a kernel with PAGEMAP_SCAN (6.7)");
    for (uint64_t at = mapping->start; at < mapping->end;) {
        ssize_t got = pread(saving->pagemap, entries, sizeof entries, (off_t)(at / PAGE_BYTES * 8));
        if (got <= 0)
            return got ? -errno : -EIO;
        for (ssize_t i = 0; i < got / 8 && at < mapping->end; i++, at += PAGE_BYTES) {
            if (!(entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) || (changed_only && entries[i] & PAGEMAP_FILE))
                continue;
            int error = add_range(ranges, (struct page_range){ .start = at, .end = at + PAGE_BYTES,
                                                               .keep_zeros = changed_only, .offset = mapping->start });
            if (error)
                return error;
        }
    }
    return 0;
}

static int mapping_ranges(struct saving *saving, const struct mapping *mapping, struct ranges *ranges)
{
    uint32_t type = memory_type_of(mapping);
    int error = -ENOTTY;

    if (mapping->copied)
        return add_range(ranges, (struct page_range){ .start = mapping->start, .end = mapping->end, .copied = 1,
                                                      .keep_zeros = type == MAPPING_FILE, .offset = mapping->copy_offset });
    if (type == MAPPING_SHARED_ANONYMOUS || (type == MAPPING_ANONYMOUS && mapping->inode))
        return add_range(ranges, (struct page_range){ .start = mapping->start, .end = mapping->end, .may_end = 1,
                                                      .offset = mapping->start });
    if (type != MAPPING_ANONYMOUS && type != MAPPING_FILE)
        return 0;
    if (!text_list_holds(saving->test_fail, "pagemap_scan"))
        error = scan_fast(saving, mapping, type == MAPPING_FILE, ranges);
    if (error == -ENOTTY || error == -ENOSYS)
        error = scan_slowly(saving, mapping, type == MAPPING_FILE, ranges);
    return error;
}

int memory_page_ranges(struct saving *saving, struct page_range **ret_ranges, size_t *ret_count)
{
    struct ranges ranges = { 0 };
    int error = 0;

    for (size_t i = 0; !error && i < saving->mappings.count; i++)
        if (!memory_is_foreign(saving, &saving->mappings.items[i]))
            error = mapping_ranges(saving, &saving->mappings.items[i], &ranges);
    *ret_ranges = ranges.items;
    *ret_count = ranges.count;
    return error;
}
