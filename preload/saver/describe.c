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
    const char *locked = status_field(saving->status, "VmLck");
    return locked && strtoull(locked, NULL, 10) > 0;
}

/* A twin has none of them: see preload/shim/ipc.c. */
static int has_segments(const struct saving *saving)
{
    for (size_t i = 0; i < saving->mappings.count; i++)
        if (text_starts(saving->mappings.items[i].name, "/SYSV"))
            return 1;
    return 0;
}

/* The program's own maps or smaps. When it is not dumpable only the program can open them: then they come over the socket. */
static char *read_own(struct process *process, const char *name)
{
    int handles[2], error, is_smaps = *name == 's';
    char *text = proc_read(process->pid, name, NULL);

    if (text || (errno != EACCES && errno != EPERM))
        return text;
    error = meeting_order(process, ORDER_MAPS, handles, 2);
    if (error) {
        errno = -error;
        return NULL;
    }
    text = read_all(handles[is_smaps], NULL);
    close(handles[0]);
    close(handles[1]);
    return text;
}

static int read_flags(struct process *process)
{
    char *text = read_own(process, "smaps");

    if (!text)
        return -errno;
    mappings_add_flags(&process->saving.mappings, text);
    free(text);
    return 0;
}

/* A fork leaves mappings out, and adds none: so what is as large is the same. */
static int twin_is_as_large(const struct saving *saving)
{
    char *twin = proc_read(saving->view, "statm", NULL);
    int is = twin && strtoull(twin, NULL, 10) * PAGE_BYTES == saving->stat[STAT_MEMORY];

    free(twin);
    return is;
}

/* Then they are read with the mappings. */
static int needs_flags_early(const struct saving *saving)
{
    return has_locked_memory(saving) || has_segments(saving);
}

static int mark_copies(struct process *process)
{
    struct saving *saving = &process->saving;
    struct mappings twin = { 0 };
    char *text;
    int error;

    if (saving->view == saving->pid || twin_is_as_large(saving))
        return memory_mark_copies(saving, &saving->mappings, process->page);
    text = proc_read(saving->view, "maps", NULL);
    error = text ? mappings_parse(text, &twin) : -errno;
    free(text);
    if (!error)
        error = memory_mark_copies(saving, &twin, process->page);
    mappings_free(&twin);
    if (!error && saving->lacks_flags && !needs_flags_early(saving))
        error = read_flags(process);
    return error;
}

int describe_copies(struct process *process)
{
    int error = mark_copies(process);
    return error ? fail_with(process, error, "the program's mappings") : 0;
}

static int describe_mappings(struct process *process, const char *maps)
{
    struct saving *saving = &process->saving;
    int error = maps ? mappings_parse(maps, &saving->mappings) : -errno;

    if (!error && needs_flags_early(saving))
        error = read_flags(process);
    return error ? fail_with(process, error, "the program's mappings cannot be read") : 0;
}

/* Directories of /proc/PID. The twin has the same table as the program, which may not be looked at when it is not dumpable. */
struct tables {
    int fd, fdinfo; /* -1: none */
};

static char *read_info(const struct tables *tables, const char *number)
{
    int fd = openat(tables->fdinfo, number, O_RDONLY | O_CLOEXEC);
    char *text = fd < 0 ? NULL : read_all(fd, NULL);

    if (fd >= 0)
        close(fd);
    return text;
}

static int describe_one(struct saving *saving, const struct tables *tables, int number, struct descriptor *descriptor)
{
    char name[16], target[MAX_PATH];
    char *info;
    ssize_t length;

    memset(descriptor, 0, sizeof *descriptor);
    descriptor->holder = saving;
    descriptor->number = descriptor->same_as = number;
    snprintf(name, sizeof name, "%d", number);
    length = readlinkat(tables->fd, name, target, sizeof target - 1);
    if (length < 0 && errno == ENAMETOOLONG)
        return refuse(saving, "R-LONG-PATH", "the path of descriptor %d is longer than the kernel tells (%d bytes)", number, MAX_PATH - 1);
    if (length < 0 || fstatat(tables->fd, name, &descriptor->status, 0))
        return -errno;
    descriptor->target = strndup(target, (size_t)length);
    info = read_info(tables, name);
    if (!descriptor->target || !info || !status_field(info, "flags")) {
        free(info);
        return descriptor->target ? -EPROTO : -ENOMEM;
    }
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
    compared = syscall(SYS_kcmp, one->holder->look, other->holder->look, KCMP_FILE, one->number, other->number);
    if (compared < 0) {
        unanswered.error = errno;
        unanswered.one = one->number;
        unanswered.other = other->number;
    }
    return compared == 0 ? 0 : compared == 1 ? -1 : 1;
}

/* The first descriptor that leads to the same open file description, perhaps itself. `seen` is a tree (tsearch(3)): there may be very many
 * that look alike. */
static int find_first(struct saving *saving, struct descriptor *descriptor, void **seen, struct descriptor **ret_first)
{
    struct descriptor **found = tsearch(descriptor, seen, by_description);

    if (!found)
        return -ENOMEM;
    if (unanswered.error)
        return unanswered.error == ENOSYS ? refuse(saving, "R-KCMP", "this kernel has no kcmp, and descriptors %d and %d look alike",
                                                   unanswered.other, unanswered.one)
                                          : -unanswered.error;
    *ret_first = *found;
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

static int list_numbers(int table, int **ret_numbers, size_t *ret_count)
{
    size_t room = 0, count = 0;
    int *numbers = NULL, fd = dup(table);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

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

static int open_table(int pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static struct tables tables_open(const struct saving *saving)
{
    return (struct tables){ open_table(saving->look, "fd"), open_table(saving->look, "fdinfo") };
}

static void tables_close(const struct tables *tables)
{
    if (tables->fd >= 0)
        close(tables->fd);
    if (tables->fdinfo >= 0)
        close(tables->fdinfo);
}

static int describe_numbers(struct process *process, const struct tables *tables, const int *numbers, size_t count)
{
    struct saving *saving = &process->saving;
    void *seen = NULL;
    int error = 0;

    unanswered.error = 0;
    for (size_t i = 0; !error && i < count; i++) {
        struct descriptor *descriptor = &saving->descriptors[saving->descriptor_count], *first;
        error = describe_one(saving, tables, numbers[i], descriptor);
        if (error == -ENOENT || (descriptor->target && !strcmp(descriptor->target, process->step->request->directory))) {
            free(descriptor->locks);
            free(descriptor->target); /* a parked thread looks whether we live: nothing else can come and go */
            error = 0;
            continue;
        }
        saving->descriptor_count++;
        if (!error && !(error = find_first(saving, descriptor, &seen, &first)))
            descriptor->same_as = first->number;
    }
    tdestroy(seen, keep);
    return error;
}

static int describe_descriptors(struct process *process)
{
    struct saving *saving = &process->saving;
    struct tables tables = tables_open(saving);
    int *numbers = NULL, error = tables.fd < 0 || tables.fdinfo < 0 ? -errno : 0;
    size_t count = 0;

    if (!error)
        error = list_numbers(tables.fd, &numbers, &count);
    saving->descriptors = calloc(count + 1, sizeof *saving->descriptors);
    if (!saving->descriptors)
        error = -ENOMEM;
    if (!error)
        error = describe_numbers(process, &tables, numbers, count);
    free(numbers);
    tables_close(&tables);
    return error ? fail_with(process, error, "the program's descriptors cannot be read") : 0;
}

static int describe(struct process *process, int look, const char *maps)
{
    int status, error = proc_stat(process->pid, process->saving.stat);

    if (error)
        return fail_with(process, error, "the program's state cannot be read");
    process->saving.look = look;
    clocks_look(&process->saving);
    status = describe_mappings(process, maps);
    return status ? status : describe_descriptors(process);
}

/* Mostly it can be looked at while it forks; else by its twin, which has left the table when the program is dumpable. */
int describe_process(struct process *process)
{
    int status = 0, look = process->pid;
    char *maps = proc_read(process->pid, "maps", NULL);

    if (!maps && !(status = twin_take(process))) {
        look = process->page->dumpable == 1 ? process->pid : process->saving.view;
        maps = read_own(process, "maps");
    }
    if (!status)
        status = describe(process, look, maps);
    free(maps);
    return status;
}

/* ---- between processes ---- */

static int find_shared(struct saving *saving, void **seen)
{
    int error = 0;

    for (size_t i = 0; i < saving->descriptor_count && !error; i++) {
        struct descriptor *descriptor = &saving->descriptors[i], *first = descriptor;
        if (descriptor->same_as == descriptor->number)
            error = find_first(saving, descriptor, seen, &first);
        if (first != descriptor)
            descriptor->shares = first;
    }
    return error;
}

/* Two processes with one table of descriptors, or one working directory: clone(2) with CLONE_FILES or CLONE_FS. */
static int refuse_clones(struct process *process)
{
    const char *parent = status_field(process->saving.status, "PPid");
    int pid = parent ? atoi(parent) : 0, error = 0;

    for (const struct process *other = process->step->processes; other && !error; other = other->next)
        if (other->pid == pid && (!syscall(SYS_kcmp, process->pid, pid, KCMP_FILES, 0, 0) || !syscall(SYS_kcmp, process->pid, pid, KCMP_FS, 0, 0)))
            error = refuse(&process->saving, "R-CLONE", "processes %d and %d share their table of descriptors, or their working directory", pid,
                           process->pid);
    return error;
}

int describe_sharing(struct step *step)
{
    struct process *first = step->processes;
    void *seen = NULL;
    int error = descriptors_sort(&first->saving);

    error = error ? error : mapped_files_sort(&first->saving);
    if (error || !first->next)
        return error ? fail_with(first, error, "the program's descriptors and mappings") : 0;
    unanswered.error = 0;
    for (struct process *process = first; process && !error; process = process->next) {
        error = find_shared(&process->saving, &seen);
        if (!error)
            error = refuse_clones(process);
        if (error)
            error = fail_with(process, error, "descriptors that processes share");
    }
    tdestroy(seen, keep);
    return error;
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
    free(saving->status);
    saving->status = NULL;
    free(saving->descriptors);
    free(saving->by_file);
    contents_forget(saving);
    objects_forget(saving);
    sockets_forget(saving);
    unix_forget(saving);
    inet_ends_forget(saving);
    buffer_free(&saving->watches);
    buffer_free(&saving->copied_parts);
    buffer_free(&saving->mapped_files);
    mappings_free(&saving->mappings);
    close_if_open(&saving->memory);
    close_if_open(&saving->pagemap);
    close_if_open(&saving->copies);
}
