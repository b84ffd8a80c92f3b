/* SPDX-License-Identifier: MIT */
/* Starting the saver so that the program cannot notice it. Island: no libc.
 *
 * A child that execs gets SIGCHLD as its exit signal back, whatever clone() said, so the saver must not be the
 * program's own child: a stub stands between, a child with the stop signal as its exit signal that never execs. The stub
 * ends at once and the saver goes to init, unless orphans would come to the program (PID 1, or a subreaper, here or above): then
 * the stub stays until the saver has ended. Both share memory (no page table is copied) and leave the descriptor table. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

static uint8_t stub_stack[STUB_STACK_BYTES] __attribute__((aligned(16)));
static uint8_t saver_stack[STUB_STACK_BYTES] __attribute__((aligned(16)));
static int stub_stays;
static uint32_t saver_started;
static struct saver_call saver_call;
static int32_t saver_pid;

/* What exec(2) does not undo: the time stamp counter taken away, by which it reads clocks; and real time, in which the machine
 * would stand still while it writes. */
static void become_ordinary(void)
{
    enum { ORDINARY = 0, FIFO = 1, ROUND_ROBIN = 2, DEADLINE = 6 };
    long policy = SYS_CALL(sched_getscheduler, 0, 0, 0, 0, 0, 0) & ~0x40000000L; /* SCHED_RESET_ON_FORK */
    int32_t priority = 0;

    sys_prctl(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0);
    if (policy == FIFO || policy == ROUND_ROBIN || policy == DEADLINE)
        SYS_CALL(sched_setscheduler, 0, ORDINARY, &priority, 0, 0, 0);
}

static void exec_saver(void)
{
    char pid[24], space[24], call[24];
    const char *arguments[] = { SAVER_NAME, "--directory", shim.run_directory, "--pid-namespace", space,
                                "--requester", pid, saver_call.number ? saver_call.is_owed ? "--owed" : "--call" : NULL, call, NULL };
    const char *environment[] = { "PATH=/usr/bin:/bin", shim.test_fail[0] ? shim.test_fail : NULL, NULL };

    /* before anything else: until then the table is the program's */
    if (SYS_CALL(close_range, 0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0, 0))
        sys_exit_group(127);
    text_add_number(pid, sizeof pid, 0, shim.pid);
    text_add_number(space, sizeof space, 0, page_namespace());
    text_add_number(call, sizeof call, 0, saver_call.number);
    sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
    SYS_CALL(dup2, 0, 1, 0, 0, 0, 0);
    SYS_CALL(dup2, 0, 2, 0, 0, 0, 0);
    SYS_CALL(setsid, 0, 0, 0, 0, 0, 0);
    become_ordinary();
    SYS_CALL(execve, shim.saver, arguments, environment, 0, 0, 0);
    sys_exit_group(127);
}

static void run_stub(void)
{
    long saver = stub_clone(saver_stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, NULL, exec_saver);

    saver_pid = (int32_t)saver;
    __atomic_store_n(&saver_started, 1, __ATOMIC_SEQ_CST);
    sys_futex(&saver_started, FUTEX_WAKE_PRIVATE, 1, NULL);
    if (stub_stays && saver > 0) {
        SYS_CALL(close_range, 0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0, 0);
        sys_wait4((int)saver, NULL, 0);
        __atomic_store_n(&shim.starting, 0, __ATOMIC_SEQ_CST);
    }
    sys_exit_group(0);
}

static void say_no_page(void)
{
    char line[256];
    size_t at = text_add(line, sizeof line, 0, "stasis: no checkpoint: ");

    at = text_add(line, sizeof line, at, shim.run_directory);
    text_add(line, sizeof line, at, " cannot be made, is full, or belongs to somebody else\n");
    stop_say(line);
}

/* shim.starting is ours. */
static long start(struct saver_call call)
{
    int32_t *place;
    long stub;

    page_remake_when_gone();
    if (!shim.page)
        return -ENOENT;
    if (call.number) {
        shim.page->call_number = call.number;
        __atomic_store_n(&shim.page->call, call.is_owed ? CALL_OWED : CALL_ASKED, __ATOMIC_SEQ_CST);
    }
    saver_call = call;
    saver_pid = -EAGAIN;
    stub_stays = stub_must_stay(shim.page);
    saver_started = 0;
    place = helper_place();
    stub = stub_clone(stub_stack, CLONE_VM | CLONE_FILES | CLONE_PARENT_SETTID | (stub_stays ? STOP_SIGNAL : CLONE_VFORK),
                    place, run_stub);
    if (stub < 0)
        *place = 0;
    if (stub > 0 && !stub_stays && sys_wait4((int)stub, NULL, __WCLONE) == stub)
        helper_forget((int)stub);
    while (stub > 0 && stub_stays && !__atomic_load_n(&saver_started, __ATOMIC_SEQ_CST))
        sys_futex(&saver_started, FUTEX_WAIT_PRIVATE, 0, NULL);
    return stub < 0 ? stub : saver_pid;
}

long saver_start(struct saver_call call)
{
    uint32_t no = 0;
    long saver;

    if (!__atomic_compare_exchange_n(&shim.starting, &no, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return -EBUSY; /* joined to the one that is on its way */
    saver = start(call);
    if (saver == -ENOENT && !call.number)
        say_no_page();
    if (saver < 0 || !stub_stays)
        __atomic_store_n(&shim.starting, 0, __ATOMIC_SEQ_CST);
    return saver;
}
