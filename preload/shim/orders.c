/* SPDX-License-Identifier: MIT */
/* What a parked process does for the saver, and how it frees itself when the saver dies. Island: no libc. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

/* A living saver holds the flock of the run's directory. Without a descriptor to spare (or with the directory gone) its
 * PID has to do: it may be reused, which only makes us wait longer. */
int orders_saver_lives(const struct agent_page *page)
{
    long fd = sys_openat(AT_FDCWD, shim.run_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    long got;

    if (fd < 0)
        return sys_kill((int)page->saver_pid, 0) != -ESRCH;
    got = sys_flock((int)fd, LOCK_SH | LOCK_NB);
    sys_close((int)fd);
    return got == -EWOULDBLOCK;
}

/* Unless another saver has come meanwhile. */
static void free_all(struct agent_page *page, uint32_t order)
{
    if (!__atomic_compare_exchange_n(&page->order, &order, ORDER_WORD((order >> 8) + 1, ORDER_RESUME), 0,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    __atomic_store_n(&page->is_resting, !!__atomic_load_n(&page->job_stop, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&page->release, 1, __ATOMIC_SEQ_CST);
    sys_futex(&page->order, FUTEX_WAKE, INT_MAX, NULL);
    sys_futex(&page->release, FUTEX_WAKE, INT_MAX, NULL);
}

/* Takes part in ORDER_WAITING when it is meant. */
static void answer_summons(struct agent_page *page)
{
    if (__atomic_load_n(&page->summoned, __ATOMIC_SEQ_CST) != (uint32_t)sys_gettid())
        return;
    page->summons_result = (int32_t)waiting_collect(page);
    __atomic_store_n(&page->summoned, 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&page->summons, 1, __ATOMIC_SEQ_CST);
    sys_futex(&page->summons, FUTEX_WAKE, 1, NULL);
}

/* Sleeps until *word differs from value, or looks after the saver. */
static void wait_change(struct agent_page *page, uint32_t *word, uint32_t value)
{
    struct timespec look = { .tv_sec = PARK_LOOK_SECONDS };
    uint32_t order = __atomic_load_n(&page->order, __ATOMIC_SEQ_CST);

    if (sys_futex(word, FUTEX_WAIT, value, &look) == -ETIMEDOUT && ORDER_KIND(order) != ORDER_RESUME &&
        !orders_saver_lives(page))
        free_all(page, order);
}

void orders_wait(struct agent_page *page, uint64_t token, uint32_t release)
{
    for (;;) {
        uint32_t now = __atomic_load_n(&page->release, __ATOMIC_SEQ_CST);
        if ((now ^ release) % RELEASE_SUMMONS || __atomic_load_n(&page->token, __ATOMIC_SEQ_CST) != token)
            break;
        answer_summons(page);
        wait_change(page, &page->release, now);
    }
    while (__atomic_load_n(&page->is_resting, __ATOMIC_SEQ_CST))
        sys_futex(&page->is_resting, FUTEX_WAIT, 1, NULL);
}

/* What mlockall(2) has said of mappings to come is told by a mapping only: one that is locked cannot be dropped
 * (madvise(2)), and has its page at once unless that was to come on its first touch. */
static uint32_t lock_future(void)
{
    void *made = sys_mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t present = 0;
    uint32_t flags = 0;

    if (sys_mmap_failed(made))
        return (long)made == -EAGAIN ? MCL_FUTURE : 0; /* over RLIMIT_MEMLOCK: it would have been locked */
    SYS_CALL(mincore, made, PAGE_BYTES, &present, 0, 0, 0);
    if (sys_madvise(made, PAGE_BYTES, MADV_DONTNEED) == -EINVAL)
        flags = MCL_FUTURE | (present & 1 ? 0 : 4 /* MCL_ONFAULT */);
    sys_munmap(made, PAGE_BYTES);
    return flags;
}

/* By which commands the process has registered for barriers: membarrier(2). Before Linux 6.3 nothing tells; but those of its
 * own threads fail without, and that for everybody's changes nothing that it could see. */
static uint32_t barriers(void)
{
    enum { GLOBAL = 4, GET_REGISTRATIONS = 512 };
    static const uint32_t own[] = { 8, 32, 128 }; /* expedited: plain, for changed code, for rseq; registered for by twice that */
    long told = SYS_CALL(membarrier, GET_REGISTRATIONS, 0, 0, 0, 0, 0);
    uint32_t commands = GLOBAL;

    if (told >= 0)
        return (uint32_t)told;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!SYS_CALL(membarrier, own[i], 0, 0, 0, 0, 0))
            commands |= 2 * own[i];
    return commands;
}

/* May memory have this key? Asked for memory where a process has none (pkey_mprotect(2)): ENOMEM tells that it may. */
static int is_given(long key)
{
    return SYS_CALL(pkey_mprotect, 0xffff800000000000, PAGE_BYTES, 0, key, 0, 0) == -ENOMEM;
}

/* Not in the page: a twin of a saver that has died may be as late as that it writes while the next saver reads. */
static struct agent_inherited inherited;

/* The program's, and the one that the kernel takes for memory that may only be executed: it is in use, but given to nobody. */
static void describe_keys(void)
{
    enum { KEYS = 16 };
    uint32_t free = 1; /* key 0 is that of all memory */
    int taken = 0;
    long key;

    while ((key = SYS_CALL(pkey_alloc, 0, 0, 0, 0, 0, 0)) > 0 && key < KEYS)
        free |= 1U << key;
    for (key = 1; key < KEYS; key++)
        if (free >> key & 1)
            SYS_CALL(pkey_free, key, 0, 0, 0, 0, 0);
    inherited.keys = inherited.kernel_key = 0;
    for (key = 1; key < KEYS; key++) {
        if (free >> key & 1)
            continue;
        if (is_given(key)) {
            inherited.keys |= 1U << key;
        } else {
            inherited.kernel_key = (uint32_t)key;
            taken++;
        }
    }
    if (taken > 1)
        inherited.kernel_key = 0; /* a CPU without keys */
}

static void describe_memory(struct agent_page *page)
{
    uint64_t mask = ~UINT64_C(0);
    long value;

    page->lock_future = lock_future();
    value = sys_prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    page->thp_disabled = value > 0 ? (uint32_t)value : 0;
    value = sys_prctl(66 /* PR_GET_MDWE, 6.3 */, 0, 0, 0, 0);
    page->no_exec_gain = value > 0 ? (uint32_t)value : 0;
    page->merges = sys_prctl(68 /* PR_GET_MEMORY_MERGE, 6.4 */, 0, 0, 0, 0) == 1;
    page->barriers = barriers();
    SYS_CALL(arch_prctl, 0x4001 /* ARCH_GET_UNTAG_MASK, 6.4 */, &mask, 0, 0, 0, 0);
    page->tagged_addresses = mask != ~UINT64_C(0);
}

static void describe(struct agent_page *page)
{
    shim.stderr_held = (uint32_t)stop_has_stderr();
    watches_describe(page);
    exclude_describe(page);
    page->inherited = (uint64_t)&inherited;
    page->brk = (uint64_t)SYS_CALL(brk, 0, 0, 0, 0, 0, 0);
    describe_memory(page);
    timers_note(page); /* before the signals that wait: see timers_note_signal() */
    cpu_clocks_note();
    ipc_describe(page);
    page->trigger_owned = shim.trigger_owned;
    __builtin_memcpy(page->given_cpus, shim.given_cpus, sizeof page->given_cpus);
    memset(page->widest_cpus, 0, sizeof page->widest_cpus);
    page->child_goes_on = (uint32_t)jobs_child_goes_on(0);
    page->dumpable = (uint32_t)sys_prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    page->keep_capabilities = (uint32_t)sys_prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0);
    page->subreaper = page->parent_death = 0;
    sys_prctl(PR_GET_CHILD_SUBREAPER, (uint64_t)&page->subreaper, 0, 0, 0);
    sys_prctl(PR_GET_PDEATHSIG, (uint64_t)&page->parent_death, 0, 0, 0);
    page->no_new_privileges = (uint32_t)sys_prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
}

void orders_describe_inherited(void)
{
    describe_keys();
    stop_list_actions(inherited.actions);
}

/* One thread and no child: what it says of itself as soon as it stands still holds when all others stand. */
static int is_alone(void)
{
    struct stat tasks;
    siginfo_t none;

    return !SYS_CALL(stat, "/proc/self/task", &tasks, 0, 0, 0, 0) && tasks.st_nlink == 2 + 1 &&
           SYS_CALL(waitid, P_ALL, 0, &none, WEXITED | WSTOPPED | WCONTINUED | WNOWAIT | WNOHANG | __WALL, 0, 0) == -ECHILD;
}

void orders_describe_early(struct agent_page *page)
{
    page->is_alone = (uint32_t)is_alone();
    if (page->is_alone)
        describe(page);
}

/* The saver may die, and everybody be freed, while we wait for the other thread. */
static long summon(struct agent_page *page)
{
    struct timespec look = { .tv_sec = PARK_LOOK_SECONDS };
    uint32_t done = __atomic_load_n(&page->summons, __ATOMIC_SEQ_CST);

    __atomic_store_n(&page->summoned, page->waiting_tid, __ATOMIC_SEQ_CST); /* not before `done` is known */
    __atomic_fetch_add(&page->release, RELEASE_SUMMONS, __ATOMIC_SEQ_CST);
    sys_futex(&page->release, FUTEX_WAKE, INT_MAX, NULL);
    while (__atomic_load_n(&page->summons, __ATOMIC_SEQ_CST) == done) {
        if (ORDER_KIND(__atomic_load_n(&page->order, __ATOMIC_SEQ_CST)) == ORDER_RESUME) {
            __atomic_store_n(&page->summoned, 0, __ATOMIC_SEQ_CST);
            return -EINTR;
        }
        sys_futex(&page->summons, FUTEX_WAIT, done, &look);
    }
    return page->summons_result;
}

static long collect_waiting(struct agent_page *page)
{
    return page->waiting_tid == (uint32_t)sys_gettid() ? waiting_collect(page) : summon(page);
}

struct parcel {
    struct agent_page *page;
    const char *const *names;
    int count;
};

static long send_parcel(void *argument)
{
    const struct parcel *parcel = argument;
    long error, socket = error = handles_connect(parcel->page->socket);

    if (socket >= 0) {
        error = parcel->names ? handles_send((int)socket, parcel->names, parcel->count)
                              : handles_send_wanted((int)socket, parcel->page);
        sys_close((int)socket);
    }
    return error;
}

/* Opens own files in /proc and gives them to the saver; without names, the descriptors that it wants. */
static long hand_over(struct agent_page *page, const char *const *names, int count)
{
    struct parcel parcel = { page, names, count };

    if (!names && page->to_send_count > AGENT_MAX_HANDLES)
        return -EPROTO;
    return room_with(send_parcel, &parcel, page->to_send, names ? 0 : page->to_send_count);
}

static long obey(struct agent_page *page, uint32_t order)
{
    static const char *const timers[] = { "/proc/self/timers" };
    static const char *const maps[] = { "/proc/self/maps", "/proc/self/smaps" };

    switch (ORDER_KIND(order)) {
    case ORDER_TIMERS:
        return hand_over(page, timers, 1);
    case ORDER_MAPS:
        return hand_over(page, maps, 2);
    case ORDER_DESCRIPTORS:
        return hand_over(page, NULL, 0);
    case ORDER_DESCRIBE:
        describe(page);
        return 0;
    case ORDER_WAITING:
        return collect_waiting(page);
    case ORDER_IPC:
        ipc_hand_over(page);
        return 0;
    case ORDER_TWIN:
        return twin_make(page);
    case ORDER_COPY:
        return handles_copy_ranges(page);
    case ORDER_TERMINAL:
        return terminals_look(page);
    case ORDER_PAIR:
        return terminals_look_at_pair(page);
    case ORDER_QUEUE:
        return messages_look(page);
    case ORDER_HANDLES: /* the saver also looks at our /proc: orders_obey undoes this */
        sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
        orders_describe_inherited();
        return hand_over(page, handles_of_memory, HANDLES_OF_MEMORY);
    case ORDER_WAKE_CHILD:
        return jobs_wake_child(page, (int)page->argument);
    case ORDER_STOP_CHILD:
        jobs_forget_child(page, (int)(page->argument & ~JOB_REPORTED));
        return jobs_stop_child((int)(page->argument & ~JOB_REPORTED), !!(page->argument & JOB_REPORTED));
    case ORDER_ASK_CHILD:
        return jobs_child_goes_on((int)page->argument);
    case ORDER_HALT:
        jobs_halt(page, (int)(page->argument & ~JOB_HAS_PARENT), !!(page->argument & JOB_HAS_PARENT));
        return 0;
    case ORDER_EXIT:
        page_drop();
        sys_exit_group(EXIT_RUN_AGAIN);
    default:
        return 0;
    }
}

int orders_next_signal(siginfo_t *ret_info, int holds)
{
    uint64_t set = SYS_SIGNAL_BIT(STOP_SIGNAL);
    struct timespec at_once = { 0 }, look = { .tv_sec = PARK_LOOK_SECONDS };

    for (;;) {
        struct agent_page *page = shim.page;
        int waits = holds || (page && __atomic_load_n(&page->coming, __ATOMIC_SEQ_CST));
        if (SYS_CALL(rt_sigtimedwait, &set, ret_info, waits ? &look : &at_once, SYS_SIGSET_BYTES, 0, 0) == STOP_SIGNAL)
            return 1;
        if (!waits || !page || !orders_saver_lives(page))
            return 0;
    }
}

void orders_await_stop(struct agent_page *page, uint64_t token)
{
    struct timespec look = { .tv_sec = PARK_LOOK_SECONDS };
    uint32_t word = COMING_WORD(token);

    while (__atomic_load_n(&page->coming, __ATOMIC_SEQ_CST) == word)
        if (sys_futex(&page->coming, FUTEX_WAIT, word, &look) == -ETIMEDOUT && !orders_saver_lives(page))
            return;
}

void orders_obey(struct agent_page *page, uint64_t token)
{
    uint32_t done = ORDER_NONE; /* not what `order` is by now: the saver may be quicker than we are */
    int handed_over = 0;

    for (;;) {
        uint32_t order = __atomic_load_n(&page->order, __ATOMIC_SEQ_CST);
        if (ORDER_KIND(order) == ORDER_RESUME || __atomic_load_n(&page->token, __ATOMIC_SEQ_CST) != token)
            break;
        if (order == done || ORDER_KIND(order) == ORDER_STOP) {
            wait_change(page, &page->order, order);
            continue;
        }
        handed_over |= ORDER_KIND(order) == ORDER_HANDLES;
        page->result = (int32_t)obey(page, order);
        done = order;
        __atomic_store_n(&page->answer, order, __ATOMIC_SEQ_CST);
        sys_futex(&page->answer, FUTEX_WAKE, INT_MAX, NULL);
    }
    if (handed_over)
        sys_prctl(PR_SET_DUMPABLE, page->dumpable, 0, 0, 0);
    jobs_rest(page);
}
