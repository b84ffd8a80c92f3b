/* SPDX-License-Identifier: MIT */
/* What the program leaves out of its images (stasis.h): a table of ranges, which the saver reads. That a range has been unmapped meanwhile, and is
 * something else by now, nobody tells us; so it counts only while the kernel has the mark on it that we put there. Island: no libc. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#define STASIS_SHIM
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"
#include "stasis.h"

static struct agent_range table[AGENT_MAX_EXCLUDED];
static uint32_t count NEAR_THE_SHIM;
static uint32_t lock NEAR_THE_SHIM;

/* ---- what is there: maps of proc(5) ---- */

/* A line of it, as it is read byte by byte. */
struct line {
    uint64_t bounds[2]; /* start, end */
    uint32_t column;
    uint32_t is_private, is_of_file;
};

enum { COLUMN_START, COLUMN_END, COLUMN_RIGHTS, COLUMN_OFFSET, COLUMN_DEVICE, COLUMN_INODE, COLUMN_NAME };

static uint64_t digit(char byte)
{
    return (uint64_t)(byte <= '9' ? byte - '0' : byte - 'a' + 10);
}

static void read_byte(struct line *line, char byte)
{
    if (byte == ' ' || (byte == '-' && line->column == COLUMN_START))
        line->column += line->column < COLUMN_NAME;
    else if (line->column <= COLUMN_END)
        line->bounds[line->column] = line->bounds[line->column] << 4 | digit(byte);
    else if (line->column == COLUMN_RIGHTS)
        line->is_private = byte == 'p'; /* the last of four */
    else if (line->column == COLUMN_INODE)
        line->is_of_file |= byte != '0';
}

static uint64_t common_bytes(const struct agent_range *one, uint64_t start, uint64_t end)
{
    start = start > one->start ? start : one->start;
    end = end < one->end ? end : one->end;
    return start < end ? end - start : 0;
}

/* How many bytes of the range are private memory without a file. */
static uint64_t bytes_to_be_had(const struct agent_range *range)
{
    char bytes[1024];
    struct line line = { 0 };
    uint64_t found = 0;
    long fd = sys_openat(AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0), got;

    if (fd < 0)
        return 0;
    while ((got = sys_read((int)fd, bytes, sizeof bytes)) > 0)
        for (long i = 0; i < got; i++) {
            if (bytes[i] != '\n') {
                read_byte(&line, bytes[i]);
                continue;
            }
            if (line.is_private && !line.is_of_file)
                found += common_bytes(range, line.bounds[0], line.bounds[1]);
            line = (struct line){ 0 };
        }
    sys_close((int)fd);
    return found;
}

/* ---- the table: with its lock ---- */

/* Without the entry's part in the range, of which the kernel's mark is taken. 0: there is no room for the second rest. */
static int cut(uint32_t at, const struct agent_range *range)
{
    struct agent_range entry = table[at], rests[] = { { entry.start, range->start }, { range->end, entry.end } };
    uint64_t start = entry.start > range->start ? entry.start : range->start, bytes = common_bytes(range, entry.start, entry.end);
    int rest_count = (rests[0].start < rests[0].end) + (rests[1].start < rests[1].end);

    if (rest_count == 2 && count == AGENT_MAX_EXCLUDED)
        return 0;
    sys_madvise((void *)start, bytes, MADV_DODUMP);
    if (!rest_count) {
        table[at] = table[--count];
        return 1;
    }
    table[at] = rests[0].start < rests[0].end ? rests[0] : rests[1];
    if (rest_count == 2)
        table[count++] = rests[1];
    return 1;
}

static int take_out(const struct agent_range *range)
{
    for (uint32_t i = count; i-- > 0;)
        if (common_bytes(range, table[i].start, table[i].end) && !cut(i, range))
            return 0;
    return 1;
}

static int put_in(const struct agent_range *range)
{
    if (!take_out(range) || count == AGENT_MAX_EXCLUDED || sys_madvise((void *)range->start, range->end - range->start, MADV_DONTDUMP))
        return 0;
    table[count++] = *range;
    return 1;
}

/* The whole pages in it, or all that it touches. */
static struct agent_range pages_of(void *start, size_t length, int touched)
{
    uint64_t first = (uint64_t)start, end = first + length, more = PAGE_BYTES - 1;

    return touched ? (struct agent_range){ first & ~more, (end + more) & ~more }
                   : (struct agent_range){ (first + more) & ~more, end & ~more };
}

static int change_table(int (*change)(const struct agent_range *range), const struct agent_range *range)
{
    uint64_t old = stop_keep_out(&lock);
    int is_done = change(range);

    stop_let_in(&lock, old);
    return is_done ? STASIS_NOTHING : calls_refuse("more ranges than can be excluded");
}

int stasis_exclude(void *start, size_t length)
{
    struct agent_range range = pages_of(start, length, 0);

    if (!shim.installed)
        return STASIS_ABSENT;
    if (range.start >= range.end)
        return calls_refuse("no whole page to exclude");
    if (bytes_to_be_had(&range) != range.end - range.start)
        return calls_refuse("only private memory without a file can be excluded");
    return change_table(put_in, &range);
}

int stasis_include(void *start, size_t length)
{
    struct agent_range range = pages_of(start, length, 1);

    return shim.installed ? change_table(take_out, &range) : STASIS_ABSENT;
}

void exclude_describe(struct agent_page *page)
{
    page->excluded = (struct agent_range){ (uint64_t)table, (uint64_t)(table + count) };
}

/* Another thread of the parent may have been in the middle of it: then nothing is excluded. */
void exclude_enter_child(void)
{
    if (lock)
        count = 0;
    lock = 0;
}
