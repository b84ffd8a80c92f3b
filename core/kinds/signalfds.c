/* SPDX-License-Identifier: MIT */
/* signalfd: the set of signals it is for. Those that can be read from it are waiting signals of the process or of a thread. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct signalfd_record {
    struct descriptor_record descriptor;
    uint64_t signals;     /* bit n - 1 is signal n */
};
static_assert(sizeof(struct signalfd_record) == 32, "signalfd record");

static int signalfds_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return text_equal(descriptor->target, "anon_inode:[signalfd]");
}

static int signalfds_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct signalfd_record record = { 0 };
    char *info = descriptor_info(descriptor);
    const char *signals = info ? status_field(info, "sigmask") : NULL;

    descriptor_describe(descriptor, &record.descriptor);
    record.signals = signals ? strtoull(signals, NULL, 16) : 0;
    free(info);
    return signals ? save_record(saving, TAG_SIGNALFD, &record, sizeof record) : -EPROTO;
}

/* Not by libc's function, which leaves out the signals it has for itself. */
static int signalfds_open(struct restoring *restoring, struct reader *reader)
{
    struct signalfd_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    long fd;

    (void)restoring;
    if (placed)
        return placed < 0 ? placed : 0;
    fd = syscall(SYS_signalfd4, -1, &record.signals, sizeof record.signals, record.descriptor.flags & O_NONBLOCK);
    return fd < 0 ? -errno : descriptor_place(&record.descriptor, (int)fd);
}

static void signalfds_show(struct reader *reader, FILE *out)
{
    struct signalfd_record record;
    char what[64];

    if (reader_take(reader, &record, sizeof record))
        return;
    snprintf(what, sizeof what, "signalfd for %#" PRIx64, record.signals);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_signalfds = {
    .name = "signalfd",
    .tag = TAG_SIGNALFD,
    .claim = signalfds_claim,
    .save = signalfds_save,
    .open = signalfds_open,
    .show = signalfds_show,
};
