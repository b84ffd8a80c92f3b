/* SPDX-License-Identifier: MIT */
/* Whose memory is read: a twin's, so that the program can go on at once; or, when memory is short, the stopped
 * program's own. */
#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "../../core/floor/passing.h"
#include "../../core/floor/text.h"
#include "saver.h"

static uint64_t number_in(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned long long number = UINT64_MAX;

    if (file && fscanf(file, "%llu", &number) != 1)
        number = UINT64_MAX; /* "max" */
    if (file)
        fclose(file);
    return number;
}

/* A memory controller's files: cgroups(7), version 2, and version 1 wherever it is mounted beside that. */
struct controller {
    const char *entry; /* of /proc/PID/cgroup, behind its number */
    const char *root, *most, *now;
};

static const struct controller controllers[] = {
    { "0::", "/sys/fs/cgroup", "memory.max", "memory.current" },
    { ":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes" },
};

/* Bytes that the groups of a controller, from this path upwards, still allow; UINT64_MAX: no limit. */
static uint64_t room_in(const struct controller *controller, const char *group)
{
    char path[MAX_PATH], file[MAX_PATH + 32];
    uint64_t room = UINT64_MAX;

    snprintf(path, sizeof path, "%s%.*s", controller->root, (int)strcspn(group, "\n"), group);
    while (strlen(path) > strlen(controller->root)) {
        snprintf(file, sizeof file, "%s/%s", path, controller->most);
        uint64_t most = number_in(file);
        snprintf(file, sizeof file, "%s/%s", path, controller->now);
        uint64_t now = number_in(file);
        if (most != UINT64_MAX && now != UINT64_MAX && (now > most ? 0 : most - now) < room)
            room = now > most ? 0 : most - now;
        *strrchr(path, '/') = 0;
    }
    return room;
}

static uint64_t cgroup_room(int pid)
{
    char *text = proc_read(pid, "cgroup", NULL);
    uint64_t room = UINT64_MAX;

    for (size_t i = 0; text && i < sizeof controllers / sizeof *controllers; i++) {
        const char *at = strstr(text, controllers[i].entry);
        uint64_t here = at ? room_in(&controllers[i], at + strlen(controllers[i].entry)) : UINT64_MAX;
        if (here < room)
            room = here;
    }
    free(text);
    return room;
}

static uint64_t kilobytes(const char *text, const char *key)
{
    const char *value = text ? status_field(text, key) : NULL;
    return value ? strtoull(value, NULL, 10) * 1024 : UINT64_MAX;
}

/* In the worst case the programs write to all their pages while the image is written, and each is there twice. */
static int memory_is_short(const struct step *step)
{
    char *machine = NULL;
    uint64_t needs = 0, has, room = cgroup_room(step->processes->pid);
    FILE *file = fopen("/proc/meminfo", "re");
    size_t length = 0;

    if (file && getdelim(&machine, &length, 0, file) < 0)
        *machine = 0;
    if (file)
        fclose(file);
    has = kilobytes(machine, "MemAvailable");
    free(machine);
    for (const struct process *process = step->processes; process; process = process->next)
        needs += process->memory; /* what is shared is copied at once */
    return step->without_twin || text_list_holds(getenv(ENV_TEST_FAIL), "memory") || needs > has || needs > room;
}

static int take_memory(struct process *process, const int handles[2])
{
    struct saving *saving = &process->saving;

    saving->memory = handles[0];
    saving->pagemap = handles[1];
    return pread(saving->memory, &saving->inherited, sizeof saving->inherited, (off_t)process->page->inherited) == sizeof saving->inherited
               ? 0
               : fail_with(process, -ESRCH, "the program's memory cannot be read");
}

/* The process without a twin is read itself; it makes itself dumpable until it runs on. */
static int take_handles(struct process *process)
{
    int handles[2], error;

    process->saving.view = process->saving.pid;
    error = meeting_order(process, ORDER_HANDLES, handles, 2);
    if (error)
        return fail_with(process, error, "the program's memory cannot be opened");
    return take_memory(process, handles);
}

/* 0: it has died. */
static int await_answer(const struct agent_page *page, enum twin_answer wanted)
{
    uint32_t answer;

    while ((answer = __atomic_load_n(&page->twin_answer, __ATOMIC_SEQ_CST)) < wanted) {
        struct timespec timeout = { .tv_sec = 1 };
        if (proc_has_ended(page->twin_pid))
            return 0;
        syscall(SYS_futex, &page->twin_answer, FUTEX_WAIT, answer, &timeout, NULL, 0);
    }
    return 1;
}

enum { NAP_NANOSECONDS = 500000, NAPS = 40 };

/* Its turn is over: the twin stands, or there will be none. */
static int has_had_its_turn(const struct process *process)
{
    const struct agent_page *page = process->page;

    return __atomic_load_n(&page->answer, __ATOMIC_SEQ_CST) == process->last_order &&
           (page->result || __atomic_load_n(&page->twin_answer, __ATOMIC_SEQ_CST) >= TWIN_STANDS);
}

/* The row goes on by itself. Were we woken for each of its twins, we would be so on the CPU of the process that forks next. */
static void nap_beside_row(const struct process *process)
{
    const struct timespec nap = { .tv_nsec = NAP_NANOSECONDS };

    for (int i = 0; process->next && i < NAPS && !has_had_its_turn(process); i++)
        nanosleep(&nap, NULL);
}

int twin_take(struct process *process)
{
    int error;

    if (process->saving.view)
        return 0;
    if (process->twin_is_ordered)
        nap_beside_row(process);
    error = process->twin_is_ordered ? stop_order_wait(process) : -ENOMEM;
    stop_wake(&process->page->turn); /* if who was to fork behind it went to sleep too late for that */
    if (error || !await_answer(process->page, TWIN_STANDS))
        return take_handles(process);
    process->saving.view = process->page->twin_pid;
    process->step->forks += (int64_t)process->page->fork_nanoseconds;
    return 0;
}

static int is_below_subreaper(const struct process *process)
{
    const struct process *above = members_parent(process);

    while (above && !(above->page && above->page->subreaper))
        above = members_parent(above);
    return above != NULL;
}

/* They say so of themselves when they are described. */
static void note_subreapers(struct step *step)
{
    int are_there = 0;

    for (const struct process *process = step->processes; process; process = process->next)
        are_there |= !!process->page->subreaper;
    for (struct process *process = step->processes; process; process = process->next)
        process->page->orphans_come_up = are_there && is_below_subreaper(process);
}

/* Forks of related processes wait for each other's locks in the kernel, and take the books they keep out of each other's caches: so one
 * process forks behind the other, and wakes the next itself. Where it is page tables that take the time, in as many rows as there are CPUs. */
enum { MOST_ROWS = 16, LARGE_BYTES = 16 << 20 };

struct row {
    struct process *last;
    uint64_t bytes;
};

static struct row *row_for(struct row rows[MOST_ROWS], uint64_t bytes)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct row *best = rows;

    for (long i = 1; i < cpus && i < MOST_ROWS && bytes >= LARGE_BYTES; i++)
        if (rows[i].bytes < best->bytes)
            best = &rows[i];
    return best;
}

static void order_twins(struct step *step)
{
    struct row rows[MOST_ROWS] = { 0 };
    struct process *first[MOST_ROWS];
    int count = 0;

    for (struct process *process = step->processes; process; process = process->next) {
        struct row *row = row_for(rows, process->memory);
        if (row->last)
            stop_order_queue(process, ORDER_TWIN, &row->last->page->turn);
        else
            first[count++] = process;
        *row = (struct row){ process, row->bytes + process->memory };
    }
    while (count)
        stop_order_give(first[--count], ORDER_TWIN);
}

void twins_order(struct step *step)
{
    int is_short = memory_is_short(step) || text_list_holds(getenv(ENV_TEST_FAIL), "fork");

    note_subreapers(step);
    step->keeps_turn = 0;
    for (struct process *process = step->processes; process; process = process->next) {
        process->saving.test_fail = getenv(ENV_TEST_FAIL);
        process->twin_is_ordered = !is_short;
    }
    if (!is_short)
        order_twins(step);
}

enum { LONG_WAY_NANOSECONDS = 2000000 };

/* The next to fork may have been woken on our CPU, and would wait there for our turn to end. Where others compute, too, a turn that is given
 * away comes back late: then it is kept. */
void twins_give_way(struct step *step)
{
    int64_t began;

    if (step->keeps_turn || !step->processes->next)
        return;
    began = now_nanoseconds();
    sched_yield();
    step->keeps_turn = now_nanoseconds() - began > LONG_WAY_NANOSECONDS;
}

static int has_twin(const struct process *process)
{
    return process->saving.view != process->saving.pid;
}

/* Pages of a file that are not in memory have content all the same. */
static int copies_files(const struct saving *saving)
{
    for (size_t i = 0; i < saving->mappings.count; i++)
        if (saving->mappings.items[i].copied && saving->mappings.items[i].inode && !saving->mappings.items[i].shared)
            return 1;
    return 0;
}

int twin_copy(struct process *process)
{
    struct saving *saving = &process->saving;
    struct sysinfo machine;
    off_t length = 0;
    int error;

    if (!has_twin(process) || !process->page->range_count)
        return 0;
    process->page->skip_absent = !sysinfo(&machine) && !machine.totalswap && !copies_files(saving);
    saving->copies = memfd_create("stasis", MFD_CLOEXEC);
    if (saving->copies < 0)
        return fail_with(process, -errno, "memory for copies");
    for (uint32_t i = 0; i < process->page->range_count; i++)
        length += (off_t)(process->page->ranges[i].end - process->page->ranges[i].start);
    (void)!ftruncate(saving->copies, length); /* for a program that may only map it; our own RLIMIT_FSIZE may forbid it */
    error = meeting_order(process, ORDER_COPY, &saving->copies, 0);
    if (error == -ENODATA)
        error = refuse(saving, "R-GUARD-PAGE", "a guard page lies in memory that a fork does not copy");
    return error ? fail_with(process, error, "memory that a fork does not copy") : 0;
}

static void order(struct process *process, enum twin_order order)
{
    __atomic_store_n(&process->page->twin_order, order, __ATOMIC_SEQ_CST);
    stop_wake(&process->page->twin_order);
}

int twins_leave(struct step *step)
{
    for (struct process *process = step->processes; process; process = process->next)
        if (has_twin(process) && process->page->twin_order < TWIN_LEAVE)
            order(process, TWIN_LEAVE);
    for (struct process *process = step->processes; process; process = process->next)
        if (has_twin(process) && !await_answer(process->page, TWIN_HAS_LEFT))
            return fail_with(process, -ESRCH, "the twin has ended");
    return 0;
}

static int meet(struct process *process)
{
    int handles[2], error = 0;

    if (process->twin < 0)
        error = meeting_accept(process, process->page->twin_pid, &process->twin);
    if (!error)
        error = (int)passing_receive(process->twin, handles, 2, 0);
    if (error)
        return fail_with(process, error, "the twin does not answer");
    return take_memory(process, handles);
}

int twins_meet(struct step *step)
{
    int status = 0;

    for (struct process *process = step->processes; process; process = process->next)
        if (has_twin(process))
            order(process, TWIN_MEET);
    for (struct process *process = step->processes; process && !status; process = process->next)
        if (has_twin(process))
            status = meet(process);
    return status;
}

void twin_end(struct process *process)
{
    if (process->twin < 0 && process->saving.view && has_twin(process))
        kill(process->saving.view, SIGKILL); /* nothing of the program's is closed by that, also if it has not left the descriptors */
    if (process->twin >= 0)
        close(process->twin); /* it reads the end of file, and ends */
    process->twin = -1;
}
