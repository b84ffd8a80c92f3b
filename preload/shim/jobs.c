/* SPDX-License-Identifier: MIT */
/* Job control: processes that Ctrl-Z or SIGSTOP had stopped. To be taken, or brought back, they must run for a moment, in our handler; what
 * their parent sees of that (SIGCHLD, what wait(2) tells of children that have stopped or go on) the parent itself, which stands in
 * our handler as well, takes away again. Island: no libc. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

enum { STOP_LOOKS = 20000, STOP_LOOK_NANOSECONDS = 200000, PARENT_LOOK_NANOSECONDS = 100000000, PARENT_LOOKS = 600 };

static int wait_child(int pid, int options, siginfo_t *ret_info)
{
    __builtin_memset(ret_info, 0, sizeof *ret_info);
    return !SYS_CALL(waitid, P_PID, pid, ret_info, options | WNOHANG | __WALL, 0, 0) && ret_info->si_pid;
}

int jobs_child_goes_on(int pid)
{
    siginfo_t info = { 0 };

    return !SYS_CALL(waitid, pid ? P_PID : P_ALL, pid, &info, WCONTINUED | WNOWAIT | WNOHANG | __WALL, 0, 0) && info.si_pid;
}

/* It comes a moment after wait(2) knows; unless one waits already, which is the program's. */
static void take_child_signal(int one_waits)
{
    uint64_t set = SYS_SIGNAL_BIT(SIGCHLD);
    struct timespec patience = { .tv_sec = 1 };
    struct agent_action action;

    sys_rt_sigaction(SIGCHLD, NULL, &action);
    if (!one_waits && action.handler != (uint64_t)SIG_IGN && !(action.flags & SA_NOCLDSTOP))
        SYS_CALL(rt_sigtimedwait, &set, NULL, &patience, SYS_SIGSET_BYTES, 0, 0);
}

static int child_signal_waits(void)
{
    return !!(stop_pending() & SYS_SIGNAL_BIT(SIGCHLD));
}

static void remember_child(struct agent_page *page, int pid, int is_reported)
{
    if (page->woken_count < AGENT_MAX_WOKEN)
        page->woken[page->woken_count++] = (struct agent_job){ .pid = pid, .is_reported = (uint32_t)is_reported };
}

void jobs_forget_child(struct agent_page *page, int pid)
{
    for (uint32_t i = 0; i < page->woken_count; i++)
        if (page->woken[i].pid == pid)
            page->woken[i] = page->woken[--page->woken_count];
}

long jobs_wake_child(struct agent_page *page, int pid)
{
    int waits = child_signal_waits();
    siginfo_t info;
    long signal = wait_child(pid, WSTOPPED | WNOWAIT, &info) ? info.si_status : 0;
    long error;

    remember_child(page, pid, !signal);
    error = sys_kill(pid, SIGCONT);
    if (error)
        return error;
    take_child_signal(waits);
    wait_child(pid, WCONTINUED, &info);
    return signal;
}

/* The child waits for our word, so that its SIGCHLD comes when no other does. */
long jobs_stop_child(int pid, int is_reported)
{
    struct timespec pause = { .tv_nsec = STOP_LOOK_NANOSECONDS };
    int waits = child_signal_waits(), stopped = 0;
    siginfo_t info = { .si_signo = STOP_SIGNAL, .si_code = SI_QUEUE };

    info.si_value.sival_ptr = (void *)(uintptr_t)VALUE_HALT;
    if (SYS_CALL(rt_sigqueueinfo, pid, STOP_SIGNAL, &info, 0, 0, 0))
        return -ESRCH;
    for (int i = 0; i < STOP_LOOKS && !(stopped = wait_child(pid, WSTOPPED | WEXITED | WNOWAIT, &info)); i++)
        SYS_CALL(nanosleep, &pause, 0, 0, 0, 0, 0);
    if (!stopped || info.si_code != CLD_STOPPED)
        return -ESRCH;
    take_child_signal(waits);
    if (is_reported)
        wait_child(pid, WSTOPPED, &info);
    return 0;
}

/* 0 when it was told to run on instead; where nobody gives orders (page NULL) a parent that has ended tells nothing, and one that has not does so
 * soon or never. */
static int await_parent(const struct agent_page *page)
{
    uint64_t set = SYS_SIGNAL_BIT(STOP_SIGNAL);
    struct timespec look = { .tv_nsec = PARENT_LOOK_NANOSECONDS };
    long parent = SYS_CALL(getppid, 0, 0, 0, 0, 0, 0);
    siginfo_t info;

    for (int looks = 0; page || looks < PARENT_LOOKS; looks++) {
        if (SYS_CALL(rt_sigtimedwait, &set, &info, &look, SYS_SIGSET_BYTES, 0, 0) == STOP_SIGNAL && info.si_code == SI_QUEUE &&
            (uint64_t)info.si_value.sival_ptr == VALUE_HALT)
            return 1;
        if (page && ORDER_KIND(__atomic_load_n(&page->order, __ATOMIC_SEQ_CST)) != ORDER_HALT)
            return 0;
        if (!page && SYS_CALL(getppid, 0, 0, 0, 0, 0, 0) != parent)
            return 1;
    }
    return 1;
}

/* By the signal that it was stopped by, which its parent may be told. It stops nobody in a group that has been orphaned. */
static void stop_as_by(int signal)
{
    const struct agent_action by_default = { .handler = (uint64_t)SIG_DFL };
    uint64_t set = SYS_SIGNAL_BIT(signal);
    struct agent_action action;

    sys_rt_sigaction(signal, &by_default, &action);
    sys_kill((int)shim.pid, signal);
    sys_rt_sigprocmask(SIG_UNBLOCK, &set, NULL);
    sys_rt_sigprocmask(SIG_BLOCK, &set, NULL);
    sys_rt_sigaction(signal, &action, NULL);
}

/* Whoever lets it go on sends SIGCONT, which waits then, as all signals are blocked. */
void jobs_halt(const struct agent_page *page, int signal, int with_parent)
{
    if (with_parent && !await_parent(page))
        return;
    if (signal != SIGSTOP)
        stop_as_by(signal);
    if (!(stop_pending() & SYS_SIGNAL_BIT(SIGCONT)) || signal == SIGSTOP)
        sys_kill((int)shim.pid, SIGSTOP);
}

/* The children first: each waits for our word, and we may stand for long. */
void jobs_rest(struct agent_page *page)
{
    uint32_t stop = __atomic_exchange_n(&page->job_stop, 0, __ATOMIC_SEQ_CST);

    while (page->woken_count) {
        struct agent_job child = page->woken[--page->woken_count];
        jobs_stop_child(child.pid, (int)child.is_reported);
    }
    if (stop)
        jobs_halt(NULL, (int)(stop & ~JOB_HAS_PARENT), !!(stop & JOB_HAS_PARENT));
    if (__atomic_exchange_n(&page->is_resting, 0, __ATOMIC_SEQ_CST))
        sys_futex(&page->is_resting, FUTEX_WAKE, INT_MAX, NULL);
}

/* One that is stopped only so that it can go on, which its parent will hear when it asks. */
static void let_child_go_on(int pid)
{
    struct timespec pause = { .tv_nsec = STOP_LOOK_NANOSECONDS };
    int waits = child_signal_waits();

    if (jobs_stop_child(pid, 1) || sys_kill(pid, SIGCONT))
        return;
    take_child_signal(waits);
    for (int i = 0; i < STOP_LOOKS && !jobs_child_goes_on(pid); i++)
        SYS_CALL(nanosleep, &pause, 0, 0, 0, 0, 0);
}

/* After a restart, while all threads wait. */
void jobs_stop_children(const struct restart_note *note)
{
    const struct agent_job *jobs = (const struct agent_job *)note->jobs;

    for (uint64_t i = 0; i < note->job_count; i++)
        if (jobs[i].is_reported == CHILD_GOES_ON)
            let_child_go_on(jobs[i].pid);
        else
            jobs_stop_child(jobs[i].pid, (int)jobs[i].is_reported);
}

void jobs_come_back(const struct restart_note *note)
{
    uint64_t pending = stop_pending();

    jobs_halt(NULL, (int)note->stop, (int)note->stop_with_parent);
    if (note->stop_with_parent == CHILD_GOES_ON)
        stop_swallow(SIGCONT, pending);
}
