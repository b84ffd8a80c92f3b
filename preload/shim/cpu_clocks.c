/* SPDX-License-Identifier: MIT */
/* CPU time. A restarted program is a new process, whose clocks of CPU time have counted the restart instead of the program's
 * life, and no namespace moves them. So each is noted at a stop, in memory that the image carries, and after a restart the
 * wrappers in wrap/cpu_clocks.c add what is missing. Island: no libc. */
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

/* A clock of CPU time is a number with a PID or TID in it, inverted (linux/posix-timers.h); 0 is oneself. */
enum { CLOCK_TYPE = 3, CLOCK_OF_THREAD = 4, CLOCK_SCHEDULED = 2, CLOCK_ID_SHIFT = 3 };

/* What the threads that came back are ahead, for those that read one another's clocks. */
struct foreign {
    uint32_t tid;
    int64_t stood[CPU_CLOCKS]; /* the kernel's clocks after the restart: a new thread of that TID has less */
    int64_t ahead[CPU_CLOCKS];
};

uint32_t cpu_clocks_moved NEAR_THE_SHIM;
static struct cpu_times ahead_process, ahead_children;
static __thread struct cpu_times ahead_thread __attribute__((tls_model("initial-exec")));
static int64_t ticks_ahead;
static struct foreign foreign[AGENT_MAX_THREADS];
static uint32_t foreign_count;

static int64_t read_ticks(void)
{
    return SYS_CALL(times, 0, 0, 0, 0, 0, 0);
}

static void read_times(int who, struct cpu_times *ret_times)
{
    struct rusage usage = { 0 };
    int of_thread = who == RUSAGE_THREAD ? CLOCK_OF_THREAD : 0;

    _Static_assert(sizeof usage == (USAGE_WORDS + 2) * sizeof(int64_t), "two times and words");
    SYS_CALL(getrusage, who, &usage, 0, 0, 0, 0);
    ret_times->usage[0] = usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec;
    ret_times->usage[1] = usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec;
    __builtin_memcpy(ret_times->usage + 2, &usage.ru_maxrss, (USAGE_WORDS - 2) * sizeof(int64_t));
    for (int type = 0; type < CPU_CLOCKS; type++)
        ret_times->clocks[type] = who == RUSAGE_CHILDREN ? 0 : sys_clock((int)(~0U << CLOCK_ID_SHIFT) | of_thread | type);
}

/* to += sign × by */
static void add(struct cpu_times *to, const struct cpu_times *by, int sign)
{
    for (int i = 0; i < CPU_CLOCKS; i++)
        to->clocks[i] += sign * by->clocks[i];
    for (int i = 0; i < USAGE_WORDS; i++)
        to->usage[i] += sign * by->usage[i];
}

static void note(int who, const struct cpu_times *ahead, struct cpu_times *ret_times)
{
    read_times(who, ret_times);
    if (cpu_clocks_moved)
        add(ret_times, ahead, 1);
}

/* What must be added to the kernel's times of now for those that were noted. */
static void go_on(int who, const struct cpu_times *noted, struct cpu_times *ret_ahead)
{
    struct cpu_times now;

    read_times(who, &now);
    *ret_ahead = *noted;
    add(ret_ahead, &now, -1);
    ret_ahead->usage[USAGE_LARGEST] = 0;
}

void cpu_clocks_note(void)
{
    note(RUSAGE_SELF, &ahead_process, &shim.cpu_process);
    note(RUSAGE_CHILDREN, &ahead_children, &shim.cpu_children);
    shim.cpu_ticks = read_ticks() + cpu_clocks_ticks_ahead();
}

void cpu_clocks_note_thread(struct cpu_times *ret_times)
{
    note(RUSAGE_THREAD, &ahead_thread, ret_times);
}

/* Before the thread counts as awake; `foreign_count` was set to 0 by the last restart's leader, when all were. */
void cpu_clocks_go_on_thread(const struct cpu_times *noted)
{
    uint32_t place = __atomic_fetch_add(&foreign_count, 1, __ATOMIC_SEQ_CST) % AGENT_MAX_THREADS;

    go_on(RUSAGE_THREAD, noted, &ahead_thread);
    for (int type = 0; type < CPU_CLOCKS; type++) {
        foreign[place].ahead[type] = ahead_thread.clocks[type];
        foreign[place].stood[type] = noted->clocks[type] - ahead_thread.clocks[type];
    }
    __atomic_store_n(&foreign[place].tid, (uint32_t)sys_gettid(), __ATOMIC_RELEASE);
}

void cpu_clocks_go_on(void)
{
    for (uint32_t i = foreign_count; i < AGENT_MAX_THREADS && foreign[i].tid; i++)
        foreign[i].tid = 0; /* of the life before */
    foreign_count = 0;
    go_on(RUSAGE_SELF, &shim.cpu_process, &ahead_process);
    go_on(RUSAGE_CHILDREN, &shim.cpu_children, &ahead_children);
    ticks_ahead = shim.cpu_ticks - read_ticks();
    cpu_clocks_moved++;
}

void cpu_clocks_forget(void)
{
    if (cpu_clocks_moved) /* else its page is not touched */
        cpu_clocks_moved = 0;
}

static int64_t foreign_offset(uint32_t tid, int type)
{
    for (uint32_t i = 0; i < AGENT_MAX_THREADS && foreign[i].tid; i++) {
        if (foreign[i].tid != tid)
            continue;
        return sys_clock((int)(~tid << CLOCK_ID_SHIFT) | CLOCK_OF_THREAD | type) < foreign[i].stood[type] ? 0
                                                                                                           : foreign[i].ahead[type];
    }
    return 0;
}

int64_t cpu_clocks_offset(int clock)
{
    uint32_t id = ~(uint32_t)(clock >> CLOCK_ID_SHIFT);
    int type = clock & CLOCK_TYPE;

    if (clock == CLOCK_PROCESS_CPUTIME_ID)
        return ahead_process.clocks[CLOCK_SCHEDULED];
    if (clock == CLOCK_THREAD_CPUTIME_ID)
        return ahead_thread.clocks[CLOCK_SCHEDULED];
    if (clock >= 0 || type >= CPU_CLOCKS)
        return 0; /* not of CPU time, or of a device */
    if (!(clock & CLOCK_OF_THREAD))
        return !id || id == shim.pid ? ahead_process.clocks[type] : 0;
    return !id || id == (uint32_t)sys_gettid() ? ahead_thread.clocks[type] : foreign_offset(id, type);
}

const struct cpu_times *cpu_clocks_ahead(int who)
{
    return who == RUSAGE_SELF ? &ahead_process : who == RUSAGE_CHILDREN ? &ahead_children : &ahead_thread;
}

int64_t cpu_clocks_ticks_ahead(void)
{
    return cpu_clocks_moved ? ticks_ahead : 0;
}
