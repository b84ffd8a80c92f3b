/* SPDX-License-Identifier: MIT */
#include "roll.h"

#include <errno.h>
#include <fcntl.h>

#include "syscalls.h"
#include "text.h"

#define ROLL_MAGIC UINT64_C(0x0a6c6c6f72747373)

static uint64_t mix_text(uint64_t hash, const char *text)
{
    for (; text && *text; text++)
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3); /* FNV-1a */
    return (hash ^ '/') * UINT64_C(0x100000001b3);
}

static uint32_t number_of(const char *text)
{
    const char *rest = text;
    uint64_t number = text ? text_number(&rest) : 0;
    return rest == text || *rest || number > MAX_TASKS ? 0 : (uint32_t)number;
}

/* A step's number is its own only within its job, and a job's only until it is requeued; srun's ports tell clusters and
 * their lives apart. */
void roll_place(char *const *environment, struct task_place *ret_place)
{
    static const char *const of_this_start[] = { ENV_SLURM_JOB, ENV_SLURM_STEP, ENV_SLURM_RESTARTS, ENV_SLURM_LAUNCHER, ENV_SLURM_PORT,
                                                 ENV_SLURM_STEP_PORT };
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    *ret_place = (struct task_place){ 0 };
    if (!text_environment(environment, ENV_SLURM_STEP)) /* the batch script has the numbers of a task, too */
        return;
    ret_place->task = number_of(text_environment(environment, ENV_SLURM_TASK));
    ret_place->tasks = number_of(text_environment(environment, ENV_SLURM_TASKS));
    for (size_t i = 0; i < sizeof of_this_start / sizeof *of_this_start; i++)
        hash = mix_text(hash, text_environment(environment, of_this_start[i]));
    ret_place->roll = hash;
}

size_t roll_directory(char *path, const char *directory, const char *job, const char *step)
{
    size_t at = text_add(path, MAX_PATH, 0, directory);

    at = text_add(path, MAX_PATH, at, "/");
    at = text_add(path, MAX_PATH, at, job);
    at = text_add(path, MAX_PATH, at, ".");
    at = text_add(path, MAX_PATH, at, step);
    return text_add(path, MAX_PATH, at, IMAGE_SUFFIX PARTS_SUFFIX);
}

static size_t roll_path(char *path, const char *parts, uint64_t roll)
{
    size_t at = text_add(path, MAX_PATH, text_add(path, MAX_PATH, 0, parts), "/" ROLL_NAME);
    return text_add_hex(path, MAX_PATH, at, roll);
}

static int lock(int roll, int command, short type, int64_t start, int64_t length)
{
    struct flock area = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    long error;

    do
        error = SYS_CALL(fcntl, roll, command, &area, 0, 0, 0);
    while (error == -EINTR);
    if (error || command != F_OFD_GETLK)
        return error == -EACCES ? -EAGAIN : (int)error;
    return area.l_type != F_UNLCK;
}

int roll_lock(int roll)
{
    return lock(roll, F_OFD_SETLKW, F_WRLCK, 0, ROLL_ENTRIES_AT);
}

void roll_unlock(int roll)
{
    lock(roll, F_OFD_SETLK, F_UNLCK, 0, ROLL_ENTRIES_AT);
}

int roll_take_pulse(int roll, uint32_t task)
{
    return lock(roll, F_OFD_SETLK, F_WRLCK, ROLL_PULSE + (int64_t)task, 1);
}

int roll_has_pulse(int roll, uint32_t task)
{
    return lock(roll, F_OFD_GETLK, F_WRLCK, ROLL_PULSE + (int64_t)task, 1) != 0;
}

static int read_at(int roll, void *to, size_t length, uint64_t offset)
{
    long got = SYS_CALL(pread64, roll, to, length, offset, 0, 0);
    return got < 0 ? (int)got : got == (long)length ? 0 : -EBADMSG;
}

static int write_at(int roll, const void *from, size_t length, uint64_t offset)
{
    long written = SYS_CALL(pwrite64, roll, from, length, offset, 0, 0);
    return written < 0 ? (int)written : written == (long)length ? 0 : -ENOSPC;
}

int roll_read(int roll, struct roll_head *ret_head)
{
    int error = read_at(roll, ret_head, sizeof *ret_head, 0);

    if (!error && (ret_head->magic != ROLL_MAGIC || ret_head->tasks > MAX_TASKS))
        error = -EBADMSG;
    ret_head->message[sizeof ret_head->message - 1] = 0;
    return error;
}

int roll_write(int roll, const struct roll_head *head)
{
    return write_at(roll, head, sizeof *head, 0);
}

static uint64_t entry_at(uint32_t task)
{
    return ROLL_ENTRIES_AT + task * (uint64_t)sizeof(struct roll_entry);
}

int roll_read_entry(int roll, uint32_t task, struct roll_entry *ret_entry)
{
    return read_at(roll, ret_entry, sizeof *ret_entry, entry_at(task));
}

int roll_write_entry(int roll, uint32_t task, const struct roll_entry *entry)
{
    return write_at(roll, entry, sizeof *entry, entry_at(task));
}

int roll_read_images(int roll, uint32_t tasks, char *path)
{
    int error = read_at(roll, path, MAX_PATH, entry_at(tasks));

    path[error ? 0 : MAX_PATH - 1] = 0;
    return error;
}

int roll_write_images(int roll, uint32_t tasks, const char *path)
{
    return write_at(roll, path, text_length(path) + 1, entry_at(tasks));
}

/* Whoever comes first makes all of it: what is behind the head is zeros. */
static int fill(int roll, uint32_t tasks)
{
    struct roll_head head;
    int error = roll_lock(roll);

    if (error)
        return error;
    error = roll_read(roll, &head);
    if (error) {
        head = (struct roll_head){ .magic = ROLL_MAGIC, .tasks = tasks };
        error = (int)sys_ftruncate(roll, entry_at(tasks) + MAX_PATH);
        if (!error)
            error = roll_write(roll, &head);
    } else if (head.tasks != tasks && tasks)
        error = -EBADMSG;
    roll_unlock(roll);
    return error;
}

int roll_open(const char *parts, uint64_t roll, uint32_t tasks)
{
    char path[MAX_PATH];
    long file, error = tasks ? sys_mkdir(parts, 0700) : 0;

    if (error && error != -EEXIST)
        return (int)error;
    roll_path(path, parts, roll);
    file = sys_openat(AT_FDCWD, path, O_RDWR | (tasks ? O_CREAT : 0) | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return (int)file;
    error = fill((int)file, tasks);
    if (error)
        sys_close((int)file);
    return error ? (int)error : (int)file;
}

static int all_have_ended(int roll, uint32_t tasks)
{
    struct roll_entry entry;

    for (uint32_t i = 0; i < tasks; i++)
        if (roll_read_entry(roll, i, &entry) || !entry.has_ended)
            return 0;
    return 1;
}

void roll_note_end(const char *parts, const struct task_place *place, const uint8_t run[UUID_BYTES], int status)
{
    struct roll_entry entry;
    char path[MAX_PATH];
    int roll = roll_open(parts, place->roll, place->tasks), is_last = 0;

    if (roll < 0)
        return;
    if (!roll_lock(roll) && !roll_read_entry(roll, place->task, &entry)) {
        __builtin_memcpy(entry.run, run, sizeof entry.run);
        entry.has_ended = 1;
        entry.status = (uint32_t)status & 0xff;
        roll_write_entry(roll, place->task, &entry);
        is_last = all_have_ended(roll, place->tasks);
    }
    roll_path(path, parts, place->roll);
    if (is_last) {
        sys_unlink(path);
        sys_rmdir(parts); /* fails when there are parts, as it should */
    }
    sys_close(roll);
}
