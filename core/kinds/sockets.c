/* SPDX-License-Identifier: MIT */
/* What the kinds of sockets share. */
#include "sockets.h"

#include <asm/socket.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/socket.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76 /* 6.5 */
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* 6.16 */
#endif

enum { OPTION_BYTES = 64 };

struct option_record {
    int32_t level, name;
    uint32_t length; /* of the bytes that follow; 0, with level 0: the end of a table */
};

#define OPTION(name)                                                                                                   \
    {                                                                                                                  \
        SOL_SOCKET, name, #name                                                                                        \
    }

const struct socket_option socket_options[] = {
    OPTION(SO_DEBUG),
    OPTION(SO_REUSEADDR),
    OPTION(SO_REUSEPORT),
    OPTION(SO_DONTROUTE),
    OPTION(SO_BROADCAST),
    OPTION(SO_KEEPALIVE),
    OPTION(SO_OOBINLINE),
    OPTION(SO_NO_CHECK),
    OPTION(SO_PRIORITY),
    OPTION(SO_LINGER),
    OPTION(SO_PASSCRED),
    OPTION(SO_PASSSEC),
    OPTION(SO_PASSPIDFD),
    OPTION(SO_PASSRIGHTS),
    OPTION(SO_MARK),
    OPTION(SO_TIMESTAMP),
    OPTION(SO_TIMESTAMPNS),
    OPTION(SO_TIMESTAMPING),
    OPTION(SO_RXQ_OVFL),
    OPTION(SO_WIFI_STATUS),
    OPTION(SO_NOFCS),
    OPTION(SO_SELECT_ERR_QUEUE),
    OPTION(SO_BUSY_POLL),
    OPTION(SO_PREFER_BUSY_POLL),
    OPTION(SO_BUSY_POLL_BUDGET),
    OPTION(SO_ZEROCOPY),
    OPTION(SO_TXTIME),
    OPTION(SO_MAX_PACING_RATE),
    OPTION(SO_INCOMING_CPU),
    OPTION(SO_BINDTODEVICE),
    { 0 },
};

/* Each of these could stop the bytes in flight, or our own system calls. */
const struct socket_option socket_late_options[] = {
    OPTION(SO_RCVBUF),   OPTION(SO_SNDBUF),   OPTION(SO_BUF_LOCK), /* behind the two, which set it */
    OPTION(SO_RCVLOWAT), OPTION(SO_RCVTIMEO), OPTION(SO_SNDTIMEO), OPTION(SO_PEEK_OFF), { 0 },
};

int is_socket(const struct descriptor *descriptor)
{
    return S_ISSOCK(descriptor->status.st_mode);
}

/* By inode, and of one socket in the order of the step. */
static int by_inode(const void *a, const void *b)
{
    const struct descriptor *one = *(const struct descriptor *const *)a, *other = *(const struct descriptor *const *)b;

    if (one->status.st_ino != other->status.st_ino)
        return one->status.st_ino < other->status.st_ino ? -1 : 1;
    if (one->holder->index != other->holder->index)
        return one->holder->index < other->holder->index ? -1 : 1;
    return one->number - other->number;
}

static void list_sockets(struct saving *first)
{
    size_t room = 1;

    for (const struct saving *process = first; process; process = process->next)
        room += process->descriptor_count;
    first->sockets = calloc(room, sizeof *first->sockets);
    for (const struct saving *process = first; first->sockets && process; process = process->next)
        for (size_t i = 0; i < process->descriptor_count; i++)
            if (is_socket(&process->descriptors[i]))
                first->sockets[first->socket_count++] = &process->descriptors[i];
    if (first->sockets)
        qsort(first->sockets, first->socket_count, sizeof *first->sockets, by_inode);
}

const struct descriptor *socket_first(const struct saving *saving, uint64_t inode)
{
    struct saving *first = saving->first;
    size_t low = 0, high;

    if (!first->sockets)
        list_sockets(first);
    for (high = first->socket_count; low < high;) {
        size_t middle = (low + high) / 2;
        if (first->sockets[middle]->status.st_ino < inode)
            low = middle + 1;
        else
            high = middle;
    }
    return low < first->socket_count && first->sockets[low]->status.st_ino == inode ? first->sockets[low] : NULL;
}

int is_first_of_socket(const struct saving *saving, const struct descriptor *descriptor)
{
    return socket_first(saving, descriptor->status.st_ino) == descriptor;
}

void sockets_forget(struct saving *saving)
{
    free(saving->sockets);
    saving->sockets = NULL;
    saving->socket_count = 0;
}

static int family_of(int fd)
{
    int family = -1;
    socklen_t length = sizeof family;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) ? -errno : family;
}

int socket_family(const struct descriptor *descriptor)
{
    int handle = is_socket(descriptor) ? handle_of(descriptor) : -ENOTSOCK;
    return handle < 0 ? handle : family_of(handle);
}

const char *socket_words(const struct descriptor *descriptor)
{
    static const struct {
        int family;
        const char *words;
    } known[] = {
        { AF_UNIX, "a unix socket" },
        { AF_INET, "an internet socket (IPv4)" },
        { AF_INET6, "an internet socket (IPv6)" },
        { AF_NETLINK, "a netlink socket" },
        { AF_PACKET, "a packet socket" },
        { AF_VSOCK, "a socket to a hypervisor (vsock)" },
        { AF_ALG, "a socket for the kernel's ciphers (AF_ALG)" },
        { AF_BLUETOOTH, "a bluetooth socket" },
        { AF_CAN, "a CAN socket" },
        { AF_XDP, "an XDP socket" },
        { AF_TIPC, "a TIPC socket" },
    };
    int family = socket_family(descriptor);

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].family == family)
            return known[i].words;
    return "a socket of an unknown family";
}

/* Buffers whose size the program has not chosen are the kernel's to size; those of unix sockets it leaves as they are.
 */
static int is_left_to_the_kernel(int fd, const struct socket_option *option)
{
    int locked = 0;
    socklen_t length = sizeof locked;

    if (option->level != SOL_SOCKET || (option->name != SO_RCVBUF && option->name != SO_SNDBUF) ||
        family_of(fd) == AF_UNIX)
        return 0;
    getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &locked, &length);
    return !(locked & (option->name == SO_RCVBUF ? SOCK_RCVBUF_LOCK : SOCK_SNDBUF_LOCK));
}

/* A packet filter: SO_GET_FILTER gives the number of its instructions, and an error for one of eBPF (socket(7)). */
static int has_filter(int handle)
{
    socklen_t count = 0;
    return getsockopt(handle, SOL_SOCKET, SO_GET_FILTER, NULL, &count) ? errno == EACCES : count > 0;
}

int socket_options_save(struct saving *saving, const struct descriptor *descriptor, int handle,
                        const struct socket_option *table, struct buffer *to)
{
    struct option_record end = { 0 };

    if (table == socket_options && has_filter(handle))
        return refuse(saving, "R-SOCKET-OPTION", "descriptor %d is a socket with a packet filter", descriptor->number);
    for (; table->word; table++) {
        uint8_t value[OPTION_BYTES];
        socklen_t length = sizeof value;
        if (is_left_to_the_kernel(handle, table) || getsockopt(handle, table->level, table->name, value, &length))
            continue; /* this family, or this kernel, has no such option */
        struct option_record record = { .level = table->level, .name = table->name, .length = length };
        buffer_add(to, &record, sizeof record);
        buffer_add(to, value, length);
    }
    buffer_add(to, &end, sizeof end);
    return to->error;
}

static int has_value(int fd, const struct option_record *record, const void *value)
{
    uint8_t now[OPTION_BYTES];
    socklen_t length = sizeof now;

    return !getsockopt(fd, record->level, record->name, now, &length) && length == record->length &&
           !memcmp(now, value, length);
}

/* The kernel doubles the size of a buffer that it is told, and takes what is too large for the largest (socket(7)). */
static int set_buffer(int fd, const struct option_record *record, const void *value)
{
    int half;

    if (record->length != sizeof half)
        return -EBADMSG;
    memcpy(&half, value, sizeof half);
    half /= 2;
    if (setsockopt(fd, record->level, record->name, &half, sizeof half))
        return -errno;
    return has_value(fd, record, value) ? 0 : -EDOM;
}

static int set_option(int fd, const struct option_record *record, const void *value)
{
    if (has_value(fd, record, value))
        return 0;
    if (record->level == SOL_SOCKET && (record->name == SO_RCVBUF || record->name == SO_SNDBUF))
        return set_buffer(fd, record, value);
    return setsockopt(fd, record->level, record->name, value, record->length) ? -errno : 0;
}

static const char *word_of(const struct socket_option *table, const struct option_record *record)
{
    while (table->word && (table->level != record->level || table->name != record->name))
        table++;
    return table->word;
}

/* The next recorded option of a table: 1, 0 at the end, -errno. One that is not in the table is none of ours. */
static int next_option(const struct socket_option *table, struct reader *reader, struct option_record *ret_record,
                       const void **ret_value, const char **ret_word)
{
    if (reader_take(reader, ret_record, sizeof *ret_record))
        return reader->error;
    if (!ret_record->level && !ret_record->length)
        return 0;
    *ret_value = reader_view(reader, ret_record->length);
    *ret_word = word_of(table, ret_record);
    if (reader->error || ret_record->length > OPTION_BYTES || !*ret_word)
        return reader->error ? reader->error : -EBADMSG;
    return 1;
}

int socket_options_set(const struct socket_option *table, struct reader *reader, int fd, const char **ret_word)
{
    struct option_record record;
    const void *value;
    int more;

    while ((more = next_option(table, reader, &record, &value, ret_word)) > 0) {
        int error = set_option(fd, &record, value);
        if (error)
            return error;
    }
    return more;
}

int socket_options_pass(const struct socket_option *table, struct reader *reader)
{
    struct option_record record;
    const void *value;
    const char *word;
    int more;

    while ((more = next_option(table, reader, &record, &value, &word)) > 0)
        continue;
    return more;
}

int socket_options_check(struct restoring *restoring, const struct socket_option *table, struct reader *reader,
                         int family, int type, int protocol, int number)
{
    int fd = socket(family, type | SOCK_CLOEXEC, protocol), more;
    struct option_record record;
    const void *value;
    const char *word;

    if (fd < 0)
        return missing(restoring, "R-SOCKET: descriptor %d was a socket that cannot be made here: %s", number,
                       strerror(errno));
    while ((more = next_option(table, reader, &record, &value, &word)) > 0) {
        int error = set_option(fd, &record, value);
        if (error)
            missing(restoring, "R-SOCKET-OPTION: %s of descriptor %d, a socket, cannot be what it was: %s", word,
                    number, strerror(-error));
    }
    close(fd);
    return more;
}

int socket_place(const struct descriptor_record *record, int fd)
{
    int flags = fcntl(fd, F_GETFL), wanted = O_NONBLOCK | O_ASYNC;

    if (flags < 0 ||
        ((flags ^ record->flags) & wanted && fcntl(fd, F_SETFL, (flags & ~wanted) | (record->flags & wanted))))
        return -errno;
    if (fd == record->number)
        return fcntl(fd, F_SETFD, record->flags & O_CLOEXEC ? FD_CLOEXEC : 0) ? -errno : 0;
    return dup3(fd, record->number, record->flags & O_CLOEXEC) < 0 ? -errno : 0;
}
