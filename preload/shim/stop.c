/* SPDX-License-Identifier: MIT */
/* The signal handlers: parking a thread, and what else the stop signal carries. Island: no libc.
 * The kernel has saved every register in the frame below us; returning from the handler brings them back. */
#include <asm/prctl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../core/floor/arch/x86_64/context.h"
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

struct shim shim NEAR_THE_SHIM;

/* A place for the PID of a helper that is to be: clone() fills it in (CLONE_PARENT_SETTID) before the helper can end, so
 * that no wait of the program's finds it unknown. */
int32_t *helper_place(void)
{
    static int32_t spare;

    for (int i = 0; i < MAX_HELPERS; i++) {
        int32_t none = 0;
        if (__atomic_compare_exchange_n(&shim.helpers[i], &none, -1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return &shim.helpers[i];
    }
    return &spare;
}

int helper_forget(int pid)
{
    for (int i = 0; i < MAX_HELPERS; i++) {
        int32_t is = pid;
        if (__atomic_compare_exchange_n(&shim.helpers[i], &is, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 1;
    }
    return 0;
}

/* Before exec: the kernel gives a helper that ends afterwards SIGCHLD as its signal (its parent is another program then).
 * The saver finds its twin dead, and takes the new program instead. */
void helpers_end(void)
{
    for (int i = 0; i < MAX_HELPERS; i++) {
        int32_t pid = __atomic_load_n(&shim.helpers[i], __ATOMIC_SEQ_CST);
        if (pid > 0 && !sys_kill(pid, SIGKILL) && sys_wait4(pid, NULL, __WCLONE) == pid)
            helper_forget(pid);
    }
}

/* Helpers are children whose exit signal is the stop signal, so only waits that ask for such children see them. */
static void helper_reap(int pid)
{
    if (sys_wait4(pid, NULL, WNOHANG | __WCLONE) == pid && helper_forget(pid))
        shim.starting = 0; /* a stub that was killed could not say that its saver had ended */
}

/* All signals are blocked here: one that our own write has raised must not reach the program. */
void stop_swallow(int number, uint64_t pending_before)
{
    uint64_t set = SYS_SIGNAL_BIT(number);
    struct timespec none = { 0 };

    if (!(pending_before & set))
        SYS_CALL(rt_sigtimedwait, &set, NULL, &none, SYS_SIGSET_BYTES, 0, 0);
}

uint64_t stop_pending(void)
{
    uint64_t pending = 0;
    SYS_CALL(rt_sigpending, &pending, SYS_SIGSET_BYTES, 0, 0, 0, 0);
    return pending;
}

uint64_t stop_keep_out(uint32_t *lock)
{
    const uint64_t all = ~UINT64_C(0);
    uint64_t old;

    sys_rt_sigprocmask(SIG_SETMASK, &all, &old);
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
        SYS_CALL(sched_yield, 0, 0, 0, 0, 0, 0);
    return old;
}

void stop_let_in(uint32_t *lock, uint64_t old)
{
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
    sys_rt_sigprocmask(SIG_SETMASK, &old, NULL);
}

void stop_note_stderr(void)
{
    struct stat status;

    shim.stderr_inode = 0;
    if (!SYS_CALL(fstat, 2, &status, 0, 0, 0, 0)) {
        shim.stderr_device = status.st_dev;
        shim.stderr_inode = status.st_ino;
    }
}

int stop_has_stderr(void)
{
    struct stat status;
    return !SYS_CALL(fstat, 2, &status, 0, 0, 0, 0) && status.st_dev == shim.stderr_device &&
           status.st_ino == shim.stderr_inode;
}

/* Only when descriptor 2 is still what the program was started with, and takes a line without waiting. */
void stop_say(const char *text)
{
    struct pollfd ready = { .fd = 2, .events = POLLOUT };
    uint64_t pending = stop_pending();

    if (stop_has_stderr() && SYS_CALL(poll, &ready, 1, 0, 0, 0, 0) == 1 && ready.revents & POLLOUT) {
        sys_write(2, text, text_length(text));
        stop_swallow(SIGPIPE, pending);
        stop_swallow(SIGXFSZ, pending);
    }
}

static void describe_thread(struct agent_thread *thread, ucontext_t *frame, struct context *context)
{
    uint64_t length = 0;

    thread->frame = (uint64_t)frame;
    thread->context = (uint64_t)context;
    SYS_CALL(arch_prctl, ARCH_GET_FS, &thread->fs_base, 0, 0, 0, 0);
    SYS_CALL(arch_prctl, ARCH_GET_GS, &thread->gs_base, 0, 0, 0, 0);
    SYS_CALL(get_robust_list, 0, &thread->robust_list, &length, 0, 0, 0);
    thread->robust_length = length;
    thread->clear_child_tid = 0;
    sys_prctl(PR_GET_TID_ADDRESS, (uint64_t)&thread->clear_child_tid, 0, 0, 0);
    thread->timer_slack = (uint32_t)sys_prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    thread->rseq_length = shim.rseq_length;
    thread->rseq_signature = 0x53053053;
    thread->rseq = shim.rseq_length ? thread->fs_base + (uint64_t)shim.rseq_offset : 0;
    __atomic_store_n(&thread->tid, (uint32_t)sys_gettid(), __ATOMIC_RELEASE);
}

/* Threads that libc makes for itself (for timers with SIGEV_THREAD) block all but its own signal. While the first thread is
 * parked, that one stops them. Only where libc has a handler: it passes over what comes when it is in its place again. */
static void take_libc_signal(struct agent_page *page)
{
    sys_rt_sigaction(LIBC_SIGNAL, NULL, &shim.libc_action);
    if (shim.libc_action.handler == (uint64_t)SIG_DFL || shim.libc_action.handler == (uint64_t)SIG_IGN)
        return;
    stop_set_handler(LIBC_SIGNAL);
    __atomic_store_n(&page->libc_signal, 1, __ATOMIC_SEQ_CST);
}

static void return_libc_signal(struct agent_page *page)
{
    if (__atomic_exchange_n(&page->libc_signal, 0, __ATOMIC_SEQ_CST))
        sys_rt_sigaction(LIBC_SIGNAL, &shim.libc_action, NULL);
}

/* The kernel's code in us may be other code when we come back; and a semaphore and our books of it may differ. 1: the thread goes on, and is stopped again soon. */
static int is_let_out(struct agent_page *page, const ucontext_t *frame)
{
    uint64_t place = (uint64_t)frame->uc_mcontext.gregs[REG_RIP];
    uint32_t tid = (uint32_t)sys_gettid();

    if ((place < shim.vdso.start || place >= shim.vdso.end) && !ipc_is_adding(frame))
        return 0;
    for (int i = 0; i < AGENT_LET_OUT && __atomic_load_n(&page->let_out_allowed, __ATOMIC_SEQ_CST); i++) {
        uint32_t none = 0;
        if (!__atomic_compare_exchange_n(&page->let_out[i], &none, tid, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        sys_futex(&page->parked, FUTEX_WAKE, 1, NULL); /* where the saver waits */
        return 1;
    }
    return 0;
}

/* Not until the frame is settled may anything else happen in this thread: all signals are blocked here. Returns 1 in
 * the life after a restart. */
static int park_in_slot(struct agent_page *page, uint64_t token, ucontext_t *frame)
{
    struct context context;
    struct cpu_times times; /* on the stack, which the image carries */
    uint32_t release = __atomic_load_n(&page->release, __ATOMIC_SEQ_CST);
    uint32_t slot;

    if (ORDER_KIND(__atomic_load_n(&page->order, __ATOMIC_SEQ_CST)) != ORDER_STOP || page->token != token)
        return 0; /* given up meanwhile */
    if (is_let_out(page, frame))
        return 0;
    slot = __atomic_fetch_add(&page->parked, 1, __ATOMIC_SEQ_CST);
    if (slot >= page->thread_room)
        return 0; /* writing there could mean SIGBUS, with tmpfs full; the saver sees that `parked` is too large */
    cpu_clocks_note_thread(&times);
    if (context_save(&context)) {
        cpu_clocks_go_on_thread(&times);
        resume_after_restart(slot == 0);
        return 1;
    }
    traits_note(&page->traits[slot]); /* before the slot counts as filled */
    if (slot == 0)
        orders_describe_early(page);
    describe_thread(&page->threads[slot], frame, &context);
    sys_futex(&page->parked, FUTEX_WAKE, 1, NULL); /* the saver waits there for the next one */
    if (slot == 0) {
        take_libc_signal(page);
        orders_obey(page, token);
        return_libc_signal(page);
    } else
        orders_wait(page, token, release);
    return 0;
}

/* The next stop begins when nobody is inside any more, so that no thread of this one takes a slot of that. */
static void park(struct agent_page *page, uint64_t token, ucontext_t *frame)
{
    __atomic_fetch_add(&page->inside, 1, __ATOMIC_SEQ_CST);
    if (!park_in_slot(page, token, frame))
        __atomic_fetch_sub(&page->inside, 1, __ATOMIC_SEQ_CST);
}

static int has_value(const siginfo_t *info, uint64_t least, uint64_t most)
{
    uint64_t value = (uint64_t)info->si_value.sival_ptr;
    return info->si_code == SI_QUEUE && value >= least && value <= most;
}

static int is_token(const siginfo_t *info)
{
    return has_value(info, VALUE_FIRST_TOKEN, UINT64_MAX);
}

static int is_hold(const siginfo_t *info)
{
    return has_value(info, VALUE_HOLD, VALUE_HOLD);
}

static void obey_signal(const siginfo_t *info, void *frame)
{
    struct agent_page *page = shim.page;
    uint64_t value = (uint64_t)info->si_value.sival_ptr;

    if (info->si_code > 0)
        helper_reap(info->si_pid); /* CLD_EXITED and its like: a helper has ended */
    else if (info->si_code == SI_TIMER)
        interval_tick();
    else if (has_value(info, VALUE_REGISTER, VALUE_REGISTER) || is_hold(info))
        page_remake_when_gone();
    else if (has_value(info, VALUE_SAY, VALUE_SAY) && page)
        stop_say(page->message);
    else if (is_token(info) && page) {
        orders_await_stop(page, value);
        park(page, value, frame);
    }
}

/* What comes meanwhile is obeyed here, too: a program that job control has let go on for a stop only is not to come out of the handler
 * in between, and its SIGCONT not to it. */
static void stop_signal(int number, siginfo_t *info, void *frame)
{
    siginfo_t next;
    int holds = 0;

    (void)number;
    if ((uint32_t)sys_getpid() != shim.pid && /* a child that shares or copies our memory */
        ((!has_value(info, VALUE_REGISTER, VALUE_REGISTER) && !is_hold(info)) || !page_become_child()))
        return;
    do {
        holds = is_hold(info) || (holds && !is_token(info));
        obey_signal(info, frame);
        info = &next;
    } while (orders_next_signal(&next, holds));
    resume_settle(frame);
}

static void libc_signal(int number, siginfo_t *info, void *frame)
{
    struct agent_page *page = shim.page;
    uint64_t value = (uint64_t)info->si_value.sival_ptr;

    if (info->si_code == SI_QUEUE && value >= VALUE_FIRST_TOKEN && page && (uint32_t)sys_getpid() == shim.pid) {
        park(page, value, frame);
        resume_settle(frame);
    } else
        ((void (*)(int, siginfo_t *, void *))shim.libc_action.handler)(number, info, frame);
}

static void trigger_signal(int number, siginfo_t *info, void *frame)
{
    (void)number, (void)info;
    if ((uint32_t)sys_getpid() == shim.pid)
        saver_start((struct saver_call){ 0 });
    resume_settle(frame);
}

void stop_list_actions(struct agent_action actions[AGENT_SIGNALS])
{
    for (int i = 0; i < AGENT_SIGNALS; i++)
        sys_rt_sigaction(i + 1, NULL, &actions[i]);
    if (actions[LIBC_SIGNAL - 1].handler == (uint64_t)libc_signal)
        actions[LIBC_SIGNAL - 1] = shim.libc_action;
}

/* The kernel's own structure: libc's sigaction() would put its restorer and take locks. */
void stop_set_handler(int number)
{
    struct agent_action action = {
        .handler = (uint64_t)(number == STOP_SIGNAL ? stop_signal : number == LIBC_SIGNAL ? libc_signal : trigger_signal),
        .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | 0x04000000 /* SA_RESTORER */,
        .restorer = (uint64_t)context_signal_return,
        .mask = ~UINT64_C(0),
    };
    sys_rt_sigaction(number, &action, NULL);
}

void stop_unblock(void)
{
    uint64_t set = SYS_SIGNAL_BIT(STOP_SIGNAL);
    sys_rt_sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* The trigger stays as it is when the program was started with it ignored. */
void stop_install(void)
{
    struct agent_action old;

    shim.installed = 1;
    stop_set_handler(STOP_SIGNAL);
    sys_rt_sigaction((int)shim.trigger_signal, NULL, &old);
    if (old.handler == (uint64_t)SIG_DFL)
        stop_set_handler((int)shim.trigger_signal);
    else
        shim.trigger_owned = 1;
}
