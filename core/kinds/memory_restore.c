/* SPDX-License-Identifier: MIT */
/* Memory, coming back. Hosted code maps everything that has content in a staging area, fills and verifies it there; the
 * last stage only moves it to its place. Bytes are never used before their checksum was tested, and never mapped from
 * the image: MADV_DONTNEED would bring the image's bytes back where the program expects zeros. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <unistd.h>

#include "../floor/text.h"
#include "memory_format.h"

#define ADDRESS_END  UINT64_C(0x7ffffffff000) /* of user space with 4-level page tables */
#define HOLES_START  UINT64_C(0x10000000000)
#define HUGE_BYTES   UINT64_C(0x200000)       /* mremap moves whole page tables when both ends lie alike in them */
#define STACK_ROOM   UINT64_C(0x10000000)     /* below the image's mappings: stacks grow */

struct staged {
    struct mapping_record record;
    uint64_t at;          /* staging address; 0: has none */
    int has_pages;
};

struct staging {
    struct staged *items;
    uint32_t count;
    struct last_range area;
    const void *vdso;
    uint64_t vdso_length;
    char **files;
    uint32_t file_count;
    _Atomic size_t next_block;
    _Atomic int error;
    struct restoring *restoring;
};

struct parsed {
    struct memory_record record;
    const void *vdso;
    struct file_identity *identities;
    char **files;
    struct mapping_record *mappings;
};

static void parsed_free(struct parsed *parsed)
{
    for (uint32_t i = 0; parsed->files && i < parsed->record.file_count; i++)
        free(parsed->files[i]);
    free(parsed->files);
    free(parsed->identities);
    free(parsed->mappings);
}

static int mapping_is_sound(const struct mapping_record *mapping, uint64_t after, const struct parsed *parsed)
{
    int needs_file = mapping->type == MAPPING_FILE || mapping->type == MAPPING_SHARED_FILE;

    return mapping->start >= after && mapping->start < mapping->end && mapping->end <= ADDRESS_END &&
           !((mapping->start | mapping->end | mapping->offset) % PAGE_BYTES) && mapping->type >= MAPPING_ANONYMOUS &&
           mapping->type <= MAPPING_VDSO &&
           (needs_file ? mapping->file >= 0 && (uint32_t)mapping->file < parsed->record.file_count : mapping->file == -1);
}

static int parse(struct reader *reader, struct parsed *parsed)
{
    uint64_t after = 0;

    memset(parsed, 0, sizeof *parsed);
    reader_take(reader, &parsed->record, sizeof parsed->record);
    if (reader->error || parsed->record.file_count > reader->length || parsed->record.mapping_count > reader->length)
        return -EBADMSG;
    parsed->vdso = reader_view(reader, parsed->record.vdso_length);
    parsed->files = calloc(parsed->record.file_count + 1, sizeof *parsed->files);
    parsed->identities = calloc(parsed->record.file_count + 1, sizeof *parsed->identities);
    parsed->mappings = calloc(parsed->record.mapping_count + 1, sizeof *parsed->mappings);
    if (!parsed->files || !parsed->identities || !parsed->mappings)
        return -ENOMEM;
    for (uint32_t i = 0; !reader->error && i < parsed->record.file_count; i++) {
        reader_take(reader, &parsed->identities[i], sizeof *parsed->identities);
        parsed->files[i] = reader_text(reader);
    }
    for (uint32_t i = 0; !reader->error && i < parsed->record.mapping_count; i++) {
        struct mapping_record *mapping = &parsed->mappings[i];
        reader_take(reader, mapping, sizeof *mapping);
        if (!mapping_is_sound(mapping, after, parsed))
            return -EBADMSG;
        after = mapping->end;
    }
    return reader->error;
}

static int own_mappings(struct mappings *mappings, int with_flags)
{
    char *maps = proc_read(getpid(), "maps", NULL), *smaps = with_flags ? proc_read(getpid(), "smaps", NULL) : NULL;
    int error = maps ? mappings_parse(maps, mappings) : -errno;

    if (!error && smaps)
        mappings_add_flags(mappings, smaps);
    free(maps);
    free(smaps);
    return error;
}

static int is_vdso_part(const struct mapping *mapping)
{
    return !strcmp(mapping->name, "[vdso]") || !strncmp(mapping->name, "[vvar", 5);
}

/* The restorer's vdso must be that of the image, byte by byte and part by part. */
static void check_vdso(struct restoring *restoring, const struct parsed *parsed)
{
    struct mappings own = { 0 };
    int differs = own_mappings(&own, 1) != 0 || text_list_holds(restoring->test_fail, "vdso"), sealed = 0;
    uint32_t at = 0;

    for (size_t i = 0; i < own.count; i++) {
        const struct mapping *mapping = &own.items[i];
        if (!is_vdso_part(mapping))
            continue;
        while (at < parsed->record.mapping_count && parsed->mappings[at].type != MAPPING_VDSO)
            at++;
        differs |= at == parsed->record.mapping_count ||
                   parsed->mappings[at].end - parsed->mappings[at].start != mapping->end - mapping->start;
        sealed |= !!(mapping->flags & MAPPING_SEALED);
        if (!strcmp(mapping->name, "[vdso]"))
            differs |= parsed->record.vdso_length != mapping->end - mapping->start ||
                       memcmp(parsed->vdso, (const void *)mapping->start, parsed->record.vdso_length) != 0;
        at++;
    }
    while (at < parsed->record.mapping_count)
        differs |= parsed->mappings[at++].type == MAPPING_VDSO;
    mappings_free(&own);
    if (differs)
        missing(restoring, "R-VDSO: the image was taken under another kernel (its vDSO differs); restart on a node with "
                           "the same kernel");
    else if (sealed)
        missing(restoring, "R-VDSO-SEALED: this kernel seals its system mappings; restart on one without "
                           "CONFIG_MSEAL_SYSTEM_MAPPINGS");
}

int memory_check(struct restoring *restoring, struct reader *reader)
{
    struct parsed parsed;
    int error = parse(reader, &parsed);

    for (uint32_t i = 0; !error && i < parsed.record.file_count; i++)
        file_identity_check(restoring, parsed.files[i], &parsed.identities[i]);
    if (!error)
        check_vdso(restoring, &parsed);
    parsed_free(&parsed);
    return error;
}

static int overlaps(uint64_t start, uint64_t end, uint64_t other_start, uint64_t other_end)
{
    return start < other_end && other_start < end;
}

/* The end of something that [start, start + length) would touch, or 0. */
static uint64_t obstacle(const struct staging *staging, const struct mappings *own, uint64_t start, uint64_t length)
{
    for (uint32_t i = 0; i < staging->count; i++) {
        const struct mapping_record *record = &staging->items[i].record;
        uint64_t below = record->start > STACK_ROOM ? record->start - STACK_ROOM : 0;
        if (overlaps(start, start + length, below, record->end))
            return record->end;
    }
    for (size_t i = 0; i < own->count; i++)
        if (overlaps(start, start + length, own->items[i].start, own->items[i].end))
            return own->items[i].end;
    return 0;
}

uint64_t memory_hole(struct restoring *restoring, uint64_t length)
{
    struct mappings own = { 0 };
    uint64_t start = HOLES_START, end;

    if (own_mappings(&own, 0))
        return 0;
    while (start + length < ADDRESS_END && (end = obstacle(restoring->staging, &own, start, length)))
        start = (end + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    mappings_free(&own);
    return start + length < ADDRESS_END ? start : 0;
}

static struct staged *find(struct staging *staging, uint64_t address)
{
    uint32_t low = 0, high = staging->count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (staging->items[middle].record.end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < staging->count && staging->items[low].record.start <= address ? &staging->items[low] : NULL;
}

static int mark_pages(struct restoring *restoring)
{
    for (size_t i = 0; i < restoring->image->block_count; i++) {
        const struct image_block *block = &restoring->image->blocks[i];
        for (uint32_t j = 0; block->process == restoring->index && j < block->block.run_count; j++) {
            struct staged *staged = find(restoring->staging, block->runs[j].address);
            if (!staged || block->runs[j].pages > (staged->record.end - block->runs[j].address) / PAGE_BYTES)
                return -EBADMSG;
            staged->has_pages = 1;
        }
    }
    return 0;
}

/* Mappings of one shared object are parts of one staged mapping: that of the first gets room for all. */
static uint64_t object_length(const struct staging *staging, uint64_t object)
{
    uint64_t length = 0;
    for (uint32_t i = 0; i < staging->count; i++) {
        const struct mapping_record *record = &staging->items[i].record;
        uint64_t end = record->offset + (record->end - record->start);
        if (record->type == MAPPING_SHARED_ANONYMOUS && record->object == object && end > length)
            length = end;
    }
    return length;
}

static struct staged *first_of_object(struct staging *staging, uint64_t object)
{
    for (uint32_t i = 0; i < staging->count; i++)
        if (staging->items[i].record.type == MAPPING_SHARED_ANONYMOUS && staging->items[i].record.object == object)
            return &staging->items[i];
    return NULL;
}

static int is_staged(const struct staged *staged)
{
    return staged->record.type != MAPPING_VDSO && (staged->record.type != MAPPING_ANONYMOUS || staged->has_pages);
}

/* Lays the staged mappings out from `base`; the same place modulo HUGE_BYTES as in the end. Returns the end. */
static uint64_t lay_out(struct staging *staging, uint64_t base)
{
    uint64_t at = base;

    for (uint32_t i = 0; i < staging->count; i++) {
        struct staged *staged = &staging->items[i];
        const struct mapping_record *record = &staged->record;
        uint64_t length = record->end - record->start;
        if (!is_staged(staged))
            continue;
        if (record->type == MAPPING_SHARED_ANONYMOUS) {
            struct staged *first = first_of_object(staging, record->object);
            if (first != staged) {
                staged->at = first->at - first->record.offset + record->offset;
                continue;
            }
            length = object_length(staging, record->object);
            staged->at = at + record->offset;
        } else {
            at += (record->start - at) & (HUGE_BYTES - 1);
            staged->at = at;
        }
        at = (at + length + 2 * HUGE_BYTES) & ~(HUGE_BYTES - 1); /* a gap: stacks want a guard below */
    }
    return at;
}

static int map_at(uint64_t at, uint64_t length, int flags, int fd, uint64_t offset, int protection)
{
    void *got = mmap((void *)at, length, protection, flags | MAP_FIXED, fd, (off_t)offset);
    return got == MAP_FAILED ? -errno : 0;
}

static int map_file(const struct staging *staging, const struct staged *staged)
{
    const struct mapping_record *record = &staged->record;
    int fd = open(staging->files[record->file], O_RDONLY | O_CLOEXEC), shared = record->type == MAPPING_SHARED_FILE, error;

    if (fd < 0)
        return -errno;
    error = map_at(staged->at, record->end - record->start, shared ? MAP_SHARED : MAP_PRIVATE, fd, record->offset,
                   shared ? (int)record->protection : PROT_READ | PROT_WRITE);
    close(fd);
    return error;
}

static int map_staged(struct staging *staging, struct staged *staged)
{
    const struct mapping_record *record = &staged->record;
    int private = MAP_PRIVATE | MAP_ANONYMOUS;

    switch (record->type) {
    case MAPPING_FILE:
    case MAPPING_SHARED_FILE:
        return map_file(staging, staged);
    case MAPPING_SHARED_ANONYMOUS:
        return first_of_object(staging, record->object) != staged
                   ? 0
                   : map_at(staged->at - record->offset, object_length(staging, record->object),
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0, PROT_READ | PROT_WRITE);
    default:
        private |= record->flags & MAPPING_GROWS_DOWN ? MAP_GROWSDOWN | MAP_STACK : 0;
        private |= record->flags & MAPPING_NO_RESERVE ? MAP_NORESERVE : 0;
        return map_at(staged->at, record->end - record->start, private, -1, 0, PROT_READ | PROT_WRITE);
    }
}

static void advise(uint64_t at, uint64_t length, uint32_t flags)
{
    for (int i = 0; i < MAPPING_ADVICES; i++)
        if (flags & mapping_advices[i].flag)
            madvise((void *)at, length, mapping_advices[i].advice);
}

static int stage_all(struct restoring *restoring, struct staging *staging)
{
    uint64_t length = lay_out(staging, HUGE_BYTES) + 2 * HUGE_BYTES, base = memory_hole(restoring, length);
    int error = base ? 0 : -ENOMEM;

    if (!error)
        error = map_at(base, length, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, PROT_NONE);
    staging->area = (struct last_range){ base, base + length };
    lay_out(staging, base + HUGE_BYTES);
    for (uint32_t i = 0; !error && i < staging->count; i++) {
        struct staged *staged = &staging->items[i];
        if (!is_staged(staged))
            continue;
        error = map_staged(staging, staged);
        if (!error)
            advise(staged->at, staged->record.end - staged->record.start, staged->record.flags);
    }
    return error;
}

int memory_open(struct restoring *restoring, struct reader *reader)
{
    struct staging *staging = calloc(1, sizeof *staging);
    struct parsed parsed;
    int error = staging ? parse(reader, &parsed) : -ENOMEM;

    if (error)
        return error;
    restoring->staging = staging;
    staging->restoring = restoring;
    staging->count = parsed.record.mapping_count;
    staging->items = calloc(staging->count + 1, sizeof *staging->items);
    staging->files = parsed.files;
    staging->file_count = parsed.record.file_count;
    if (!staging->items)
        return -ENOMEM;
    for (uint32_t i = 0; i < staging->count; i++)
        staging->items[i].record = parsed.mappings[i];
    parsed.files = NULL;
    parsed_free(&parsed);
    error = mark_pages(restoring);
    return error ? error : stage_all(restoring, staging);
}

static void *place(void *context, uint64_t address, uint64_t pages)
{
    struct staged *staged = find(context, address);

    (void)pages; /* mark_pages has seen that the run ends within */
    if (!staged || !staged->at || staged->record.type == MAPPING_SHARED_FILE)
        return NULL;
    return (void *)(staged->at + (address - staged->record.start));
}

static void *load_blocks(void *context)
{
    struct staging *staging = context;
    struct image *image = staging->restoring->image;

    while (!staging->error) {
        size_t next = staging->next_block++;
        if (next >= image->block_count)
            break;
        if (image->blocks[next].process != staging->restoring->index)
            continue;
        int error = image_read_block(image, &image->blocks[next], place, staging);
        if (error) {
            int none = 0;
            if (atomic_compare_exchange_strong(&staging->error, &none, error))
                snprintf(image->reason, sizeof image->reason, "block %zu at offset %" PRIu64 ": %s", next,
                         image->blocks[next].block.offset,
                         error == -EBADMSG ? "its checksum is wrong" : strerror(-error));
        }
    }
    return NULL;
}

static int protect(struct staging *staging)
{
    for (uint32_t i = 0; i < staging->count; i++) {
        const struct staged *staged = &staging->items[i];
        const struct mapping_record *record = &staged->record;
        if (!is_staged(staged) || record->type == MAPPING_SHARED_FILE || record->type == MAPPING_SHARED_ANONYMOUS)
            continue;
        if (record->protection != (PROT_READ | PROT_WRITE) &&
            mprotect((void *)staged->at, record->end - record->start, (int)record->protection))
            return -errno;
        if (record->flags & MAPPING_LOCKED)
            mlock((void *)staged->at, record->end - record->start);
    }
    return 0;
}

int memory_load(struct restoring *restoring)
{
    struct staging *staging = restoring->staging;
    pthread_t helpers[3];
    cpu_set_t cpus;
    int count = 0, wanted = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus) - 1;

    while (count < wanted && count < 3 && !pthread_create(&helpers[count], NULL, load_blocks, staging))
        count++;
    load_blocks(staging);
    while (count)
        pthread_join(helpers[--count], NULL);
    return staging->error ? staging->error : protect(staging);
}

uint32_t memory_operation_count(const struct restoring *restoring)
{
    return restoring->staging->count;
}

static struct last_operation operation_for(const struct staged *staged)
{
    const struct mapping_record *record = &staged->record;
    struct last_operation operation = {
        .kind = LAST_MAP,
        .protection = record->protection,
        .map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
        .advice_flags = record->flags,
        .from = staged->at,
        .to = record->start,
        .length = record->end - record->start,
    };

    if (record->type == MAPPING_SHARED_ANONYMOUS)
        operation.kind = LAST_DUPLICATE;
    else if (is_staged(staged))
        operation.kind = LAST_MOVE;
    if (record->flags & MAPPING_GROWS_DOWN)
        operation.map_flags |= MAP_GROWSDOWN | MAP_STACK;
    if (record->flags & MAPPING_NO_RESERVE)
        operation.map_flags |= MAP_NORESERVE;
    return operation;
}

static int plan_vdso(struct restoring *restoring, struct staging *staging)
{
    struct last_plan *plan = restoring->plan;
    struct mappings own = { 0 };
    uint32_t now = 0, then = 0;
    int error = own_mappings(&own, 0);

    for (size_t i = 0; !error && i < own.count; i++)
        if (is_vdso_part(&own.items[i]) && now < LAST_VDSO_PARTS)
            plan->vdso_now[now++] = (struct last_range){ own.items[i].start, own.items[i].end };
    for (uint32_t i = 0; i < staging->count; i++)
        if (staging->items[i].record.type == MAPPING_VDSO && then < LAST_VDSO_PARTS)
            plan->vdso_then[then++] = (struct last_range){ staging->items[i].record.start, staging->items[i].record.end };
    mappings_free(&own);
    return error ? error : now == then ? 0 : -EPROTO;
}

int memory_last(struct restoring *restoring, struct reader *reader)
{
    struct staging *staging = restoring->staging;
    struct last_plan *plan = restoring->plan;

    (void)reader;
    for (uint32_t i = 0; i < staging->count; i++)
        if (staging->items[i].record.type != MAPPING_VDSO)
            plan->operations[plan->operation_count++] = operation_for(&staging->items[i]);
    plan->staging = staging->area;
    return plan_vdso(restoring, staging);
}

void memory_show(struct reader *reader, FILE *out)
{
    static const char *const types[] = { "?", "memory", "private file", "shared file", "shared memory", "vdso" };
    struct parsed parsed;

    if (!parse(reader, &parsed))
        for (uint32_t i = 0; i < parsed.record.mapping_count; i++) {
            const struct mapping_record *mapping = &parsed.mappings[i];
            fprintf(out, "  %" PRIx64 "-%" PRIx64 " %c%c%c %s%s%s\n", mapping->start, mapping->end,
                    mapping->protection & PROT_READ ? 'r' : '-', mapping->protection & PROT_WRITE ? 'w' : '-',
                    mapping->protection & PROT_EXEC ? 'x' : '-', types[mapping->type], mapping->file >= 0 ? " " : "",
                    mapping->file >= 0 ? parsed.files[mapping->file] : "");
        }
    parsed_free(&parsed);
}
