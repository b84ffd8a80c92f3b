/* SPDX-License-Identifier: MIT */
/* The staging area: everything that has content is mapped, filled and verified beside its place, since the restorer
 * itself may lie there. Bytes are never used before their checksum was tested, and never mapped from the image:
 * MADV_DONTNEED would bring the image's bytes back where the program expects zeros. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <unistd.h>

#include "memory_staging.h"
#include "shared_memory.h"

#define HOLES_START  UINT64_C(0x10000000000)
#define HUGE_BYTES   UINT64_C(0x200000)       /* mremap moves whole page tables when both ends lie alike in them */
#define STACK_ROOM   UINT64_C(0x10000000)     /* below the image's mappings: stacks grow */
#define SCATTER_ROOM UINT64_C(0x1000000000)   /* room of this size may not be there twice: 64 GB */
enum { SCATTER_SHARE = 16 };                  /* in which less than one page of so many is used */

int staging_own_mappings(struct mappings *mappings, int with_flags)
{
    char *maps = proc_read(getpid(), "maps", NULL), *smaps = with_flags ? proc_read(getpid(), "smaps", NULL) : NULL;
    int error = maps ? mappings_parse(maps, mappings) : -errno;

    if (!error && smaps)
        mappings_add_flags(mappings, smaps);
    free(maps);
    free(smaps);
    return error;
}

/* Walks all that may be in the way, from low to high addresses: the image's mappings, this process's, what is
 * reserved. */
struct obstacles {
    const struct staging *staging;
    const struct mappings *own;
    uint32_t image_at;
    size_t own_at;
    struct last_range reserved[2];
};

static int next_obstacle(struct obstacles *obstacles, struct last_range *ret_range)
{
    struct last_range candidates[4] = { { UINT64_MAX, 0 }, { UINT64_MAX, 0 }, obstacles->reserved[0], obstacles->reserved[1] };
    int best = 0;

    if (obstacles->image_at < obstacles->staging->count) {
        const struct mapping_record *record = &obstacles->staging->items[obstacles->image_at].record;
        candidates[0] = (struct last_range){ record->start > STACK_ROOM ? record->start - STACK_ROOM : 0, record->end };
    }
    if (obstacles->own_at < obstacles->own->count) {
        const struct mapping *own = &obstacles->own->items[obstacles->own_at];
        candidates[1] = (struct last_range){ own->start, own->end };
    }
    for (int i = 1; i < 4; i++)
        if (candidates[i].start < candidates[best].start)
            best = i;
    *ret_range = candidates[best];
    obstacles->image_at += best == 0;
    obstacles->own_at += best == 1;
    if (best > 1)
        obstacles->reserved[best - 2].start = UINT64_MAX;
    return ret_range->start != UINT64_MAX;
}

static struct last_range reserved(struct last_range range)
{
    return range.start ? range : (struct last_range){ UINT64_MAX, 0 };
}

uint64_t memory_hole(struct restoring *restoring, uint64_t length)
{
    struct mappings own = { 0 };
    struct staging *staging = restoring->staging;
    struct obstacles obstacles = { .staging = staging, .own = &own,
                                   .reserved = { reserved(staging->area), reserved(staging->vdso_new) } };
    struct last_range obstacle;
    uint64_t start = HOLES_START;

    if (staging_own_mappings(&own, 0) || length > ADDRESS_END)
        return 0;
    while (next_obstacle(&obstacles, &obstacle) && (obstacle.start < start || obstacle.start - start < length))
        if (obstacle.end > start)
            start = (obstacle.end + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    mappings_free(&own);
    return start + length < ADDRESS_END ? start : 0;
}

struct staged *staging_find(struct staging *staging, uint64_t address)
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

/* Mapped with its protection, and filled by others. */
static int is_shared(const struct mapping_record *record)
{
    return record->type == MAPPING_SHARED_FILE || record->type == MAPPING_OBJECT || record->type == MAPPING_WRITTEN_FILE;
}

/* Calls `seen` for every run of pages of this process; `staged` holds all of them. */
static int for_runs(struct restoring *restoring, void (*seen)(struct staging *, struct staged *, const struct run_record *))
{
    for (size_t i = 0; i < restoring->image->block_count; i++) {
        const struct image_block *block = &restoring->image->blocks[i];
        for (uint32_t j = 0; block->process == restoring->index && j < block->block.run_count; j++) {
            struct staged *staged = staging_find(restoring->staging, block->runs[j].address);
            if (!staged || block->runs[j].pages > (staged->record.end - block->runs[j].address) / PAGE_BYTES ||
                staged->record.flags & MAPPING_DROPPABLE || staged->record.type == MAPPING_VDSO)
                return -EBADMSG;
            seen(restoring->staging, staged, &block->runs[j]);
        }
    }
    return 0;
}

static void count_pages(struct staging *staging, struct staged *staged, const struct run_record *run)
{
    const struct mapping_record *record = &staged->record;

    staged->pages += run->pages;
    staged->scattered = record->type == MAPPING_ANONYMOUS && record->end - record->start > SCATTER_ROOM &&
                        staged->pages < (record->end - record->start) / PAGE_BYTES / SCATTER_SHARE;
    staging->piece_count++; /* as many at most */
}

static void note_piece(struct staging *staging, struct staged *staged, const struct run_record *run)
{
    if (staged->scattered)
        staging->pieces[staging->piece_count++] = (struct piece){ .address = run->address, .pages = run->pages };
}

static int by_address(const void *a, const void *b)
{
    const struct piece *one = a, *other = b;
    return one->address < other->address ? -1 : one->address > other->address;
}

static int find_pieces(struct restoring *restoring)
{
    struct staging *staging = restoring->staging;
    int error = for_runs(restoring, count_pages);

    if (error)
        return error;
    staging->pieces = calloc(staging->piece_count + 1, sizeof *staging->pieces);
    if (!staging->pieces)
        return -ENOMEM;
    staging->piece_count = 0;
    error = for_runs(restoring, note_piece);
    qsort(staging->pieces, staging->piece_count, sizeof *staging->pieces, by_address);
    for (size_t i = 1; !error && i < staging->piece_count; i++)
        if (staging->pieces[i].address - staging->pieces[i - 1].address < staging->pieces[i - 1].pages * PAGE_BYTES)
            error = -EBADMSG; /* twice the same page */
    return error;
}

int staging_holds(const struct staged *staged, const struct staging *staging)
{
    switch (staged->record.type) {
    case MAPPING_VDSO:
        return staging->vdso && staged->record.protection & PROT_EXEC;
    case MAPPING_ANONYMOUS:
        return staged->pages && !staged->scattered;
    default:
        return 1;
    }
}

/* Lays the staged mappings out from `base`; the same place modulo HUGE_BYTES as in the end. Returns the end. */
static uint64_t lay_out(struct staging *staging, uint64_t base)
{
    uint64_t at = base;

    for (uint32_t i = 0; i < staging->count; i++) {
        struct staged *staged = &staging->items[i];
        const struct mapping_record *record = &staged->record;
        uint64_t length = record->end - record->start;
        if (!staging_holds(staged, staging))
            continue;
        at += (record->start - at) & (HUGE_BYTES - 1);
        staged->at = at;
        if (length > ADDRESS_END - at)
            return ADDRESS_END; /* memory_hole() then finds none */
        at += length;
    }
    at = (at + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
    for (size_t i = 0; i < staging->piece_count; at += staging->pieces[i++].pages * PAGE_BYTES)
        staging->pieces[i].at = at;
    return at;
}

static int map_at(uint64_t at, uint64_t length, int flags, int fd, uint64_t offset, int protection)
{
    void *got = mmap((void *)at, length, protection, flags | MAP_FIXED_NOREPLACE, fd, (off_t)offset);
    return got == MAP_FAILED ? -errno : 0;
}

/* A shared mapping that the program may make writable keeps that: its file is opened as it was then. */
static int map_file(const struct staging *staging, const struct staged *staged)
{
    const struct mapping_record *record = &staged->record;
    int shared = record->type != MAPPING_FILE, error;
    int fd = open(staging->files[record->file],
                  (shared && record->flags & MAPPING_MAY_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    error = map_at(staged->at, record->end - record->start, shared ? MAP_SHARED : MAP_PRIVATE, fd, record->offset,
                   shared ? (int)record->protection : PROT_READ | PROT_WRITE);
    close(fd);
    return error;
}

/* What was never charged to the program (mapped without rights, for example) may be more than there is. */
static int map_anonymous(const struct staged *staged)
{
    const struct mapping_record *record = &staged->record;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;

    flags |= record->flags & MAPPING_GROWS_DOWN ? MAP_GROWSDOWN | MAP_STACK : 0;
    flags |= record->flags & MAPPING_NO_RESERVE || !(record->flags & MAPPING_ACCOUNTED) ? MAP_NORESERVE : 0;
    return map_at(staged->at, record->end - record->start, flags, -1, 0, PROT_READ | PROT_WRITE);
}

static int map_object(const struct staging *staging, const struct staged *staged)
{
    const struct mapping_record *record = &staged->record;
    const struct made_object *object = object_find(staging->restoring, (enum object_sort)record->file, record->object);

    if (!object || (record->type == MAPPING_OBJECT_PRIVATE && object->fd < 0))
        return -EBADMSG;
    if (record->type == MAPPING_OBJECT_PRIVATE)
        return map_at(staged->at, record->end - record->start, MAP_PRIVATE, object->fd, record->offset, PROT_READ | PROT_WRITE);
    return object_map(object, staged->at, record->end - record->start, record->offset, (int)record->protection,
                      record->flags & MAPPING_MAY_WRITE);
}

static int map_staged(struct staging *staging, struct staged *staged)
{
    const struct mapping_record *record = &staged->record;

    switch (record->type) {
    case MAPPING_FILE:
    case MAPPING_SHARED_FILE:
        return map_file(staging, staged);
    case MAPPING_WRITTEN_FILE:
        return map_at(staged->at, record->end - record->start, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, PROT_NONE);
    case MAPPING_OBJECT:
    case MAPPING_OBJECT_PRIVATE:
        return map_object(staging, staged);
    default:
        return map_anonymous(staged);
    }
}

static void advise(uint64_t at, uint64_t length, uint32_t flags)
{
    for (int i = 0; i < MAPPING_ADVICES; i++)
        if (flags & mapping_advices[i].flag)
            madvise((void *)at, length, mapping_advices[i].advice);
}

static int map_pieces(const struct staging *staging)
{
    const struct piece *first = staging->pieces, *last = first + staging->piece_count - 1;

    return staging->piece_count ? map_at(first->at, last->at + last->pages * PAGE_BYTES - first->at,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, PROT_READ | PROT_WRITE)
                                : 0;
}

/* A few texts behind all: the last stage wants them when the heap is gone. */
static int map_names(struct staging *staging, uint64_t at, uint64_t length)
{
    int error = length ? map_at(at, length, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, PROT_READ | PROT_WRITE) : 0;

    for (uint32_t i = 0; !error && i < staging->count; i++) {
        char *name = staging->items[i].name;
        if (!name)
            continue;
        staging->items[i].name = strcpy((char *)at, name);
        at += strlen(name) + 1;
        free(name);
    }
    return error;
}

static uint64_t names_length(const struct staging *staging)
{
    uint64_t length = 0;

    for (uint32_t i = 0; i < staging->count; i++)
        length += staging->items[i].name ? strlen(staging->items[i].name) + 1 : 0;
    return (length + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static int stage_all(struct restoring *restoring, struct staging *staging)
{
    uint64_t names = names_length(staging), length = lay_out(staging, HUGE_BYTES) + names + HUGE_BYTES;
    uint64_t base = memory_hole(restoring, length);
    int error = base ? 0 : -ENOMEM;

    staging->area = (struct last_range){ base, base + length };
    lay_out(staging, base + HUGE_BYTES);
    for (uint32_t i = 0; !error && i < staging->count; i++) {
        struct staged *staged = &staging->items[i];
        if (!staging_holds(staged, staging))
            continue;
        error = map_staged(staging, staged);
        if (!error)
            advise(staged->at, staged->record.end - staged->record.start, staged->record.flags);
        if (!error && staged->record.type == MAPPING_VDSO)
            memcpy((void *)staged->at, staging->vdso, staging->vdso_length);
    }
    if (!error)
        error = map_pieces(staging);
    return error ? error : map_names(staging, base + length - names, names);
}

int staging_map_written(struct staging *staging)
{
    int error = 0;

    for (uint32_t i = 0; !error && i < staging->count; i++) {
        const struct staged *staged = &staging->items[i];
        uint64_t length = staged->record.end - staged->record.start;
        if (staged->record.type != MAPPING_WRITTEN_FILE)
            continue;
        error = munmap((void *)staged->at, length) ? -errno : map_file(staging, staged);
        if (!error)
            advise(staged->at, length, staged->record.flags);
    }
    return error;
}

int staging_make(struct restoring *restoring)
{
    int error = find_pieces(restoring);
    return error ? error : stage_all(restoring, restoring->staging);
}

static void *place_piece(const struct staging *staging, uint64_t address)
{
    const struct piece wanted = { .address = address };
    const struct piece *piece = bsearch(&wanted, staging->pieces, staging->piece_count, sizeof wanted, by_address);
    return piece ? (void *)piece->at : NULL;
}

static void *place(void *context, uint64_t address, uint64_t pages)
{
    struct staged *staged = staging_find(context, address);

    (void)pages; /* for_runs has seen that the run ends within */
    if (staged && staged->scattered)
        return place_piece(context, address);
    if (!staged || !staged->at || is_shared(&staged->record))
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
        if (!staging_holds(staged, staging) || is_shared(record))
            continue;
        if (record->protection != (PROT_READ | PROT_WRITE) &&
            mprotect((void *)staged->at, record->end - record->start, (int)record->protection))
            return -errno;
    }
    return 0;
}

int memory_load(struct restoring *restoring)
{
    struct staging *staging = restoring->staging;
    pthread_t helpers[3];
    cpu_set_t cpus;
    int count = 0, error, wanted = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus) - 1;

    while (count < wanted && count < 3 && !pthread_create(&helpers[count], NULL, load_blocks, staging))
        count++;
    load_blocks(staging);
    while (count)
        pthread_join(helpers[--count], NULL);
    error = staging->error ? staging->error : protect(staging);
    return error ? error : memory_plan_operations(staging);
}
