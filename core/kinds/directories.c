/* SPDX-License-Identifier: MIT */
/* Open directories, by their path. The position in a listing is a number that only the file system understands; it comes
 * back where the directory is the same one. What libc has read ahead lies in the program's memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kind.h"

struct directory_record {
    struct descriptor_record descriptor;
    uint64_t inode;
    /* then: the path as a text */
};

static int directories_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return S_ISDIR(descriptor->status.st_mode);
}

static int directories_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct directory_record record = { .inode = descriptor->status.st_ino };

    if (!descriptor_is_at_target(descriptor))
        return refuse(saving, "R-DELETED-DIRECTORY", "descriptor %d: the directory %s is deleted", descriptor->number,
                      descriptor->target);
    descriptor_describe(descriptor, &record.descriptor);
    return save_record_with_text(saving, TAG_DIRECTORY, &record, sizeof record, descriptor->target);
}

static int directories_check(struct restoring *restoring, struct reader *reader)
{
    struct directory_record record;
    char *path = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));
    struct stat status;

    if (!path)
        return reader->error;
    if (stat(path, &status) || eaccess(path, R_OK))
        missing(restoring, "R-FILE-MISSING: %s: %s; it is a directory that the program had open", path, strerror(errno));
    else if (!S_ISDIR(status.st_mode))
        missing(restoring, "R-FILE-CHANGED: %s is no directory any more", path);
    else if (record.descriptor.position && status.st_ino != record.inode)
        missing(restoring, "R-FILE-CHANGED: %s is another directory than at the checkpoint, and its listing was half read", path);
    free(path);
    return 0;
}

/* Reading begins at 0 also when we go elsewhere: on ext4 (Linux 6.18) a new description that was put to the end of the listing
 * before its first read finds nothing at all after rewinddir. */
static int set_position(const struct descriptor_record *record)
{
    char entries[1024];

    if (!record->position)
        return 0;
    syscall(SYS_getdents64, record->number, entries, sizeof entries);
    return lseek(record->number, record->position, SEEK_SET) < 0 ? -errno : 0;
}

static int directories_open(struct restoring *restoring, struct reader *reader)
{
    struct directory_record record;
    char *path = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));
    int error = path ? descriptor_open(&record.descriptor, path) : reader->error;

    free(path);
    return error ? error : set_position(&record.descriptor);
}

static void directories_show(struct reader *reader, FILE *out)
{
    struct directory_record record;
    char *path = reader_take_text(reader, &record, sizeof record), *what;

    if (path && asprintf(&what, "%s, directory", path) >= 0) {
        descriptor_show(&record.descriptor, what, out);
        free(what);
    }
    free(path);
}

const struct kind kind_directories = {
    .name = "directory",
    .tag = TAG_DIRECTORY,
    .claim = directories_claim,
    .save = directories_save,
    .check = directories_check,
    .open = directories_open,
    .show = directories_show,
};
