/* SPDX-License-Identifier: MIT */
/* Files and directories in /proc and /sys: made by the kernel at each look, so there is nothing to save or to compare. They
 * are opened again, in the bubble's own /proc, where the program has its PID, and stand where they stood. What belongs
 * to another process or to a thread is refused: it is not there when descriptors are made. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

int path_is_virtual(const char *path)
{
    return text_starts(path, "/proc/") || text_starts(path, "/sys/") || text_equal(path, "/proc") || text_equal(path, "/sys");
}

/* The PID in /proc/PID and /proc/PID/...; 0: none. *ret_rest: what stands behind it. */
static uint64_t pid_in(const char *path, const char **ret_rest)
{
    const char *digits = path + sizeof "/proc/" - 1, *rest = digits;
    uint64_t pid = text_starts(path, "/proc/") ? text_number(&rest) : 0;

    *ret_rest = rest;
    return rest > digits && (!*rest || *rest == '/') ? pid : 0;
}

int proc_path_is_foreign(const struct saving *saving, const char *path)
{
    const char *rest;
    uint64_t pid = pid_in(path, &rest);

    if (!pid)
        return 0;
    if (pid != (uint64_t)saving->pid)
        return 1;
    if (!text_starts(rest, "/task/"))
        return 0;
    rest += sizeof "/task/" - 1;
    return text_number(&rest) != pid; /* the main thread's TID is the PID; the others come last of all */
}

static int proc_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return (S_ISREG(descriptor->status.st_mode) || S_ISDIR(descriptor->status.st_mode)) && path_is_virtual(descriptor->target);
}

static int proc_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct descriptor_record record;

    if (proc_path_is_foreign(saving, descriptor->target))
        return refuse(saving, "R-PROC-FILE", "descriptor %d is %s, of another process or thread", descriptor->number,
                      descriptor->target);
    if (!descriptor_is_at_target(descriptor))
        return refuse(saving, "R-PROC-FILE", "descriptor %d is %s, which is not there any more", descriptor->number,
                      descriptor->target);
    descriptor_describe(descriptor, &record);
    return save_record_with_text(saving, TAG_PROC_FILE, &record, sizeof record, descriptor->target);
}

static int proc_check(struct restoring *restoring, struct reader *reader)
{
    struct descriptor_record record;
    char *path = reader_take_text(reader, &record, sizeof record);
    const char *rest;

    if (path && !pid_in(path, &rest) && access(path, F_OK))
        missing(restoring, "R-FILE-MISSING: %s: %s; the program had it open", path, strerror(errno));
    free(path);
    return reader->error;
}

/* Not before all other descriptors are there: /proc/PID/fdinfo/N is one's own. */
static int proc_wire(struct restoring *restoring, struct reader *reader)
{
    struct descriptor_record record;
    char *path = reader_take_text(reader, &record, sizeof record);
    int error = path ? descriptor_open(&record, path) : reader->error;

    (void)restoring;
    free(path);
    if (!error && record.position && lseek(record.number, record.position, SEEK_SET) < 0)
        error = -errno;
    return error;
}

static void proc_show(struct reader *reader, FILE *out)
{
    struct descriptor_record record;
    char *path = reader_take_text(reader, &record, sizeof record);

    if (path)
        descriptor_show(&record, path, out);
    free(path);
}

const struct kind kind_proc_files = {
    .name = "proc file",
    .tag = TAG_PROC_FILE,
    .claim = proc_claim,
    .save = proc_save,
    .check = proc_check,
    .wire = proc_wire,
    .show = proc_show,
};
