/* SPDX-License-Identifier: MIT */
/* Objects of System V: the bubble has an IPC namespace of its own, so each gets the id and the key that it had. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../floor/text.h"
#include "system_v.h"

struct system_v_record system_v_describe(int id, const struct ipc_perm *permissions)
{
    return (struct system_v_record){ .id = id, .key = permissions->__key, .mode = permissions->mode & 0777 };
}

static uint32_t count_of(const struct saving *saving)
{
    return saving->page->ipc_count < AGENT_MAX_IPC ? saving->page->ipc_count : AGENT_MAX_IPC;
}

/* The entry of an id in a process's books from index `at` on; a creator's counts more. */
static const struct agent_ipc *find(const struct saving *process, enum agent_ipc_sort sort, int id, int created)
{
    for (uint32_t i = 0; i < count_of(process); i++) {
        const struct agent_ipc *object = &process->page->ipc[i];
        if (object->sort == sort && object->id == id && object->created >= created)
            return object;
    }
    return NULL;
}

static int is_first(const struct saving *saving, const struct agent_ipc *object)
{
    for (const struct saving *process = saving->first; process != saving; process = process->next)
        if (find(process, (enum agent_ipc_sort)object->sort, object->id, 0))
            return 0;
    return find(saving, (enum agent_ipc_sort)object->sort, object->id, 0) == object;
}

int system_v_each(struct saving *saving, enum agent_ipc_sort sort, int (*save)(struct saving *saving, int id))
{
    int error = saving->page->ipc_count > AGENT_MAX_IPC
                    ? refuse(saving, "R-SYSTEM-V", "more than %d objects of System V IPC are used", AGENT_MAX_IPC)
                    : 0;

    for (uint32_t i = 0; !error && i < count_of(saving); i++)
        if (saving->page->ipc[i].sort == sort && is_first(saving, &saving->page->ipc[i]))
            error = save(saving, saving->page->ipc[i].id);
    return error;
}

int system_v_is_own(const struct saving *saving, enum agent_ipc_sort sort, int id)
{
    for (const struct saving *process = saving->first; process; process = process->next)
        if (find(process, sort, id, 1))
            return 1;
    return 0;
}

int system_v_is_known(const struct saving *saving, enum agent_ipc_sort sort, int id)
{
    const struct saving *process = saving->first;

    while (process != saving && !find(process, sort, id, 0))
        process = process->next;
    return find(process, sort, id, 0) != NULL;
}

int system_v_check_owner(struct saving *saving, enum agent_ipc_sort sort, int id, const struct ipc_perm *permissions,
                         const char *what)
{
    if (!system_v_is_own(saving, sort, id))
        return refuse(saving, "R-SYSTEM-V", "the program uses %s with id %d, which it has not made", what, id);
    if (permissions->uid != geteuid())
        return refuse(saving, "R-SYSTEM-V", "%s with id %d belong to user %u by now", what, id, permissions->uid);
    return 0;
}

/* proc(5): field 22, in ticks since the machine's start as this time namespace counts it. */
int64_t process_began(int pid)
{
    char *text = proc_read(pid, "stat", NULL), *behind = text ? strrchr(text, ')') : NULL;
    unsigned long long ticks = 0;
    struct timespec since, now;

    if (behind)
        sscanf(behind, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks);
    free(text);
    clock_gettime(CLOCK_BOOTTIME, &since);
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - since.tv_sec + (int64_t)(ticks / (unsigned long)sysconf(_SC_CLK_TCK)) - 2;
}

void system_v_check_numbers(struct restoring *restoring)
{
    needs_bubble(restoring, "System V IPC");
    if (access("/proc/sys/kernel/sem_next_id", F_OK) || text_list_holds(restoring->test_fail, "next_id"))
        missing(restoring,
                "R-SYSTEM-V-NUMBER: the program uses System V IPC, and this kernel does not let a restart choose its "
                "numbers; restart under one with CONFIG_CHECKPOINT_RESTORE");
}

int system_v_next_id(const char *sort, int id)
{
    char path[64], number[16];
    int fd, length = snprintf(number, sizeof number, "%d", id), error = 0;

    snprintf(path, sizeof path, "/proc/sys/kernel/%s_next_id", sort);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, number, (size_t)length) != length)
        error = -errno;
    close(fd);
    return error;
}
