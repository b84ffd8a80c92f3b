/* SPDX-License-Identifier: MIT */
/* The agent page: made, dropped, made again. Island: no libc. */
#include <fcntl.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

/* A directory that is ours alone: made when missing; a link, another owner or a wider mode is refused. */
static long own_directory(const char *path)
{
    struct stat status;
    long made = sys_mkdir(path, 0700), error;

    if (made && made != -EEXIST)
        return made;
    error = sys_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW);
    if (error)
        return error;
    if (!made && (status.st_mode & 07777) != 0700) { /* the umask has taken bits away */
        sys_chmod(path, 0700);
        return 0;
    }
    if (!S_ISDIR(status.st_mode) || status.st_uid != (uid_t)sys_geteuid() || (status.st_mode & 07777) != 0700)
        return -EPERM;
    return 0;
}

uint64_t page_namespace(void)
{
    struct stat status;

    if (!shim.pid_namespace && !sys_fstatat(AT_FDCWD, "/proc/self/ns/pid", &status, 0))
        shim.pid_namespace = status.st_ino;
    return shim.pid_namespace;
}

static long own_directories(void)
{
    long error = own_directory(shim.registry);
    return error ? error : own_directory(shim.run_directory);
}

static void page_fill(struct agent_page *page)
{
    page->magic = AGENT_MAGIC;
    page->bytes = sizeof *page;
    page->role = ROLE_TASK;
    page->pid = shim.pid;
    page->first = shim.first;
    page->pid_namespace = shim.pid_namespace;
    __builtin_memcpy(page->run, shim.run, sizeof page->run);
    text_add(page->job, sizeof page->job, 0, shim.job);
    text_add(page->step, sizeof page->step, 0, shim.step);
    if (!shim.note.restarts)
        text_add(page->as_slurm, sizeof page->as_slurm, 0, shim.as_slurm);
    page->keep = shim.keep;
    page->interval = shim.interval;
    page->trigger_signal = shim.trigger_signal;
    page->save_files = shim.save_files;
    page->wanted = 1; /* pages are made for whoever asks */
    page->generation = shim.generation;
    page->place = shim.place;
    page->restart_note = (uint64_t)&shim.note;
    text_add(page->directory, sizeof page->directory, 0, shim.directory);
}

static uint8_t draft[2 * PAGE_BYTES] __attribute__((aligned(8))); /* what a page's file begins with */

static size_t page_draft(void)
{
    struct agent_page *page;

    _Static_assert(sizeof draft >= offsetof(struct agent_page, range_count), "a page's beginning fits");
    __asm__("" : "=r"(page) : "0"(draft)); /* of the page's beginning only, which gcc warns of */
    __builtin_memset(draft, 0, offsetof(struct agent_page, directory));
    page_fill(page);
    return offsetof(struct agent_page, directory) + text_length(page->directory) + 1;
}

/* Written, not mapped: writing gets the memory while it can be refused (later it would be SIGBUS), and costs less than
 * a page fault. The magic comes last, when all else is true. */
static long page_write(int fd)
{
    enum { START = sizeof(uint64_t) };
    size_t length = page_draft();
    long written = SYS_CALL(pwrite64, fd, draft + START, length - START, START, 0, 0);

    if (written == (long)(length - START))
        written = SYS_CALL(pwrite64, fd, draft, START, 0, 0, 0);
    return written < 0 ? written : written == START ? 0 : -ENOSPC;
}

/* The same where not even so much may be written; the file has its memory already. */
static long page_write_mapped(int fd)
{
    size_t length = page_draft();
    uint8_t *start = sys_mmap(NULL, sizeof draft, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (sys_mmap_failed(start))
        return (long)start;
    __builtin_memcpy(start + sizeof(uint64_t), draft + sizeof(uint64_t), length - sizeof(uint64_t));
    __atomic_store_n((uint64_t *)start, AGENT_MAGIC, __ATOMIC_SEQ_CST);
    return sys_munmap(start, sizeof draft);
}

/* A file larger than the program's limit would not be refused only: SIGXFSZ would end the program. */
static long page_fill_file(int fd, const struct rlimit *limit)
{
    struct rlimit more = { limit->rlim_max, limit->rlim_max };
    long error;

    if (limit->rlim_cur < AGENT_PAGE_BYTES)
        SYS_CALL(prlimit64, 0, RLIMIT_FSIZE, &more, 0, 0, 0);
    error = sys_ftruncate(fd, AGENT_PAGE_BYTES);
    if (!error)
        error = sys_flock(fd, LOCK_EX); /* somebody may just be testing it, for a moment */
    if (!error)
        error = page_write(fd);
    if (limit->rlim_cur < AGENT_PAGE_BYTES)
        SYS_CALL(prlimit64, 0, RLIMIT_FSIZE, limit, 0, 0, 0);
    return error;
}

/* A file that whoever asks for the page has laid ready for us, as we may make none (the registry's spare.c); and its name. */
static long take_spare(void)
{
    char spare[sizeof shim.registry + sizeof SPARE_PAGE + 1];
    size_t at = text_add(spare, sizeof spare, 0, shim.registry);

    at = text_add(spare, sizeof spare, at, "/");
    text_add(spare, sizeof spare, at, SPARE_PAGE);
    return SYS_CALL(rename, spare, shim.page_path, 0, 0, 0, 0) ? -EFBIG
                                                               : sys_openat(AT_FDCWD, shim.page_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
}

static long fill_spare(int fd)
{
    struct stat status;
    long error = SYS_CALL(fstat, fd, &status, 0, 0, 0, 0);

    if (!error && (!S_ISREG(status.st_mode) || status.st_uid != (uid_t)sys_geteuid() || status.st_size != AGENT_PAGE_BYTES))
        error = -EFBIG;
    if (!error)
        error = sys_flock(fd, LOCK_EX);
    return error ? error : page_write_mapped(fd);
}

static long make_file(const struct rlimit *limit)
{
    if (limit->rlim_max < AGENT_PAGE_BYTES)
        return take_spare();
    return sys_openat(AT_FDCWD, shim.page_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* A new file of a random name, locked and filled. Its descriptor, or -errno. */
static long page_file(void)
{
    struct rlimit limit;
    uint8_t random[16];
    size_t at;
    long fd, error = SYS_CALL(getrandom, random, sizeof random, 0, 0, 0, 0);

    if (error != sizeof random)
        return error < 0 ? error : -EIO;
    at = text_add(shim.page_path, sizeof shim.page_path, 0, shim.run_directory);
    at = text_add(shim.page_path, sizeof shim.page_path, at, "/");
    for (int i = 0; i < 2; i++) {
        uint64_t half;
        __builtin_memcpy(&half, random + 8 * i, 8);
        at = text_add_hex(shim.page_path, sizeof shim.page_path, at, half | UINT64_C(1) << 63);
    }
    SYS_CALL(prlimit64, 0, RLIMIT_FSIZE, 0, &limit, 0, 0);
    fd = make_file(&limit);
    if (fd < 0)
        return fd;
    error = SYS_CALL(fchmod, fd, 0600, 0, 0, 0, 0); /* whatever the umask has taken away */
    if (!error)
        error = limit.rlim_max < AGENT_PAGE_BYTES ? fill_spare((int)fd) : page_fill_file((int)fd, &limit);
    if (error) {
        sys_unlink(shim.page_path);
        sys_close((int)fd);
        return error;
    }
    return fd;
}

void registry_leave(void)
{
    if (shim.page)
        sys_unlink(shim.page_path);
}

static long page_file_in_directory(void)
{
    long fd = -ENOENT;

    for (int again = 0; fd == -ENOENT && again < 3; again++) { /* a sweep may take the empty directory away in between */
        fd = own_directories();
        if (!fd)
            fd = page_file();
    }
    return fd;
}

/* Address space for a page of a program that has none left (RLIMIT_AS). Once it has been used it is no more: a fork child,
 * or a page that has gone, leaves a hole there into which the program may have mapped. */
static uint8_t page_room[AGENT_PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

static struct agent_page *map_page(int fd)
{
    static int used;
    void *page = sys_mmap(NULL, AGENT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if ((long)page != -ENOMEM || used)
        return page;
    used = 1;
    return sys_mmap(page_room, AGENT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
}

static long make_and_map(void *ret_page)
{
    long fd = page_file_in_directory();
    struct agent_page *page;

    if (fd < 0)
        return fd;
    page = map_page((int)fd);
    sys_close((int)fd); /* the mapping keeps the flock */
    if (sys_mmap_failed(page)) {
        sys_unlink(shim.page_path);
        return (long)page;
    }
    *(struct agent_page **)ret_page = page;
    return 0;
}

int page_make(void)
{
    struct agent_page *page;
    long error;

    shim.page = NULL;
    shim.pid = (uint32_t)sys_getpid();
    page_namespace();
    error = make_and_map(&page);
    if (error == -EMFILE)
        error = room_with(make_and_map, &page, NULL, 0);
    if (error)
        return (int)error;
    sys_madvise(page, AGENT_PAGE_BYTES, MADV_DONTFORK);
    shim.page = page;
    shim.attempts = NO_TICK_YET; /* whoever asked for the page is trying */
    shim.page_made = interval_now();
    calls_note_page();
    return 0;
}

/* We are a fork child, with a copy of what the parent knows of itself. */
void page_become(void)
{
    for (int i = 0; i < MAX_HELPERS; i++)
        shim.helpers[i] = 0; /* the parent's */
    cpu_clocks_forget();
    calls_enter_child();
    exclude_enter_child();
    shim.starting = shim.leaving = shim.remaking = 0;
    shim.page = shim.old_page = NULL; /* not inherited */
    shim.first = 0;
    shim.pid_namespace = 0;
    shim.pid = (uint32_t)sys_getpid();
}

/* Also a child that libc knows nothing of, unless the memory is still the parent's (vfork). */
int page_become_child(void)
{
    long compared = SYS_CALL(kcmp, sys_getpid(), shim.pid, KCMP_VM, 0, 0, 0);

    if (compared <= 0 && compared != -ESRCH)
        return 0;
    page_become();
    return 1;
}

void page_drop(void)
{
    if (shim.pid != (uint32_t)sys_getpid())
        return;
    shim.leaving = 1;
    if (!shim.page)
        return;
    registry_leave();
    sys_rmdir(shim.run_directory); /* fails while others are in it, as it should */
    sys_rmdir(shim.registry);
}

/* A saver gives orders on that page: threads may be parked on it. */
static int is_at_work(const struct agent_page *page)
{
    uint32_t kind = page ? ORDER_KIND(__atomic_load_n(&page->order, __ATOMIC_SEQ_CST)) : ORDER_NONE;
    return kind != ORDER_NONE && kind != ORDER_RESUME;
}

void page_remake_when_gone(void)
{
    struct stat status;
    struct agent_page *old = shim.page;

    if (old && !sys_fstatat(AT_FDCWD, shim.page_path, &status, AT_SYMLINK_NOFOLLOW))
        return;
    if (shim.leaving || is_at_work(old) || __atomic_exchange_n(&shim.remaking, 1, __ATOMIC_SEQ_CST))
        return;
    if (old)
        shim.generation = old->generation;
    if (page_make())
        shim.page = old;
    else if (old) { /* it stays mapped for now: another thread's handler may have just read shim.page */
        if (shim.old_page)
            sys_munmap(shim.old_page, AGENT_PAGE_BYTES);
        shim.old_page = old;
    }
    __atomic_store_n(&shim.remaking, 0, __ATOMIC_SEQ_CST);
}
