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

static int is_shared_anonymous(const struct mapping *mapping)
{
    return mapping->shared && is_named(mapping, "/dev/zero");
}

/* Is the mapped file still the one at that path? Some file systems (btrfs, overlay) give maps another device number
 * than stat; then its bytes are stored, which is right as well, only larger. */
static int file_is_there(const struct mapping *mapping)
{
    struct stat status;
    return !is_named(mapping, "/dev/shm/") && !stat(mapping->name, &status) && S_ISREG(status.st_mode) && status.st_ino == mapping->inode &&
           ((uint64_t)major(status.st_dev) << 32 | minor(status.st_dev)) == mapping->device;
}

static int refuse_mapping(struct saving *saving, const struct mapping *mapping)
{
    if (is_named(mapping, "/anon_hugepage") || is_named(mapping, "/hugepages"))
        return refuse(saving, "R-HUGETLB", "memory of huge pages at %#" PRIx64, mapping->start);
    if (is_named(mapping, "/dev/") && !is_named(mapping, "/dev/zero") && !is_named(mapping, "/dev/shm/"))
        return refuse(saving, "R-DEVICE-MEMORY", "%s is mapped at %#" PRIx64, mapping->name, mapping->start);
    if (!mapping->shared || is_shared_anonymous(mapping))
        return 0;
    if (is_named(mapping, "/SYSV"))
        return refuse(saving, "R-SYSV-SHM", "a System V shared memory segment is attached at %#" PRIx64, mapping->start);
    if (is_named(mapping, "/memfd:") || is_named(mapping, "/dev/shm/") || !file_is_there(mapping))
        return refuse(saving, "R-SHARED-MEMORY", "%s is mapped shared at %#" PRIx64,
                      *mapping->name ? mapping->name : "a device", mapping->start);
    if (mapping->writable)
        return refuse(saving, "R-SHARED-FILE", "%s is mapped shared and writable at %#" PRIx64, mapping->name,
                      mapping->start);
    return 0;
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
        int lacking = !mapping->shared && !twin_has(twin, mapping);
        if (!lacking && !is_shared_anonymous(mapping) && !is_hinted(page, mapping))
            continue;
        if (page->range_count == AGENT_MAX_RANGES)
            return refuse(saving, "R-MANY-RANGES", "more than %d mappings that a fork does not copy", AGENT_MAX_RANGES);
        mapping->flags |= lacking ? MAPPING_DONT_FORK : 0;
        mapping->copied = 1;
        mapping->copy_offset = offset;
        page->ranges[page->range_count++] = (struct agent_range){ mapping->start, mapping->end };
        offset += mapping->end - mapping->start;
    }
    return 0;
}

uint32_t memory_type_of(const struct mapping *mapping)
{
    if (is_vdso_part(mapping))
        return MAPPING_VDSO;
    if (is_shared_anonymous(mapping))
        return MAPPING_SHARED_ANONYMOUS;
    if (mapping->shared)
        return MAPPING_SHARED_FILE;
    return mapping->inode && file_is_there(mapping) ? MAPPING_FILE : MAPPING_ANONYMOUS;
}

/* Files are listed once each, those with code in them by their content. */
struct file_list {
    struct buffer bytes;
    const char **names;
    uint32_t count;
};

static int is_executed(const struct saving *saving, const char *name)
{
    for (size_t i = 0; i < saving->mappings.count; i++)
        if (saving->mappings.items[i].executable && !strcmp(saving->mappings.items[i].name, name))
            return 1;
    return 0;
}

static int file_number(struct saving *saving, struct file_list *files, const char *name, int32_t *ret_number)
{
    struct file_identity identity;
    int error;

    for (uint32_t i = files->count; i-- > 0;)
        if (!strcmp(files->names[i], name)) {
            *ret_number = (int32_t)i;
            return 0;
        }
    const char **names = realloc(files->names, (files->count + 1) * sizeof *names);
    if (!names)
        return -ENOMEM;
    files->names = names;
    error = file_identity_take(name, is_executed(saving, name), &identity);
    if (error)
        return error;
    buffer_add(&files->bytes, &identity, sizeof identity);
    buffer_add_text(&files->bytes, name);
    *ret_number = (int32_t)files->count;
    names[files->count++] = name;
    return 0;
}

static int add_mapping(struct saving *saving, const struct mapping *mapping, struct file_list *files, struct buffer *out)
{
    struct mapping_record record = {
        .start = mapping->start,
        .end = mapping->end,
        .offset = mapping->offset,
        .object = mapping->inode,
        .type = memory_type_of(mapping),
        .protection = (uint32_t)(mapping->readable * PROT_READ | mapping->writable * PROT_WRITE |
                                 mapping->executable * PROT_EXEC),
        .flags = mapping->flags,
        .file = -1,
    };
    int error = 0;

    if (record.type == MAPPING_FILE || record.type == MAPPING_SHARED_FILE)
        error = file_number(saving, files, mapping->name, &record.file);
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
        return got == (ssize_t)length ? 0 : got == 0 ? -ESRCH : -EIO; /* dead memory reads as an end of file */
    }
    return 0;
}

/* A range that turns out to be MADV_WIPEONFORK was zeros in the twin: the checkpoint is made again with that known. */
static int find_wiped(struct saving *saving)
{
    struct agent_page *page = (struct agent_page *)saving->page;
    int found = 0;

    for (size_t i = 0; i < saving->mappings.count; i++)
        found |= saving->mappings.items[i].flags & MAPPING_WIPE_ON_FORK && !saving->mappings.items[i].copied;
    if (!found || saving->view == saving->pid)
        return 0;
    page->hint_count = 0;
    for (size_t i = 0; i < saving->mappings.count; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        if (!(mapping->flags & MAPPING_WIPE_ON_FORK))
            continue;
        if (page->hint_count == AGENT_MAX_RANGES)
            return refuse(saving, "R-MANY-RANGES", "more than %d mappings that a fork does not copy", AGENT_MAX_RANGES);
        page->hints[page->hint_count++] = (struct agent_range){ mapping->start, mapping->end };
    }
    return -EAGAIN;
}

static int memory_save(struct saving *saving, const struct descriptor *none)
{
    char *smaps = proc_read(saving->view, "smaps", NULL);
    struct memory_record record = { 0 };
    struct file_list files = { 0 };
    struct buffer vdso = { 0 }, mappings = { 0 }, payload = { 0 };
    int error = smaps ? 0 : -errno;

    (void)none;
    if (smaps)
        mappings_add_flags(&saving->mappings, smaps);
    free(smaps);
    if (!error)
        error = find_wiped(saving);
    if (!error)
        error = add_vdso(saving, &record, &vdso);
    for (size_t i = 0; !error && i < saving->mappings.count; i++) {
        const struct mapping *mapping = &saving->mappings.items[i];
        if (memory_is_foreign(saving, mapping) && !is_vdso_part(mapping))
            continue;
        error = add_mapping(saving, mapping, &files, &mappings);
        record.mapping_count++;
    }
    record.file_count = files.count;
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, vdso.bytes, vdso.length);
    buffer_add(&payload, files.bytes.bytes, files.bytes.length);
    buffer_add(&payload, mappings.bytes, mappings.length);
    if (!error && (vdso.error || files.bytes.error || mappings.error))
        error = -ENOMEM;
    if (!error)
        error = image_write_record(saving->writer, TAG_MEMORY, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&vdso);
    buffer_free(&files.bytes);
    buffer_free(&mappings);
    buffer_free(&payload);
    free(files.names);
    return error;
}

const struct kind kind_memory = {
    .name = "memory",
    .tag = TAG_MEMORY,
    .late = 1,
    .save = memory_save,
    .check = memory_check,
    .open = memory_open,
    .last = memory_last,
    .show = memory_show,
};
