/* SPDX-License-Identifier: MIT */
/* Small attributes of the process: umask, dumpable, no-new-privs, OOM score, what a core would hold; and the states that are
 * refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct attributes_record {
    uint32_t umask;
    uint32_t dumpable;
    uint32_t no_new_privileges;
    uint32_t keep_capabilities;
    uint32_t subreaper;
    uint32_t parent_death; /* signal, as the stop's first thread has it; thread_traits.c has that of each */
};
static_assert(sizeof(struct attributes_record) == 24, "attributes record");

/* Came later: not in every image. */
struct more_attributes_record {
    int32_t oom_score;       /* /proc/PID/oom_score_adj */
    uint32_t core_filter;    /* /proc/PID/coredump_filter */
};

static long number_of(const char *status, const char *key, int base)
{
    const char *text = status_field(status, key);
    return text ? strtol(text, NULL, base) : 0;
}

static long number_in(int pid, const char *name, int base)
{
    char *text = proc_read(pid, name, NULL);
    long number = text ? strtol(text, NULL, base) : 0;

    free(text);
    return number;
}

/* The image has one set of ids; and nobody may read back what a keyring holds. */
static int check_threads(struct saving *saving)
{
    const struct agent_traits *traits = saving->page->traits;

    for (uint32_t i = 0; i < saving->thread_count; i++) {
        if (memcmp(traits[i].ids, traits[0].ids, sizeof traits[i].ids))
            return refuse(saving, "R-CREDENTIALS", "threads %u and %u run as different users or groups", saving->page->threads[0].tid,
                          saving->page->threads[i].tid);
        if (traits[i].keyrings)
            return refuse(saving, "R-KEYRING", "thread %u has a keyring of its own, or one of the process", saving->page->threads[i].tid);
        if (traits[i].has_core_cookie || text_list_holds(saving->test_fail, "core-cookie"))
            return refuse(saving, "R-CORE-SCHEDULING", "thread %u has said who may run beside it on a core", saving->page->threads[i].tid);
    }
    return 0;
}

static int attributes_save(struct saving *saving, const struct descriptor *none)
{
    const char *status = saving->status;
    struct attributes_record record = { .dumpable = saving->page->dumpable,
                                        .no_new_privileges = saving->page->no_new_privileges,
                                        .keep_capabilities = saving->page->keep_capabilities,
                                        .subreaper = saving->page->subreaper,
                                        .parent_death = saving->page->parent_death };
    struct more_attributes_record more = { .oom_score = (int32_t)number_in(saving->pid, "oom_score_adj", 10),
                                           .core_filter = (uint32_t)number_in(saving->pid, "coredump_filter", 16) };
    struct buffer payload = { 0 };
    int error = 0;

    (void)none;
    record.umask = (uint32_t)number_of(status, "Umask", 8);
    if (number_of(status, "Seccomp", 10))
        error = refuse(saving, "R-SECCOMP", "the program runs under a seccomp filter");
    else if (number_of(status, "TracerPid", 10))
        error = refuse(saving, "R-TRACED", "the program is being traced by process %ld",
                       number_of(status, "TracerPid", 10));
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, &more, sizeof more);
    if (!error)
        error = image_write_record(saving->writer, TAG_ATTRIBUTES, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

static int write_number(const char *path, const char *format, int number)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), failed = fd < 0 || dprintf(fd, format, number) < 0;

    if (fd >= 0)
        close(fd);
    return failed ? -errno : 0;
}

/* Anybody may volunteer to be killed first; to be spared takes rights. */
static int attributes_check(struct restoring *restoring, struct reader *reader)
{
    struct more_attributes_record more;
    long own = number_in(getpid(), "oom_score_adj", 10);

    reader_view(reader, sizeof(struct attributes_record));
    if (reader->at == reader->length || reader_take(reader, &more, sizeof more))
        return reader->error;
    if (more.oom_score < own && write_number("/proc/self/oom_score_adj", "%d", more.oom_score))
        adapted(restoring, "R-CREDENTIALS", "the program's OOM score was %d, which this restart may not set; it is %ld", more.oom_score, own);
    write_number("/proc/self/oom_score_adj", "%d", (int)own);
    return 0;
}

static int attributes_last(struct restoring *restoring, struct reader *reader)
{
    struct attributes_record record;
    struct more_attributes_record more;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    umask((mode_t)record.umask);
    restoring->plan->dumpable = record.dumpable;
    restoring->plan->no_new_privileges = record.no_new_privileges;
    restoring->plan->keep_capabilities = record.keep_capabilities;
    restoring->plan->subreaper = record.subreaper;
    restoring->plan->parent_death = record.parent_death;
    if (reader->at < reader->length && !reader_take(reader, &more, sizeof more)) {
        write_number("/proc/self/oom_score_adj", "%d", more.oom_score);
        write_number("/proc/self/coredump_filter", "%#x", (int)more.core_filter);
    }
    return reader->error;
}

static void attributes_show(struct reader *reader, FILE *out)
{
    struct attributes_record record;

    if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  umask %03o%s%s\n", record.umask, record.dumpable ? "" : ", not dumpable",
                record.no_new_privileges ? ", no new privileges" : "");
}

const struct kind kind_attributes = {
    .name = "attributes",
    .tag = TAG_ATTRIBUTES,
    .hold = check_threads, /* before the saver meets one of them, who may not be its user */
    .soon = 1,
    .save = attributes_save,
    .check = attributes_check,
    .last = attributes_last,
    .show = attributes_show,
};
