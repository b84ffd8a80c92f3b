/* SPDX-License-Identifier: MIT */
/* UDP, in the host's network: bound, connected, members of groups. Datagrams that were not read are sent again, as far
 * as their sender's address is the program's or free here; others are lost, as UDP may lose any, and counted. */
#include <errno.h>
#include <linux/udp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inet.h"
#include "multicast.h"

struct udp_record {
    struct descriptor_record descriptor;
    uint64_t socket; /* the inode: which descriptors are of one socket */
    struct inet_address local, remote;
    uint32_t whole; /* 0: another record has it all */
    uint32_t family;
    uint32_t shut;      /* 1: for reading; 3: for both */
    uint32_t datagrams; /* that follow */
    uint32_t groups;    /* the same; then the options */
    uint32_t reserved;
};
static_assert(sizeof(struct udp_record) == 104, "UDP record");

struct datagram_record {
    struct inet_address sender;
    uint64_t socket; /* the sender, when the step holds it; else 0 */
    uint32_t length; /* bytes that follow */
    uint32_t reserved;
};
static_assert(sizeof(struct datagram_record) == 40, "datagram");

enum { LARGEST = 1 << 16 };

/* clang-format off */
#define OPTION(level, name) { level, name, #name }
static const struct socket_option udp_options[] = {
    OPTION(IPPROTO_UDP, UDP_ENCAP), OPTION(IPPROTO_UDP, UDP_NO_CHECK6_TX), OPTION(IPPROTO_UDP, UDP_NO_CHECK6_RX),
    OPTION(IPPROTO_UDP, UDP_SEGMENT), OPTION(IPPROTO_UDP, UDP_GRO),
    OPTION(IPPROTO_IP, IP_MULTICAST_TTL), OPTION(IPPROTO_IP, IP_MULTICAST_LOOP), OPTION(IPPROTO_IP, IP_MULTICAST_ALL),
    OPTION(IPPROTO_IP, IP_MULTICAST_IF), OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS), OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_ALL), OPTION(IPPROTO_IPV6, IPV6_MULTICAST_IF),
    { 0 },
};
/* To bind an address of IPv6 sets it for good. */
static const struct socket_option udp_early_options[] = { OPTION(IPPROTO_IPV6, IPV6_V6ONLY), { 0 } };
static const struct socket_option udp_late_options[] = { OPTION(IPPROTO_UDP, UDP_CORK), { 0 } };
/* clang-format on */

static const struct socket_option *const tables[] = { inet_options, udp_early_options, udp_options, socket_options,
                                                      NULL };
static const struct socket_option *const late_tables[] = { socket_late_options, udp_late_options, NULL };

/* ---- saving ---- */

static int udp_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return inet_is_of(descriptor, SOCK_DGRAM, IPPROTO_UDP);
}

/* Who has this address, or its port at any address. */
static uint64_t socket_at(struct inet_end *end, const struct inet_address *address)
{
    uint64_t found = 0;

    for (; end; end = end->next) {
        if (end->protocol == IPPROTO_UDP && inet_is_same(&end->local, address))
            return end->socket;
        if (end->protocol == IPPROTO_UDP && end->local.port == address->port && inet_is_any(&end->local))
            found = end->socket;
    }
    return found;
}

/* The next datagram; SO_PEEK_OFF, in bytes, leads from one to the other (socket(7)). 1, 0 at the end, -errno. */
static int peek_next(int handle, struct inet_end *ends, struct buffer *to)
{
    static char bytes[LARGEST];
    struct datagram_record record = { 0 };
    struct sockaddr_storage sender = { 0 };
    struct iovec vector = { bytes, sizeof bytes };
    struct msghdr message = { .msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &vector, .msg_iovlen = 1 };
    ssize_t length = recvmsg(handle, &message, MSG_PEEK | MSG_DONTWAIT);

    if (length < 0)
        return errno == EAGAIN ? 0 : -errno;
    inet_from_kernel(&sender, &record.sender);
    record.socket = socket_at(ends, &record.sender);
    record.length = (uint32_t)length;
    buffer_add(to, &record, sizeof record);
    buffer_add(to, bytes, record.length);
    return to->error ? to->error : 1;
}

static int peek_all(struct saving *saving, const struct descriptor *descriptor, int handle, struct udp_record *record,
                    struct buffer *to)
{
    int offset = inet_option(handle, SOL_SOCKET, SO_PEEK_OFF), zero = 0, more;
    short events = socket_events(handle);

    if (!(events & POLLIN) || record->shut)
        return 0;
    if (events & POLLERR)
        return refuse(saving, "R-SOCKET-QUEUE", "descriptor %d has datagrams behind an error that nobody has asked for",
                      descriptor->number);
    if (setsockopt(handle, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof zero))
        return -errno;
    while ((more = peek_next(handle, saving->first->inet_ends, to)) > 0)
        record->datagrams++;
    setsockopt(handle, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
    return more;
}

static int save_all(struct saving *saving, const struct descriptor *descriptor, struct udp_record *record,
                    struct buffer *payload)
{
    struct buffer datagrams = { 0 }, groups = { 0 };
    struct inet_end *ends;
    int error = inet_ends(saving, &ends), handle = error ? error : handle_of(descriptor);
    short events;

    if (handle < 0)
        return handle;
    events = socket_events(handle);
    record->whole = 1;
    record->shut = events & POLLHUP ? 3 : !!(events & POLLRDHUP);
    record->family = (uint32_t)inet_option(handle, SOL_SOCKET, SO_DOMAIN);
    inet_local(handle, &record->local);
    inet_remote(handle, &record->remote);
    error = peek_all(saving, descriptor, handle, record, &datagrams);
    if (!error)
        error = multicast_save(handle, &groups, &record->groups);
    buffer_add(payload, record, sizeof *record);
    buffer_add(payload, datagrams.bytes, datagrams.length);
    buffer_add(payload, groups.bytes, groups.length);
    buffer_free(&datagrams);
    buffer_free(&groups);
    for (int i = 0; !error && tables[i]; i++)
        error = socket_options_save(saving, descriptor, handle, tables[i], payload);
    for (int i = 0; !error && late_tables[i]; i++)
        error = socket_options_save(saving, descriptor, handle, late_tables[i], payload);
    return error;
}

static int udp_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct udp_record record = { .socket = descriptor->status.st_ino };
    struct buffer payload = { 0 };
    int error = 0;

    descriptor_describe(descriptor, &record.descriptor);
    if (is_first_of_socket(saving, descriptor))
        error = save_all(saving, descriptor, &record, &payload);
    else
        buffer_add(&payload, &record, sizeof record);
    if (!error)
        error = image_write_record(saving->writer, TAG_UDP, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* ---- restoring ---- */

/* A socket of the image; the readers stand before what they are named for. */
struct udp_socket {
    struct udp_socket *next;
    struct restoring *restoring;
    struct udp_record record;
    struct reader datagrams, groups, options;
    int fd; /* above the image's numbers */
};

static struct udp_socket *find(const struct restoring *restoring, uint64_t socket)
{
    struct udp_socket *found = restoring->udp;

    while (found && found->record.socket != socket)
        found = found->next;
    return found;
}

static const void *next_datagram(struct reader *reader, struct datagram_record *datagram)
{
    reader_take(reader, datagram, sizeof *datagram);
    return reader_view(reader, datagram->length);
}

static int parse(struct restoring *restoring, struct reader *reader, struct udp_socket *socket)
{
    struct datagram_record datagram;

    memset(socket, 0, sizeof *socket);
    socket->restoring = restoring;
    socket->fd = -1;
    reader_take(reader, &socket->record, sizeof socket->record);
    socket->datagrams = *reader;
    for (uint32_t i = 0; i < socket->record.datagrams && !reader->error; i++)
        next_datagram(reader, &datagram);
    socket->groups = *reader;
    multicast_pass(reader, socket->record.groups);
    socket->options = *reader;
    return reader->error;
}

static int set_options(const struct udp_socket *socket, int fd, int late)
{
    struct reader options = socket->options;
    const char *word = "its options";
    int error = 0;

    for (int i = 0; !error && tables[i]; i++)
        error = late && tables[i] == udp_early_options ? socket_options_pass(tables[i], &options)
                                                       : socket_options_set(tables[i], &options, fd, &word);
    for (int i = 0; !error && late && late_tables[i]; i++)
        error = socket_options_set(late_tables[i], &options, fd, &word);
    if (error)
        inet_say_option(socket->restoring, socket->record.descriptor.number, word, error);
    return error;
}

static int is_bound(const struct udp_record *record)
{
    return record->local.port || !inet_is_any(&record->local);
}

static int make_socket(const struct udp_socket *model)
{
    int fd = socket((int)model->record.family, SOCK_DGRAM | SOCK_CLOEXEC, 0),
        error = fd < 0 ? -errno : set_options(model, fd, 0);

    if (error && fd >= 0)
        close(fd);
    return error ? error : fd;
}

static int udp_make(struct restoring *restoring, struct reader *reader)
{
    struct udp_socket *socket = calloc(1, sizeof *socket);
    int error = socket ? parse(restoring, reader, socket) : -ENOMEM;

    if (error || !socket->record.whole) {
        free(socket);
        return error;
    }
    socket->next = restoring->udp;
    restoring->udp = socket;
    socket->fd = descriptor_lift(restoring, make_socket(socket));
    if (socket->fd < 0)
        return socket->fd;
    if (is_bound(&socket->record) && (error = inet_bind(socket->fd, &socket->record.local)))
        inet_say_address(restoring, socket->record.descriptor.number, &socket->record.local, error);
    if (!error && socket->record.remote.family)
        error = inet_connect(socket->fd, &socket->record.remote);
    return error ? error : multicast_join(socket->groups, socket->record.groups, socket->fd);
}

/* Where a receiver at all addresses is reached from this sender, who is on this host. */
static struct inet_address reached_at(const struct inet_address *local, const struct inet_address *sender)
{
    struct inet_address address = *local;

    if (inet_is_any(local)) {
        address = *sender;
        address.port = local->port;
    }
    return address;
}

static int send_from(int fd, const struct inet_address *to, const void *bytes, uint32_t length)
{
    struct sockaddr_storage address;
    struct inet_address connected;
    socklen_t size = inet_for_kernel(to, &address);

    inet_remote(fd, &connected);
    if (connected.family && !inet_is_same(&connected, to))
        return -EISCONN;
    return sendto(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL, connected.family ? NULL : (struct sockaddr *)&address,
                  connected.family ? 0 : size) < 0
               ? -errno
               : 0;
}

/* A socket of ours at the sender's address, when that is free here: the sender has been closed. */
static int send_instead(const struct inet_address *sender, const struct inet_address *to, const void *bytes,
                        uint32_t length)
{
    int fd = socket(sender->family, SOCK_DGRAM | SOCK_CLOEXEC, 0), error = fd < 0 ? -errno : inet_bind(fd, sender);

    if (!error)
        error = send_from(fd, to, bytes, length);
    if (fd >= 0)
        close(fd);
    return error;
}

/* What cannot be sent is lost. */
static int deliver(const struct udp_socket *receiver)
{
    struct reader reader = receiver->datagrams;
    struct datagram_record datagram;

    for (uint32_t i = 0; i < receiver->record.datagrams; i++) {
        const void *bytes = next_datagram(&reader, &datagram);
        const struct udp_socket *sender = find(receiver->restoring, datagram.socket);
        const struct inet_address to = reached_at(&receiver->record.local, &datagram.sender);
        if (reader.error)
            return reader.error;
        if (!sender || send_from(sender->fd, &to, bytes, datagram.length))
            send_instead(&datagram.sender, &to, bytes, datagram.length);
    }
    return 0;
}

static int udp_open(struct restoring *restoring, struct reader *reader)
{
    struct udp_record record;
    const struct udp_socket *socket;
    int error = reader_take(reader, &record, sizeof record);

    socket = error ? NULL : find(restoring, record.socket);
    if (!socket)
        return error ? error : -EBADMSG;
    if (record.whole)
        error = deliver(socket);
    return error ? error : socket_place(&record.descriptor, socket->fd);
}

/* Now that all datagrams are there. */
static int udp_wire(struct restoring *restoring, struct reader *reader)
{
    struct udp_record record;
    const struct udp_socket *socket;
    int error = reader_take(reader, &record, sizeof record);

    socket = error || !record.whole ? NULL : find(restoring, record.socket);
    if (!socket)
        return error;
    error = set_options(socket, socket->fd, 1);
    if (!error && record.shut)
        shutdown(socket->fd, record.shut == 3 ? SHUT_RDWR : SHUT_RD);
    return error;
}

/* ---- checking ---- */

static int can_be_sent(const struct inet_address *sender)
{
    int fd = socket(sender->family, SOCK_DGRAM | SOCK_CLOEXEC, 0), error = fd < 0 ? -errno : inet_bind(fd, sender);

    if (fd >= 0)
        close(fd);
    return !error;
}

static void check_datagrams(struct restoring *restoring, struct udp_socket *socket)
{
    struct datagram_record datagram;
    unsigned lost = 0;

    for (uint32_t i = 0; i < socket->record.datagrams; i++) {
        next_datagram(&socket->datagrams, &datagram);
        lost += !datagram.socket && !can_be_sent(&datagram.sender);
    }
    if (lost)
        adapted(restoring, "R-SOCKET-OUTSIDE", "%u datagrams from outside, that descriptor %d had not read, are lost",
                lost, socket->record.descriptor.number);
}

static int udp_check(struct restoring *restoring, struct reader *reader)
{
    struct udp_socket socket;
    int error = parse(restoring, reader, &socket), fd;

    if (error || !socket.record.whole)
        return error;
    fd = make_socket(&socket);
    if (fd < 0)
        missing(restoring, "R-SOCKET-OPTION: %s", restoring->image->reason);
    else if (is_bound(&socket.record))
        inet_check_bind(restoring, fd, socket.record.descriptor.number, &socket.record.local, 0);
    restoring->image->reason[0] = 0;
    multicast_check(restoring, socket.groups, socket.record.groups, socket.record.descriptor.number);
    if (fd >= 0)
        close(fd);
    check_datagrams(restoring, &socket);
    return 0;
}

static void udp_show(struct reader *reader, FILE *out)
{
    char local[INET_TEXT], remote[INET_TEXT], what[256];
    struct udp_record record;

    if (reader_take(reader, &record, sizeof record))
        return;
    snprintf(what, sizeof what, "UDP%s%s%s%s%s", record.whole ? "" : ", as above", record.local.port ? ", at " : "",
             record.local.port ? inet_text(&record.local, local) : "", record.remote.family ? ", with " : "",
             record.remote.family ? inet_text(&record.remote, remote) : "");
    if (record.datagrams)
        snprintf(what + strlen(what), sizeof what - strlen(what), ", %u datagrams in it", record.datagrams);
    if (record.groups)
        snprintf(what + strlen(what), sizeof what - strlen(what), ", member of %u groups", record.groups);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_udp = {
    .name = "UDP socket",
    .tag = TAG_UDP,
    .claim = udp_claim,
    .save = udp_save,
    .check = udp_check,
    .make = udp_make,
    .open = udp_open,
    .wire = udp_wire,
    .show = udp_show,
};
