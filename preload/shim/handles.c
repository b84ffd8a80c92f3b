/* SPDX-License-Identifier: MIT */
/* Meeting the saver on its abstract socket: own memory handed over, and ranges copied that no twin inherits.
 * Nothing here depends on ptrace rights: everybody may open his own /proc/self. Island: no libc. */
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "../../core/floor/passing.h"
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

long handles_connect(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = text_length(name);
    long error, fd = SYS_CALL(socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0);

    if (fd < 0)
        return fd;
    text_add(address.sun_path + 1, sizeof address.sun_path - 1, 0, name); /* unix(7): abstract when it starts with NUL */
    error = SYS_CALL(connect, fd, &address, sizeof address.sun_family + 1 + length, 0, 0, 0);
    if (error) {
        sys_close((int)fd);
        return error;
    }
    return fd;
}

const char *const handles_of_memory[HANDLES_OF_MEMORY] = { "/proc/self/mem", "/proc/self/pagemap" };

long handles_send(int socket, const char *const *names, int count)
{
    int handles[HANDLES_OF_MEMORY] = { 0 }, opened = 0;
    long result = 0;

    while (opened < count && result >= 0) {
        result = sys_openat(AT_FDCWD, names[opened], O_RDONLY | O_CLOEXEC, 0);
        if (result >= 0)
            handles[opened++] = (int)result;
    }
    if (result >= 0)
        result = passing_send(socket, handles, (size_t)count);
    while (opened)
        sys_close(handles[--opened]);
    return result < 0 ? result : 0;
}

long handles_send_wanted(int socket, const struct agent_page *page)
{
    return passing_send(socket, page->to_send, page->to_send_count);
}

/* linux/fs.h from 6.7 on: struct pm_scan_arg, and bits of a page */
struct scan_arguments {
    uint64_t size, flags, start, end, walk_end, vector, vector_length, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
enum { SCAN_CALL = 0xc0606610, SCAN_SWAPPED = 16, SCAN_GUARD = 256 };

/* 1 when a guard page lies there, or that cannot be told. Linux 6.13 and 6.14 call them swapped; without swap that is as good. */
static int has_guards(const struct agent_page *page, const struct agent_range *range)
{
    uint64_t region[3];
    struct scan_arguments scan = { .size = sizeof scan, .start = range->start, .end = range->end, .vector = (uint64_t)region,
                                   .vector_length = 1, .category_mask = SCAN_GUARD, .return_mask = SCAN_GUARD };
    long count, map;

    if (sys_madvise((void *)range->start, 0, 102 /* MADV_GUARD_INSTALL */) == -EINVAL)
        return 0; /* this kernel has none */
    if (!page->dumpable)
        sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else we may not even look at ourselves */
    map = sys_openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
    if (!page->dumpable)
        sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (map < 0)
        return 1;
    count = SYS_CALL(ioctl, map, SCAN_CALL, &scan, 0, 0, 0);
    if (count == -EINVAL && page->skip_absent) {
        scan.category_mask = scan.return_mask = SCAN_SWAPPED;
        count = SYS_CALL(ioctl, map, SCAN_CALL, &scan, 0, 0, 0);
    }
    sys_close((int)map);
    return count > 0;
}

enum { WINDOW_BYTES = 1 << 20 };

/* A page that the program itself may not read (PROT_NONE) can be read through /proc/self/mem. */
static long copy_unreadable(int fd, uint64_t address, uint64_t offset)
{
    static uint8_t bytes[PAGE_BYTES];
    long got, mem = sys_openat(AT_FDCWD, "/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);

    if (mem < 0)
        return mem;
    got = SYS_CALL(pread64, mem, bytes, sizeof bytes, address, 0, 0);
    sys_close((int)mem);
    if (got == -EIO)
        return PAGE_BYTES; /* behind the end of a file: nothing */
    if (got == sizeof bytes)
        got = SYS_CALL(pwrite64, fd, bytes, sizeof bytes, offset, 0, 0);
    return got == sizeof bytes ? PAGE_BYTES : got < 0 ? got : -EIO;
}

/* What mincore(2) says of the pages from `start`, one byte each. */
static struct {
    uint64_t start, pages;
    uint8_t there[16384];
} seen;

static int is_there(uint64_t address, uint64_t end)
{
    if (address - seen.start >= seen.pages * PAGE_BYTES) {
        seen.start = address;
        seen.pages = (end - address) / PAGE_BYTES;
        if (seen.pages > sizeof seen.there)
            seen.pages = sizeof seen.there;
        if (SYS_CALL(mincore, address, seen.pages * PAGE_BYTES, seen.there, 0, 0, 0))
            memset(seen.there, 1, seen.pages);
    }
    return seen.there[(address - seen.start) / PAGE_BYTES] & 1;
}

/* Pages that are not there at all stay holes of the memfd: touching them would fill the program's memory. Returns the
 * end of the pages from `at` on that are all there, or all not. */
static uint64_t run_end(const struct agent_page *page, uint64_t at, uint64_t end, int *ret_there)
{
    uint64_t run = at + PAGE_BYTES;

    *ret_there = 1;
    if (!page->skip_absent)
        return end;
    *ret_there = is_there(at, end);
    while (run < end && is_there(run, end) == *ret_there)
        run += PAGE_BYTES;
    return run;
}

/* RLIMIT_FSIZE is for what is written, not for a mapping of a file that the saver has made as large as it must be. */
static uint64_t may_write;

static long write_or_map(int fd, uint64_t at, uint64_t length, uint64_t to)
{
    struct iovec from = { .iov_base = (void *)at, .iov_len = length }, here = from;
    long got;

    if (to + length <= may_write)
        return SYS_CALL(pwrite64, fd, at, length, to, 0, 0);
    from.iov_len = here.iov_len = length < WINDOW_BYTES ? length : WINDOW_BYTES;
    here.iov_base = sys_mmap(NULL, here.iov_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, to);
    if (sys_mmap_failed(here.iov_base))
        return (long)here.iov_base;
    got = SYS_CALL(process_vm_readv, shim.pid, &here, 1, &from, 1, 0);
    sys_munmap(here.iov_base, here.iov_len);
    return got;
}

static long copy_run(int fd, uint64_t at, uint64_t end, uint64_t to)
{
    while (at < end) {
        long wrote = write_or_map(fd, at, end - at, to);
        if (wrote == -EFAULT)
            wrote = copy_unreadable(fd, at, to);
        if (wrote <= 0)
            return wrote ? wrote : -EIO;
        at += (uint64_t)wrote;
        to += (uint64_t)wrote;
    }
    return 0;
}

static long copy_range(const struct agent_page *page, int fd, const struct agent_range *range, uint64_t *offset)
{
    long error = 0;

    seen.pages = 0;
    for (uint64_t at = range->start, end; !error && at < range->end; at = end) {
        int there;
        end = run_end(page, at, range->end, &there);
        if (there)
            error = copy_run(fd, at, end, *offset + (at - range->start));
    }
    *offset += range->end - range->start;
    return error;
}

static long copy_all(struct agent_page *page, int socket)
{
    uint64_t offset = 0, pending = stop_pending();
    int fd;
    long error = passing_receive(socket, &fd, 1, 0);
    struct rlimit limit;

    if (error)
        return error;
    SYS_CALL(prlimit64, 0, RLIMIT_FSIZE, 0, &limit, 0, 0);
    may_write = limit.rlim_cur;
    for (uint32_t i = 0; !error && i < page->range_count; i++)
        error = page->lacking[i] && has_guards(page, &page->ranges[i]) ? -ENODATA
                                                                      : copy_range(page, fd, &page->ranges[i], &offset);
    if (error == -EFBIG)
        stop_swallow(SIGXFSZ, pending); /* the program's RLIMIT_FSIZE is ours too */
    sys_close(fd);
    return error;
}

static long meet_and_copy(void *argument)
{
    struct agent_page *page = argument;
    long error, socket = error = handles_connect(page->socket);

    if (socket >= 0) {
        error = copy_all(page, (int)socket);
        sys_close((int)socket);
    }
    return error;
}

long handles_copy_ranges(struct agent_page *page)
{
    return room_with(meet_and_copy, page, NULL, 0);
}
