/* SPDX-License-Identifier: MIT */
/* Shared memory segments of System V: those that are attached, and those that the program has made. Their bytes are
 * taken from where they are attached, so that nobody sees another attachment. Who attached last, and when, cannot be
 * given back. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <unistd.h>

#include "../floor/text.h"
#include "shared_memory.h"
#include "system_v.h"

struct segment_record {
    struct system_v_record object;
    struct kept_file kept;
    uint32_t removed; /* 1: IPC_RMID, and still attached */
    uint32_t locked;  /* 1: SHM_LOCK */
};
static_assert(sizeof(struct segment_record) == 64, "segment");

static const struct mapping *find_attached(const struct saving *saving, int id)
{
    for (size_t i = 0; i < saving->mappings.count; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        if (mapping->inode == (uint64_t)id && object_of_mapping(mapping) == OBJECT_SEGMENT)
            return mapping;
    }
    return NULL;
}

static uint64_t count_attached(const struct mappings *mappings, int id)
{
    uint64_t count = 0;

    for (size_t i = 0; i < mappings->count; i++)
        count += mappings->items[i].inode == (uint64_t)id && object_of_mapping(&mappings->items[i]) == OBJECT_SEGMENT;
    return count;
}

/* By processes of the step and their twins; those that are more are of processes outside. */
static uint64_t count_inside(const struct saving *saving, int id)
{
    uint64_t count = 0;

    for (const struct saving *process = saving->first; process; process = process->next) {
        char *text = process->view == process->pid ? NULL : proc_read(process->view, "maps", NULL);
        struct mappings twin = { 0 };
        count += count_attached(&process->mappings, id);
        if (text && !mappings_parse(text, &twin))
            count += count_attached(&twin, id);
        mappings_free(&twin);
        free(text);
    }
    return count;
}

/* What is at that address of our own, just attached. */
static int is_of_huge_pages(uint64_t address)
{
    char *text = proc_read(getpid(), "maps", NULL);
    struct mappings own = { 0 };
    int found = 0;

    if (text && !mappings_parse(text, &own))
        for (size_t i = 0; i < own.count; i++)
            found |= own.items[i].start == address && object_of_mapping(&own.items[i]) != OBJECT_SEGMENT;
    mappings_free(&own);
    free(text);
    return found;
}

/* A copy of a segment that is attached nowhere, or not as a whole. */
static int copy_segment(struct saving *saving, int id, uint64_t size)
{
    void *bytes = shmat(id, NULL, SHM_RDONLY);
    int fd = bytes == (void *)-1 ? -1 : memfd_create("stasis", MFD_CLOEXEC), error = fd < 0 ? -errno : 0;

    if (!error && is_of_huge_pages((uint64_t)bytes))
        error = refuse(saving, "R-HUGETLB", "the segment with id %d is of huge pages", id);
    if (!error)
        error = image_write_at(fd, bytes, size, 0);
    if (bytes != (void *)-1)
        shmdt(bytes);
    if (error == -EACCES)
        error = refuse(saving, "R-SYSTEM-V", "the segment with id %d cannot be read", id);
    if (error && fd >= 0)
        close(fd);
    return error ? error : fd;
}

static int covers(const struct content_part *parts, size_t count, uint64_t size)
{
    uint64_t end = 0;

    for (size_t i = 0; i < count && parts[i].offset == end; i++)
        end += parts[i].length;
    return end >= size;
}

static int save_content(struct saving *saving, int id, struct kept_file *kept)
{
    const struct mapping *attached = find_attached(saving, id);
    struct content_part whole = { .fd = -1, .length = kept->size }, *parts = NULL;
    size_t count = 0;
    int error = attached ? object_mapped_parts(saving, OBJECT_SEGMENT, attached, &parts, &count) : 0;
    int is_whole = !error && covers(parts, count, kept->size);

    if (!error && !is_whole) {
        whole.fd = copy_segment(saving, id, kept->size);
        error = whole.fd < 0 ? whole.fd : object_keep_open(saving, whole.fd);
    }
    if (!error)
        error = contents_save_later(saving, 0 /* no device */, (uint64_t)id, is_whole ? parts : &whole,
                                    is_whole ? count : 1, &kept->content);
    free(parts);
    return error;
}

/* By one of the step, and not by another process that had the same number long ago. */
static int was_made_inside(const struct saving *saving, int id, const struct shmid_ds *status)
{
    int inside = system_v_is_own(saving, IPC_SORT_MEMORY, id);

    for (const struct saving *process = saving->first; !inside && process; process = process->next)
        inside = status->shm_cpid == process->pid && status->shm_ctime >= process_began(process->pid);
    return inside;
}

static int save_segment(struct saving *saving, int id)
{
    struct shmid_ds status;
    struct segment_record record = { 0 };
    struct buffer payload = { 0 };
    int error;

    if (shmctl(id, IPC_STAT, &status))
        return errno == EINVAL || errno == EIDRM
                   ? 0 /* gone meanwhile */
                   : refuse(saving, "R-SYSTEM-V", "the segment with id %d cannot be read", id);
    if (!was_made_inside(saving, id, &status))
        return refuse(saving, "R-SYSTEM-V", "the program uses the segment with id %d, which it has not made", id);
    if (status.shm_perm.uid != geteuid())
        return refuse(saving, "R-SYSTEM-V", "the segment with id %d belongs to user %u by now", id,
                      status.shm_perm.uid);
    if (status.shm_nattch > count_inside(saving, id))
        return refuse(saving, "R-SYSTEM-V", "the segment with id %d is attached in another process as well", id);
    record.object = system_v_describe(id, &status.shm_perm);
    record.kept = (struct kept_file){ .size = status.shm_segsz };
    record.removed = (status.shm_perm.mode & SHM_DEST) != 0;
    record.locked = (status.shm_perm.mode & SHM_LOCKED) != 0;
    error = save_content(saving, id, &record.kept);
    buffer_add(&payload, &record, sizeof record);
    if (!error)
        error = image_write_record(saving->writer, TAG_SEGMENT, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* Those that a process of the step has attached count as used, however it has come to them. */
static int segments_save(struct saving *saving, const struct descriptor *none)
{
    int error = system_v_each(saving, IPC_SORT_MEMORY, save_segment);

    (void)none;
    for (size_t i = 0; !error && i < saving->mappings.count; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        if (object_of_mapping(mapping) == OBJECT_SEGMENT &&
            !system_v_is_known(saving, IPC_SORT_MEMORY, (int)mapping->inode) &&
            find_attached(saving, (int)mapping->inode) == mapping)
            error = save_segment(saving, (int)mapping->inode);
    }
    return error;
}

static int segments_check(struct restoring *restoring, struct reader *reader)
{
    struct segment_record record;
    struct rlimit limit;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    system_v_check_numbers(restoring);
    if (record.locked && geteuid() && !getrlimit(RLIMIT_MEMLOCK, &limit) && record.kept.size > limit.rlim_max)
        missing(restoring,
                "R-LOCKED-MEMORY: the program had a segment of %" PRIu64
                " bytes locked in memory (SHM_LOCK), and the limit "
                "here is less; raise ulimit -l",
                record.kept.size);
    return 0;
}

static int fill_segment(struct restoring *restoring, const struct segment_record *record)
{
    void *bytes = shmat(record->object.id, NULL, 0);
    int error = bytes == (void *)-1 ? -errno : contents_fill(restoring, &record->kept, bytes);

    if (bytes != (void *)-1)
        shmdt(bytes);
    return error;
}

static int make_segment(struct restoring *restoring, const struct segment_record *record)
{
    int error = system_v_next_id("shm", record->object.id), id;

    if (error)
        return error;
    id = shmget(record->object.key, record->kept.size, IPC_CREAT | IPC_EXCL | (int)record->object.mode);
    if (id < 0)
        return -errno;
    if (id != record->object.id)
        return -EEXIST;
    error = fill_segment(restoring, record);
    return error ? error
                 : object_add(restoring,
                              &(struct made_object){ .sort = OBJECT_SEGMENT, .number = (uint64_t)id, .fd = id });
}

static int segments_make(struct restoring *restoring, struct reader *reader)
{
    struct segment_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    if (record.object.mode > 0777 || record.object.id < 0 || record.kept.size > INT64_MAX)
        return -EBADMSG;
    return object_find(restoring, OBJECT_SEGMENT, (uint64_t)record.object.id) ? 0 : make_segment(restoring, &record);
}

/* It is attached by now. */
static int segments_wire(struct restoring *restoring, struct reader *reader)
{
    struct segment_record record;

    (void)restoring;
    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    if ((record.locked && shmctl(record.object.id, SHM_LOCK, NULL)) ||
        (record.removed && shmctl(record.object.id, IPC_RMID, NULL)))
        return -errno;
    return 0;
}

static void segments_show(struct reader *reader, FILE *out)
{
    struct segment_record record;

    if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  id %d, key %#x, %" PRIu64 " bytes%s\n", record.object.id, (unsigned)record.object.key,
                record.kept.size, record.removed ? ", removed" : "");
}

const struct kind kind_segments = {
    .name = "segment",
    .tag = TAG_SEGMENT,
    .save = segments_save,
    .check = segments_check,
    .make = segments_make,
    .wire = segments_wire,
    .show = segments_show,
};
