/* SPDX-License-Identifier: MIT */
/* Descriptors of O_PATH: they name a place in the file system, whatever is there, without opening it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kind.h"

struct path_record {
    struct descriptor_record descriptor;
    uint32_t type;        /* S_IFMT of what is there */
    uint32_t reserved;
    /* then: the path as a text */
};

static int paths_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return !!(descriptor->flags & O_PATH);
}

static int paths_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct path_record record = { .type = descriptor->status.st_mode & S_IFMT };

    if (!descriptor_is_at_target(descriptor))
        return refuse(saving, "R-PATH-DESCRIPTOR", "descriptor %d names %s, which is deleted, or has no path", descriptor->number,
                      descriptor->target);
    if (proc_path_is_foreign(saving, descriptor->target))
        return refuse(saving, "R-PROC-FILE", "descriptor %d is %s, of another process or thread", descriptor->number,
                      descriptor->target);
    descriptor_describe(descriptor, &record.descriptor);
    return save_record_with_text(saving, TAG_PATH_DESCRIPTOR, &record, sizeof record, descriptor->target);
}

static int paths_check(struct restoring *restoring, struct reader *reader)
{
    struct path_record record;
    char *path = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));
    struct stat status;

    if (!path)
        return reader->error;
    if (path_is_virtual(path))
        ; /* of the bubble's own /proc, which is not there yet */
    else if (lstat(path, &status))
        missing(restoring, "R-FILE-MISSING: %s: %s; the program had a descriptor (O_PATH) for it", path, strerror(errno));
    else if ((status.st_mode & S_IFMT) != record.type)
        missing(restoring, "R-FILE-CHANGED: %s is of another sort than at the checkpoint", path);
    free(path);
    return 0;
}

static int paths_open(struct restoring *restoring, struct reader *reader)
{
    struct path_record record;
    char *path = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));
    int error = path ? descriptor_open(&record.descriptor, path) : reader->error;

    free(path);
    return error;
}

static void paths_show(struct reader *reader, FILE *out)
{
    struct path_record record;
    char *path = reader_take_text(reader, &record, sizeof record);

    record.descriptor.flags |= O_ACCMODE; /* as "path" */
    if (path)
        descriptor_show(&record.descriptor, path, out);
    free(path);
}

const struct kind kind_path_descriptors = {
    .name = "path descriptor",
    .tag = TAG_PATH_DESCRIPTOR,
    .claim = paths_claim,
    .save = paths_save,
    .check = paths_check,
    .open = paths_open,
    .show = paths_show,
};
