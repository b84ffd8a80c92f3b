/* SPDX-License-Identifier: MIT */
/* What a program may say to us: stasis.h, but for what it excludes. These run in its threads as any of its code does, so a stop may
 * come between any two lines: the page is looked at with all signals blocked, for behind a restart it is somewhere else. Island: no libc. */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>

#define STASIS_SHIM
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"
#include "stasis.h"

enum {
    MAX_HOOKS = 32,
    STAY_SECONDS = 5,            /* in a good moment, for a saver that waits for others, too */
    FREE_LOOKS = 10,             /* the run's lock was free so often: its saver is dead */
    AGAIN_NANOSECONDS = 5000000, /* another saver is being started */
};

struct hook {
    void (*before)(void *context);
    void (*after)(int result, void *context);
    void *context;
};

static struct hook hooks[MAX_HOOKS];
static uint32_t hook_count NEAR_THE_SHIM;
static uint32_t lock NEAR_THE_SHIM;   /* of the hooks, and of shim.forbidden with what the page says of it */
static uint32_t turn NEAR_THE_SHIM;   /* the thread that is in a call which takes a checkpoint; a futex */
static uint32_t number; /* of those calls */
static char reason[sizeof ((struct agent_page *)0)->message];

int calls_refuse(const char *why)
{
    text_add(reason, sizeof reason, 0, why);
    return STASIS_REFUSED;
}

const char *stasis_reason(void)
{
    return reason;
}

int stasis_restarts(void)
{
    return (int)shim.note.restarts;
}

/* In a child of vfork the memory is its parent's. */
static int is_here(void)
{
    return shim.installed && ((uint32_t)sys_getpid() == shim.pid || page_become_child());
}

static int not_here(void)
{
    return shim.installed ? calls_refuse("not possible in a child of vfork") : STASIS_ABSENT;
}

/* ---- forbidding: with the lock ---- */

static uint32_t change_count(int by)
{
    shim.forbidden += (uint32_t)by;
    if (shim.page)
        __atomic_store_n(&shim.page->forbidden, shim.forbidden, __ATOMIC_SEQ_CST);
    return shim.forbidden;
}

static uint32_t what_is_owed(void)
{
    return shim.page ? __atomic_load_n(&shim.page->owed, __ATOMIC_SEQ_CST) : OWED_NOTHING;
}

static uint32_t change_count_locked(int by)
{
    uint64_t old = stop_keep_out(&lock);
    uint32_t count = change_count(by);

    stop_let_in(&lock, old);
    return count;
}

void calls_note_page(void)
{
    change_count_locked(0);
}

/* Another thread of the parent may have been in the middle of it. */
void calls_enter_child(void)
{
    lock = turn = 0;
}

int stasis_forbid(void)
{
    return is_here() ? (int)change_count_locked(1) : not_here();
}

/* ---- hooks ---- */

int stasis_hooks(void (*before)(void *context), void (*after)(int result, void *context), void *context)
{
    uint64_t old;
    int has_room;

    if (!is_here())
        return not_here();
    old = stop_keep_out(&lock);
    has_room = hook_count < MAX_HOOKS;
    if (has_room)
        hooks[hook_count] = (struct hook){ before, after, context };
    __atomic_fetch_add(&hook_count, (uint32_t)has_room, __ATOMIC_SEQ_CST);
    stop_let_in(&lock, old);
    return has_room ? STASIS_NOTHING : calls_refuse("there are 32 pairs of hooks already");
}

static void call_before(uint32_t count)
{
    while (count--)
        if (hooks[count].before)
            hooks[count].before(hooks[count].context);
}

static void call_after(uint32_t count, int result)
{
    for (uint32_t i = 0; i < count; i++)
        if (hooks[i].after)
            hooks[i].after(result, hooks[i].context);
}

/* ---- one thread at a time ---- */

/* 0: this very thread has it. */
static int take_turn(void)
{
    uint32_t me = (uint32_t)sys_gettid(), holder = 0;

    while (!__atomic_compare_exchange_n(&turn, &holder, me, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        if (holder == me)
            return 0;
        sys_futex(&turn, FUTEX_WAIT_PRIVATE, holder, NULL);
        holder = 0;
    }
    return 1;
}

static void leave_turn(void)
{
    __atomic_store_n(&turn, 0, __ATOMIC_SEQ_CST);
    sys_futex(&turn, FUTEX_WAKE_PRIVATE, 1, NULL);
}

/* ---- the answer of a saver ---- */

/* How it stands in the page. */
struct progress {
    uint32_t owed, call, status, has_saver_lock;
    int32_t saver;
    uint32_t *owed_word, *call_word; /* to wait for; behind a restart something else is there, of which the kernel only says so */
};

/* With a call's number: 0 in `call` when the page knows nothing of it. */
static struct progress look(uint32_t of_call)
{
    const uint64_t all = ~UINT64_C(0);
    struct progress progress = { 0 };
    struct agent_page *page;
    uint64_t old;

    sys_rt_sigprocmask(SIG_SETMASK, &all, &old);
    page = shim.page;
    if (page) {
        progress.owed = what_is_owed();
        progress.saver = (int32_t)page->owed_pid;
        progress.has_saver_lock = (uint32_t)orders_saver_lives(page);
        progress.owed_word = &page->owed;
        progress.call_word = &page->call;
    }
    if (page && page->call_number == of_call) {
        progress.call = __atomic_load_n(&page->call, __ATOMIC_SEQ_CST);
        progress.status = page->call_status;
        if (progress.call == CALL_DONE && progress.status)
            text_add(reason, sizeof reason, 0, page->message);
    }
    sys_rt_sigprocmask(SIG_SETMASK, &old, NULL);
    return progress;
}

static int is_gone(int32_t saver)
{
    return sys_kill(saver, 0) == -ESRCH;
}

/* Whether the saver is dead is asked before what it has said: it may have been the last that it did. */
static int await(uint32_t of_call, int32_t saver, uint32_t wanted, uint64_t restarts)
{
    const struct timespec second = { .tv_sec = PARK_LOOK_SECONDS };

    for (int free_looks = 0;;) {
        int is_dead = is_gone(saver) || free_looks > FREE_LOOKS;
        struct progress progress = look(of_call);
        if (shim.note.restarts != restarts)
            return STASIS_RESTARTED;
        if (progress.call == CALL_DONE)
            return progress.status ? STASIS_REFUSED : STASIS_TAKEN;
        if (progress.call >= wanted)
            return STASIS_TAKEN;
        if (is_dead || !progress.call)
            return calls_refuse("no checkpoint: its saver was ended");
        if (sys_futex(progress.call_word, FUTEX_WAIT, progress.call, &second) == -ETIMEDOUT)
            free_looks = progress.has_saver_lock ? 0 : free_looks + 1;
    }
}

/* Of a checkpoint that has been waiting, only the moment is waited for. */
static int ask(int is_owed)
{
    const struct timespec moment = { .tv_nsec = AGAIN_NANOSECONDS };
    const uint64_t all = ~UINT64_C(0);
    uint64_t restarts = shim.note.restarts, old;
    struct saver_call call = { ++number, (uint32_t)is_owed };
    long saver;

    for (;;) {
        sys_rt_sigprocmask(SIG_SETMASK, &all, &old);
        saver = saver_start(call);
        sys_rt_sigprocmask(SIG_SETMASK, &old, NULL);
        if (saver != -EBUSY)
            break;
        SYS_CALL(nanosleep, &moment, NULL, 0, 0, 0, 0);
    }
    if (saver < 0)
        return calls_refuse("no checkpoint: a saver cannot be started");
    return await(call.number, (int32_t)saver, is_owed ? CALL_PASSED : CALL_DONE, restarts);
}

/* It has been seen to, or nobody waits for it any more. */
static void forget_owed(uint32_t owed)
{
    uint64_t old = stop_keep_out(&lock);

    if (shim.page)
        __atomic_compare_exchange_n(&shim.page->owed, &owed, OWED_NOTHING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    stop_let_in(&lock, old);
}

/* For a saver that is waiting: it takes its checkpoint while we are here. */
static int stay(void)
{
    const struct timespec second = { .tv_sec = PARK_LOOK_SECONDS };
    uint64_t restarts = shim.note.restarts, end = interval_now() + STAY_SECONDS * 1000;

    for (;;) {
        struct progress progress = look(0);
        if (shim.note.restarts != restarts)
            return STASIS_RESTARTED;
        if (progress.owed == OWED_AND_TAKEN)
            return STASIS_TAKEN;
        if (progress.owed == OWED_BY_SAVER && is_gone(progress.saver))
            forget_owed(OWED_BY_SAVER);
        else if (progress.owed == OWED_BY_SAVER && interval_now() < end) {
            sys_futex(progress.owed_word, FUTEX_WAIT, OWED_BY_SAVER, &second);
            continue;
        }
        return calls_refuse("no checkpoint: who was waiting for it has not taken it");
    }
}

static int wait_for(uint32_t owed)
{
    int result = owed == OWED_BY_SAVER ? stay() : ask(owed != OWED_NOTHING);

    if (owed == OWED_BY_SAVER)
        forget_owed(OWED_AND_TAKEN);
    return result;
}

/* A good moment: inside it checkpoints are forbidden `lowers` times less, behind it again `raises` times more. */
static int make_moment(uint32_t owed, int lowers, int raises)
{
    uint32_t count = __atomic_load_n(&hook_count, __ATOMIC_SEQ_CST);
    int result;

    if (!take_turn()) {
        change_count_locked(raises - lowers);
        return calls_refuse("no checkpoint: this thread is in the middle of another");
    }
    call_before(count);
    if (owed == OWED_BY_PROCESS)
        forget_owed(owed);
    change_count_locked(-lowers);
    result = wait_for(owed);
    change_count_locked(raises);
    call_after(count, result);
    leave_turn();
    return result;
}

int stasis_checkpoint(void)
{
    if (!is_here())
        return not_here();
    if (__atomic_load_n(&shim.forbidden, __ATOMIC_SEQ_CST))
        return calls_refuse("no checkpoint: R-FORBIDDEN: the program itself forbids checkpoints");
    return make_moment(OWED_NOTHING, 0, 0);
}

/* What is waiting for the last one that forbids. */
static uint32_t owed_to_last(void)
{
    uint32_t owed = shim.forbidden == 1 ? what_is_owed() : OWED_NOTHING;
    return owed == OWED_AND_TAKEN ? OWED_NOTHING : owed;
}

int stasis_allow(void)
{
    uint32_t owed, is_forbidden;
    uint64_t old;

    if (!is_here())
        return not_here();
    old = stop_keep_out(&lock);
    owed = owed_to_last();
    is_forbidden = shim.forbidden;
    if (is_forbidden && !owed)
        change_count(-1);
    stop_let_in(&lock, old);
    if (!is_forbidden)
        return calls_refuse("checkpoints are not forbidden");
    return owed ? make_moment(owed, 1, 0) : STASIS_NOTHING;
}

int stasis_point(void)
{
    uint32_t owed;
    uint64_t old;

    if (!is_here())
        return not_here();
    old = stop_keep_out(&lock);
    owed = owed_to_last();
    stop_let_in(&lock, old);
    return owed ? make_moment(owed, 1, 1) : STASIS_NOTHING;
}
