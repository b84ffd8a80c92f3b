/* SPDX-License-Identifier: MIT */
/* Locks on files: flock, POSIX record locks, and open file description locks. A restart takes them again, or refuses
 * when somebody else has them by then. /proc/PID/fdinfo tells of those that the program holds, not of those that it
 * waits for: such a call is made again by itself. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "kind.h"

enum lock_type { LOCK_FLOCK = 1, LOCK_POSIX, LOCK_OPEN_FILE };

struct lock_record {
    int32_t number;       /* the descriptor through which it was taken */
    uint16_t type;        /* enum lock_type */
    uint16_t exclusive;
    uint64_t first, last; /* bytes; last is LOCK_TO_END for all there are and will be */
    /* then: the path of the file as a text */
};
static_assert(sizeof(struct lock_record) == 24, "lock");

#define LOCK_TO_END ((uint64_t)INT64_MAX)

/* A line of fdinfo behind its key, as fs/locks.c writes it: "1: POSIX  ADVISORY  WRITE 4711 08:01:123 0 EOF". 0: there is
 * something in it that cannot be taken again, as a lease is. */
static int parse(const char *line, struct lock_record *record)
{
    static const char *const types[] = { [LOCK_FLOCK] = "FLOCK", [LOCK_POSIX] = "POSIX", [LOCK_OPEN_FILE] = "OFDLCK" };
    char type[16], mode[16], last[24];

    if (sscanf(line, "%*d: %15s ADVISORY %15s %*d %*s %" SCNu64 " %23s", type, mode, &record->first, last) != 4 ||
        record->first > LOCK_TO_END)
        return 0;
    for (uint16_t i = LOCK_FLOCK; i <= LOCK_OPEN_FILE; i++)
        if (!strcmp(type, types[i]))
            record->type = i;
    record->exclusive = !strcmp(mode, "WRITE");
    record->last = strcmp(last, "EOF") ? strtoull(last, NULL, 10) : LOCK_TO_END;
    return record->type && (record->exclusive || !strcmp(mode, "READ"));
}

static int save_locks_of(struct saving *saving, const struct descriptor *descriptor)
{
    int error = 0;

    for (const char *line = descriptor->locks; line && !error; line = strstr(line, "\nlock:\t")) {
        struct lock_record record = { .number = descriptor->number };
        line += strspn(line, "\nlock:\t");
        if (!parse(line, &record) || (!S_ISREG(descriptor->status.st_mode) && !S_ISDIR(descriptor->status.st_mode)))
            return refuse(saving, "R-LOCK", "a lock (%.*s) is held on descriptor %d, %s", (int)strcspn(line, "\n"), line,
                          descriptor->number, descriptor->target);
        error = save_record_with_text(saving, TAG_LOCK, &record, sizeof record, descriptor->target);
    }
    return error;
}

static int locks_save(struct saving *saving, const struct descriptor *none)
{
    int error = 0;

    (void)none;
    for (size_t i = 0; i < saving->descriptor_count && !error; i++)
        if (saving->descriptors[i].same_as == saving->descriptors[i].number)
            error = save_locks_of(saving, &saving->descriptors[i]);
    return error;
}

static struct flock as_flock(const struct lock_record *record)
{
    return (struct flock){ .l_type = record->exclusive ? F_WRLCK : F_RDLCK,
                           .l_whence = SEEK_SET,
                           .l_start = (off_t)record->first,
                           .l_len = record->last >= LOCK_TO_END ? 0 : (off_t)(record->last - record->first + 1) };
}

static int flock_operation(const struct lock_record *record)
{
    return (record->exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
}

static void check_held(struct restoring *restoring, const struct lock_record *record, const char *path, int fd)
{
    struct flock other = as_flock(record);
    char who[32] = "another process";

    if (record->type == LOCK_FLOCK) {
        if (!flock(fd, flock_operation(record)) || errno != EWOULDBLOCK)
            return; /* taken for a moment only: fd is closed at once */
    } else {
        if (fcntl(fd, F_GETLK, &other) || other.l_type == F_UNLCK)
            return;
        if (other.l_pid > 0)
            snprintf(who, sizeof who, "process %d", (int)other.l_pid);
    }
    missing(restoring, "R-LOCK-HELD: %s is locked by %s, and the program had it locked at the checkpoint", path, who);
}

/* A file that cannot be opened is named by its own kind. */
static int locks_check(struct restoring *restoring, struct reader *reader)
{
    struct lock_record record;
    char *path = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));
    int fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        check_held(restoring, &record, path, fd);
        close(fd);
    }
    free(path);
    return reader->error;
}

/* Three times: in `open`, before anything is changed, since somebody may have been quicker; and when all descriptors are in place, for a
 * POSIX lock is lost when its process closes any descriptor of the file, and other kinds may have opened the same file for a moment;
 * and when what is ours has been closed, too.
 * What is held already is taken again without harm. */
static int locks_take(struct restoring *restoring, struct reader *reader)
{
    struct lock_record record;
    char *path = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));
    struct flock lock = as_flock(&record);
    int failed;

    if (!path)
        return reader->error;
    if (record.type == LOCK_FLOCK)
        failed = flock(record.number, flock_operation(&record));
    else
        failed = fcntl(record.number, record.type == LOCK_POSIX ? F_SETLK : F_OFD_SETLK, &lock);
    failed = failed ? -errno : 0;
    if (failed == -EAGAIN || failed == -EACCES)
        snprintf(restoring->image->reason, sizeof restoring->image->reason, "R-LOCK-HELD: %s has just been locked by another process",
                 path);
    free(path);
    return failed;
}

int locks_take_again(struct restoring *restoring)
{
    struct reader reader;
    int error = 0;

    for (size_t at = 0; !error && image_next_of(restoring->image, TAG_LOCK, restoring->index, &at, &reader);)
        error = locks_take(restoring, &reader);
    return error;
}

/* A file that files_wire is to make from the image is not there yet, and nobody can have it locked. */
static int locks_try(struct restoring *restoring, struct reader *reader)
{
    int error = locks_take(restoring, reader);

    return error == -EBADF ? 0 : error;
}

static void locks_show(struct reader *reader, FILE *out)
{
    static const char *const types[] = { "?", "flock", "record lock", "open file description lock" };
    struct lock_record record;
    char *path = reader_take_text(reader, &record, sizeof record);

    if (!path)
        return;
    fprintf(out, "  %d: %s, %s, bytes %" PRIu64 " to ", record.number, types[record.type > LOCK_OPEN_FILE ? 0 : record.type],
            record.exclusive ? "exclusive" : "shared", record.first);
    if (record.last >= LOCK_TO_END)
        fputs("the end\n", out);
    else
        fprintf(out, "%" PRIu64 "\n", record.last);
    free(path);
}

const struct kind kind_locks = {
    .name = "lock",
    .tag = TAG_LOCK,
    .save = locks_save,
    .check = locks_check,
    .open = locks_try,
    .last = locks_take,
    .show = locks_show,
};
