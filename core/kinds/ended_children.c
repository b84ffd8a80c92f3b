/* SPDX-License-Identifier: MIT */
/* Children that have ended and that their parent has not waited for yet (zombies): the restorer makes them again, and they end as
 * they had ended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "kind.h"

static_assert(sizeof(struct ended_child) == 40, "ended child record");

struct gathering {
    struct saving *saving;
    struct buffer payload;
    int error;
};

/* The kernel shows a status of 0 to those who may not see it; this needs the same right (proc(5)). */
static int may_see_status(int pid)
{
    char *user = proc_link(pid, "ns/user");
    int may = user != NULL;

    free(user);
    return may;
}

/* It lives, as it has been stopped. */
static int is_of_step(const struct saving *saving, int pid)
{
    const struct saving *process = saving->first;

    while (process && process->pid != pid)
        process = process->next;
    return process != NULL;
}

static void add_child(void *context, int pid)
{
    struct gathering *gathering = context;
    uint64_t fields[STAT_FIELDS];

    if (gathering->error || is_of_step(gathering->saving, pid) || proc_stat(pid, fields) || fields[STAT_STATE] != 'Z' || fields[STAT_EXIT_SIGNAL] == STOP_SIGNAL)
        return;
    struct ended_child child = { .pid = pid, .group = (int32_t)fields[STAT_GROUP], .session = (int32_t)fields[STAT_SESSION],
                                 .exit_signal = (int32_t)fields[STAT_EXIT_SIGNAL], .status = (int32_t)fields[STAT_STATUS] };
    char *name = proc_read(pid, "comm", NULL);
    snprintf(child.name, sizeof child.name, "%.*s", name ? (int)strcspn(name, "\n") : 0, name ? name : "");
    free(name);
    if (WCOREDUMP(child.status) || !may_see_status(pid))
        gathering->error = refuse(gathering->saving, "R-ENDED-CHILD", "child %d has ended, nobody has waited for it, and %s", pid,
                                  WCOREDUMP(child.status) ? "it has dumped its core" : "how it has ended may not be seen");
    buffer_add(&gathering->payload, &child, sizeof child);
}

static int ended_save(struct saving *saving, const struct descriptor *none)
{
    struct gathering gathering = { .saving = saving };
    int error;

    (void)none;
    if (!saving->page->is_alone)
        proc_children(saving->pid, add_child, &gathering);
    error = gathering.error;
    if (!error && gathering.payload.length)
        error = image_write_record(saving->writer, TAG_ENDED_CHILDREN, RECORD_REQUIRED, saving->index, &gathering.payload);
    buffer_free(&gathering.payload);
    return error;
}

static int ended_check(struct restoring *restoring, struct reader *reader)
{
    size_t count = reader->length / sizeof *restoring->ended;

    restoring->ended = calloc(count + 1, sizeof *restoring->ended);
    if (!restoring->ended)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        struct ended_child *child = &restoring->ended[i];
        if (reader_take(reader, child, sizeof *child) || child->pid < 2 || !(WIFEXITED(child->status) || WIFSIGNALED(child->status)))
            return -EBADMSG;
    }
    restoring->ended_count = count;
    return 0;
}

static void ended_show(struct reader *reader, FILE *out)
{
    struct ended_child child;

    while (reader->at < reader->length && !reader_take(reader, &child, sizeof child))
        fprintf(out, WIFEXITED(child.status) ? "  %d %.16s, status %d\n" : "  %d %.16s, signal %d\n", child.pid, child.name,
                WIFEXITED(child.status) ? WEXITSTATUS(child.status) : WTERMSIG(child.status));
}

const struct kind kind_ended_children = {
    .name = "ended children",
    .tag = TAG_ENDED_CHILDREN,
    .soon = 1,
    .save = ended_save,
    .check = ended_check,
    .show = ended_show,
};
