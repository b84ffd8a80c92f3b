/* SPDX-License-Identifier: MIT */
/* Character devices without a state: null, zero, full, random, urandom. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "kind.h"

/* Minors of major 1, Documentation/admin-guide/devices.txt */
static const char *device_path(const struct stat *status)
{
    if (!S_ISCHR(status->st_mode) || major(status->st_rdev) != 1)
        return NULL;
    switch (minor(status->st_rdev)) {
    case 3:
        return "/dev/null";
    case 5:
        return "/dev/zero";
    case 7:
        return "/dev/full";
    case 8:
        return "/dev/random";
    case 9:
        return "/dev/urandom";
    default:
        return NULL;
    }
}

static int devices_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return device_path(&descriptor->status) != NULL;
}

static int devices_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct descriptor_record record;
    struct buffer payload = { 0 };
    int error;

    descriptor_describe(descriptor, &record);
    buffer_add(&payload, &record, sizeof record);
    buffer_add_text(&payload, device_path(&descriptor->status));
    error = image_write_record(saving->writer, TAG_DEVICE, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

static int devices_open(struct restoring *restoring, struct reader *reader)
{
    struct descriptor_record record;
    char *path;
    int fd;

    (void)restoring;
    reader_take(reader, &record, sizeof record);
    path = reader_text(reader);
    if (!path)
        return reader->error;
    if (record.same_as != record.number) {
        free(path);
        return descriptor_share(&record);
    }
    fd = open(path, (record.flags & ~O_CLOEXEC) | O_NOCTTY);
    free(path);
    return fd < 0 ? -errno : descriptor_place(&record, fd);
}

static void devices_show(struct reader *reader, FILE *out)
{
    struct descriptor_record record;
    char *path;

    reader_take(reader, &record, sizeof record);
    path = reader_text(reader);
    if (path)
        descriptor_show(&record, path, out);
    free(path);
}

const struct kind kind_devices = {
    .name = "device",
    .tag = TAG_DEVICE,
    .claim = devices_claim,
    .save = devices_save,
    .open = devices_open,
    .show = devices_show,
};
