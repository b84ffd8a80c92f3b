/* SPDX-License-Identifier: MIT */
/* The twin: a fork that holds the frozen moment copy-on-write and does nothing else. Island: no libc.
 *
 * It shares the descriptor table until the saver has described the descriptors, then leaves it without closing
 * anything: so no pipe's reader ever waits for an end of file because of it. It is an orphan, forked by a stub, so
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

static void volunteer_to_the_oom_killer(void)
{
    long fd = sys_openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    sys_write((int)fd, "1000", 4);
    sys_close((int)fd);
}

static void answer(struct agent_page *page, enum twin_answer answer)
{
    __atomic_store_n(&page->twin_answer, answer, __ATOMIC_SEQ_CST);
    sys_futex(&page->twin_answer, FUTEX_WAKE, 1, NULL);
}

static __attribute__((noreturn)) void twin_run(struct agent_page *page)
{
    struct timespec look = { .tv_sec = PARK_LOOK_SECONDS };
    uint64_t token = page->token;
    char byte;
    long socket;

    sys_prctl(PR_SET_NAME, (uint64_t)TWIN_NAME, 0, 0, 0);
    sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    sys_prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    traits_of_twin(page);
    answer(page, TWIN_STANDS);
    while (__atomic_load_n(&page->twin_order, __ATOMIC_SEQ_CST) != TWIN_LEAVE) {
        /* no descriptor may be opened here: the table is the program's */
        if (sys_futex(&page->twin_order, FUTEX_WAIT, TWIN_WAIT, &look) &&
            (sys_kill((int)page->saver_pid, 0) || ORDER_KIND(page->order) == ORDER_RESUME))
            sys_exit_group(0);
        if (__atomic_load_n(&page->token, __ATOMIC_SEQ_CST) != token)
            sys_exit_group(0);
    }
    if (__atomic_load_n(&page->token, __ATOMIC_SEQ_CST) != token)
        sys_exit_group(0); /* that order was for another saver's twin */
    if (SYS_CALL(close_range, 0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0, 0))
        sys_exit_group(1);
    answer(page, TWIN_HAS_LEFT);
    volunteer_to_the_oom_killer();
    socket = handles_connect(page->socket);
    if (socket < 0 || handles_send((int)socket, handles_of_memory, HANDLES_OF_MEMORY))
        sys_exit_group(1);
    sys_munmap(page, AGENT_PAGE_BYTES); /* and with it our share in the flock */
    sys_read((int)socket, &byte, 1);    /* ends when the saver closes its side, or dies */
    sys_exit_group(0);
}

static uint8_t stub_stack[STUB_STACK_BYTES] __attribute__((aligned(16)));
static struct agent_page *stub_page;

/* In a stub that shares our memory: a fork of it is a fork of the program. It becomes init's when the stub ends. */
static void fork_orphan(void)
{
    long pid = SYS_CALL(clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0, 0);

    if (pid == 0)
        twin_run(stub_page);
    stub_page->twin_pid = (int32_t)pid;
    sys_exit_group(0);
}

static long make_orphan(struct agent_page *page)
{
    int32_t *place = helper_place();
    long stub;

    stub_page = page;
    page->twin_pid = -EAGAIN;
    stub = stub_clone(stub_stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PARENT_SETTID, place, fork_orphan);
    if (stub < 0) {
        *place = 0;
        return stub;
    }
    if (sys_wait4((int)stub, NULL, __WCLONE) == stub)
        helper_forget((int)stub);
    return page->twin_pid;
}

static long make_child(struct agent_page *page)
{
    int32_t *place = helper_place();
    long pid = SYS_CALL(clone, CLONE_FILES | CLONE_PARENT_SETTID | STOP_SIGNAL, 0, place, 0, 0, 0);

    if (pid == 0)
        twin_run(page);
    if (pid < 0)
        *place = 0;
    return page->twin_pid = (int32_t)pid;
}

long twin_make(struct agent_page *page)
{
    long pid;

    page->twin_answer = 0;
    page->twin_order = TWIN_WAIT;
    sys_madvise(page, AGENT_PAGE_BYTES, MADV_DOFORK);
    ipc_hide_segments();
    pid = stub_must_stay(page) ? make_child(page) : make_orphan(page);
    ipc_show_segments();
    sys_madvise(page, AGENT_PAGE_BYTES, MADV_DONTFORK);
    return pid < 0 ? pid : 0;
}
