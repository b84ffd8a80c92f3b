/* SPDX-License-Identifier: MIT */
/* Memory, coming back: what the record says is checked against this machine, memory_staging.c fills everything that has
 * content beside its place, and the last stage gets a list of what to map, move and set. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../floor/text.h"
#include "memory_staging.h"
#include "vdso.h"

struct parsed {
    struct memory_record record;
    const void *vdso;
    struct file_identity *identities;
    char **files;
    struct staged *mappings;
    struct guard_record *guards;
};

static void parsed_free(struct parsed *parsed)
{
    for (uint32_t i = 0; parsed->files && i < parsed->record.file_count; i++)
        free(parsed->files[i]);
    for (uint32_t i = 0; parsed->mappings && i < parsed->record.mapping_count; i++)
        free(parsed->mappings[i].name);
    free(parsed->files);
    free(parsed->identities);
    free(parsed->mappings);
    free(parsed->guards);
}

static int is_of_object(const struct mapping_record *mapping)
{
    return mapping->type == MAPPING_OBJECT || mapping->type == MAPPING_OBJECT_PRIVATE;
}

static int mapping_is_sound(const struct mapping_record *mapping, uint64_t after, const struct parsed *parsed)
{
    int needs_file = mapping->type == MAPPING_FILE || mapping->type == MAPPING_SHARED_FILE || mapping->type == MAPPING_WRITTEN_FILE;

    return mapping->start >= after && mapping->start < mapping->end && mapping->end <= ADDRESS_END &&
           !((mapping->start | mapping->end | mapping->offset) % PAGE_BYTES) && mapping->type >= MAPPING_ANONYMOUS &&
           mapping->type <= MAPPING_WRITTEN_FILE && (!is_of_object(mapping) || mapping->offset <= ADDRESS_END) &&
           (needs_file ? mapping->file >= 0 && (uint32_t)mapping->file < parsed->record.file_count
                       : mapping->file == -1 || is_of_object(mapping));
}

static int parse_mappings(struct reader *reader, struct parsed *parsed)
{
    uint64_t after = 0;

    for (uint32_t i = 0; !reader->error && i < parsed->record.mapping_count; i++) {
        struct mapping_record *mapping = &parsed->mappings[i].record;
        reader_take(reader, mapping, sizeof *mapping);
        if (!mapping_is_sound(mapping, after, parsed))
            return -EBADMSG;
        after = mapping->end;
    }
    return reader->error;
}

static int parse_guards(struct reader *reader, struct parsed *parsed)
{
    struct staging all = { .items = parsed->mappings, .count = parsed->record.mapping_count };

    for (uint64_t i = 0; !reader->error && i < parsed->record.guard_count; i++) {
        struct guard_record *guard = &parsed->guards[i];
        reader_take(reader, guard, sizeof *guard);
        const struct staged *staged = staging_find(&all, guard->start);
        if (!staged || (guard->start | guard->end) % PAGE_BYTES || guard->start >= guard->end ||
            guard->end > staged->record.end)
            return -EBADMSG;
    }
    return reader->error;
}

/* Every count is at most the record's length, so that no number of an image asks for more memory than the image has. */
static int parse(struct reader *reader, struct parsed *parsed)
{
    const struct memory_record *record = &parsed->record;
    int error;

    memset(parsed, 0, sizeof *parsed);
    reader_take(reader, &parsed->record, sizeof parsed->record);
    if (reader->error || record->file_count > reader->length || record->mapping_count > reader->length ||
        record->guard_count > reader->length)
        return -EBADMSG;
    parsed->vdso = reader_view(reader, record->vdso_length);
    parsed->files = calloc(record->file_count + 1, sizeof *parsed->files);
    parsed->identities = calloc(record->file_count + 1, sizeof *parsed->identities);
    parsed->mappings = calloc(record->mapping_count + 1, sizeof *parsed->mappings);
    parsed->guards = calloc(record->guard_count + 1, sizeof *parsed->guards);
    if (!parsed->files || !parsed->identities || !parsed->mappings || !parsed->guards)
        return -ENOMEM;
    for (uint32_t i = 0; !reader->error && i < record->file_count; i++) {
        reader_take(reader, &parsed->identities[i], sizeof *parsed->identities);
        parsed->files[i] = reader_text(reader);
    }
    error = parse_mappings(reader, parsed);
    if (!error)
        error = parse_guards(reader, parsed);
    for (uint32_t i = 0; !error && !reader->error && i < record->mapping_count; i++)
        if (parsed->mappings[i].record.flags & MAPPING_NAMED)
            parsed->mappings[i].name = reader_text(reader);
    return error ? error : reader->error;
}

/* parse(), and the files where they are now. */
static int parse_here(const struct restoring *restoring, struct reader *reader, struct parsed *parsed)
{
    int error = parse(reader, parsed);

    for (uint32_t i = 0; !error && i < parsed->record.file_count; i++) {
        parsed->files[i] = path_now(restoring, parsed->files[i]);
        error = parsed->files[i] ? 0 : -ENOMEM;
    }
    return error;
}

static int is_vdso_part(const struct mapping *mapping)
{
    return !strcmp(mapping->name, "[vdso]") || !strncmp(mapping->name, "[vvar", 5);
}

/* What this process has of the kernel's: its parts, all from `start` to `end`, and the code among them. */
struct own_vdso {
    struct last_range parts[LAST_VDSO_PARTS];
    uint32_t count;
    int too_many, sealed;
    uint64_t start, end;
    const uint8_t *code;      /* NULL: none */
    uint64_t code_length;
};

static int find_own_vdso(struct own_vdso *own)
{
    struct mappings mappings = { 0 };
    int error = staging_own_mappings(&mappings, 1);

    memset(own, 0, sizeof *own);
    for (size_t i = 0; !error && i < mappings.count; i++) {
        const struct mapping *mapping = &mappings.items[i];
        if (!is_vdso_part(mapping))
            continue;
        own->sealed |= !!(mapping->flags & MAPPING_SEALED);
        if (own->count == LAST_VDSO_PARTS) {
            own->too_many = 1;
            break;
        }
        own->start = own->count ? own->start : mapping->start;
        own->end = mapping->end;
        own->parts[own->count++] = (struct last_range){ mapping->start, mapping->end };
        if (!mapping->executable)
            continue;
        own->code = (const uint8_t *)mapping->start;
        own->code_length = mapping->end - mapping->start;
    }
    mappings_free(&mappings);
    return error;
}

/* Is it that of the image, byte by byte and part by part? */
static int is_same_vdso(const struct restoring *restoring, const struct parsed *parsed, const struct own_vdso *own)
{
    uint64_t then_start = 0;
    uint32_t at = 0;

    for (uint32_t i = 0; i < parsed->record.mapping_count; i++) {
        const struct mapping_record *then = &parsed->mappings[i].record;
        if (then->type != MAPPING_VDSO)
            continue;
        then_start = at ? then_start : then->start;
        if (at == own->count || then->start - then_start != own->parts[at].start - own->start ||
            then->end - then_start != own->parts[at].end - own->start)
            return 0;
        at++;
    }
    return at == own->count && parsed->record.vdso_length == own->code_length &&
           !memcmp(parsed->vdso, own->code, own->code_length) && !text_list_holds(restoring->test_fail, "vdso");
}

/* The image's vdso with its entries leading to this kernel's, which will start at `place`; to be freed. */
static int redirect(const struct parsed *parsed, const struct own_vdso *own, uint64_t place, uint8_t **ret_vdso,
                    const char **ret_name)
{
    uint64_t base = own->code ? place + ((uint64_t)own->code - own->start) : 0;
    uint32_t i = 0;

    while (i < parsed->record.mapping_count && (parsed->mappings[i].record.type != MAPPING_VDSO ||
                                                !(parsed->mappings[i].record.protection & PROT_EXEC)))
        i++;
    if (i == parsed->record.mapping_count)
        return parsed->record.vdso_length ? -EBADMSG : 0; /* the program has none, and knows of none */
    if (parsed->record.vdso_length != parsed->mappings[i].record.end - parsed->mappings[i].record.start)
        return -EBADMSG;
    *ret_vdso = malloc(parsed->record.vdso_length);
    if (!*ret_vdso)
        return -ENOMEM;
    memcpy(*ret_vdso, parsed->vdso, parsed->record.vdso_length);
    return vdso_redirect(*ret_vdso, parsed->vdso, parsed->record.vdso_length, own->code, own->code_length, base, ret_name);
}

static int check_vdso(struct restoring *restoring, const struct parsed *parsed)
{
    struct own_vdso own;
    uint8_t *vdso = NULL;
    const char *name = "";
    int error = find_own_vdso(&own), same = !error && is_same_vdso(restoring, parsed, &own);

    if (error)
        return error;
    if (own.sealed || text_list_holds(restoring->test_fail, "vdso_sealed"))
        return missing(restoring, "R-VDSO-SEALED: this kernel seals its system mappings; restart on one without "
                                  "CONFIG_MSEAL_SYSTEM_MAPPINGS");
    if (same)
        return 0;
    if (parsed->record.inside_vdso)
        missing(restoring, "R-VDSO: the image was taken under another kernel (its vDSO differs), and thread %u was inside the "
                           "vDSO; restart on a node with the same kernel", parsed->record.inside_vdso);
    error = own.too_many ? -EBADMSG : redirect(parsed, &own, 0, &vdso, &name);
    if (error == -ENOTSUP)
        missing(restoring, "R-VDSO: the image was taken under another kernel, whose vDSO has a function that is unknown here "
                           "(%.40s); restart on a node with the same kernel", name);
    else if (error == -EBADMSG)
        missing(restoring, "R-VDSO: the image was taken under another kernel, whose vDSO, or this one's, is of an unknown "
                           "form; restart on a node with the same kernel");
    free(vdso);
    return error == -ENOMEM ? error : 0;
}

/* The hard limit decides; whoever may raise it, does. */
static void check_locked(struct restoring *restoring, const struct parsed *parsed)
{
    uint64_t bytes = parsed->record.lock_future ? PAGE_BYTES : 0;
    struct rlimit limit;

    for (uint32_t i = 0; i < parsed->record.mapping_count; i++)
        if (parsed->mappings[i].record.flags & MAPPING_LOCKED)
            bytes += parsed->mappings[i].record.end - parsed->mappings[i].record.start;
    if (!bytes || getrlimit(RLIMIT_MEMLOCK, &limit))
        return;
    limit.rlim_cur = limit.rlim_max = bytes > limit.rlim_max ? bytes : limit.rlim_max;
    if (setrlimit(RLIMIT_MEMLOCK, &limit))
        missing(restoring, "R-LOCKED-MEMORY: the program had %ju bytes locked in memory, and the limit here is less; raise "
                           "ulimit -l", (uintmax_t)bytes);
}

/* RLIMIT_DATA is for what is private and may be written, but for stacks: setrlimit(2). */
static int is_data(const struct mapping_record *record)
{
    return record->type != MAPPING_SHARED_FILE && record->type != MAPPING_WRITTEN_FILE && record->type != MAPPING_OBJECT &&
           record->protection & PROT_WRITE && !(record->flags & MAPPING_GROWS_DOWN);
}

static void check_limit(struct restoring *restoring, enum __rlimit_resource resource, uint64_t bytes, char option)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit))
        return;
    limit.rlim_cur = limit.rlim_max = bytes > limit.rlim_max ? bytes : limit.rlim_max;
    if (setrlimit(resource, &limit))
        missing(restoring, "R-ADDRESS-SPACE: the program and its restart need %ju kB of address space, and the limit here is less; raise "
                           "ulimit -%c", (uintmax_t)bytes / 1024, option);
}

/* What the program and the last stage, the smallest of all, have together. More is needed before, while nothing is changed yet. */
static void check_address_space(struct restoring *restoring, const struct parsed *parsed)
{
    enum { LAST_STAGE_BYTES = 4 << 20 };
    struct reader threads;
    uint64_t all = LAST_STAGE_BYTES, data;

    if (!image_find_record(restoring->image, TAG_THREADS, restoring->index, &threads))
        all += (uint64_t)threads_count(&threads) * LAST_STACK_BYTES;
    data = all;
    for (uint32_t i = 0; i < parsed->record.mapping_count; i++) {
        const struct mapping_record *record = &parsed->mappings[i].record;
        all += record->end - record->start;
        data += is_data(record) ? record->end - record->start : 0;
    }
    check_limit(restoring, RLIMIT_AS, all, 'v');
    check_limit(restoring, RLIMIT_DATA, data, 'd');
}

/* Calls of newer kernels that the image needs. */
static int has_keys(void)
{
    int key = pkey_alloc(0, 0);

    if (key >= 0)
        pkey_free(key);
    return key >= 0;
}

/* The kernel takes the lowest free key when memory becomes one that may only be executed for the first time. */
static int give_kernel_key(void)
{
    void *memory = mmap(NULL, PAGE_BYTES, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? -1 : munmap(memory, PAGE_BYTES);
}

/* Keys are given from the lowest on. Before anything is mapped: memory that may only be executed would have the kernel take
 * its own. What each thread may do by them is in its registers. 0 or -errno. */
static int take_keys(const struct memory_record *record)
{
    /* Without keys such memory can be read, too. */
    uint32_t kernel_key = has_keys() ? record->kernel_key & 15 : 0;
    uint32_t all = (record->keys & 0xfffe) | (kernel_key ? 1U << kernel_key : 0);

    for (int key = 1; all >> key; key++)
        if (kernel_key == (uint32_t)key ? give_kernel_key() : pkey_alloc(0, 0) != key)
            return -EBUSY;
    for (int key = 1; all >> key; key++)
        if (!(all >> key & 1))
            pkey_free(key);
    return 0;
}

static void check_calls(struct restoring *restoring, const struct parsed *parsed)
{
    const struct memory_record *record = &parsed->record;
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const char *lacking = NULL;
    int sealed = 0;

    for (uint32_t i = 0; i < record->mapping_count; i++)
        sealed |= parsed->mappings[i].record.flags & MAPPING_SEALED && parsed->mappings[i].record.type != MAPPING_VDSO;
    if (record->guard_count && (page == MAP_FAILED || madvise(page, PAGE_BYTES, MAPPING_ADVICE_GUARD_INSTALL)))
        lacking = "guard pages (MADV_GUARD_INSTALL, Linux 6.13)";
    if (sealed && syscall(SYS_MSEAL, 0, 0, 1) && errno == ENOSYS)
        lacking = "sealed memory (mseal, Linux 6.10)";
    if (record->no_exec_gain && prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0) < 0)
        lacking = "memory that never becomes executable (PR_SET_MDWE, Linux 6.3)";
    if (record->keys && !has_keys())
        missing(restoring, "R-PROTECTION-KEY: the program has protection keys, which this CPU or kernel lacks");
    if (lacking)
        missing(restoring, "R-OLD-KERNEL: the program uses %s, which this kernel lacks; restart under a newer one", lacking);
    munmap(page, PAGE_BYTES);
}

static void check_shared(struct restoring *restoring, const struct parsed *parsed)
{
    for (uint32_t i = 0; i < parsed->record.mapping_count; i++) {
        const struct mapping_record *mapping = &parsed->mappings[i].record;
        if (mapping->type == MAPPING_FILE && access(parsed->files[mapping->file], R_OK))
            missing(restoring, "R-FILE-MISSING: %s: %s; put the file back", parsed->files[mapping->file], strerror(errno));
        if (mapping->type == MAPPING_SHARED_FILE && mapping->flags & MAPPING_MAY_WRITE &&
            access(parsed->files[mapping->file], W_OK)) {
            missing(restoring, "R-FILE-MISSING: %s is mapped, and the program might write to it then, but not now: %s",
                    parsed->files[mapping->file], strerror(errno));
            return;
        }
    }
}

int memory_check(struct restoring *restoring, struct reader *reader)
{
    struct parsed parsed;
    int error = parse_here(restoring, reader, &parsed);

    for (uint32_t i = 0; !error && i < parsed.record.file_count; i++)
        if (parsed.identities[i].mtime_nanoseconds != FILE_IS_WRITTEN)
            file_identity_check(restoring, parsed.files[i], &parsed.identities[i]);
    if (!error) {
        check_shared(restoring, &parsed);
        check_locked(restoring, &parsed);
        check_address_space(restoring, &parsed);
        check_calls(restoring, &parsed);
        error = check_vdso(restoring, &parsed);
    }
    parsed_free(&parsed);
    return error;
}

/* Another kernel's vdso: room for this one's for the rest of the program's life, and the old one's patched bytes. */
static int stage_vdso(struct restoring *restoring, const struct parsed *parsed)
{
    struct staging *staging = restoring->staging;
    struct own_vdso own;
    const char *name;
    int error = find_own_vdso(&own);

    if (error || is_same_vdso(restoring, parsed, &own))
        return error;
    if (own.count) {
        uint64_t place = memory_hole(restoring, own.end - own.start);
        if (!place)
            return -ENOMEM;
        staging->vdso_new = (struct last_range){ place, place + (own.end - own.start) };
    }
    staging->vdso_length = parsed->record.vdso_length;
    return redirect(parsed, &own, staging->vdso_new.start, &staging->vdso, &name);
}

int memory_open(struct restoring *restoring, struct reader *reader)
{
    struct staging *staging = calloc(1, sizeof *staging);
    struct parsed parsed;
    int error = staging ? parse_here(restoring, reader, &parsed) : -ENOMEM;

    if (error)
        return error;
    restoring->staging = staging;
    staging->restoring = restoring;
    staging->count = parsed.record.mapping_count;
    staging->items = parsed.mappings;
    staging->files = parsed.files;
    staging->file_count = parsed.record.file_count;
    staging->guards = parsed.guards;
    staging->guard_count = parsed.record.guard_count;
    error = take_keys(&parsed.record);
    error = error ? error : stage_vdso(restoring, &parsed);
    parsed.files = NULL;
    parsed.mappings = NULL;
    parsed.guards = NULL;
    parsed_free(&parsed);
    return error ? error : staging_make(restoring);
}

uint32_t memory_operation_count(const struct restoring *restoring)
{
    return restoring->staging->operation_count;
}

static struct last_operation operation_for(const struct staged *staged, const struct staging *staging)
{
    const struct mapping_record *record = &staged->record;
    struct last_operation operation = {
        .kind = LAST_MAP,
        .protection = staged->scattered ? PROT_READ | PROT_WRITE : record->protection,
        .map_flags = MAP_PRIVATE | MAP_ANONYMOUS,
        .advice_flags = record->flags,
        .from = staged->at,
        .to = record->start,
        .length = record->end - record->start,
        .name = (uint64_t)staged->name,
    };

    if (staging_holds(staged, staging))
        operation.kind = LAST_MOVE;
    if (record->flags & MAPPING_GROWS_DOWN)
        operation.map_flags |= MAP_GROWSDOWN | MAP_STACK;
    if (record->flags & MAPPING_NO_RESERVE || (staged->scattered && !(record->flags & MAPPING_ACCOUNTED)))
        operation.map_flags |= MAP_NORESERVE;
    if (record->flags & MAPPING_DROPPABLE)
        operation.map_flags = MAPPING_MAP_DROPPABLE | MAP_ANONYMOUS;
    return operation;
}

static struct last_operation *add_operation(struct staging *staging, uint32_t kind, uint64_t to, uint64_t length)
{
    struct last_operation *operation = &staging->operations[staging->operation_count++];

    *operation = (struct last_operation){ .kind = kind, .to = to, .length = length };
    return operation;
}

enum { DISCARD_BYTES = 16 << 20 };

/* Pages are copied to a scattered mapping; what was copied is given back from time to time, so that not all exists
 * twice. Returns the index of the first piece behind the mapping. */
static size_t fill_scattered(struct staging *staging, const struct staged *staged, size_t piece)
{
    uint64_t given_back = piece < staging->piece_count ? staging->pieces[piece].at : 0;

    for (; piece < staging->piece_count && staging->pieces[piece].address < staged->record.end; piece++) {
        const struct piece *here = &staging->pieces[piece];
        uint64_t end = here->at + here->pages * PAGE_BYTES;
        add_operation(staging, LAST_FILL, here->address, here->pages * PAGE_BYTES)->from = here->at;
        if (end - given_back < DISCARD_BYTES)
            continue;
        add_operation(staging, LAST_DISCARD, given_back, end - given_back);
        given_back = end;
    }
    add_operation(staging, LAST_PROTECT, staged->record.start, staged->record.end - staged->record.start)->protection =
        staged->record.protection;
    return piece;
}

/* Order: what is mapped, then protection keys, then guard pages, which sealing would forbid, then seals. */
int memory_plan_operations(struct staging *staging)
{
    uint64_t most = 4 * (uint64_t)staging->count + 2 * staging->piece_count + staging->guard_count;
    size_t piece = 0;

    staging->operations = calloc(most + 1, sizeof *staging->operations);
    if (!staging->operations || most > UINT32_MAX)
        return -ENOMEM;
    for (uint32_t i = 0; i < staging->count; i++) {
        const struct staged *staged = &staging->items[i];
        if (staged->record.type == MAPPING_VDSO && !staging_holds(staged, staging))
            continue;
        staging->operations[staging->operation_count++] = operation_for(staged, staging);
        if (staged->scattered)
            piece = fill_scattered(staging, staged, piece);
    }
    for (uint32_t i = 0; i < staging->count; i++) {
        const struct mapping_record *record = &staging->items[i].record;
        struct last_operation *operation;
        if (!record->key)
            continue;
        operation = add_operation(staging, LAST_KEY, record->start, record->end - record->start);
        operation->protection = record->protection;
        operation->map_flags = record->key;
    }
    for (uint64_t i = 0; i < staging->guard_count; i++)
        add_operation(staging, LAST_GUARD, staging->guards[i].start, staging->guards[i].end - staging->guards[i].start);
    for (uint32_t i = 0; i < staging->count; i++)
        if (staging->items[i].record.flags & MAPPING_SEALED && staging->items[i].record.type != MAPPING_VDSO)
            add_operation(staging, LAST_SEAL, staging->items[i].record.start,
                          staging->items[i].record.end - staging->items[i].record.start);
    return 0;
}

/* This kernel's parts go where the image's were; when that is another's, to their room, the distances kept. */
static int plan_vdso(struct last_plan *plan, const struct staging *staging)
{
    struct own_vdso own;
    uint32_t then = 0;
    int error = find_own_vdso(&own);

    for (uint32_t i = 0; !error && i < own.count; i++) {
        plan->vdso_now[i] = own.parts[i];
        if (staging->vdso_new.start)
            plan->vdso_then[i] = (struct last_range){ staging->vdso_new.start + (own.parts[i].start - own.start),
                                                      staging->vdso_new.start + (own.parts[i].end - own.start) };
    }
    for (uint32_t i = 0; !error && !staging->vdso_new.start && i < staging->count && then < own.count; i++)
        if (staging->items[i].record.type == MAPPING_VDSO)
            plan->vdso_then[then++] = (struct last_range){ staging->items[i].record.start, staging->items[i].record.end };
    if (own.count) {
        plan->note.vdso_start = plan->vdso_then[0].start;
        plan->note.vdso_end = plan->vdso_then[own.count - 1].end;
    }
    return error;
}

/* Only now those files are what they were. */
int memory_wire(struct restoring *restoring, struct reader *reader)
{
    (void)reader;
    return staging_map_written(restoring->staging);
}

int memory_last(struct restoring *restoring, struct reader *reader)
{
    struct staging *staging = restoring->staging;
    struct last_plan *plan = restoring->plan;
    struct memory_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    memcpy(plan->operations, staging->operations, staging->operation_count * sizeof *staging->operations);
    plan->operation_count = staging->operation_count;
    plan->staging = staging->area;
    plan->lock_future = record.lock_future;
    plan->thp_disabled = record.thp_disabled;
    plan->no_exec_gain = record.no_exec_gain;
    plan->merges = record.merges;
    plan->barriers = record.barriers;
    return plan_vdso(plan, staging);
}

void memory_show(struct reader *reader, FILE *out)
{
    static const char *const types[] = { "?", "memory", "private file", "shared file", "?", "vdso", "shared memory", "private copy of shared memory", "written file" };
    struct parsed parsed;

    if (!parse(reader, &parsed))
        for (uint32_t i = 0; i < parsed.record.mapping_count; i++) {
            const struct mapping_record *mapping = &parsed.mappings[i].record;
            int is_of_file = mapping->file >= 0 && !is_of_object(mapping);
            fprintf(out, "  %" PRIx64 "-%" PRIx64 " %c%c%c %s%s%s\n", mapping->start, mapping->end,
                    mapping->protection & PROT_READ ? 'r' : '-', mapping->protection & PROT_WRITE ? 'w' : '-',
                    mapping->protection & PROT_EXEC ? 'x' : '-', types[mapping->type], is_of_file ? " " : "",
                    is_of_file ? parsed.files[mapping->file] : "");
        }
    parsed_free(&parsed);
}
