/* SPDX-License-Identifier: MIT */
/* eventfd: the counter, and whether it is a semaphore. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct eventfd_record {
    struct descriptor_record descriptor;
    uint64_t count;
    uint32_t semaphore;   /* EFD_SEMAPHORE: a read takes 1 */
    uint32_t reserved;
};
static_assert(sizeof(struct eventfd_record) == 40, "eventfd record");

static int eventfds_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return text_equal(descriptor->target, "anon_inode:[eventfd]");
}

/* Before Linux 6.5 only a read tells. Whoever could see it stands still, and what was taken out is put back. */
static int probe_semaphore(int fd, uint64_t count, uint32_t *ret_semaphore)
{
    const uint64_t more = 2;
    uint64_t now = count, got = 0;
    struct iovec vector = { .iov_base = &got, .iov_len = sizeof got };

    if (count < more && write(fd, &more, sizeof more) < 0)
        return -errno;
    now += count < more ? more : 0;
    while (now > count || !got) {
        if (preadv2(fd, &vector, 1, -1, RWF_NOWAIT) < 0)
            return -errno;
        now -= got;
    }
    *ret_semaphore = got == 1;
    count -= now;
    return count && write(fd, &count, sizeof count) < 0 ? -errno : 0;
}

/* From fdinfo; a kernel that does not tell it all is asked. */
static int read_record(const struct saving *saving, const struct descriptor *descriptor, struct eventfd_record *record)
{
    char *info = descriptor_info(descriptor);
    const char *count = info ? status_field(info, "eventfd-count") : NULL;
    const char *semaphore = info ? status_field(info, "eventfd-semaphore") : NULL;
    int error = count ? 0 : -EPROTO, handle = 0;

    record->count = count ? strtoull(count, NULL, 16) : 0;
    record->semaphore = semaphore && *semaphore == '1';
    if (!error && (!semaphore || text_list_holds(saving->test_fail, "eventfd-semaphore"))) {
        handle = handle_of(descriptor);
        error = handle < 0 ? handle : probe_semaphore(handle, record->count, &record->semaphore);
    }
    free(info);
    return error;
}

static int eventfds_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct eventfd_record record = { 0 };
    int error = read_record(saving, descriptor, &record);

    descriptor_describe(descriptor, &record.descriptor);
    return error ? error : save_record(saving, TAG_EVENTFD, &record, sizeof record);
}

static int eventfds_open(struct restoring *restoring, struct reader *reader)
{
    struct eventfd_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    int fd;

    (void)restoring;
    if (placed)
        return placed < 0 ? placed : 0;
    fd = eventfd(0, (record.semaphore ? EFD_SEMAPHORE : 0) | (record.descriptor.flags & O_NONBLOCK));
    if (fd < 0 || (record.count && write(fd, &record.count, sizeof record.count) < 0))
        return -errno;
    return descriptor_place(&record.descriptor, fd);
}

static void eventfds_show(struct reader *reader, FILE *out)
{
    struct eventfd_record record;
    char what[64];

    if (reader_take(reader, &record, sizeof record))
        return;
    snprintf(what, sizeof what, "eventfd%s, at %" PRIu64, record.semaphore ? ", semaphore" : "", record.count);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_eventfds = {
    .name = "eventfd",
    .tag = TAG_EVENTFD,
    .claim = eventfds_claim,
    .save = eventfds_save,
    .open = eventfds_open,
    .show = eventfds_show,
};
