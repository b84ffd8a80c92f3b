/* SPDX-License-Identifier: MIT */
/* inotify: what is watched, by path, under the very numbers (watch descriptors). Events that were not read, and all that happened
 * while there was no program, cannot be had: after a restart the first event is IN_Q_OVERFLOW, the kernel's own word for that. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct inotify_record {
    struct descriptor_record descriptor;
    uint32_t count;       /* of watches that follow, by rising number */
    uint32_t unread;      /* bytes of events that were not read */
};
static_assert(sizeof(struct inotify_record) == 32, "inotify record");

struct watch_record {
    int32_t watch;        /* its number */
    uint32_t mask;
    uint32_t type;        /* S_IFMT of what is watched */
    uint32_t reserved;
    /* then: the path as a text */
};
static_assert(sizeof(struct watch_record) == 16, "watch record");

enum { HIGHEST_WATCH = 1 << 20, WATCH_FLAGS = IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK };

static int inotifies_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return text_equal(descriptor->target, "anon_inode:inotify");
}

/* A line of fdinfo. */
struct told {
    int32_t watch;
    uint32_t device, mask; /* the device as the kernel has it inside */
    uint64_t inode;
};

/* Some file systems (btrfs, overlay) have other numbers inside than stat(2) gives: there is nothing to compare then. */
static int may_be(const struct agent_watch *noted, const struct told *told)
{
    return noted->watch == told->watch && (told->device != (major(noted->device) << 20 | minor(noted->device)) ||
                                           told->inode == noted->inode);
}

static int is_instance(const struct saving *saving, int number, const struct descriptor *descriptor)
{
    const struct descriptor *other = descriptor_numbered(saving, number);
    return other && other->same_as == descriptor->same_as;
}

/* What the program noted when it asked for the watch; best by a number that still leads to the instance. */
static const struct agent_watch *find_noted(const struct saving *saving, const struct descriptor *descriptor, const struct told *told)
{
    const struct buffer *table = &saving->watches;
    const struct agent_watch *found = NULL;

    for (size_t at = sizeof(struct agent_watches); at + sizeof *found <= table->length;) {
        const struct agent_watch *noted = (const struct agent_watch *)(table->bytes + at);
        at += agent_watch_bytes(noted->length);
        if (at > table->length || !may_be(noted, told))
            continue;
        found = noted;
        if (is_instance(saving, noted->number, descriptor))
            break;
    }
    return found;
}

static int by_watch(const void *a, const void *b)
{
    return ((const struct told *)a)->watch - ((const struct told *)b)->watch;
}

static int list_told(const struct descriptor *descriptor, struct buffer *told)
{
    char *info = descriptor_info(descriptor);
    int error = info ? 0 : -errno;

    for (const char *line = info; !error && line; line = strchr(line, '\n')) {
        struct told one;
        line += *line == '\n';
        if (!text_starts(line, "inotify wd:"))
            continue;
        if (sscanf(line, "inotify wd:%" SCNx32 " ino:%" SCNx64 " sdev:%" SCNx32 " mask:%" SCNx32, (uint32_t *)&one.watch, &one.inode,
                   &one.device, &one.mask) != 4)
            error = -EPROTO;
        buffer_add(told, &one, sizeof one);
    }
    free(info);
    if (!error && told->length)
        qsort(told->bytes, told->length / sizeof(struct told), sizeof(struct told), by_watch);
    return error ? error : told->error;
}

static int add_watch(struct saving *saving, const struct descriptor *descriptor, const struct told *told, struct buffer *payload)
{
    const struct agent_watch *noted = find_noted(saving, descriptor, told);
    struct watch_record record = { .watch = told->watch, .mask = told->mask & WATCH_FLAGS };
    struct stat status;

    if (!noted)
        return refuse(saving, "R-INOTIFY", "watch %d of descriptor %d was not asked for by libc's function, or by another program",
                      told->watch, descriptor->number);
    if (lstat(noted->path, &status) || status.st_dev != noted->device || status.st_ino != noted->inode)
        return refuse(saving, "R-INOTIFY", "descriptor %d watches what was %s, and that is not there any more", descriptor->number,
                      noted->path);
    if (told->watch > HIGHEST_WATCH)
        return refuse(saving, "R-INOTIFY", "descriptor %d has had more than %d watches", descriptor->number, HIGHEST_WATCH);
    record.mask |= noted->flags; /* kernels before 5.19 do not tell these */
    record.type = status.st_mode & S_IFMT;
    buffer_add(payload, &record, sizeof record);
    buffer_add_text(payload, noted->path);
    return payload->error;
}

static int add_watches(struct saving *saving, const struct descriptor *descriptor, const struct buffer *told, struct buffer *payload)
{
    const struct agent_range *table = &saving->page->watches;
    int error = 0;

    if (told->length && table->end > table->start && !saving->watches.length)
        error = saving->fetch_memory(saving, table, &saving->watches);
    for (size_t at = 0; !error && at < told->length; at += sizeof(struct told))
        error = add_watch(saving, descriptor, (const struct told *)(told->bytes + at), payload);
    return error;
}

static int inotifies_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct inotify_record record = { 0 };
    struct buffer payload = { 0 }, told = { 0 };
    int handle = handle_of(descriptor), unread = 0, error = handle < 0 ? handle : 0;

    if (!error && ioctl(handle, FIONREAD, &unread))
        error = -errno;
    if (!error && descriptor_is_first(descriptor)) /* another may not have heard of its watches */
        error = list_told(descriptor, &told);
    descriptor_describe(descriptor, &record.descriptor);
    record.count = (uint32_t)(told.length / sizeof(struct told));
    record.unread = (uint32_t)unread;
    buffer_add(&payload, &record, sizeof record);
    if (!error)
        error = add_watches(saving, descriptor, &told, &payload);
    if (!error)
        error = image_write_record(saving->writer, TAG_INOTIFY, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&told);
    buffer_free(&payload);
    return error;
}

/* ---- restorer ---- */

/* The next watch, and its path as it is now: malloc'ed, or NULL and reader->error. */
static char *take_watch(const struct restoring *restoring, struct reader *reader, struct watch_record *watch)
{
    return path_read(restoring, reader, reader_take_text(reader, watch, sizeof *watch));
}

static void check_path(struct restoring *restoring, const struct watch_record *watch, const char *path)
{
    struct stat status;

    if (watch->type == S_IFLNK ? lstat(path, &status) : stat(path, &status))
        missing(restoring, "R-FILE-MISSING: %s: %s; the program watches it (inotify)", path, strerror(errno));
    else if ((status.st_mode & S_IFMT) != watch->type)
        missing(restoring, "R-FILE-CHANGED: %s, which the program watches, is of another sort than at the checkpoint", path);
    else if (watch->type != S_IFLNK && eaccess(path, R_OK))
        missing(restoring, "R-FILE-MISSING: %s, which the program watches: %s", path, strerror(errno));
}

static int inotifies_check(struct restoring *restoring, struct reader *reader)
{
    struct inotify_record record;
    struct watch_record watch = { 0 };
    int32_t before = 0;

    reader_take(reader, &record, sizeof record);
    for (uint32_t i = 0; !reader->error && i < record.count; i++, before = watch.watch) {
        char *path = take_watch(restoring, reader, &watch);
        if (path && (watch.watch <= before || watch.watch > HIGHEST_WATCH))
            reader->error = -EBADMSG;
        if (path)
            check_path(restoring, &watch, path);
        free(path);
    }
    return reader->error;
}

static int inotifies_open(struct restoring *restoring, struct reader *reader)
{
    struct inotify_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    int fd;

    (void)restoring;
    if (placed)
        return placed < 0 ? placed : 0;
    fd = inotify_init1(record.descriptor.flags & O_NONBLOCK);
    return fd < 0 ? -errno : descriptor_place(&record.descriptor, fd);
}

/* A file that nobody else can see, to have watches and events of. Reopened, since what memfd_create() gives makes no events. */
struct dummy {
    int fd;
    char path[32];
};

static int dummy_open(struct dummy *dummy)
{
    int made = memfd_create("stasis", MFD_CLOEXEC);

    if (made < 0)
        return -errno;
    snprintf(dummy->path, sizeof dummy->path, "/proc/self/fd/%d", made);
    dummy->fd = open(dummy->path, O_RDWR | O_CLOEXEC);
    close(made);
    if (dummy->fd < 0)
        return -errno;
    snprintf(dummy->path, sizeof dummy->path, "/proc/self/fd/%d", dummy->fd);
    return pwrite(dummy->fd, "x", 1, 0) == 1 ? 0 : -EIO;
}

/* Numbers are given one after the other, and none twice. */
static int skip_to(int fd, const struct dummy *dummy, int *last, int wanted)
{
    while (*last < wanted - 1) {
        *last = inotify_add_watch(fd, dummy->path, IN_MODIFY);
        if (*last < 0 || inotify_rm_watch(fd, *last))
            return -errno;
    }
    return 0;
}

static int watch_again(int fd, const struct dummy *dummy, int *last, const struct watch_record *watch, const char *path)
{
    uint32_t mask = watch->mask | (watch->type == S_IFLNK ? IN_DONT_FOLLOW : 0);
    int error = skip_to(fd, dummy, last, watch->watch);

    if (error)
        return error;
    *last = inotify_add_watch(fd, path, mask);
    return *last < 0 ? -errno : *last == watch->watch ? 0 : -EEXIST; /* two paths lead to one file by now */
}

static int queue_length(int *ret_length)
{
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    int got = file ? fscanf(file, "%d", ret_length) : 0;

    if (file)
        fclose(file);
    return got == 1 ? 0 : -EIO;
}

/* One, and no more: there is room for just the first. It has a name when it is of what happens to the program's files just now. */
static int drop_event(int fd)
{
    char event[sizeof(struct inotify_event) + 256];
    size_t room = sizeof(struct inotify_event);
    ssize_t got;

    while ((got = read(fd, event, room)) < 0 && errno == EINVAL && room < sizeof event)
        room += sizeof(struct inotify_event);
    return got < 0 ? -errno : 0;
}

/* The queue is filled until the kernel says that it is, and emptied but for that. */
static int overflow(int fd, const struct dummy *dummy)
{
    int length, error = queue_length(&length), watch = inotify_add_watch(fd, dummy->path, IN_MODIFY | IN_ACCESS);
    char byte;

    if (error || watch < 0)
        return error ? error : -errno;
    for (int i = 0; i <= length; i += 2) /* two alike, one behind the other, would be one */
        if (pread(dummy->fd, &byte, 1, 0) != 1 || pwrite(dummy->fd, &byte, 1, 0) != 1)
            return -EIO;
    if (inotify_rm_watch(fd, watch))
        return -errno;
    while (!error && length--)
        error = drop_event(fd);
    return error;
}

/* When all files are what they were. */
static int inotifies_wire(struct restoring *restoring, struct reader *reader)
{
    struct dummy dummy = { .fd = -1 };
    struct inotify_record record;
    int error = reader_take(reader, &record, sizeof record), last = 0, fd = record.descriptor.number;

    if (error || record.descriptor.same_as != fd)
        return error;
    error = dummy_open(&dummy);
    for (uint32_t i = 0; !error && i < record.count; i++) {
        struct watch_record watch;
        char *path = take_watch(restoring, reader, &watch);
        error = path ? watch_again(fd, &dummy, &last, &watch, path) : reader->error;
        free(path);
    }
    if (!error && (record.count || record.unread))
        error = overflow(fd, &dummy);
    if (dummy.fd >= 0)
        close(dummy.fd);
    return error;
}

static void inotifies_show(struct reader *reader, FILE *out)
{
    struct inotify_record record;

    if (reader_take(reader, &record, sizeof record))
        return;
    descriptor_show(&record.descriptor, record.unread ? "inotify, with events" : "inotify", out);
    for (uint32_t i = 0; i < record.count; i++) {
        struct watch_record watch;
        char *path = reader_take_text(reader, &watch, sizeof watch);
        if (!path)
            return;
        fprintf(out, "    watch %d, mask %#x: ", watch.watch, watch.mask);
        show_text(path, out);
        fputc('\n', out);
        free(path);
    }
}

const struct kind kind_inotifies = {
    .name = "inotify",
    .tag = TAG_INOTIFY,
    .claim = inotifies_claim,
    .save = inotifies_save,
    .check = inotifies_check,
    .open = inotifies_open,
    .wire = inotifies_wire,
    .show = inotifies_show,
};
