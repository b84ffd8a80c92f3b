/* SPDX-License-Identifier: MIT */
/* Room for a few descriptors of our own, in a program that may have used up all it is allowed. Island: no libc. */
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

enum { NEEDED = 3, NUMBERS = 1 << 20 };

static uint8_t stack[STUB_STACK_BYTES] __attribute__((aligned(16)));
static struct {
    long (*work)(void *argument);
    void *argument;
    const int *kept;
    uint32_t kept_count;
    long result;
} apart;

static int has_room(void)
{
    int made[NEEDED], count = 0;

    while (count < NEEDED) {
        long fd = SYS_CALL(epoll_create1, EPOLL_CLOEXEC, 0, 0, 0, 0, 0);
        if (fd < 0)
            break;
        made[count++] = (int)fd;
    }
    for (int i = 0; i < count; i++)
        sys_close(made[i]);
    return count == NEEDED;
}

static int is_kept(int fd)
{
    for (uint32_t i = 0; i < apart.kept_count; i++)
        if (apart.kept[i] == fd)
            return 1;
    return 0;
}

/* Nothing of the program's is closed by this: its own table holds all. Record locks, too, belong to a table. */
static void run_apart(void)
{
    for (int fd = 0, closed = 0; closed < NEEDED && fd < NUMBERS; fd++)
        closed += !is_kept(fd) && !sys_close(fd);
    apart.result = apart.work(apart.argument);
    SYS_CALL(exit, 0, 0, 0, 0, 0, 0);
}

/* In a thread with a descriptor table of its own: to everybody else it is still this process. It has ended when clone returns,
 * but for what the kernel does behind it. */
static long work_apart(long (*work)(void *), void *argument, const int *kept, uint32_t kept_count)
{
    long thread;

    apart.work = work;
    apart.argument = argument;
    apart.kept = kept;
    apart.kept_count = kept_count;
    apart.result = -EMFILE;
    thread = stub_clone(stack, CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_VFORK, NULL, run_apart);
    return thread < 0 ? thread : apart.result;
}

long room_with(long (*work)(void *), void *argument, const int *kept, uint32_t kept_count)
{
    struct rlimit old, more;
    long result;

    SYS_CALL(prlimit64, 0, RLIMIT_NOFILE, 0, &old, 0, 0);
    more = old;
    more.rlim_cur = old.rlim_cur + 8 < old.rlim_max ? old.rlim_cur + 8 : old.rlim_max;
    SYS_CALL(prlimit64, 0, RLIMIT_NOFILE, &more, 0, 0, 0);
    result = has_room() ? work(argument) : work_apart(work, argument, kept, kept_count);
    SYS_CALL(prlimit64, 0, RLIMIT_NOFILE, &old, 0, 0, 0);
    return result;
}
