/* SPDX-License-Identifier: MIT */
/* Signals that wait. The kernel shows what a queue holds only to whoever takes it out, so a parked thread, which blocks all
 * signals, takes its own out and puts them back as they were: it may give those that it sends itself any siginfo. For
 * the process's queue that is the privilege of the main thread (kernel/signal.c: do_rt_sigqueueinfo compares TIDs).
 * Island: no libc. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

enum { PUT_TRIES = 10000 };

static long take(int number, siginfo_t *ret_info)
{
    uint64_t set = SYS_SIGNAL_BIT(number);
    struct timespec none = { 0 };

    __builtin_memset(ret_info, 0, sizeof *ret_info);
    return SYS_CALL(rt_sigtimedwait, &set, ret_info, &none, SYS_SIGSET_BYTES, 0, 0);
}

static long put_once(uint32_t tid, siginfo_t *info)
{
    if (tid)
        return SYS_CALL(rt_tgsigqueueinfo, shim.pid, tid, info->si_signo, info, 0, 0);
    return SYS_CALL(rt_sigqueueinfo, shim.pid, info->si_signo, info, 0, 0, 0);
}

/* To the calling thread `tid`, or to the process (0). What was taken out has left room; where others of this user have
 * taken that meanwhile (RLIMIT_SIGPENDING), the hard limit is used, and then waited for room. */
long waiting_put(uint32_t tid, siginfo_t *info)
{
    struct rlimit old, more;
    struct timespec pause = { .tv_nsec = 1000000 };
    long error = put_once(tid, info);

    if (error != -EAGAIN)
        return error;
    SYS_CALL(prlimit64, 0, RLIMIT_SIGPENDING, 0, &old, 0, 0);
    more = (struct rlimit){ old.rlim_max, old.rlim_max };
    SYS_CALL(prlimit64, 0, RLIMIT_SIGPENDING, &more, 0, 0, 0);
    for (int i = 0; (error = put_once(tid, info)) == -EAGAIN && i < PUT_TRIES; i++)
        SYS_CALL(nanosleep, &pause, 0, 0, 0, 0, 0);
    SYS_CALL(prlimit64, 0, RLIMIT_SIGPENDING, &old, 0, 0, 0);
    return error;
}

struct status {
    uint32_t tid;
    char text[PAGE_BYTES];
};

static long read_status(void *argument)
{
    struct status *status = argument;
    char path[64];
    size_t at = text_add(path, sizeof path, 0, "/proc/self/task/");
    long got, fd;

    at = text_add_number(path, sizeof path, at, status->tid);
    text_add(path, sizeof path, at, "/status");
    fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    got = sys_read((int)fd, status->text, sizeof status->text - 1);
    sys_close((int)fd);
    return got;
}

/* What waits for the calling thread alone; one thread at a time asks. */
static long own_mask(uint64_t *ret_mask)
{
    static struct status status;
    char *text = status.text;
    long got;

    status.tid = (uint32_t)sys_gettid();
    got = room_with(read_status, &status, NULL, 0);
    if (got < 0)
        return got;
    text[got] = 0;
    for (char *at = text; *at; at++) {
        if (!text_starts(at, "\nSigPnd:\t"))
            continue;
        *ret_mask = 0;
        for (at += 9; *at && *at != '\n'; at++)
            *ret_mask = *ret_mask << 4 | (uint64_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
        return 0;
    }
    return -EPROTO;
}

/* Signals of the process are taken after all of the thread's own. One for the main thread that arrives in between shows itself
 * by its code, or as that of a timer. */
static int is_for_a_thread(const struct agent_page *page, const siginfo_t *info)
{
    for (uint32_t i = 0; info->si_code == SI_TIMER && i < page->timer_count; i++)
        if (!page->timers[i].interval_timer && page->timers[i].id == info->si_timerid)
            return page->timers[i].target != 0;
    return info->si_code == SI_TKILL;
}

/* A timer has one signal in the queue at most. One that we had put back is none of the timer's any more, and it may have
 * sent another since: the first stands for both. */
static int join_timer(struct agent_page *page, uint32_t first, const siginfo_t *info)
{
    for (uint32_t i = first; info->si_code == SI_TIMER && i < page->waiting_count; i++) {
        siginfo_t *other = (siginfo_t *)page->waiting[i].info;
        if (other->si_code != SI_TIMER || other->si_timerid != info->si_timerid)
            continue;
        if (__builtin_add_overflow(other->si_overrun, info->si_overrun + 1, &other->si_overrun))
            other->si_overrun = INT_MAX;
        timers_note_overrun(page, other);
        return 1;
    }
    return 0;
}

static int take_and_note(struct agent_page *page, uint32_t first, int number, uint32_t tid)
{
    struct agent_waiting *waiting = &page->waiting[page->waiting_count];
    siginfo_t info;

    if (take(number, &info) != number)
        return 0;
    timers_note_signal(page, &info);
    if (join_timer(page, first, &info))
        return 1;
    waiting->tid = tid || is_for_a_thread(page, &info) ? (uint32_t)sys_gettid() : 0;
    __builtin_memcpy(waiting->info, &info, sizeof waiting->info);
    page->waiting_count++;
    return 1;
}

/* All signals of one number: taken, and at once put back in their order. */
static long collect_number(struct agent_page *page, int number, uint32_t tid)
{
    uint32_t first = page->waiting_count;
    uint64_t own;
    long error;

    while (!(error = own_mask(&own)) && own & SYS_SIGNAL_BIT(number) && page->waiting_count < page->waiting_room)
        take_and_note(page, first, number, tid);
    if (!error && tid == shim.pid)
        while (page->waiting_count < page->waiting_room && take_and_note(page, first, number, 0))
            ;
    for (uint32_t i = first; i < page->waiting_count; i++) {
        siginfo_t info = { 0 };
        long failed;
        __builtin_memcpy(&info, page->waiting[i].info, sizeof page->waiting[i].info);
        failed = waiting_put(page->waiting[i].tid, &info);
        if (failed)
            error = failed;
    }
    return error ? error : page->waiting_count < page->waiting_room ? 0 : -E2BIG;
}

/* What the calling thread will block when it goes on. */
static uint64_t mask_of_program(const struct agent_page *page)
{
    uint32_t count = __atomic_load_n(&page->parked, __ATOMIC_SEQ_CST), tid = (uint32_t)sys_gettid();
    uint64_t mask = 0;

    for (uint32_t i = 0; i < count && i < page->thread_room; i++)
        if (page->threads[i].tid == tid)
            __builtin_memcpy(&mask, &((const ucontext_t *)page->threads[i].frame)->uc_sigmask, sizeof mask);
    return mask;
}

/* The stop signal; and the trigger, but for a program that has something of its own for it, or that blocks it and takes it out by
 * sigwait() or a signalfd. */
static uint64_t ours(const struct agent_page *page)
{
    uint64_t trigger = SYS_SIGNAL_BIT(shim.trigger_signal);
    int is_programs = shim.trigger_owned || mask_of_program(page) & trigger;

    return SYS_SIGNAL_BIT(STOP_SIGNAL) | (is_programs ? 0 : trigger);
}

long waiting_collect(struct agent_page *page)
{
    uint64_t set = stop_pending() & ~ours(page);
    uint32_t tid = (uint32_t)sys_gettid();
    long error = 0;

    for (int number = 1; !error && number <= AGENT_SIGNALS; number++)
        if (set & SYS_SIGNAL_BIT(number) && number != SIGKILL && number != SIGSTOP)
            error = collect_number(page, number, tid);
    return error;
}

/* After a restart, before any thread runs the program's code: each its own, the main thread those of the process. */
void waiting_queue(const struct restart_note *note)
{
    const struct agent_waiting *waiting = (const struct agent_waiting *)note->waiting;
    uint32_t tid = (uint32_t)sys_gettid();

    for (uint64_t i = 0; i < note->waiting_count; i++) {
        siginfo_t info = { 0 };
        long error;
        if (waiting[i].tid != tid && (waiting[i].tid || tid != shim.pid))
            continue;
        __builtin_memcpy(&info, waiting[i].info, sizeof waiting[i].info);
        error = waiting_put(waiting[i].tid, &info);
        if (error)
            resume_die("a signal that was waiting cannot be queued", error);
    }
}

/* Is a real-time signal waiting for this thread alone? A marker, queued behind them, is the end of a walk that takes
 * each one and puts it back. -errno when there is no room for the marker. */
static long own_real_time_waits(int number)
{
    enum { MARKER_CODE = -77 };
    uint32_t tid = (uint32_t)sys_gettid();
    siginfo_t info, marker = { .si_signo = number, .si_code = MARKER_CODE };
    int waits = 0;

    marker.si_value.sival_ptr = &marker;
    if (put_once(tid, &marker))
        return -EAGAIN;
    while (take(number, &info) == number) {
        if (info.si_code == MARKER_CODE && info.si_value.sival_ptr == &marker)
            break;
        waits = 1;
        waiting_put(tid, &info);
    }
    return waits;
}

/* A signal that waits for the process must end the system call of one thread, the one that takes it: here it becomes that
 * thread's own. 0 when another thread was quicker. All signals are blocked, and the thread will take it when it returns. */
int waiting_claim(int number)
{
    siginfo_t info;
    long own = number < __SIGRTMIN ? 0 : own_real_time_waits(number);

    if (own)
        return 1;
    return take(number, &info) == number && !waiting_put((uint32_t)sys_gettid(), &info);
}
