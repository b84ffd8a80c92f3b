/* SPDX-License-Identifier: MIT */
/* Whose memory is read: a twin's, so that the program can go on at once; or, when memory is short, the stopped
 * program's own. */
#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
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

static uint64_t bytes_of(const struct process *process)
{
    char *status = proc_read(process->pid, "status", NULL);
    uint64_t private = kilobytes(status, "RssAnon"), shared = kilobytes(status, "RssShmem");

    free(status);
    return private == UINT64_MAX ? 0 : private + (shared == UINT64_MAX ? 0 : shared /* copied at once */);
}

/* In the worst case the programs write to all their pages while the image is written, and each is there twice. */
int twin_memory_is_short(const struct step *step)
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
        needs += bytes_of(process);
    return step->without_twin || text_list_holds(getenv(ENV_TEST_FAIL), "memory") || needs > has || needs > room;
}

/* The process without a twin is read itself; it makes itself dumpable until it runs on. */
static int take_handles(struct process *process)
{
    int handles[2], error;

    process->saving.view = process->saving.pid;
    error = meeting_order(process, ORDER_HANDLES, handles, 2);
    if (error)
        return fail_with(process, error, "the program's memory cannot be opened");
    process->saving.memory = handles[0];
    process->saving.pagemap = handles[1];
    return 0;
}

int twin_take(struct process *process, int memory_is_short)
{
    struct agent_page *page = process->page;

    process->saving.test_fail = getenv(ENV_TEST_FAIL);
    if (memory_is_short || text_list_holds(process->saving.test_fail, "fork") || stop_order(process, ORDER_TWIN))
        return take_handles(process);
    while (!__atomic_load_n(&page->twin_answer, __ATOMIC_SEQ_CST)) {
        struct timespec timeout = { .tv_sec = 1 };
        char *state = proc_read(page->twin_pid, "stat", NULL), *at = state ? strrchr(state, ')') : NULL;
        int dead = !at || at[2] == 'Z';
        free(state);
        if (dead)
            return take_handles(process);
        syscall(SYS_futex, &page->twin_answer, FUTEX_WAIT, 0, &timeout, NULL, 0);
    }
    process->saving.view = page->twin_pid;
    return 0;
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

    if (saving->view == saving->pid || !process->page->range_count)
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

int twin_leave(struct process *process)
{
    int handles[2], error;

    if (process->saving.view == process->saving.pid)
        return 0;
    __atomic_store_n(&process->page->twin_order, TWIN_LEAVE, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &process->page->twin_order, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    error = meeting_accept(process, process->page->twin_pid, &process->twin);
    if (!error)
        error = (int)passing_receive(process->twin, handles, 2, 0);
    if (error)
        return fail_with(process, error, "the twin does not answer");
    process->saving.memory = handles[0];
    process->saving.pagemap = handles[1];
    return 0;
}

void twin_end(struct process *process)
{
    if (process->twin < 0 && process->saving.view && process->saving.view != process->saving.pid)
        kill(process->saving.view, SIGKILL); /* it never left the descriptors: nothing of the program's is closed by that */
    if (process->twin >= 0)
        close(process->twin); /* it reads the end of file, and ends */
    process->twin = -1;
}
