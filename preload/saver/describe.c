/* SPDX-License-Identifier: MIT */
/* What is looked at while the program is stopped: its mappings and its descriptors. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../core/floor/text.h"
#include "../../core/kinds/inet.h"
#include "saver.h"

/* mlock is the one flag that a twin does not inherit; smaps takes as long as a fork, so it is read only for that. */
static int has_locked_memory(const struct saving *saving)
{
    char *status = proc_read(saving->pid, "status", NULL);
    const char *locked = status ? status_field(status, "VmLck") : NULL;
    int has = locked && strtoull(locked, NULL, 10) > 0;

    free(status);
    return has;
}

/* A twin has none of them: see preload/shim/ipc.c. */
static int has_segments(const struct saving *saving)
{
    for (size_t i = 0; i < saving->mappings.count; i++)
        if (text_starts(saving->mappings.items[i].name, "/SYSV"))
            return 1;
    return 0;
}

static int read_locks(struct saving *saving, int smaps)
{
    char *text = read_all(smaps, NULL);

    if (!text)
        return -ENOMEM;
    mappings_add_flags(&saving->mappings, text);
    free(text);
    return 0;
}

/* The program's own maps come over the socket: it may not be dumpable, and then only it can open them. */
int describe_mappings(struct process *process)
{
    struct saving *saving = &process->saving;
    struct mappings twin = { 0 };
    int handles[2] = { -1, -1 }, error = meeting_order(process, ORDER_MAPS, handles, 2);
    char *text = error ? NULL : read_all(handles[0], NULL), *twin_text;

    if (!error)
        error = text ? mappings_parse(text, &saving->mappings) : -ENOMEM;
    free(text);
    if (!error && (has_locked_memory(saving) || has_segments(saving)))
        error = read_locks(saving, handles[1]);
    for (int i = 0; i < 2; i++)
        if (handles[i] >= 0)
            close(handles[i]);
    if (error)
        return fail_with(process, error, "the program's mappings cannot be read");
    twin_text = proc_read(saving->view, "maps", NULL);
    error = twin_text ? mappings_parse(twin_text, &twin) : -errno;
    free(twin_text);
    if (!error)
        error = memory_mark_copies(saving, &twin, process->page);
    mappings_free(&twin);
    return error ? fail_with(process, error, "the program's mappings") : 0;
}

static int describe_one(struct saving *saving, int number, struct descriptor *descriptor)
{
    char name[64];
    char *info;

    memset(descriptor, 0, sizeof *descriptor);
    descriptor->holder = saving;
    descriptor->number = descriptor->same_as = number;
    snprintf(name, sizeof name, "fd/%d", number);
    descriptor->target = proc_link(saving->view, name);
    snprintf(name, sizeof name, "/proc/%d/fd/%d", saving->view, number);
    if (!descriptor->target && errno == ENAMETOOLONG)
        return refuse(saving, "R-LONG-PATH", "the path of descriptor %d is longer than the kernel tells (%d bytes)", number, MAX_PATH - 1);
    if (!descriptor->target || stat(name, &descriptor->status))
        return -errno;
    snprintf(name, sizeof name, "fdinfo/%d", number);
    info = proc_read(saving->view, name, NULL);
    if (!info || !status_field(info, "flags"))
        return -EPROTO;
    descriptor->flags = (int)strtol(status_field(info, "flags"), NULL, 8);
    descriptor->position = strtoll(status_field(info, "pos"), NULL, 10);
    const char *locks = status_field(info, "lock"), *index = status_field(info, "tty-index");
    descriptor->master_of = index ? atoi(index) : -1;
    descriptor->locks = locks ? strdup(locks) : NULL;
    free(info);
    return locks && !descriptor->locks ? -ENOMEM : 0;
}

/* The last question that kcmp(2) did not answer. */
static struct {
    int error, one, other;
} unanswered;

static int compare(uint64_t one, uint64_t other)
{
    return one < other ? -1 : one > other;
}

/* An order of open file descriptions: by what they look like, and for those that look alike kcmp's. */
static int by_description(const void *a, const void *b)
{
    const struct descriptor *one = a, *other = b;
    int order = compare(one->status.st_ino, other->status.st_ino);
    long compared;

    order = order ? order : compare(one->status.st_dev, other->status.st_dev);
    order = order ? order : compare((uint64_t)one->position, (uint64_t)other->position);
    order = order ? order : compare((uint64_t)(one->flags & ~O_CLOEXEC), (uint64_t)(other->flags & ~O_CLOEXEC));
    if (order || one == other)
        return order;
    compared = syscall(SYS_kcmp, one->holder->view, other->holder->view, KCMP_FILE, one->number, other->number);
    if (compared < 0) {
        unanswered.error = errno;
        unanswered.one = one->number;
        unanswered.other = other->number;
    }
    return compared == 0 ? 0 : compared == 1 ? -1 : 1;
}

/* Two numbers for one open file description. `seen` is a tree (tsearch(3)): there may be very many that look alike. */
static int find_shared(struct saving *saving, struct descriptor *descriptor, void **seen)
{
    struct descriptor **found = tsearch(descriptor, seen, by_description);

    if (!found)
        return -ENOMEM;
    if (unanswered.error)
        return unanswered.error == ENOSYS ? refuse(saving, "R-KCMP", "this kernel has no kcmp, and descriptors %d and %d look alike",
                                                   unanswered.other, unanswered.one)
                                          : -unanswered.error;
    descriptor->same_as = (*found)->number;
    return 0;
}

static void keep(void *descriptor)
{
    (void)descriptor;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int list_numbers(int pid, int **ret_numbers, size_t *ret_count)
{
    char path[64];
    size_t room = 0, count = 0;
    int *numbers = NULL;
    DIR *directory;
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    directory = opendir(path);
    if (!directory)
        return -errno;
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        if (count == room) {
            int *larger = realloc(numbers, (room = room ? room * 2 : 64) * sizeof *numbers);
            if (!larger)
                break;
            numbers = larger;
        }
        numbers[count++] = atoi(entry->d_name);
    }
    closedir(directory);
    qsort(numbers, count, sizeof *numbers, by_number);
    *ret_numbers = numbers;
    *ret_count = count;
    return 0;
}

int describe_descriptors(struct process *process)
{
    struct saving *saving = &process->saving;
    int *numbers = NULL;
    void *seen = NULL;
    size_t count = 0;
    int error = list_numbers(saving->view, &numbers, &count);

    unanswered.error = 0;
    saving->descriptors = calloc(count + 1, sizeof *saving->descriptors);
    if (!saving->descriptors)
        error = -ENOMEM;
    for (size_t i = 0; !error && i < count; i++) {
        struct descriptor *descriptor = &saving->descriptors[saving->descriptor_count];
        error = describe_one(saving, numbers[i], descriptor);
        if (error == -ENOENT || (descriptor->target && !strcmp(descriptor->target, process->step->request->directory))) {
            free(descriptor->locks);
            free(descriptor->target); /* a parked thread looks whether we live: nothing else can come and go */
            error = 0;
            continue;
        }
        saving->descriptor_count++;
        if (!error)
            error = find_shared(saving, descriptor, &seen);
    }
    tdestroy(seen, keep);
    free(numbers);
    if (!error)
        error = descriptors_sort(saving);
    return error ? fail_with(process, error, "the program's descriptors cannot be read") : 0;
}

/* ---- between processes ---- */

static int by_looks(const void *a, const void *b)
{
    const struct descriptor *one = *(const struct descriptor *const *)a, *other = *(const struct descriptor *const *)b;

    if (one->status.st_ino != other->status.st_ino)
        return one->status.st_ino < other->status.st_ino ? -1 : 1;
    if (one->status.st_dev != other->status.st_dev)
        return one->status.st_dev < other->status.st_dev ? -1 : 1;
    if (one->position != other->position)
        return one->position < other->position ? -1 : 1;
    return (one->flags & ~O_CLOEXEC) - (other->flags & ~O_CLOEXEC);
}

/* By looks, and of those that look alike first the one of the first process. */
static int by_looks_and_process(const void *a, const void *b)
{
    const struct descriptor *one = *(const struct descriptor *const *)a, *other = *(const struct descriptor *const *)b;
    int order = by_looks(a, b);

    return order ? order : (int)one->holder->index - (int)other->holder->index;
}

/* One of several that look alike: is it the description of one that stands before it? */
static int find_sharer(struct descriptor **alike, size_t count)
{
    struct descriptor *descriptor = alike[count];

    for (size_t i = 0; i < count && !descriptor->shares; i++) {
        if (alike[i]->shares || alike[i]->holder == descriptor->holder)
            continue;
        long compared = syscall(SYS_kcmp, alike[i]->holder->view, descriptor->holder->view, KCMP_FILE, alike[i]->number, descriptor->number);
        if (compared < 0)
            return -errno;
        if (!compared)
            descriptor->shares = alike[i];
    }
    return 0;
}

static struct descriptor **gather_all(struct step *step, size_t *ret_count)
{
    size_t count = 0;
    struct descriptor **all;

    for (struct process *process = step->processes; process; process = process->next)
        count += process->saving.descriptor_count;
    all = calloc(count + 1, sizeof *all);
    *ret_count = 0;
    for (struct process *process = step->processes; all && process; process = process->next)
        for (size_t i = 0; i < process->saving.descriptor_count; i++)
            if (process->saving.descriptors[i].same_as == process->saving.descriptors[i].number)
                all[(*ret_count)++] = &process->saving.descriptors[i];
    if (all)
        qsort(all, *ret_count, sizeof *all, by_looks_and_process);
    return all;
}

/* Two processes with one table of descriptors, or one working directory: clone(2) with CLONE_FILES or CLONE_FS. */
static int refuse_clones(struct process *process)
{
    char *status = proc_read(process->pid, "status", NULL);
    const char *parent = status ? status_field(status, "PPid") : NULL;
    int pid = parent ? atoi(parent) : 0, error = 0;

    free(status);
    for (const struct process *other = process->step->processes; other && !error; other = other->next)
        if (other->pid == pid && (!syscall(SYS_kcmp, process->pid, pid, KCMP_FILES, 0, 0) || !syscall(SYS_kcmp, process->pid, pid, KCMP_FS, 0, 0)))
            error = refuse(&process->saving, "R-CLONE", "processes %d and %d share their table of descriptors, or their working directory", pid,
                           process->pid);
    return error;
}

int describe_sharing(struct step *step)
{
    struct process *process = step->processes;
    size_t count, first = 0;
    struct descriptor **all;
    int error = 0;

    if (!process->next)
        return 0;
    all = gather_all(step, &count);
    if (!all)
        return fail_with(process, -ENOMEM, "the program's descriptors");
    for (size_t i = 1; i < count && !error; i++) {
        if (by_looks(&all[i], &all[first]))
            first = i;
        error = find_sharer(all + first, i - first);
    }
    free(all);
    if (error == -ENOSYS)
        error = refuse(&process->saving, "R-KCMP", "this kernel has no kcmp, and processes have descriptors that look alike");
    for (; process && !error; process = process->next)
        if ((error = refuse_clones(process)))
            return fail_with(process, error, "processes that share");
    return error ? fail_with(step->processes, error, "descriptors that processes share") : 0;
}

static void close_if_open(int *fd)
{
    if (*fd > 0)
        close(*fd);
    *fd = -1;
}

void describe_free(struct process *process)
{
    struct saving *saving = &process->saving;

    for (size_t i = 0; i < saving->descriptor_count; i++) {
        free(saving->descriptors[i].target);
        free(saving->descriptors[i].locks);
    }
    free(saving->descriptors);
    free(saving->by_file);
    contents_forget(saving);
    objects_forget(saving);
    sockets_forget(saving);
    unix_forget(saving);
    inet_ends_forget(saving);
    buffer_free(&saving->watches);
    mappings_free(&saving->mappings);
    close_if_open(&saving->memory);
    close_if_open(&saving->pagemap);
    close_if_open(&saving->copies);
}
