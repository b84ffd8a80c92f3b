/* SPDX-License-Identifier: MIT */
/* Memory, saving: which mappings there are, which pages of them must be stored. memory_restore.c brings them back. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../floor/text.h"
#include "memory_format.h"
#include "shared_memory.h"
#include "vdso.h"

static int is_named(const struct mapping *mapping, const char *start)
{
    return text_starts(mapping->name, start);
}

static int is_vdso_part(const struct mapping *mapping)
{
    return is_named(mapping, "[vdso]") || is_named(mapping, "[vvar");
}

/* Not the program's own: the agent page, and what the kernel maps for everybody. */
int memory_is_foreign(const struct saving *saving, const struct mapping *mapping)
{
    return is_named(mapping, "[vsyscall]") || is_vdso_part(mapping) ||
           (mapping->inode == saving->page_inode && mapping->device == saving->page_device) ||
           (mapping->shared && is_named(mapping, REGISTRY_ROOT)); /* a page that was deleted and made again */
}

int memory_is_of_file(const struct mapping *mapping)
{
    return mapping->inode && !is_named(mapping, "/dev/zero");
}

/* Is the mapped file still the one at that path? Some file systems (btrfs, overlay) give maps another device number
 * than stat; then its bytes are stored, which is right as well, only larger. */
int mapping_is_at_path(const struct mapping *mapping)
{
    struct stat status;
    return !is_named(mapping, "/dev/shm/") && !stat(mapping->name, &status) && S_ISREG(status.st_mode) && status.st_ino == mapping->inode &&
           ((uint64_t)major(status.st_dev) << 32 | minor(status.st_dev)) == mapping->device;
}

static int refuse_mapping(struct saving *saving, const struct mapping *mapping)
{
    if (is_named(mapping, "/anon_hugepage") || is_named(mapping, "/hugepages"))
        return refuse(saving, "R-HUGETLB", "memory of huge pages at %#" PRIx64, mapping->start);
    if (is_named(mapping, "/secretmem"))
        return refuse(saving, "R-SECRET-MEMORY", "memory of memfd_secret is mapped at %#" PRIx64, mapping->start);
    if (is_named(mapping, "/[aio]"))
        return refuse(saving, "R-AIO", "a context of io_setup is mapped at %#" PRIx64, mapping->start);
    if (is_named(mapping, "/dev/") && !is_named(mapping, "/dev/zero") && !is_named(mapping, "/dev/shm/"))
        return refuse(saving, "R-DEVICE-MEMORY", "%s is mapped at %#" PRIx64, mapping->name, mapping->start);
    if ((is_named(mapping, "/memfd:") || is_named(mapping, "/SYSV")) && !object_of_mapping(mapping))
        return refuse(saving, "R-HUGETLB", "memory of huge pages at %#" PRIx64, mapping->start);
    if (!mapping->shared || object_of_mapping(mapping))
        return 0;
    if (mapping_is_at_path(mapping))
        return 0;
    if (is_named(mapping, "/"))
        return refuse(saving, "R-SHARED-FILE", "%s is mapped shared at %#" PRIx64 ", and is not what is at that path", mapping->name,
                      mapping->start);
    return refuse(saving, refusal_of_target(mapping->name) ? refusal_of_target(mapping->name) : "R-SHARED-MEMORY", "%s is mapped shared at %#" PRIx64, *mapping->name ? mapping->name : "a device",
                  mapping->start);
}

struct mapped_file {
    uint64_t device, inode;
};

static int compare_mapped_files(const void *a, const void *b)
{
    const struct mapped_file *one = a, *other = b;

    if (one->device != other->device)
        return one->device < other->device ? -1 : 1;
    return one->inode == other->inode ? 0 : one->inode < other->inode ? -1 : 1;
}

int mapped_files_sort(struct saving *first)
{
    struct buffer *files = &first->mapped_files;

    for (const struct saving *process = first; process; process = process->next)
        for (size_t i = 0; i < process->mappings.count; i++) {
            const struct mapping *mapping = &process->mappings.items[i];
            struct mapped_file file = { makedev((unsigned)(mapping->device >> 32), (unsigned)mapping->device), mapping->inode };
            if (mapping->shared && mapping->writable)
                buffer_add(files, &file, sizeof file);
        }
    if (files->length)
        qsort(files->bytes, files->length / sizeof(struct mapped_file), sizeof(struct mapped_file), compare_mapped_files);
    return files->error;
}

int step_writes_by_mapping(const struct saving *saving, const struct stat *file)
{
    const struct buffer *files = &saving->first->mapped_files;
    struct mapped_file wanted = { file->st_dev, file->st_ino };

    return files->length &&
           bsearch(&wanted, files->bytes, files->length / sizeof wanted, sizeof wanted, compare_mapped_files) != NULL;
}

static int twin_has(const struct mappings *twin, const struct mapping *mapping)
{
    size_t low = 0, high = twin->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (twin->items[middle].end <= mapping->start)
            low = middle + 1;
        else
            high = middle;
    }
    return low < twin->count && twin->items[low].start <= mapping->start;
}

static int is_hinted(const struct agent_page *page, const struct mapping *mapping)
{
    for (uint32_t i = 0; i < page->hint_count && i < AGENT_MAX_RANGES; i++)
        if (page->hints[i].start < mapping->end && mapping->start < page->hints[i].end)
            return 1;
    return 0;
}

/* A part of shared memory that a process of the step copies: the others need not. */
struct copied_part {
    uint64_t device, inode, offset, end;
};

static struct copied_part part_of(const struct mapping *mapping)
{
    return (struct copied_part){ mapping->device, mapping->inode, mapping->offset, mapping->offset + mapping->end - mapping->start };
}

static int is_copied_already(const struct saving *saving, const struct mapping *mapping)
{
    const struct copied_part *parts = (const struct copied_part *)saving->first->copied_parts.bytes, part = part_of(mapping);

    for (size_t i = saving->first->copied_parts.length / sizeof *parts; i-- > 0;)
        if (parts[i].inode == part.inode && parts[i].device == part.device && parts[i].offset <= part.offset && parts[i].end >= part.end)
            return 1;
    return 0;
}

static void add_copied(struct saving *saving, const struct mapping *mapping)
{
    struct copied_part part = part_of(mapping);
    buffer_add(&saving->first->copied_parts, &part, sizeof part);
}

static int must_be_copied(const struct saving *saving, const struct mapping *mapping)
{
    return mapping->shared && object_of_mapping(mapping) && !object_has_source(saving, mapping) && !is_copied_already(saving, mapping);
}

int memory_mark_copies(struct saving *saving, const struct mappings *twin, struct agent_page *page)
{
    uint64_t offset = 0;

    page->range_count = 0;
    for (size_t i = 0; i < saving->mappings.count; i++) {
        struct mapping *mapping = &saving->mappings.items[i];
        if (memory_is_foreign(saving, mapping))
            continue;
        int error = refuse_mapping(saving, mapping);
        if (error)
            return error;
        if (saving->view == saving->pid)
            continue; /* no twin: the program itself is read, while it stands */
        int is_missing = !twin_has(twin, mapping), lacking = is_missing && !mapping->shared;
        int is_shared = must_be_copied(saving, mapping);
        saving->lacks_flags |= is_missing;
        if (!lacking && !is_shared && !is_hinted(page, mapping))
            continue;
        if (page->range_count == AGENT_MAX_RANGES)
            return refuse(saving, "R-MANY-RANGES", "more than %d mappings that a fork does not copy", AGENT_MAX_RANGES);
        mapping->flags |= lacking ? MAPPING_DONT_FORK : 0;
        mapping->copied = 1;
        mapping->copy_offset = offset;
        page->lacking[page->range_count] = !mapping->shared;
        page->ranges[page->range_count++] = (struct agent_range){ mapping->start, mapping->end };
        offset += mapping->end - mapping->start;
        if (is_shared)
            add_copied(saving, mapping);
    }
    return saving->first->copied_parts.error;
}

/* Files are listed once each, those with code in them by their content. One that is no more at its path is remembered as
 * well: all that is mapped of it is stored. */
struct file {
    const char *name;
    uint64_t device, inode;
    int32_t number;       /* in the record; -1: gone */
};

struct file_list {
    struct buffer bytes;
    struct file *items;
    uint32_t count, listed;
};

static int is_executed(const struct saving *saving, const char *name)
{
    for (size_t i = 0; i < saving->mappings.count; i++)
        if (saving->mappings.items[i].executable && !strcmp(saving->mappings.items[i].name, name))
            return 1;
    return 0;
}

static int is_written(const struct saving *saving, const struct mapping *mapping)
{
    struct stat status;
    return !stat(mapping->name, &status) && step_writes_by_mapping(saving, &status);
}

/* It may be replaced by another while we look: it counts if it was there after its identity was taken. */
static int identify(struct saving *saving, const struct mapping *mapping, struct file_list *files, int32_t *ret_number)
{
    struct file_identity identity;
    int error;

    *ret_number = -1;
    if (!mapping_is_at_path(mapping))
        return 0;
    identity = (struct file_identity){ .mtime_nanoseconds = FILE_IS_WRITTEN };
    error = is_written(saving, mapping) ? 0 : file_identity_take(mapping->name, is_executed(saving, mapping->name), &identity);
    if (error && mapping_is_at_path(mapping))
        return error;
    if (error || !mapping_is_at_path(mapping))
        return 0;
    buffer_add(&files->bytes, &identity, sizeof identity);
    buffer_add_text(&files->bytes, mapping->name);
    *ret_number = (int32_t)files->listed++;
    return 0;
}

static int file_number(struct saving *saving, const struct mapping *mapping, struct file_list *files, int32_t *ret_number)
{
    int error;

    for (uint32_t i = files->count; i-- > 0;)
        if (files->items[i].inode == mapping->inode && files->items[i].device == mapping->device &&
            !strcmp(files->items[i].name, mapping->name)) {
            *ret_number = files->items[i].number;
            return 0;
        }
    struct file *items = realloc(files->items, (files->count + 1) * sizeof *items);
    if (!items)
        return -ENOMEM;
    files->items = items;
    error = identify(saving, mapping, files, ret_number);
    items[files->count++] = (struct file){ mapping->name, mapping->device, mapping->inode, *ret_number };
    return error;
}

/* Decides once what a mapping is: the pages that are stored later follow from it. */
static int find_type(struct saving *saving, struct mapping *mapping, struct file_list *files, int32_t *ret_file)
{
    int error = 0;

    *ret_file = -1;
    mapping->type = MAPPING_ANONYMOUS;
    if (is_vdso_part(mapping))
        mapping->type = MAPPING_VDSO;
    else if (object_of_mapping(mapping) && (mapping->shared || object_has_source(saving, mapping))) {
        mapping->type = mapping->shared ? MAPPING_OBJECT : MAPPING_OBJECT_PRIVATE;
        *ret_file = (int32_t)object_of_mapping(mapping);
    } else if (memory_is_of_file(mapping)) {
        error = file_number(saving, mapping, files, ret_file);
        if (!error && *ret_file >= 0)
            mapping->type = !mapping->shared ? MAPPING_FILE : is_written(saving, mapping) ? MAPPING_WRITTEN_FILE : MAPPING_SHARED_FILE;
        else if (!error && mapping->shared)
            error = refuse(saving, "R-SHARED-FILE", "%s is mapped shared and was deleted meanwhile", mapping->name);
    }
    return error;
}

static int add_mapping(struct saving *saving, struct mapping *mapping, struct file_list *files, struct buffer *out)
{
    struct mapping_record record = {
        .start = mapping->start,
        .end = mapping->end,
        .offset = mapping->offset,
        .object = mapping->inode,
        .protection = (uint32_t)(mapping->readable * PROT_READ | mapping->writable * PROT_WRITE |
                                 mapping->executable * PROT_EXEC),
    };
    int error = find_type(saving, mapping, files, &record.file);

    if (is_named(mapping, MAPPING_NAME_START))
        mapping->flags |= MAPPING_NAMED;
    record.type = (uint16_t)mapping->type;
    record.flags = mapping->flags;
    record.key = (uint16_t)mapping->key;
    buffer_add(out, &record, sizeof record);
    return error;
}

static int add_vdso(struct saving *saving, struct memory_record *record, struct buffer *out)
{
    for (size_t i = 0; i < saving->mappings.count; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        if (!is_named(mapping, "[vdso]"))
            continue;
        uint64_t length = mapping->end - mapping->start;
        void *bytes = malloc(length);
        ssize_t got = bytes ? pread(saving->memory, bytes, length, (off_t)mapping->start) : -1;
        if (got == (ssize_t)length) {
            record->vdso_length = length;
            buffer_add(out, bytes, length);
        }
        free(bytes);
        if (got != (ssize_t)length)
            return got == 0 ? -ESRCH : -EIO; /* dead memory reads as an end of file */
        return vdso_find_inside(saving, mapping, &record->inside_vdso);
    }
    return 0;
}

/* Droppable memory is wiped too, and comes back as zeros. */
static int is_wiped(const struct mapping *mapping)
{
    return mapping->flags & MAPPING_WIPE_ON_FORK && !(mapping->flags & MAPPING_DROPPABLE);
}

/* A range that turns out to be MADV_WIPEONFORK was zeros in the twin: the checkpoint is made again with that known. */
static int find_wiped(struct saving *saving)
{
    struct agent_page *page = (struct agent_page *)saving->page;
    int found = 0;

    for (size_t i = 0; i < saving->mappings.count; i++)
        found |= is_wiped(&saving->mappings.items[i]) && !saving->mappings.items[i].copied;
    if (!found || saving->view == saving->pid)
        return 0;
    page->hint_count = 0;
    for (size_t i = 0; i < saving->mappings.count; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        if (!is_wiped(mapping))
            continue;
        if (page->hint_count == AGENT_MAX_RANGES)
            return refuse(saving, "R-MANY-RANGES", "more than %d mappings that a fork does not copy", AGENT_MAX_RANGES);
        page->hints[page->hint_count++] = (struct agent_range){ mapping->start, mapping->end };
    }
    return -EAGAIN;
}

/* What only smaps or the program itself tells of. */
static int refuse_flags(struct saving *saving)
{
    if (saving->page->tagged_addresses || text_list_holds(saving->test_fail, "tagged-addresses"))
        return refuse(saving, "R-TAGGED-ADDRESSES", "the program keeps marks in the upper bits of addresses (LAM)");
    for (size_t i = 0; i < saving->mappings.count; i++) {
        struct mapping *mapping = &saving->mappings.items[i];
        if (mapping->flags & MAPPING_POOL)
            return refuse(saving, "R-HUGETLB", "memory of huge pages at %#" PRIx64, mapping->start);
        if (mapping->flags & MAPPING_SHADOW_STACK)
            return refuse(saving, "R-SHADOW-STACK", "a thread has a shadow stack at %#" PRIx64, mapping->start);
        if (mapping->key == saving->inherited.kernel_key)
            mapping->key = 0; /* which the kernel gives it again */
    }
    return 0;
}

static int add_guards(struct saving *saving, struct memory_record *record, struct buffer *out)
{
    struct page_range *ranges;
    int error = memory_guards(saving, &ranges, &record->guard_count);

    for (size_t i = 0; i < record->guard_count; i++)
        buffer_add(out, &(struct guard_record){ ranges[i].start, ranges[i].end }, sizeof(struct guard_record));
    free(ranges);
    return error;
}

/* "[anon:NAME]" */
static void add_name(const struct mapping *mapping, struct buffer *out)
{
    char name[MAX_PATH];

    snprintf(name, sizeof name, "%.*s", (int)(strlen(mapping->name) - strlen(MAPPING_NAME_START) - 1),
             mapping->name + strlen(MAPPING_NAME_START));
    buffer_add_text(out, name);
}

/* The parts of the record, in their order. */
struct parts {
    struct memory_record record;
    struct buffer vdso, mappings, guards, names;
    struct file_list files;
};

static int collect(struct saving *saving, struct parts *parts)
{
    const struct agent_page *page = saving->page;
    int error = find_wiped(saving);

    parts->record.lock_future = page->lock_future;
    parts->record.thp_disabled = page->thp_disabled;
    parts->record.no_exec_gain = page->no_exec_gain;
    parts->record.merges = page->merges;
    parts->record.barriers = page->barriers;
    parts->record.keys = saving->inherited.keys;
    parts->record.kernel_key = saving->inherited.kernel_key;
    if (!error)
        error = refuse_flags(saving);
    if (!error)
        error = add_vdso(saving, &parts->record, &parts->vdso);
    for (size_t i = 0; !error && i < saving->mappings.count; i++) {
        struct mapping *mapping = &saving->mappings.items[i];
        if (memory_is_foreign(saving, mapping) && !is_vdso_part(mapping))
            continue;
        error = add_mapping(saving, mapping, &parts->files, &parts->mappings);
        parts->record.mapping_count++;
        if (mapping->flags & MAPPING_NAMED)
            add_name(mapping, &parts->names);
    }
    if (!error)
        error = add_guards(saving, &parts->record, &parts->guards);
    parts->record.file_count = parts->files.listed;
    return error;
}

static int memory_save(struct saving *saving, const struct descriptor *none)
{
    char *smaps = proc_read(saving->view, "smaps", NULL);
    struct parts parts = { 0 };
    struct buffer *const order[] = { &parts.vdso, &parts.files.bytes, &parts.mappings, &parts.guards, &parts.names };
    struct buffer payload = { 0 };
    int error = smaps ? 0 : -errno;

    (void)none;
    if (smaps)
        mappings_add_flags(&saving->mappings, smaps);
    free(smaps);
    if (!error)
        error = collect(saving, &parts);
    buffer_add(&payload, &parts.record, sizeof parts.record);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        buffer_add(&payload, order[i]->bytes, order[i]->length);
        error = error ? error : order[i]->error;
        buffer_free(order[i]);
    }
    if (!error)
        error = image_write_record(saving->writer, TAG_MEMORY, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    free(parts.files.items);
    return error;
}

const struct kind kind_memory = {
    .name = "memory",
    .tag = TAG_MEMORY,
    .late = 1,
    .save = memory_save,
    .check = memory_check,
    .open = memory_open,
    .wire = memory_wire,
    .last = memory_last,
    .show = memory_show,
};
