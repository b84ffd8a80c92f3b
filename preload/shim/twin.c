/* SPDX-License-Identifier: MIT */
/* The twin: a fork that holds the frozen moment copy-on-write and does nothing else. Island: no libc.
 *
 * It shares the descriptor table, as the saver may have to describe the descriptors by it, and leaves it without closing
 * anything: so no pipe's reader ever waits for an end of file because of it. It is an orphan, of a fork that has ended, so
 * that no wait() of the program's sees it, nor that of the program it may exec. A program that would get its own
 * orphans back, or where another of the step above it would, has it as a child instead, with the stop signal as its exit
 * signal: wait() does not see such a child either, and its end calls our handler, which reaps it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

/* When nobody shares the memory with it any more: or the kernel looks through all processes for those that volunteer, too. */
static void volunteer_to_the_oom_killer(void)
{
    long fd = sys_openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    sys_write((int)fd, "1000", 4);
    sys_close((int)fd);
}

static void leave_descriptors(void)
{
    if (SYS_CALL(close_range, 0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0, 0))
        sys_exit_group(1);
}

static void answer(struct agent_page *page, enum twin_answer answer)
{
    __atomic_store_n(&page->twin_answer, answer, __ATOMIC_SEQ_CST);
    sys_futex(&page->twin_answer, FUTEX_WAKE, 1, NULL);
}

/* Ends when that order does not come any more: the saver has died or given up, or another has come. */
static void await_order(struct agent_page *page, uint64_t token, enum twin_order wanted)
{
    struct timespec look = { .tv_sec = PARK_LOOK_SECONDS };
    uint32_t order;

    while ((order = __atomic_load_n(&page->twin_order, __ATOMIC_SEQ_CST)) < wanted) {
        /* no descriptor may be opened here: the table may be the program's */
        int is_given_up = wanted == TWIN_LEAVE && ORDER_KIND(page->order) == ORDER_RESUME;
        if (sys_futex(&page->twin_order, FUTEX_WAIT, order, &look) && (sys_kill((int)page->saver_pid, 0) || is_given_up))
            sys_exit_group(0);
        if (__atomic_load_n(&page->token, __ATOMIC_SEQ_CST) != token)
            sys_exit_group(0);
    }
    if (__atomic_load_n(&page->token, __ATOMIC_SEQ_CST) != token)
        sys_exit_group(0); /* that order was for another saver's twin */
}

static __attribute__((noreturn)) void twin_run(struct agent_page *page)
{
    uint64_t token = page->token;
    char byte;
    long socket;

    sys_prctl(PR_SET_NAME, (uint64_t)TWIN_NAME, 0, 0, 0);
    sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    sys_prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    traits_of_twin(page);
    if (page->twin_order < TWIN_LEAVE) {
        answer(page, TWIN_STANDS);
        await_order(page, token, TWIN_LEAVE);
        leave_descriptors();
    }
    answer(page, TWIN_HAS_LEFT);
    await_order(page, token, TWIN_MEET);
    volunteer_to_the_oom_killer();
    orders_describe_inherited();
    socket = handles_connect(page->socket);
    if (socket < 0 || handles_send((int)socket, handles_of_memory, HANDLES_OF_MEMORY))
        sys_exit_group(1);
    sys_munmap(page, AGENT_PAGE_BYTES); /* and with it our share in the flock */
    sys_read((int)socket, &byte, 1);    /* ends when the saver closes its side, or dies */
    sys_exit_group(0);
}

static uint8_t orphan_stack[STUB_STACK_BYTES] __attribute__((aligned(16)));
static struct agent_page *orphan_page;

static void run_orphan(void)
{
    twin_run(orphan_page);
}

/* In the fork: somebody who shares its memory stays in its place, and becomes init's when it ends. */
static __attribute__((noreturn)) void leave_orphan(struct agent_page *page)
{
    orphan_page = page;
    stub_clone(orphan_stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID | SIGCHLD, &page->twin_pid, run_orphan);
    sys_exit_group(0);
}

static long fork_twin(struct agent_page *page, int is_child)
{
    int32_t *place = helper_place();
    int64_t began = sys_clock(CLOCK_MONOTONIC);
    long pid;

    page->twin_pid = -EAGAIN;
    pid = SYS_CALL(clone, CLONE_FILES | CLONE_PARENT_SETTID | (is_child ? STOP_SIGNAL : 0), 0, place, 0, 0, 0);
    if (pid == 0 && page->twin_order >= TWIN_LEAVE)
        leave_descriptors();
    if (pid == 0 && is_child)
        twin_run(page);
    if (pid == 0)
        leave_orphan(page);
    page->fork_nanoseconds = (uint64_t)(sys_clock(CLOCK_MONOTONIC) - began);
    if (pid < 0)
        *place = 0;
    sys_futex(&page->turn, FUTEX_WAKE, 1, NULL); /* the next process, which forks meanwhile */
    return pid;
}

static long reap_fork(const struct agent_page *page, int pid)
{
    if (sys_wait4(pid, NULL, __WCLONE) == pid)
        helper_forget(pid);
    return page->twin_pid;
}

long twin_make(struct agent_page *page)
{
    int is_child = stub_must_stay(page);
    long pid;

    page->twin_answer = 0;
    page->twin_order = page->dumpable == 1 ? TWIN_LEAVE : TWIN_WAIT; /* the saver reads our own table, if it may */
    sys_madvise(page, AGENT_PAGE_BYTES, MADV_DOFORK);
    ipc_hide_segments();
    pid = fork_twin(page, is_child);
    ipc_show_segments();
    sys_madvise(page, AGENT_PAGE_BYTES, MADV_DONTFORK);
    if (pid > 0 && is_child)
        page->twin_pid = (int32_t)pid;
    else if (pid > 0)
        pid = reap_fork(page, (int)pid);
    return pid < 0 ? pid : 0;
}
