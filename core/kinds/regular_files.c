/* SPDX-License-Identifier: MIT */
/* Regular files. One with a name comes back by its path: position and flags; if it is written, also the size it had, so
 * that what was written after the checkpoint is not there twice. One that was only read must be unchanged. One without
 * a name comes back from the image (nameless_files.c), and so does the content of a written one if that was saved. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../floor/text.h"
#include "shared_memory.h"

struct file_record {
    struct descriptor_record descriptor;
    struct file_identity identity; /* at the checkpoint; without hash */
    struct kept_file kept;
    uint64_t inode;
    uint32_t nameless;    /* 1: `kept` is all there is of it */
    uint32_t mapped;      /* 1: it is also written to by a mapping, of which its modification time tells nothing */
    /* then: the path as a text; of a nameless file, where it was */
};

enum { ONLY_MAPPED = -1 };   /* in place of a descriptor's number */

#define DELETED " (deleted)" /* behind the target in /proc/PID/fd: proc(5) */

static int files_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return S_ISREG(descriptor->status.st_mode) && descriptor->target[0] == '/' && !text_starts(descriptor->target, "/memfd:") &&
           !text_starts(descriptor->target, "/secretmem");
}

static int may_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

/* Through this descriptor, any other of the program's, or a mapping. */
static int can_write(const struct descriptor *descriptor, const void *unused)
{
    (void)unused;
    return may_write(descriptor->flags);
}

static int is_written_by(const struct saving *saving, const struct stat *file)
{
    return step_find_file(saving, file, can_write, NULL) || step_writes_by_mapping(saving, file);
}

static int is_written_mapping(const struct mapping *mapping)
{
    return mapping->shared && mapping->writable && !object_of_mapping(mapping) && mapping_is_at_path(mapping);
}

static int is_same_file(const char *path, const struct stat *file)
{
    struct stat there;
    return !lstat(path, &there) && there.st_dev == file->st_dev && there.st_ino == file->st_ino;
}

/* Another name of the file in the directory of `path`: the one it was opened by may be gone, and what O_TMPFILE has made may
 * have got one. */
static char *find_link(const char *path, const struct stat *file)
{
    size_t length = (size_t)(strrchr(path, '/') + 1 - path);
    char *directory = strndup(path, length), *found = NULL;
    DIR *stream = directory ? opendir(directory) : NULL;

    for (struct dirent *entry; stream && !found && (entry = readdir(stream));) {
        if (entry->d_ino != file->st_ino || asprintf(&found, "%s%s", directory, entry->d_name) < 0)
            continue;
        if (!is_same_file(found, file)) {
            free(found);
            found = NULL;
        }
    }
    if (stream)
        closedir(stream);
    free(directory);
    return found;
}

/* Is a file without a name of the file system in whose directory it seems to have been? Message queues and other objects of the
 * kernel's look like deleted files, too, but are no files. */
static int is_real(const struct saving *saving, const struct descriptor *descriptor, const char *path)
{
    char name[64], *directory = strdup(path), *slash;
    struct statfs file, place;
    int found = -1;

    while (directory && found && (slash = strrchr(directory, '/'))) {
        slash[slash == directory] = 0; /* the directory may be gone as well: up */
        found = statfs(directory, &place);
        if (slash == directory)
            break;
    }
    free(directory);
    snprintf(name, sizeof name, "/proc/%d/fd/%d", saving->look, descriptor->number);
    return !found && !statfs(name, &file) && file.f_type == place.f_type && !memcmp(&file.f_fsid, &place.f_fsid, sizeof file.f_fsid);
}

/* The path of an open file, malloc'ed, or NULL; *ret_nameless: 1 when the path is only where it was. A name may end in
 * " (deleted)" itself: so it is tried first. */
static char *find_path(const struct saving *saving, const struct descriptor *descriptor, int *ret_nameless)
{
    size_t length = strlen(descriptor->target), suffix = sizeof DELETED - 1;
    char *path, *link;

    *ret_nameless = 0;
    if (descriptor_is_at_target(descriptor))
        return strdup(descriptor->target);
    if (length <= suffix || strcmp(descriptor->target + length - suffix, DELETED))
        return NULL;
    path = strndup(descriptor->target, length - suffix);
    if (!path)
        return NULL;
    if (!descriptor->status.st_nlink && is_real(saving, descriptor, path)) {
        *ret_nameless = 1;
        return path;
    }
    link = descriptor->status.st_nlink ? find_link(path, &descriptor->status) : NULL;
    free(path);
    return link;
}

static int keep_content(struct saving *saving, const struct descriptor *descriptor, struct kept_file *kept)
{
    char name[32];
    int error;

    snprintf(name, sizeof name, "fd/%d", descriptor->number);
    error = contents_save(saving, descriptor->number == ONLY_MAPPED ? descriptor->target : name, &descriptor->status, kept);
    return error == -EACCES || error == -EPERM || error == -EINVAL || error == -ENXIO
               ? refuse(saving, "R-UNREADABLE-FILE", "%s cannot be read to save its content", descriptor->target)
               : error;
}

static int files_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct file_record record = { .identity = { .size = (uint64_t)descriptor->status.st_size,
                                                .mtime_seconds = descriptor->status.st_mtim.tv_sec,
                                                .mtime_nanoseconds = descriptor->status.st_mtim.tv_nsec },
                                  .inode = descriptor->status.st_ino };
    int nameless, error = 0;
    char *path;

    if (text_starts(descriptor->target, "/dev/shm/"))
        return refuse(saving, "R-SHARED-MEMORY", "descriptor %d: %s lies on a file system of its own below /dev/shm", descriptor->number,
                      descriptor->target);
    path = find_path(saving, descriptor, &nameless);
    if (!path)
        return refuse(saving, "R-UNLINKED-FILE", "descriptor %d: %s is not at that path, and its other name is not known",
                      descriptor->number, descriptor->target);
    descriptor_describe(descriptor, &record.descriptor);
    record.descriptor.written = (uint32_t)is_written_by(saving, &descriptor->status);
    record.nameless = (uint32_t)nameless;
    record.mapped = (uint32_t)step_writes_by_mapping(saving, &descriptor->status);
    if (nameless || record.mapped || (saving->page->save_files && record.descriptor.written))
        error = keep_content(saving, descriptor, &record.kept);
    if (!error)
        error = save_record_with_text(saving, TAG_REGULAR_FILE, &record, sizeof record, path);
    free(path);
    return error;
}

struct file_number {
    dev_t device;
    ino_t inode;
};

static int is_of_file(const struct descriptor *descriptor, const void *wanted)
{
    const struct file_number *file = wanted;
    return descriptor->status.st_ino == file->inode && descriptor->status.st_dev == file->device && !(descriptor->flags & O_PATH);
}

/* A file that is mapped shared and writable, and not open any more: what is written to memory must be in it again. */
static int hold_mapped(struct saving *saving, const struct mapping *mapping, size_t index)
{
    struct descriptor descriptor = { .holder = saving, .number = ONLY_MAPPED, .same_as = ONLY_MAPPED, .flags = O_RDWR,
                                     .target = mapping->name };

    if (stat(mapping->name, &descriptor.status) ||
        step_find_file(saving, &descriptor.status, is_of_file, &(struct file_number){ descriptor.status.st_dev, descriptor.status.st_ino }))
        return 0;
    for (size_t i = 0; i < index; i++)
        if (is_written_mapping(&saving->mappings.items[i]) && saving->mappings.items[i].inode == mapping->inode &&
            saving->mappings.items[i].device == mapping->device)
            return 0;
    return files_save(saving, &descriptor);
}

static int files_hold(struct saving *saving)
{
    int error = 0;

    for (size_t i = 0; !error && i < saving->mappings.count; i++)
        if (is_written_mapping(&saving->mappings.items[i]))
            error = hold_mapped(saving, &saving->mappings.items[i], i);
    return error;
}

/* The path as the image has it, malloc'ed, or NULL and the reader's error. */
static char *take_record(struct reader *reader, struct file_record *record)
{
    reader_take(reader, record, sizeof *record);
    if (!reader->error && ((record->nameless && !record->kept.content) || record->kept.size > INT64_MAX))
        reader->error = -EBADMSG;
    return reader->error ? NULL : reader_text(reader);
}

/* A file of our own can be opened in the bubble whatever its mode says: a program may have taken its own right away. */
static int may_open(const char *path, const struct stat *status, int flags)
{
    int wanted = (flags & O_ACCMODE) == O_RDONLY ? R_OK : (flags & O_ACCMODE) == O_WRONLY ? W_OK : R_OK | W_OK;

    return !eaccess(path, wanted) || (errno == EACCES && status->st_uid == geteuid() && status->st_gid == getegid());
}

static int is_untouched(const struct file_record *record, const struct stat *status)
{
    return (uint64_t)status->st_size == record->identity.size && status->st_mtim.tv_sec == record->identity.mtime_seconds &&
           status->st_mtim.tv_nsec == record->identity.mtime_nanoseconds;
}

/* What --strict has against a written file that is there. */
static void check_strictly(struct restoring *restoring, const char *path, const struct file_record *record,
                           const struct stat *status)
{
    if (status->st_ino != record->inode)
        missing(restoring, "R-FILE-CHANGED: %s is another file than at the checkpoint, and --strict forbids to go on in it", path);
    else if ((uint64_t)status->st_size > record->identity.size)
        missing(restoring, "R-FILE-CHANGED: %s has grown from %" PRIu64 " to %jd bytes, and --strict forbids to cut it", path,
                record->identity.size, (intmax_t)status->st_size);
    else if (record->kept.content && !is_untouched(record, status))
        missing(restoring, "R-FILE-CHANGED: %s was written to after the checkpoint, and --strict forbids to put its content back", path);
}

/* One that is not there, but whose content is: can it be made? */
static void check_absent(struct restoring *restoring, const char *path, const struct file_record *record)
{
    int error = errno;
    const char *slash = strrchr(path, '/');
    char *directory = slash && slash != path ? strndup(path, (size_t)(slash - path)) : strdup("/");

    if (error != ENOENT || !record->kept.content)
        missing(restoring, "R-FILE-MISSING: %s: %s; it was being written at the checkpoint", path, strerror(error));
    else if (restoring->policy.strict)
        missing(restoring, "R-FILE-MISSING: %s: %s; --strict forbids to make it again from the image", path, strerror(error));
    else if (directory && eaccess(directory, W_OK | X_OK))
        missing(restoring, "R-FILE-MISSING: %s cannot be made again from the image: %s: %s", path, directory, strerror(errno));
    free(directory);
}

/* Others write to its end, too: it stays as long as it is. */
static int is_shared_output(const struct restoring *restoring, const char *path)
{
    return restoring->policy.shared_output && !strcmp(restoring->policy.shared_output, path);
}

static void check_written(struct restoring *restoring, const char *path, const struct file_record *record)
{
    struct stat status;

    if (stat(path, &status)) {
        check_absent(restoring, path, record);
        return;
    }
    if (!S_ISREG(status.st_mode))
        missing(restoring, "R-FILE-CHANGED: %s is no regular file any more", path);
    else if ((uint64_t)status.st_size < record->identity.size && !record->kept.content && !is_shared_output(restoring, path))
        missing(restoring, "R-FILE-CHANGED: %s is shorter (%jd bytes) than at the checkpoint (%" PRIu64 ")", path,
                (intmax_t)status.st_size, record->identity.size);
    else if (!may_open(path, &status, record->kept.content ? O_RDWR : record->descriptor.flags))
        missing(restoring, "R-FILE-MISSING: %s cannot be opened: %s", path, strerror(errno));
    else if (restoring->policy.strict)
        check_strictly(restoring, path, record, &status);
    else if ((uint64_t)status.st_size > record->identity.size)
        tails_check(restoring, path);
}

static void check_read(struct restoring *restoring, const char *path, const struct file_record *record)
{
    struct stat status;

    if (file_identity_check(restoring, path, &record->identity) && !stat(path, &status) &&
        !may_open(path, &status, record->descriptor.flags))
        missing(restoring, "R-FILE-MISSING: %s cannot be opened: %s", path, strerror(errno));
}

static int files_check(struct restoring *restoring, struct reader *reader)
{
    struct file_record record;
    char *path = path_read(restoring, reader, take_record(reader, &record));

    if (!path)
        return reader->error;
    if (record.nameless)
        nameless_check(restoring, path);
    else if (record.descriptor.written)
        check_written(restoring, path, &record);
    else
        check_read(restoring, path, &record);
    free(path);
    return 0;
}

/* A new open file description of a nameless file, by way of one that we hold. O_NOFOLLOW would stop at the link in /proc. */
static int open_nameless(struct restoring *restoring, const struct file_record *record, const char *path)
{
    struct descriptor_record descriptor = record->descriptor;
    char name[64];
    int held = nameless_file(restoring, path, &record->kept);

    if (held < 0)
        return held;
    snprintf(name, sizeof name, "/proc/self/fd/%d", held);
    descriptor.flags &= ~(O_NOFOLLOW | O_TMPFILE);
    return descriptor_open(&descriptor, name);
}

/* Is it to be made in files_wire, for until then nothing may be touched that others see? */
static int is_absent(const struct file_record *record, const char *path)
{
    return record->kept.content && !record->nameless && access(path, F_OK);
}

static int files_open(struct restoring *restoring, struct reader *reader)
{
    struct file_record record;
    char *path = path_read(restoring, reader, take_record(reader, &record));
    int error = 0;

    if (!path)
        return reader->error;
    if (record.nameless)
        error = open_nameless(restoring, &record, path);
    else if (record.kept.content && record.descriptor.same_as == record.descriptor.number)
        error = contents_verify(restoring, &record.kept);
    if (!error && !record.nameless && record.descriptor.number != ONLY_MAPPED && !is_absent(&record, path)) {
        record.descriptor.flags &= ~O_TMPFILE; /* it has got a name meanwhile */
        error = descriptor_open(&record.descriptor, path);
    }
    free(path);
    return error;
}

/* Before the first file is cut the tails of all are safe. Those that are kept already are passed over. */
static int keep_all_tails(struct restoring *restoring)
{
    struct reader reader;
    int error = 0;

    for (size_t at = 0; !error && image_next_of(restoring->image, TAG_REGULAR_FILE, restoring->index, &at, &reader);) {
        struct file_record record;
        char *path = path_read(restoring, &reader, take_record(&reader, &record));
        error = path ? 0 : reader.error;
        if (!error && record.descriptor.written && !record.nameless && !is_shared_output(restoring, path))
            error = tails_keep(restoring, path, record.identity.size);
        free(path);
    }
    tails_forget(restoring, error != 0);
    return error;
}

/* The content as it was, once for all descriptors of the file: it looks untouched then. */
static int put_back(struct restoring *restoring, const struct file_record *record, const char *path)
{
    struct stat status;
    int fd, error = 0;

    if (!record->mapped && !stat(path, &status) && is_untouched(record, &status))
        return 0;
    fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    error = contents_restore(restoring, &record->kept, fd);
    close(fd);
    return error;
}

static int cut(const struct file_record *record)
{
    struct stat status;

    if (fstat(record->descriptor.number, &status))
        return -errno;
    return (uint64_t)status.st_size > record->identity.size &&
                   ftruncate(record->descriptor.number, (off_t)record->identity.size)
               ? -errno
               : 0;
}

static int files_wire(struct restoring *restoring, struct reader *reader)
{
    struct file_record record;
    char *path = path_read(restoring, reader, take_record(reader, &record));
    int error = path ? 0 : reader->error;

    if (!error && !restoring->tails_are_kept)
        error = keep_all_tails(restoring);
    restoring->tails_are_kept = 1;
    if (!error && record.descriptor.number == ONLY_MAPPED) {
        error = put_back(restoring, &record, path);
        free(path);
        return error;
    }
    if (!error && record.kept.content && !record.nameless) {
        int absent = is_absent(&record, path) || fcntl(record.descriptor.number, F_GETFD) < 0;
        error = put_back(restoring, &record, path);
        if (!error && absent)
            error = descriptor_open(&record.descriptor, path);
    } else if (!error && may_write(record.descriptor.flags) && !is_shared_output(restoring, path)) {
        error = cut(&record);
    }
    free(path);
    return error ? error : lseek(record.descriptor.number, record.descriptor.position, SEEK_SET) < 0 ? -errno : 0;
}

/* What we hold is closed before the locks are taken for good: closing any descriptor of a file loses POSIX locks on it. */
static int files_last(struct restoring *restoring, struct reader *reader)
{
    (void)reader;
    nameless_forget(restoring);
    return 0;
}

static void files_show(struct reader *reader, FILE *out)
{
    struct file_record record;
    char *path = take_record(reader, &record), *what;

    if (path && asprintf(&what, record.kept.content ? "%s%s, %" PRIu64 " bytes saved" : "%s%s", path, record.nameless ? DELETED : "",
                         record.kept.size) >= 0) {
        descriptor_show(&record.descriptor, what, out);
        free(what);
    }
    free(path);
}

const struct kind kind_regular_files = {
    .name = "regular file",
    .tag = TAG_REGULAR_FILE,
    .claim = files_claim,
    .hold = files_hold,
    .save = files_save,
    .check = files_check,
    .open = files_open,
    .wire = files_wire,
    .last = files_last,
    .show = files_show,
};
