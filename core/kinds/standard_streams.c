/* SPDX-License-Identifier: MIT */
/* Pipes and sockets on stdin, stdout and stderr, wherever the program has dup'ed them to: they led out of the program, and
 * those of the restart's command take their place. So it is with terminals, see terminals.c. A regular file is no stream but a
 * regular file. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "kind.h"

struct stream_record {
    struct descriptor_record descriptor;
    int32_t stream; /* 0, 1, 2 */
    uint32_t reserved;
};

static int leads_out(const struct stat *status)
{
    return S_ISFIFO(status->st_mode) || S_ISSOCK(status->st_mode) || S_ISCHR(status->st_mode);
}

/* A pipe's two ends have one inode: the access mode tells them apart. */
static int is_like(const struct descriptor *stream, const struct descriptor *descriptor)
{
    return stream && stream->status.st_dev == descriptor->status.st_dev && stream->status.st_ino == descriptor->status.st_ino &&
           (S_ISCHR(stream->status.st_mode) || (stream->flags & O_ACCMODE) == (descriptor->flags & O_ACCMODE));
}

/* Which of a process's three streams a descriptor is like; -1 for none. What can be written to a terminal is taken for output. */
static int like_stream_of(const struct saving *saving, const struct descriptor *descriptor)
{
    static const int output_first[] = { 1, 2, 0 }, input_first[] = { 0, 1, 2 };
    const int *order = (descriptor->flags & O_ACCMODE) == O_RDONLY ? input_first : output_first;

    if (descriptor->number <= 2 && is_like(descriptor_numbered(saving, descriptor->number), descriptor))
        return descriptor->number;
    for (int i = 0; i < 3; i++)
        if (is_like(descriptor_numbered(saving, order[i]), descriptor))
            return order[i];
    return -1;
}

/* Which of the three streams a descriptor is, or leads to like it; -1 for none. The streams of the step are those of its first
 * process. */
int stream_of(const struct saving *saving, const struct descriptor *descriptor)
{
    int stream = like_stream_of(saving->first, descriptor);

    if (stream < 0 && saving != saving->first && S_ISCHR(descriptor->status.st_mode))
        stream = descriptor->number <= 2 ? descriptor->number : like_stream_of(saving, descriptor);
    return stream;
}

static int streams_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    return leads_out(&descriptor->status) && stream_of(saving, descriptor) >= 0 && !pipe_is_inside(saving, descriptor) &&
           !unix_stays_inside(descriptor);
}

static int streams_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct stream_record record = { .stream = stream_of(saving, descriptor) };

    descriptor_describe(descriptor, &record.descriptor);
    record.descriptor.same_as = record.stream; /* on a terminal all three share one description; the command's may not */
    return save_record(saving, TAG_STANDARD_STREAM, &record, sizeof record);
}

static const char *const stream_names[] = { "standard input", "standard output", "standard error" };

int stream_check(struct restoring *restoring, int stream)
{
    if (restoring->policy.strict && restoring->closed_streams & 1 << stream)
        missing(restoring, "R-FILE-MISSING: %s of this command is closed, and --strict forbids /dev/null in its place",
                stream_names[stream]);
    return 0;
}

static int streams_check(struct restoring *restoring, struct reader *reader)
{
    struct stream_record record;

    reader_take(reader, &record, sizeof record);
    if (reader->error || record.stream < 0 || record.stream > 2)
        return -EBADMSG;
    return stream_check(restoring, record.stream);
}

int stream_for(const struct restoring *restoring, int number)
{
    struct reader reader;

    for (size_t at = 0; image_next_of(restoring->image, TAG_STANDARD_STREAM, restoring->index, &at, &reader);) {
        struct stream_record record;
        if (!reader_take(&reader, &record, sizeof record) && record.descriptor.number == number && record.stream >= 0 &&
            record.stream <= 2)
            return restoring->streams[record.stream];
    }
    return -1;
}

/* A closed stream of the command leaves the program /dev/null: writing then fails nowhere it did not fail before. */
int stream_duplicate(const struct restoring *restoring, int stream)
{
    int fd = restoring->streams[stream] >= 0 ? fcntl(restoring->streams[stream], F_DUPFD_CLOEXEC, 0)
                                             : open("/dev/null", O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int streams_open(struct restoring *restoring, struct reader *reader)
{
    struct stream_record record;
    int fd;

    reader_take(reader, &record, sizeof record);
    if (reader->error || record.stream < 0 || record.stream > 2)
        return -EBADMSG;
    if (record.descriptor.same_as != record.descriptor.number)
        return descriptor_share(&record.descriptor);
    fd = stream_duplicate(restoring, record.stream);
    return fd < 0 ? fd : descriptor_place(&record.descriptor, fd);
}

static void streams_show(struct reader *reader, FILE *out)
{
    struct stream_record record;

    if (!reader_take(reader, &record, sizeof record) && record.stream >= 0 && record.stream <= 2)
        descriptor_show(&record.descriptor, stream_names[record.stream], out);
}

const struct kind kind_standard_streams = {
    .name = "standard stream",
    .tag = TAG_STANDARD_STREAM,
    .claim = streams_claim,
    .save = streams_save,
    .check = streams_check,
    .open = streams_open,
    .show = streams_show,
};
