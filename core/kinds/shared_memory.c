/* SPDX-License-Identifier: MIT */
/* Memory that is an object of its own: shared anonymous memory, memfds, POSIX shared memory (named semaphores with it),
 * and deleted files that are mapped shared. Its bytes are in the image once, whoever has mapped it or has it open. They
 * are copied while the program stands still, and stored when it runs on. shared_descriptors.c has the descriptors,
 * memory.c the mappings. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../floor/text.h"
#include "memory_format.h"
#include "shared_memory.h"

#define SHM "/dev/shm/"
#define MEMFD "/memfd:"
#define SEGMENT "/SYSV"
#define DELETED " (deleted)" /* behind the name in maps and /proc/PID/fd: proc(5) */

struct object_record {
    uint64_t number;
    uint32_t sort;  /* enum object_sort */
    uint32_t seals; /* F_SEAL_ of a memfd */
    struct kept_file kept;
    uint32_t
        name_count; /* of POSIX memory: how many names it has; sem_open(3) gives it another than it was made with */
    uint32_t reserved;
    /* then: its name as a text; of memfds as memfd_create(2) was told, else the path it was made with; name_count paths
     */
};
static_assert(sizeof(struct object_record) == 64, "object record");

/* ---- saving ---- */

/* One object while its step is saved. */
struct held_object {
    struct held_object *next;
    const struct saving *holder; /* whose record it is */
    const struct mapping *like;  /* one of its mappings in the holder; NULL: only open */
    enum object_sort sort;
    uint64_t device, number;
    char *name; /* as maps or /proc/PID/fd says it */
    int fd;     /* its bytes, or a copy of them; -1: they are in the copies of mappings */
    struct object_record record;
    struct buffer names; /* record.name_count texts */
};

/* Where the kernel keeps memory without a file: memfds, segments, shared anonymous memory. */
static uint64_t kernel_device(void)
{
    static uint64_t device;
    struct stat status;
    int fd = device ? -1 : memfd_create("stasis", MFD_CLOEXEC);

    if (fd >= 0 && !fstat(fd, &status))
        device = status.st_dev;
    if (fd >= 0)
        close(fd);
    return device;
}

static uint64_t device_of(const struct mapping *mapping)
{
    return makedev((unsigned)(mapping->device >> 32), (unsigned)mapping->device);
}

static int is_deleted(const char *name)
{
    size_t length = strlen(name), suffix = sizeof DELETED - 1;
    return length > suffix && !strcmp(name + length - suffix, DELETED);
}

static char *without_suffix(const char *name)
{
    return strndup(name, strlen(name) - (is_deleted(name) ? sizeof DELETED - 1 : 0));
}

/* The file system of the nearest directory above a path that is still there. */
static uint64_t device_above(const char *path)
{
    char *name = strdup(path);
    struct stat status;
    uint64_t device = 0;

    for (char *directory = name; directory && !device && strcmp(directory, "/");) {
        directory = dirname(directory);
        if (!stat(directory, &status))
            device = status.st_dev;
    }
    free(name);
    return device;
}

static enum object_sort object_of(const char *name, uint64_t device, int shared)
{
    struct stat place;

    if (text_starts(name, MEMFD))
        return device == kernel_device() ? OBJECT_MEMFD : 0;
    if (text_starts(name, SHM))
        return !stat(SHM, &place) && place.st_dev == device ? OBJECT_POSIX : 0;
    if (!shared)
        return 0;
    if (text_starts(name, SEGMENT) && device == kernel_device())
        return OBJECT_SEGMENT;
    return is_deleted(name) && device_above(name) == device ? OBJECT_DELETED_FILE : 0;
}

enum object_sort object_of_mapping(const struct mapping *mapping)
{
    if (!mapping->inode && !text_starts(mapping->name, SEGMENT)) /* of a segment it is the id, and the first one's is 0 */
        return 0;
    /* Java writes its counters for jstat into a file that it maps, and never reads it; whichever Java starts next
     * deletes the file of a process that is gone. They come back as memory without a file. */
    if (text_starts(mapping->name, "/dev/zero") || text_starts(mapping->name, "/tmp/hsperfdata_"))
        return mapping->shared ? OBJECT_ANONYMOUS : 0;
    return object_of(mapping->name, device_of(mapping), mapping->shared);
}

enum object_sort object_of_descriptor(const struct descriptor *descriptor)
{
    return S_ISREG(descriptor->status.st_mode) ? object_of(descriptor->target, descriptor->status.st_dev, 0) : 0;
}

struct identity {
    uint64_t device, inode;
};

static int is_descriptor_of(const struct descriptor *descriptor, const void *wanted)
{
    const struct identity *identity = wanted;
    return descriptor->status.st_ino == identity->inode && descriptor->status.st_dev == identity->device &&
           !(descriptor->flags & O_PATH);
}

static const struct descriptor *find_descriptor(const struct saving *saving, uint64_t device, uint64_t inode)
{
    return step_find_file(saving, &(struct stat){ .st_dev = device, .st_ino = inode }, is_descriptor_of, &(struct identity){ device, inode });
}

static int is_at(const char *path, uint64_t device, uint64_t inode)
{
    struct stat status;
    return !lstat(path, &status) && status.st_dev == device && status.st_ino == inode;
}

/* Adds the paths of all names that a file has in the directory of `path` to `names`, as texts; returns their count. */
static uint32_t add_names(const char *path, uint64_t device, uint64_t inode, struct buffer *names)
{
    char *directory = strndup(path, (size_t)(strrchr(path, '/') - path)), *name;
    DIR *stream = directory ? opendir(directory) : NULL;
    uint32_t count = 0;

    for (struct dirent *entry; stream && (entry = readdir(stream));) {
        if (entry->d_ino != inode || asprintf(&name, "%s/%s", directory, entry->d_name) < 0)
            continue;
        if (is_at(name, device, inode)) {
            buffer_add_text(names, name);
            count++;
        }
        free(name);
    }
    if (stream)
        closedir(stream);
    free(directory);
    return count;
}

int object_has_source(const struct saving *saving, const struct mapping *mapping)
{
    enum object_sort sort = object_of_mapping(mapping);
    struct buffer names = { 0 };
    if (!sort)
        return 0;
    int found = sort == OBJECT_POSIX && add_names(mapping->name, device_of(mapping), mapping->inode, &names);

    buffer_free(&names);
    return found || (sort != OBJECT_ANONYMOUS && sort != OBJECT_SEGMENT /* an id is no inode */ &&
                     find_descriptor(saving, device_of(mapping), mapping->inode));
}

static int is_of(const struct saving *saving, const struct mapping *mapping, enum object_sort sort,
                 const struct mapping *like)
{
    return mapping->shared && mapping->inode == like->inode && mapping->device == like->device &&
           !memory_is_foreign(saving, mapping) && object_of_mapping(mapping) == sort;
}

static int by_offset(const void *a, const void *b)
{
    const struct content_part *one = a, *other = b;
    return one->offset < other->offset ? -1 : one->offset > other->offset;
}

/* What an earlier part has is left out of the later ones. */
static size_t without_overlaps(struct content_part *parts, size_t count)
{
    uint64_t end = 0;
    size_t kept = 0;

    qsort(parts, count, sizeof *parts, by_offset);
    for (size_t i = 0; i < count; i++) {
        struct content_part part = parts[i];
        uint64_t twice = part.offset < end ? end - part.offset : 0;
        if (twice >= part.length)
            continue;
        part.at += twice, part.offset += twice, part.length -= twice;
        end = part.offset + part.length;
        parts[kept++] = part;
    }
    return kept;
}

/* What a process with a twin does not copy, another one does. */
static size_t add_parts(const struct saving *process, enum object_sort sort, const struct mapping *like,
                        struct content_part *parts)
{
    size_t count = 0;

    for (size_t i = 0; i < process->mappings.count; i++) {
        const struct mapping *mapping = &process->mappings.items[i];
        if (is_of(process, mapping, sort, like) && (mapping->copied || process->view == process->pid))
            parts[count++] = (struct content_part){ .fd = mapping->copied ? process->copies : process->memory,
                                                    .of_memory = !mapping->copied,
                                                    .at = mapping->copied ? mapping->copy_offset : mapping->start,
                                                    .offset = mapping->offset,
                                                    .length = mapping->end - mapping->start };
    }
    return count;
}

int object_mapped_parts(struct saving *saving, enum object_sort sort, const struct mapping *like,
                        struct content_part **ret_parts, size_t *ret_count)
{
    size_t room = 1, count = 0;
    struct content_part *parts;

    for (const struct saving *process = saving->first; process; process = process->next)
        room += process->mappings.count;
    parts = calloc(room, sizeof *parts);
    for (const struct saving *process = saving->first; parts && process; process = process->next)
        count += add_parts(process, sort, like, parts + count);
    *ret_parts = parts;
    *ret_count = parts ? without_overlaps(parts, count) : 0;
    return parts ? 0 : -ENOMEM;
}

enum { COPY_BYTES = 1 << 20 };

static int copy_stretch(int from, int to, off_t at, off_t end, void *bytes)
{
    while (at < end) {
        ssize_t got = pread(from, bytes, end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES, at);
        if (got > 0)
            got = pwrite(to, bytes, (size_t)got, at);
        if (got <= 0)
            return got ? -errno : 0;
        at += got;
    }
    return 0;
}

/* What is in the file, not its holes. */
static int copy_file(int from, int to, off_t size)
{
    void *bytes = malloc(COPY_BYTES);
    int error = bytes && !ftruncate(to, size) ? 0 : -ENOMEM;

    for (off_t at = 0, end = size; !error && at < size; at = end) {
        at = lseek(from, at, SEEK_DATA);
        if (at < 0 && errno == ENXIO)
            break;
        if (at < 0 || (end = lseek(from, at, SEEK_HOLE)) < 0)
            error = -errno;
        else
            error = copy_stretch(from, to, at, end, bytes);
    }
    free(bytes);
    return error;
}

/* The program runs on while its image is written, and would change what it shares with its twin. */
static int freeze(const struct saving *saving, struct held_object *object, off_t size)
{
    int copy, error;

    if (saving->view == saving->pid)
        return 0;
    copy = memfd_create("stasis", MFD_CLOEXEC);
    if (copy < 0)
        return -errno;
    error = copy_file(object->fd, copy, size);
    close(object->fd);
    object->fd = copy;
    return error;
}

static int open_source(const struct held_object *object)
{
    const struct descriptor *descriptor = find_descriptor(object->holder, object->device, object->number);
    struct reader names = { .bytes = object->names.bytes, .length = object->names.length };
    char path[64], *name = descriptor ? NULL : reader_text(&names);
    int fd;

    if (descriptor)
        snprintf(path, sizeof path, "/proc/%d/fd/%d", descriptor->holder->look, descriptor->number);
    fd = open(name ? name : path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    free(name);
    return fd < 0 ? -errno : fd;
}

/* A file with a name that is not known would be another than the one that has the name. */
static int check_names(struct saving *saving, const struct held_object *object, const struct stat *status)
{
    return object->sort == OBJECT_MEMFD || status->st_nlink == object->record.name_count
               ? 0
               : refuse(saving, "R-UNLINKED-FILE", "%s has another name, which is not known", object->name);
}

static int take_status(struct saving *saving, struct held_object *object)
{
    struct stat status;
    int seals = fcntl(object->fd, F_GET_SEALS), error;

    if (fstat(object->fd, &status))
        return -errno;
    error = check_names(saving, object, &status);
    object->record.seals = object->sort == OBJECT_MEMFD && seals > 0 ? (uint32_t)seals : 0;
    object->record.kept = kept_file_of(&status);
    return error ? error : freeze(saving, object, status.st_size);
}

/* Of an object that is only mapped nothing is known but what is in memory. */
static int hold_content(struct saving *saving, struct held_object *object)
{
    struct content_part whole = { 0 }, *parts = &whole, *mapped = NULL;
    size_t count = 1;
    int error = 0;

    if (object->like && !object_has_source(saving, object->like)) {
        object->record.kept = (struct kept_file){ .mode = object->sort == OBJECT_MEMFD ? 0777 : 0600,
                                                  .user = geteuid(),
                                                  .group = getegid() };
        error = object_mapped_parts(saving, object->sort, object->like, &mapped, &count);
        parts = mapped;
    } else {
        object->fd = open_source(object);
        if (object->fd == -EACCES || object->fd == -EPERM)
            return refuse(saving, "R-UNREADABLE-FILE", "%s cannot be read to save its content", object->name);
        error = object->fd < 0 ? object->fd : take_status(saving, object);
        whole.fd = object->fd;
        whole.length = object->record.kept.size;
    }
    if (!error)
        error = contents_save_later(saving, object->device, object->number, parts, count, &object->record.kept.content);
    free(mapped);
    return error;
}

static int hold(struct saving *saving, enum object_sort sort, uint64_t device, uint64_t number, const char *name,
                const struct mapping *like)
{
    struct held_object *object = saving->first->objects;

    if (!sort || sort == OBJECT_SEGMENT)
        return 0;
    while (object && (object->sort != sort || object->device != device || object->number != number))
        object = object->next;
    if (object)
        return 0;
    object = calloc(1, sizeof *object);
    if (!object)
        return -ENOMEM;
    *object = (struct held_object){ .next = saving->first->objects,
                                    .holder = saving,
                                    .like = like,
                                    .sort = sort,
                                    .device = device,
                                    .number = number,
                                    .name = strdup(name),
                                    .fd = -1 };
    object->record.sort = sort;
    object->record.number = number;
    if (sort == OBJECT_POSIX)
        object->record.name_count = add_names(name, device, number, &object->names);
    saving->first->objects = object;
    return object->name ? hold_content(saving, object) : -ENOMEM;
}

/* One without a holder has no record. */
static int hold_only(struct saving *saving, const struct held_object *held)
{
    struct held_object *object = calloc(1, sizeof *object);

    if (!object)
        return -ENOMEM;
    *object = *held;
    object->next = saving->first->objects;
    saving->first->objects = object;
    return 0;
}

int object_keep_open(struct saving *saving, int fd)
{
    int error = hold_only(saving, &(struct held_object){ .fd = fd });

    if (error)
        close(fd);
    return error;
}

int object_watch(struct saving *saving, const struct descriptor *descriptor)
{
    struct held_object object = { .fd = -1,
                                  .device = descriptor->status.st_dev,
                                  .number = descriptor->status.st_ino,
                                  .name = strdup(descriptor->target) };
    int error = object.name ? hold_only(saving, &object) : -ENOMEM;

    if (error)
        free(object.name);
    return error;
}

/* A private mapping of a memfd that is not open any more is memory of its own. */
static int is_private_copy(const struct saving *saving, const struct mapping *mapping)
{
    return !mapping->shared && !object_has_source(saving, mapping);
}

static int shared_memory_hold(struct saving *saving)
{
    int error = 0;

    for (size_t i = 0; !error && i < saving->mappings.count; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        if (!memory_is_foreign(saving, mapping) && !is_private_copy(saving, mapping))
            error =
                hold(saving, object_of_mapping(mapping), device_of(mapping), mapping->inode, mapping->name, mapping);
    }
    for (size_t i = 0; !error && i < saving->descriptor_count; i++) {
        const struct descriptor *descriptor = &saving->descriptors[i];
        error = hold(saving, object_of_descriptor(descriptor), descriptor->status.st_dev, descriptor->status.st_ino,
                     descriptor->target, NULL);
    }
    return error;
}

void objects_forget(struct saving *saving)
{
    for (struct held_object *next; saving->objects; saving->objects = next) {
        next = saving->objects->next;
        if (saving->objects->fd >= 0)
            close(saving->objects->fd);
        free(saving->objects->name);
        buffer_free(&saving->objects->names);
        free(saving->objects);
    }
}

/* Behind the end of the object there is nothing to read. */
static int is_there(const struct saving *saving, uint64_t address)
{
    char byte;
    return pread(saving->memory, &byte, 1, (off_t)address) == 1;
}

/* How far a mapping reaches into its object, in pages; most have all their pages. */
static uint64_t reach(const struct saving *saving, const struct mapping *mapping)
{
    uint64_t there = 0, beyond = (mapping->end - mapping->start) / PAGE_BYTES + 1;

    if (mapping->flags & MAPPING_DONT_FORK || is_there(saving, mapping->end - PAGE_BYTES))
        return mapping->offset + (mapping->end - mapping->start);
    while (beyond - there > 1) {
        uint64_t middle = (there + beyond) / 2;
        if (is_there(saving, mapping->start + (middle - 1) * PAGE_BYTES))
            there = middle;
        else
            beyond = middle;
    }
    return there ? mapping->offset + there * PAGE_BYTES : 0;
}

static uint64_t mapped_size(const struct saving *saving, const struct held_object *object)
{
    uint64_t size = 0;

    for (const struct saving *process = saving->first; process; process = process->next)
        for (size_t i = 0; i < process->mappings.count; i++) {
            const struct mapping *mapping = &process->mappings.items[i];
            uint64_t end = is_of(process, mapping, object->sort, object->like) ? reach(process, mapping) : 0;
            size = end > size ? end : size;
        }
    return size;
}

static const struct held_object *find_held(const struct saving *saving, uint64_t device, uint64_t number)
{
    const struct held_object *object = saving->first->objects;

    while (object && (object->device != device || object->number != number))
        object = object->next;
    return object;
}

/* An object of the step that a process outside has mapped. */
static const struct held_object *find_mapped(const struct saving *saving, int pid)
{
    char *text = proc_read(pid, "maps", NULL);
    struct mappings mappings = { 0 };
    const struct held_object *found = NULL;

    if (text && !mappings_parse(text, &mappings))
        for (size_t i = 0; !found && i < mappings.count; i++)
            if (mappings.items[i].inode && object_of_mapping(&mappings.items[i]) != OBJECT_SEGMENT)
                found = find_held(saving, device_of(&mappings.items[i]), mappings.items[i].inode);
    mappings_free(&mappings);
    free(text);
    return found;
}

/* The same, of those it has open. */
static const struct held_object *find_open(const struct saving *saving, int pid)
{
    const struct held_object *found = NULL;
    char path[64];
    DIR *directory;
    struct stat status;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    directory = opendir(path);
    for (struct dirent *entry; directory && !found && (entry = readdir(directory));)
        if (!fstatat(dirfd(directory), entry->d_name, &status, 0) && S_ISREG(status.st_mode))
            found = find_held(saving, status.st_dev, status.st_ino);
    if (directory)
        closedir(directory);
    return found;
}

/* Processes of the step, their children (helpers of ours, or refused by another name), twins, and we. */
static int is_inside(const struct saving *saving, int pid)
{
    char *text = proc_read(pid, "stat", NULL), *behind = text ? strrchr(text, ')') : NULL;
    int parent = 0,
        inside = pid == getpid() || !behind || !strncmp(strchr(text, '('), "(" TWIN_NAME ")", sizeof TWIN_NAME + 1);

    if (behind)
        sscanf(behind, ") %*c %d", &parent);
    for (const struct saving *process = saving->first; !inside && process; process = process->next)
        inside = pid == process->pid || pid == process->view || parent == process->pid;
    free(text);
    return inside;
}

/* Among the processes of this user, the only ones that can be looked at: what they share would be cut in two. Who has been born since the moment
 * has shared nothing in it. */
static int refuse_shared(struct saving *saving)
{
    DIR *processes = opendir("/proc");
    const struct held_object *object = NULL;
    struct stat status;
    int pid = 0;

    for (struct dirent *entry; processes && !object && (entry = readdir(processes));) {
        pid = atoi(entry->d_name);
        if (pid <= 0 || fstatat(dirfd(processes), entry->d_name, &status, 0) || status.st_uid != geteuid() ||
            !born_has(saving->first->born, pid) || is_inside(saving, pid))
            continue;
        object = find_mapped(saving, pid);
        if (!object)
            object = find_open(saving, pid);
    }
    if (processes)
        closedir(processes);
    return object ? refuse(saving, "R-SHARED-MEMORY", "%s is shared with process %d, which is not in the checkpoint",
                           object->name, pid)
                  : 0;
}

/* A memfd's as memfd_create(2) was told. */
static void add_name(const struct held_object *object, struct buffer *payload)
{
    size_t start = object->sort == OBJECT_MEMFD ? sizeof MEMFD - 1 : 0;
    char *name = object->sort == OBJECT_ANONYMOUS ? strdup("") : without_suffix(object->name);

    buffer_add_text(payload, name ? name + start : "");
    if (!name)
        payload->error = -ENOMEM;
    free(name);
}

static int save_object(struct saving *saving, struct held_object *object)
{
    struct buffer payload = { 0 };
    int error = object->names.error;

    if (object->fd < 0)
        object->record.kept.size = mapped_size(saving, object);
    buffer_add(&payload, &object->record, sizeof object->record);
    add_name(object, &payload);
    buffer_add(&payload, object->names.bytes, object->names.length);
    if (!error)
        error = image_write_record(saving->writer, TAG_SHARED_MEMORY, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

static int shared_memory_save(struct saving *saving, const struct descriptor *none)
{
    int error = saving == saving->first && saving->objects ? refuse_shared(saving) : 0;

    (void)none;
    for (struct held_object *object = saving->first->objects; !error && object; object = object->next)
        if (object->holder == saving)
            error = save_object(saving, object);
    return error;
}

/* ---- coming back ---- */

int object_add(struct restoring *restoring, const struct made_object *made)
{
    struct made_object *object = malloc(sizeof *object);

    if (!object)
        return -ENOMEM;
    *object = *made;
    object->next = restoring->objects;
    restoring->objects = object;
    return 0;
}

const struct made_object *object_find(const struct restoring *restoring, enum object_sort sort, uint64_t number)
{
    const struct made_object *object = restoring->objects;

    while (object && (object->sort != sort || object->number != number))
        object = object->next;
    return object;
}

/* Another open file description. -errno */
static int object_open(const struct made_object *object, int flags)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/self/fd/%d", object->fd);
    fd = open(path, (flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW)) | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int object_place(const struct restoring *restoring, enum object_sort sort, uint64_t number, const struct descriptor_record *record)
{
    const struct made_object *object = object_find(restoring, sort, number);
    int fd;

    if (!object || object->fd < 0)
        return -EBADMSG;
    fd = object_open(object, record->flags);
    if (fd >= 0 && lseek(fd, record->position, SEEK_SET) < 0)
        return -errno;
    return fd < 0 ? fd : descriptor_place(record, fd);
}

/* A second mapping of shared memory: mremap(2) with an old size of 0. */
static int map_again(uint64_t from, uint64_t at, uint64_t length, int protection)
{
    void *got = mremap((void *)from, 0, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)at);

    return got == MAP_FAILED || mprotect(got, length, protection) ? -errno : 0;
}

/* A segment is attached as a whole, and what is wanted of it is taken from there. */
static int map_segment(const struct made_object *object, uint64_t at, uint64_t length, uint64_t offset, int protection,
                       int may_write)
{
    char *whole = shmat(object->fd, NULL, (may_write ? 0 : SHM_RDONLY) | (protection & PROT_EXEC ? SHM_EXEC : 0));
    int error;

    if (whole == (char *)-1)
        return -errno;
    error = map_again((uint64_t)whole + offset, at, length, protection);
    shmdt(whole);
    return error;
}

int object_map(const struct made_object *object, uint64_t at, uint64_t length, uint64_t offset, int protection,
               int may_write)
{
    void *got;
    int fd;

    if (object->sort == OBJECT_SEGMENT)
        return map_segment(object, at, length, offset, protection, may_write);
    if (object->sort == OBJECT_ANONYMOUS)
        return map_again((uint64_t)object->memory + offset, at, length, protection);
    fd = object_open(object, may_write ? O_RDWR : O_RDONLY);
    if (fd < 0)
        return fd;
    got = mmap((void *)at, length, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, (off_t)offset);
    if (got == MAP_FAILED)
        fd = -errno;
    else
        close(fd), fd = 0;
    return fd;
}

static char *take_record(struct reader *reader, struct object_record *record)
{
    reader_take(reader, record, sizeof *record);
    if (!reader->error &&
        (record->sort < OBJECT_ANONYMOUS || record->sort > OBJECT_DELETED_FILE || record->kept.size > INT64_MAX))
        reader->error = -EBADMSG;
    return reader->error ? NULL : reader_text(reader);
}

static int shared_memory_check(struct restoring *restoring, struct reader *reader)
{
    struct object_record record;
    char *name = take_record(reader, &record);

    if (name && record.sort == OBJECT_POSIX && (record.name_count || strchr(name + sizeof SHM - 1, '/')))
        needs_bubble(restoring, "shared memory with names");
    if (name && record.sort == OBJECT_DELETED_FILE) {
        name = path_now(restoring, name);
        if (name)
            nameless_check(restoring, name);
    }
    free(name);
    return reader->error;
}

/* Linux before 6.3 knows neither of the two flags for execution, and makes all memfds executable. */
static int make_memfd(const struct restoring *restoring, const struct object_record *record, const char *name)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(
        name, flags | (record->seals & 0x20 /* F_SEAL_EXEC */ ? 8 /* MFD_NOEXEC_SEAL */ : 16 /* MFD_EXEC */));

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, flags);
    return fd < 0 ? -errno : descriptor_lift(restoring, fd);
}

static int make_directories(const char *path)
{
    char *name = strdup(path);
    int error = name ? 0 : -ENOMEM;

    for (char *at = name ? strchr(name + sizeof SHM - 1, '/') : NULL; !error && at; at = strchr(at + 1, '/')) {
        *at = 0;
        error = mkdir(name, 0700) && errno != EEXIST ? -errno : 0;
        *at = '/';
    }
    free(name);
    return error;
}

static int make_room(const char *path)
{
    return text_starts(path, SHM) && !strstr(path, "/../") ? make_directories(path) : -EBADMSG;
}

/* Under all its names but the one it has. */
static int name_posix(const struct object_record *record, struct reader *names, const char *path, int fd,
                      int *ret_keeps_path)
{
    char link[64];
    int error = 0;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    *ret_keeps_path = 0;
    for (uint32_t i = 0; !error && i < record->name_count; i++) {
        char *name = reader_text(names);
        int is_path = name && !strcmp(name, path);
        *ret_keeps_path |= is_path;
        error = name ? make_room(name) : names->error;
        if (!error && !is_path && linkat(AT_FDCWD, link, AT_FDCWD, name, AT_SYMLINK_FOLLOW))
            error = -errno;
        free(name);
    }
    return error;
}

/* /dev/shm is the bubble's own, and empty. It is made with its first name, which maps goes on to show; unless that is
 * another's by now. */
static int make_posix(const struct restoring *restoring, const struct object_record *record, const char *path,
                      struct reader *names)
{
    int error = make_room(path), fd, keeps_path, has_path;

    if (error)
        return error;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    has_path = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        fd = open(SHM, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    error = name_posix(record, names, path, fd, &keeps_path);
    if (!error && has_path && !keeps_path && unlink(path))
        error = -errno;
    if (!error)
        return descriptor_lift(restoring, fd);
    close(fd);
    return error;
}

static int make_anonymous(struct restoring *restoring, const struct object_record *record, struct made_object *object)
{
    object->length = (record->kept.size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    object->memory = mmap(NULL, object->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return object->memory == MAP_FAILED ? -errno : contents_fill(restoring, &record->kept, object->memory);
}

/* Those that a writable mapping forbids come when all is mapped. */
enum { SEALS_LATER = F_SEAL_FUTURE_WRITE | F_SEAL_SEAL };

static int make_file(struct restoring *restoring, const struct object_record *record, const char *name,
                     struct reader *names, struct made_object *object)
{
    uint32_t seals = record->seals & F_SEAL_FUTURE_WRITE ? record->seals & ~(uint32_t)SEALS_LATER : record->seals;
    int error;

    object->fd =
        record->sort == OBJECT_MEMFD ? make_memfd(restoring, record, name) : make_posix(restoring, record, name, names);
    error = object->fd < 0 ? object->fd : contents_restore(restoring, &record->kept, object->fd);
    return !error && seals && fcntl(object->fd, F_ADD_SEALS, seals) ? -errno : error;
}

static int make_deleted_file(struct restoring *restoring, const struct object_record *record, char **path,
                             struct made_object *object)
{
    *path = path_now(restoring, *path);
    if (!*path)
        return -ENOMEM;
    object->fd = nameless_file(restoring, *path, &record->kept);
    return object->fd < 0 ? object->fd : 0;
}

static int shared_memory_make(struct restoring *restoring, struct reader *reader)
{
    struct object_record record;
    char *name = take_record(reader, &record);
    struct made_object object = { .sort = record.sort, .number = record.number, .fd = -1, .seals = record.seals };
    int error = name ? 0 : reader->error;

    if (!error && !object_find(restoring, record.sort, record.number)) {
        if (record.sort == OBJECT_ANONYMOUS)
            error = make_anonymous(restoring, &record, &object);
        else if (record.sort == OBJECT_DELETED_FILE)
            error = make_deleted_file(restoring, &record, &name, &object);
        else
            error = make_file(restoring, &record, name, reader, &object);
        if (!error)
            error = object_add(restoring, &object);
    }
    free(name);
    return error;
}

static int shared_memory_wire(struct restoring *restoring, struct reader *reader)
{
    struct object_record record;
    char *name = take_record(reader, &record);
    const struct made_object *object = name ? object_find(restoring, record.sort, record.number) : NULL;

    free(name);
    if (object && object->seals & F_SEAL_FUTURE_WRITE && fcntl(object->fd, F_ADD_SEALS, object->seals) &&
        (uint32_t)fcntl(object->fd, F_GET_SEALS) != object->seals)
        return -errno;
    return reader->error;
}

static void shared_memory_show(struct reader *reader, FILE *out)
{
    static const char *const sorts[] = { [OBJECT_ANONYMOUS] = "anonymous",
                                         [OBJECT_MEMFD] = "memfd ",
                                         [OBJECT_POSIX] = "",
                                         [OBJECT_DELETED_FILE] = "deleted file " };
    struct object_record record;
    char *name = take_record(reader, &record);

    if (name) {
        fprintf(out, "  %s", sorts[record.sort]);
        show_text(name, out);
        fprintf(out, ", %" PRIu64 " bytes\n", record.kept.size);
    }
    free(name);
}

const struct kind kind_shared_memory = {
    .name = "shared memory",
    .tag = TAG_SHARED_MEMORY,
    .late = 1,
    .hold = shared_memory_hold,
    .save = shared_memory_save,
    .check = shared_memory_check,
    .make = shared_memory_make,
    .wire = shared_memory_wire,
    .show = shared_memory_show,
};
