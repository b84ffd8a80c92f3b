/* SPDX-License-Identifier: MIT */
/* Who gets a signal when a descriptor becomes ready, which one, and whether (F_SETOWN, F_SETSIG, O_ASYNC: fcntl(2)). fdinfo does
 * not tell; a handle on the open file description does. The last stage sets them: only then all threads are there. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kind.h"

/* The handles that are fetched at once are of one sort: sort by sort, none is fetched twice. The last is that of anonymous inodes. */
static const mode_t sorts[] = { S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, 0 };

/* Regular files and others that are always ready keep it as well, and tell it to who asks. Of directories it tells that F_NOTIFY was used.
 * The open file description has it: so once for all that share one. */
static int may_have_owner(const struct descriptor *descriptor, mode_t sort)
{
    return descriptor_is_first(descriptor) && !(descriptor->flags & O_PATH) && (descriptor->status.st_mode & S_IFMT) == sort;
}

static int is_thread_of(const struct saving *process, uint32_t tid)
{
    for (uint32_t i = 0; i < process->thread_count; i++)
        if (process->page->threads[i].tid == tid)
            return 1;
    return 0;
}

/* Of the step: others have no number in a restart. */
static int is_inside(const struct saving *saving, const struct last_owner *owner)
{
    for (const struct saving *process = saving->first; process; process = process->next) {
        if (owner->type == F_OWNER_TID ? is_thread_of(process, (uint32_t)owner->pid)
                                       : (uint32_t)owner->pid == process->page->pid &&
                                             (owner->type == F_OWNER_PID || getpgid(process->pid) == owner->pid))
            return 1;
    }
    return 0;
}

static int ask(struct saving *saving, const struct descriptor *descriptor, struct last_owner *ret_owner)
{
    struct f_owner_ex owner = { 0 };
    int handle = handle_of(descriptor);

    *ret_owner = (struct last_owner){ .number = descriptor->number, .asynchronous = !!(descriptor->flags & O_ASYNC) };
    if (handle < 0)
        return handle;
    if (fcntl(handle, F_GETOWN_EX, &owner) || (ret_owner->signal = fcntl(handle, F_GETSIG)) < 0)
        return errno == EBADF || errno == EINVAL ? 0 : -errno;
    ret_owner->type = owner.type;
    ret_owner->pid = owner.pid;
    if (S_ISDIR(descriptor->status.st_mode) && owner.pid)
        return refuse(saving, "R-DIRECTORY-NOTIFY", "descriptor %d is a directory, %s, of which the program is told changes by signals",
                      descriptor->number, descriptor->target);
    if (owner.pid && !is_inside(saving, ret_owner))
        return refuse(saving, "R-DESCRIPTOR-OWNER", "the signals of descriptor %d go to process, thread or group %d, which is not in the image",
                      descriptor->number, owner.pid);
    return 0;
}

static int add_of_sort(struct saving *saving, mode_t sort, struct buffer *payload)
{
    int error = 0;

    for (size_t i = 0; !error && i < saving->descriptor_count; i++) {
        struct last_owner owner;
        if (!may_have_owner(&saving->descriptors[i], sort))
            continue;
        error = ask(saving, &saving->descriptors[i], &owner);
        if (owner.pid || owner.signal || owner.asynchronous)
            buffer_add(payload, &owner, sizeof owner);
    }
    return error;
}

static int owners_save(struct saving *saving, const struct descriptor *none)
{
    struct buffer payload = { 0 };
    int error = 0;

    (void)none;
    for (size_t i = 0; !error && i < sizeof sorts / sizeof *sorts; i++)
        error = add_of_sort(saving, sorts[i], &payload);
    if (!error && payload.length)
        error = image_write_record(saving->writer, TAG_OWNERS, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

uint32_t owners_count(const struct reader *record)
{
    return (uint32_t)(record->length / sizeof(struct last_owner));
}

static int owners_last(struct restoring *restoring, struct reader *reader)
{
    struct last_plan *plan = restoring->plan;

    for (uint32_t i = 0; i < plan->owner_count; i++)
        reader_take(reader, &plan->owners[i], sizeof plan->owners[i]);
    return reader_end(reader);
}

static void owners_show(struct reader *reader, FILE *out)
{
    struct last_owner owner;

    while (reader->at < reader->length && !reader_take(reader, &owner, sizeof owner))
        fprintf(out, "  %d: owner %d, signal %d%s\n", owner.number, owner.pid, owner.signal, owner.asynchronous ? ", asynchronous" : "");
}

const struct kind kind_owners = {
    .name = "descriptor owners",
    .tag = TAG_OWNERS,
    .save = owners_save,
    .last = owners_last,
    .show = owners_show,
};
