/* SPDX-License-Identifier: MIT */
/* Semaphores of System V: sets that the program has made, with their values and who changed them last; and what
 * SEM_UNDO has added up for each process. The time of the last change (sem_otime) cannot be given back: if there was
 * one, it is that of the restart. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>

#include "system_v.h"

/* By a process that comes back, which changes it again then; or by another: then whoever has the record does. */
enum { USED_OUTSIDE = 1, USED_INSIDE = 2 };

/* Two records have the tag. */
enum semaphore_record_type { RECORD_SET = 1, RECORD_UNDO };

struct set_record {
    uint32_t type;
    uint32_t count;
    struct system_v_record object;
    uint32_t was_used; /* by semop(2): its sem_otime is not 0 */
    uint32_t reserved;
    /* then: count semaphore_records */
};
static_assert(sizeof(struct set_record) == 32, "set of semaphores");

struct semaphore_record {
    int32_t pid; /* GETPID */
    uint32_t value;
};

struct undo_record {
    uint32_t type;
    uint32_t count;
    /* then: count struct agent_undo */
};

union argument {
    int value;
    struct semid_ds *status;
    unsigned short *values;
};

static int add_values(int id, uint32_t count, struct buffer *payload)
{
    unsigned short *values = calloc(count + 1, sizeof *values);
    int error = !values ? -ENOMEM : semctl(id, 0, GETALL, (union argument){ .values = values }) < 0 ? -errno : 0;

    for (uint32_t i = 0; !error && i < count; i++) {
        int pid = semctl(id, (int)i, GETPID);
        buffer_add(payload, &(struct semaphore_record){ pid, values[i] }, sizeof(struct semaphore_record));
        error = pid < 0 ? -errno : 0;
    }
    free(values);
    return error;
}

/* Was that process the last to change one of the semaphores of a set's payload? */
static int is_last(const struct saving *process, const struct set_record *record, const struct buffer *payload)
{
    for (uint32_t i = 0; i < record->count; i++) {
        struct semaphore_record semaphore;
        memcpy(&semaphore, payload->bytes + sizeof *record + i * sizeof semaphore, sizeof semaphore);
        if (semaphore.pid == process->pid)
            return 1;
    }
    return 0;
}

/* Once for the process that the set is found with, and again for each other that is to be the last to change one. */
static int write_set(struct saving *saving, struct set_record *record, struct buffer *payload)
{
    int error = payload->error;

    for (const struct saving *process = saving->first; !error && process && record->was_used; process = process->next)
        if (is_last(process, record, payload))
            record->was_used = USED_INSIDE;
    if (!error)
        memcpy(payload->bytes, record, sizeof *record);
    for (const struct saving *process = saving->first; !error && process; process = process->next)
        if (process == saving || is_last(process, record, payload))
            error = image_write_record(saving->writer, TAG_SEMAPHORES, RECORD_REQUIRED, process->index, payload);
    return error;
}

static int save_set(struct saving *saving, int id)
{
    struct semid_ds status;
    struct set_record record = { .type = RECORD_SET };
    struct buffer payload = { 0 };
    int error;

    if (semctl(id, 0, IPC_STAT, (union argument){ .status = &status }) < 0)
        return errno == EINVAL || errno == EIDRM
                   ? 0 /* gone meanwhile */
                   : refuse(saving, "R-SYSTEM-V", "the semaphores with id %d cannot be read", id);
    error = system_v_check_owner(saving, IPC_SORT_SEMAPHORES, id, &status.sem_perm, "the semaphores");
    record.count = (uint32_t)status.sem_nsems;
    record.object = system_v_describe(id, &status.sem_perm);
    record.was_used = status.sem_otime != 0;
    buffer_add(&payload, &record, sizeof record);
    if (!error)
        error = add_values(id, record.count, &payload);
    if (error == -EACCES)
        error = refuse(saving, "R-SYSTEM-V", "the semaphores with id %d cannot be read", id);
    if (!error)
        error = write_set(saving, &record, &payload);
    buffer_free(&payload);
    return error;
}

static int save_undo(struct saving *saving)
{
    const struct agent_page *page = saving->page;
    struct undo_record record = { .type = RECORD_UNDO };
    struct buffer entries = { 0 }, payload = { 0 };
    struct semid_ds status;
    int error;

    if (page->undo_count > AGENT_MAX_UNDO)
        return refuse(saving, "R-SYSTEM-V", "more than %d semaphores are to be undone at the end (SEM_UNDO)",
                      AGENT_MAX_UNDO);
    for (uint32_t i = 0; i < page->undo_count; i++) {
        if (!page->undo[i].adjustment ||
            semctl(page->undo[i].id, 0, IPC_STAT, (union argument){ .status = &status }) < 0)
            continue; /* the set is gone */
        record.count++;
        buffer_add(&entries, &page->undo[i], sizeof page->undo[i]);
    }
    if (!record.count)
        return 0;
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, entries.bytes, entries.length);
    error = entries.error
                ? entries.error
                : image_write_record(saving->writer, TAG_SEMAPHORES, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&entries);
    buffer_free(&payload);
    return error;
}

static int semaphores_save(struct saving *saving, const struct descriptor *none)
{
    int error = system_v_each(saving, IPC_SORT_SEMAPHORES, save_set);

    (void)none;
    return error ? error : save_undo(saving);
}

static int semaphores_check(struct restoring *restoring, struct reader *reader)
{
    (void)reader;
    system_v_check_numbers(restoring);
    return 0;
}

/* A semaphore that nobody has changed has no process: it is left as it is made. */
static int set_values(int id, const struct set_record *record, struct reader *reader)
{
    for (uint32_t i = 0; i < record->count; i++) {
        struct semaphore_record semaphore;
        if (reader_take(reader, &semaphore, sizeof semaphore))
            return reader->error;
        if ((semaphore.pid || semaphore.value) &&
            semctl(id, (int)i, SETVAL, (union argument){ .value = (int)semaphore.value }) < 0)
            return -errno;
    }
    return 0;
}

static int make_set(const struct set_record *record, struct reader *reader)
{
    int error = system_v_next_id("sem", record->object.id), id;

    if (error)
        return error;
    id = semget(record->object.key, (int)record->count, IPC_CREAT | IPC_EXCL | (int)record->object.mode);
    if (id < 0)
        return -errno;
    return id == record->object.id ? set_values(id, record, reader) : -EEXIST;
}

static int semaphores_make(struct restoring *restoring, struct reader *reader)
{
    struct set_record record;
    struct semid_ds status;

    (void)restoring;
    reader_take(reader, &record.type, sizeof record.type);
    if (!reader->error && record.type == RECORD_SET) {
        reader_take(reader, &record.count, sizeof record - sizeof record.type);
        if (!reader->error && (record.count > reader->length || record.object.mode > 0777))
            return -EBADMSG;
        if (!reader->error && semctl(record.object.id, 0, IPC_STAT, (union argument){ .status = &status }) < 0)
            return make_set(&record, reader);
    }
    return reader->error;
}

/* Two operations that are made at once, and change nothing but who was the last, and, with SEM_UNDO for one of them,
 * what will be undone. */
static int operate(int id, int number, int first, int second, int first_flags, int second_flags)
{
    struct sembuf operations[2] = { { (unsigned short)number, (short)first, (short)(first_flags | IPC_NOWAIT) },
                                    { (unsigned short)number, (short)second, (short)(second_flags | IPC_NOWAIT) } };
    return semop(id, operations, 2) ? -errno : 0;
}

static int touch(int id, int number, uint32_t value)
{
    return value ? operate(id, number, -1, 1, 0, 0) : operate(id, number, 1, -1, 0, 0);
}

/* What was ours is ours again; and a set that was used has been used. */
static int wire_set(const struct restoring *restoring, struct reader *reader)
{
    struct set_record record;
    int error = 0;
    struct semaphore_record semaphore = { 0 };

    reader_take(reader, &record, sizeof record);
    for (uint32_t i = 0; !error && !reader->error && i < record.count; i++) {
        reader_take(reader, &semaphore, sizeof semaphore);
        int is_ours = semaphore.pid == restoring->pid;
        if (!reader->error && is_ours &&
            (record.was_used || semctl(record.object.id, (int)i, GETPID) != restoring->pid))
            error = touch(record.object.id, (int)i, semaphore.value);
    }
    if (!error && !reader->error && record.was_used == USED_OUTSIDE && record.count)
        error = touch(record.object.id, (int)record.count - 1, semaphore.value);
    return error ? error : reader->error;
}

/* The kernel adds up what is done with SEM_UNDO, negated; so the operation is the adjustment negated, and its contrary
 * takes it back. The order is such that the value stays above 0, and below the largest there is. */
static int add_undo(const struct agent_undo *undo)
{
    int operation = -undo->adjustment, value = semctl(undo->id, undo->number, GETVAL);

    if (value < 0)
        return -errno;
    return (operation < 0) == (value >= abs(operation))
               ? operate(undo->id, undo->number, operation, -operation, SEM_UNDO, 0)
               : operate(undo->id, undo->number, -operation, operation, 0, SEM_UNDO);
}

static int wire_undo(struct reader *reader)
{
    struct undo_record record;
    int error = 0;

    reader_take(reader, &record, sizeof record);
    for (uint32_t i = 0; !error && !reader->error && i < record.count; i++) {
        struct agent_undo undo;
        if (reader_take(reader, &undo, sizeof undo))
            return reader->error;
        error = add_undo(&undo);
    }
    return error ? error : reader->error;
}

static int semaphores_wire(struct restoring *restoring, struct reader *reader)
{
    struct reader again = *reader;
    uint32_t type;

    reader_take(&again, &type, sizeof type);
    return type == RECORD_UNDO ? wire_undo(reader) : wire_set(restoring, reader);
}

static void semaphores_show(struct reader *reader, FILE *out)
{
    struct reader again = *reader;
    struct set_record record;
    uint32_t type;

    if (reader_take(&again, &type, sizeof type))
        return;
    if (type == RECORD_UNDO) {
        struct undo_record undo;
        if (!reader_take(reader, &undo, sizeof undo))
            fprintf(out, "  %u to be undone at the end\n", undo.count);
    } else if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  id %d, key %#x, %u semaphores\n", record.object.id, (unsigned)record.object.key, record.count);
}

const struct kind kind_semaphores = {
    .name = "semaphores",
    .tag = TAG_SEMAPHORES,
    .save = semaphores_save,
    .check = semaphores_check,
    .make = semaphores_make,
    .wire = semaphores_wire,
    .show = semaphores_show,
};
