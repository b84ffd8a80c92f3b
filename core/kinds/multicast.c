/* SPDX-License-Identifier: MIT */
/* The kernel does not list the groups of a socket. But it lists those of the host (/proc/net/igmp), and tells of each
 * whether a socket has joined it, with which sources: MCAST_MSFILTER. */
#include "multicast.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_SOURCES = 64 };

struct group_record {
    char device[16]; /* the interface, by name: numbers are others on another host */
    uint32_t length; /* of the struct group_filter that follows */
    uint32_t reserved;
};

union filter {
    struct group_filter filter;
    char room[GROUP_FILTER_SIZE(MOST_SOURCES)];
};

static int level_of(const struct group_filter *filter)
{
    return filter->gf_group.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

/* Adds the group if the socket is a member there. */
static int add_if_member(int handle, uint32_t device, const struct inet_address *group, struct buffer *to,
                         uint32_t *count)
{
    union filter member = { .filter = { .gf_interface = device, .gf_numsrc = MOST_SOURCES } };
    struct group_record record = { 0 };
    socklen_t length = sizeof member;
    struct sockaddr_storage address;

    inet_for_kernel(group, &address);
    memcpy(&member.filter.gf_group, &address, sizeof address);
    if (getsockopt(handle, level_of(&member.filter), MCAST_MSFILTER, &member, &length))
        return 0;
    if (member.filter.gf_numsrc > MOST_SOURCES)
        return -E2BIG;
    if (!if_indextoname(device, record.device))
        return -errno;
    record.length = (uint32_t)GROUP_FILTER_SIZE(member.filter.gf_numsrc);
    buffer_add(to, &record, sizeof record);
    buffer_add(to, &member, record.length);
    ++*count;
    return to->error;
}

/* The interface stands on a line of its own, "2 eth0 : ...", its groups indented below it, in the host's byte order. */
static int save_four(int handle, struct buffer *to, uint32_t *count)
{
    char *text = proc_read(getpid(), "net/igmp", NULL);
    uint32_t device = 0, address;
    int error = 0;

    for (const char *line = text; !error && line; line = strchr(line, '\n')) {
        struct inet_address group = { .family = AF_INET };
        line += *line == '\n';
        if (*line >= '0' && *line <= '9') {
            device = (uint32_t)strtoul(line, NULL, 10);
        } else if (sscanf(line, "\t\t\t\t%8x", &address) == 1) {
            memcpy(group.bytes, &address, sizeof address);
            error = add_if_member(handle, device, &group, to, count);
        }
    }
    free(text);
    return error;
}

static int save_six(int handle, struct buffer *to, uint32_t *count)
{
    char *text = proc_read(getpid(), "net/igmp6", NULL), digits[33];
    unsigned device;
    int error = 0;

    for (const char *line = text; !error && line; line = strchr(line, '\n')) {
        struct inet_address group = { .family = AF_INET6 };
        line += *line == '\n';
        if (sscanf(line, "%u %*s %32s", &device, digits) != 2)
            continue;
        for (int i = 0; i < 16; i++)
            sscanf(digits + 2 * (size_t)i, "%2hhx", &group.bytes[i]);
        error = add_if_member(handle, device, &group, to, count);
    }
    free(text);
    return error;
}

int multicast_save(int handle, struct buffer *to, uint32_t *count)
{
    int error = save_four(handle, to, count);

    return !error && inet_option(handle, SOL_SOCKET, SO_DOMAIN) == AF_INET6 ? save_six(handle, to, count) : error;
}

/* The next group, with the number that its interface has here; 0: there is none. */
static int next(struct reader *reader, union filter *member, struct group_record *record)
{
    const void *bytes;

    reader_take(reader, record, sizeof *record);
    bytes = reader_view(reader, record->length);
    record->device[sizeof record->device - 1] = 0;
    if (reader->error || record->length < GROUP_FILTER_SIZE(0) || record->length > sizeof *member)
        return reader->error ? reader->error : (reader->error = -EBADMSG);
    memcpy(member, bytes, record->length);
    member->filter.gf_interface = if_nametoindex(record->device);
    return 0;
}

int multicast_pass(struct reader *reader, uint32_t count)
{
    struct group_record record;
    union filter member;

    while (count-- && !next(reader, &member, &record))
        continue;
    return reader->error;
}

int multicast_join(struct reader reader, uint32_t count, int fd)
{
    struct group_record record;
    union filter member;
    int error = 0;

    while (count-- && !error && !(error = next(&reader, &member, &record))) {
        struct group_req group = { .gr_interface = member.filter.gf_interface, .gr_group = member.filter.gf_group };
        if (setsockopt(fd, level_of(&member.filter), MCAST_JOIN_GROUP, &group, sizeof group) ||
            setsockopt(fd, level_of(&member.filter), MCAST_MSFILTER, &member, record.length))
            error = -errno;
    }
    return error;
}

void multicast_check(struct restoring *restoring, struct reader reader, uint32_t count, int number)
{
    struct group_record record;
    union filter member;

    while (count-- && !next(&reader, &member, &record))
        if (!member.filter.gf_interface)
            missing(restoring,
                    "R-ADDRESS: descriptor %d was a member of a group on the interface %s, which is not here", number,
                    record.device);
}
