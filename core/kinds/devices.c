/* SPDX-License-Identifier: MIT */
/* Character devices without a state: null, zero, full, random, urandom. */
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

    descriptor_describe(descriptor, &record);
    return save_record_with_text(saving, TAG_DEVICE, &record, sizeof record, device_path(&descriptor->status));
}

static int devices_open(struct restoring *restoring, struct reader *reader)
{
    struct descriptor_record record;
    char *path = reader_take_text(reader, &record, sizeof record);
    int error = path ? descriptor_open(&record, path) : reader->error;

    (void)restoring;
    free(path);
    return error;
}

static void devices_show(struct reader *reader, FILE *out)
{
    struct descriptor_record record;
    char *path = reader_take_text(reader, &record, sizeof record);

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
