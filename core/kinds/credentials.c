/* SPDX-License-Identifier: MIT */
/* User, groups and capabilities. A restart may only be who it is: they are compared, not set, but for capabilities,
 * of which the bubble gives too many. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kind.h"

struct credentials_record {
    uint32_t uid[4], gid[4];   /* real, effective, saved, file system */
    uint64_t capabilities[4];  /* effective, permitted, inheritable, bounding */
    uint32_t group_count;
    uint32_t reserved;
    /* then: group_count supplementary groups, u32 each, sorted */
};

static void read_four(const char *status, const char *key, uint32_t four[4])
{
    char *at = (char *)status_field(status, key);
    for (int i = 0; at && i < 4; i++)
        four[i] = (uint32_t)strtoul(at, &at, 10);
}

static uint64_t read_capabilities(const char *status, const char *key)
{
    const char *text = status_field(status, key);
    return text ? strtoull(text, NULL, 16) : 0;
}

static int credentials_save(struct saving *saving, const struct descriptor *none)
{
    const char *status = saving->status;
    struct credentials_record record = { 0 };
    struct buffer payload = { 0 }, groups = { 0 };
    int error;

    (void)none;
    read_four(status, "Uid", record.uid);
    read_four(status, "Gid", record.gid);
    record.capabilities[0] = read_capabilities(status, "CapEff");
    record.capabilities[1] = read_capabilities(status, "CapPrm");
    record.capabilities[2] = read_capabilities(status, "CapInh");
    record.capabilities[3] = read_capabilities(status, "CapBnd");
    for (char *at = (char *)status_field(status, "Groups"); at && *at >= '0' && *at <= '9'; at += *at == ' ') {
        uint32_t group = (uint32_t)strtoul(at, &at, 10);
        buffer_add(&groups, &group, sizeof group);
        record.group_count++;
    }
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, groups.bytes, groups.length);
    error = groups.error ? groups.error
                         : image_write_record(saving->writer, TAG_CREDENTIALS, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&groups);
    buffer_free(&payload);
    return error;
}

static int same_groups(const uint32_t *then, uint32_t count)
{
    gid_t now[65536];
    int have = getgroups(65536, now);

    for (uint32_t i = 0; i < count; i++) {
        int found = 0;
        for (int j = 0; j < have && !found; j++)
            found = now[j] == then[i];
        if (!found && then[i] != getegid())
            return 0;
    }
    return 1;
}

/* The rest of those that a restart takes away only a bubble gives the right to take. */
static void check_bounds(struct restoring *restoring, const struct credentials_record *record)
{
    uint64_t bounds = 0;

    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        bounds |= (uint64_t)prctl(PR_CAPBSET_READ, capability, 0, 0, 0) << capability;
    if (bounds & ~record->capabilities[3])
        needs_bubble(restoring, "a smaller bounding set of capabilities than this command");
}

static int credentials_check(struct restoring *restoring, struct reader *reader)
{
    struct credentials_record record;
    const uint32_t *groups;
    uid_t real, effective, saved;
    gid_t real_group, effective_group, saved_group;

    reader_take(reader, &record, sizeof record);
    groups = reader_view(reader, record.group_count * sizeof *groups);
    if (!groups)
        return reader->error;
    getresuid(&real, &effective, &saved);
    getresgid(&real_group, &effective_group, &saved_group);
    if (record.uid[0] != real || record.uid[1] != effective || record.uid[2] != saved)
        missing(restoring, "R-CREDENTIALS: the program ran as user %u, this restart as %u; restart it as that user",
                record.uid[1], effective);
    else if (record.gid[0] != real_group || record.gid[1] != effective_group || record.gid[2] != saved_group)
        missing(restoring, "R-CREDENTIALS: the program ran in group %u, this restart in %u; see newgrp(1)", record.gid[1],
                effective_group);
    else if (!same_groups(groups, record.group_count))
        missing(restoring, "R-CREDENTIALS: the program had supplementary groups that this restart has not");
    check_bounds(restoring, &record);
    return 0;
}

static int credentials_last(struct restoring *restoring, struct reader *reader)
{
    struct credentials_record record;

    if (!reader_take(reader, &record, sizeof record))
        memcpy(restoring->plan->capabilities, record.capabilities, sizeof record.capabilities);
    return reader->error;
}

static void credentials_show(struct reader *reader, FILE *out)
{
    struct credentials_record record;

    if (!reader_take(reader, &record, sizeof record))
        fprintf(out, "  user %u, group %u, %u supplementary groups, capabilities %#" PRIx64 "\n", record.uid[1],
                record.gid[1], record.group_count, record.capabilities[0]);
}

const struct kind kind_credentials = {
    .name = "credentials",
    .tag = TAG_CREDENTIALS,
    .late = 1,
    .save = credentials_save,
    .check = credentials_check,
    .last = credentials_last,
    .show = credentials_show,
};
