/* SPDX-License-Identifier: MIT */
/* System calls without libc: same names and arguments as in section 2 of the manual, -errno as the error. */
#ifndef STASIS_SYSCALLS_H
#define STASIS_SYSCALLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "arch/x86_64/syscall.h"

#define SYS_CALL(name, a, b, c, d, e, f) \
    sys_call6(SYS_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* include/uapi/asm-generic/signal.h: masks of the raw calls are 8 bytes; bit n - 1 is signal n. */
enum { SYS_SIGSET_BYTES = 8 };
#define SYS_SIGNAL_BIT(number) (UINT64_C(1) << ((number) - 1))

static inline long sys_close(int fd) { return SYS_CALL(close, fd, 0, 0, 0, 0, 0); }
static inline long sys_read(int fd, void *to, size_t n) { return SYS_CALL(read, fd, to, n, 0, 0, 0); }
static inline long sys_write(int fd, const void *from, size_t n) { return SYS_CALL(write, fd, from, n, 0, 0, 0); }
static inline long sys_openat(int dir, const char *path, int flags, int mode)
{
    return SYS_CALL(openat, dir, path, flags, mode, 0, 0);
}
static inline long sys_mkdir(const char *path, int mode) { return SYS_CALL(mkdir, path, mode, 0, 0, 0, 0); }
static inline long sys_rmdir(const char *path) { return SYS_CALL(rmdir, path, 0, 0, 0, 0, 0); }
static inline long sys_chmod(const char *path, int mode) { return SYS_CALL(chmod, path, mode, 0, 0, 0, 0); }
static inline long sys_unlink(const char *path) { return SYS_CALL(unlink, path, 0, 0, 0, 0, 0); }
static inline long sys_flock(int fd, int operation) { return SYS_CALL(flock, fd, operation, 0, 0, 0, 0); }
static inline long sys_ftruncate(int fd, size_t n) { return SYS_CALL(ftruncate, fd, n, 0, 0, 0, 0); }
static inline long sys_fstatat(int dir, const char *path, void *stat, int flags)
{
    return SYS_CALL(newfstatat, dir, path, stat, flags, 0, 0);
}
static inline void *sys_mmap(void *at, size_t n, int protection, int flags, int fd, uint64_t offset)
{
    return (void *)SYS_CALL(mmap, at, n, protection, flags, fd, offset);
}
static inline int sys_mmap_failed(const void *mapping) { return (unsigned long)mapping > -4096UL; }
static inline long sys_munmap(void *at, size_t n) { return SYS_CALL(munmap, at, n, 0, 0, 0, 0); }
static inline long sys_madvise(void *at, size_t n, int advice) { return SYS_CALL(madvise, at, n, advice, 0, 0, 0); }
static inline long sys_getpid(void) { return SYS_CALL(getpid, 0, 0, 0, 0, 0, 0); }
static inline long sys_gettid(void) { return SYS_CALL(gettid, 0, 0, 0, 0, 0, 0); }
static inline long sys_geteuid(void) { return SYS_CALL(geteuid, 0, 0, 0, 0, 0, 0); }
static inline long sys_kill(int pid, int number) { return SYS_CALL(kill, pid, number, 0, 0, 0, 0); }
static inline long sys_prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return SYS_CALL(prctl, option, a, b, c, d, 0);
}
static inline long sys_wait4(int pid, int *status, int options) { return SYS_CALL(wait4, pid, status, options, 0, 0, 0); }
static inline long sys_futex(uint32_t *word, int operation, uint32_t value, const void *timeout)
{
    return SYS_CALL(futex, word, operation, value, timeout, 0, 0);
}
static inline long sys_rt_sigprocmask(int how, const uint64_t *set, uint64_t *old)
{
    return SYS_CALL(rt_sigprocmask, how, set, old, SYS_SIGSET_BYTES, 0, 0);
}
static inline long sys_rt_sigaction(int number, const void *action, void *old)
{
    return SYS_CALL(rt_sigaction, number, action, old, SYS_SIGSET_BYTES, 0, 0);
}
/* Nanoseconds; 0 for a clock that is no more. */
static inline int64_t sys_clock(int clock)
{
    struct timespec time = { 0 };
    SYS_CALL(clock_gettime, clock, &time, 0, 0, 0, 0);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}
static inline __attribute__((noreturn)) void sys_exit_group(int status)
{
    for (;;)
        SYS_CALL(exit_group, status, 0, 0, 0, 0, 0);
}

#endif
