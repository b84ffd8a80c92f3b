/* SPDX-License-Identifier: MIT */
/* TCP. A connection whose both ends the step holds comes back, with its addresses, ports and bytes in flight, in a
 * network of its own (tcp_network.c). Listeners and all that is not connected come back in the host's. A connection
 * that leads out is cut: it comes back as the kernel leaves one that was reset. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tcp.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

enum tcp_what {
    TCP_SEEN = 1, /* another record has it all */
    TCP_UNUSED,   /* not connected */
    TCP_LISTENING,
    TCP_CONNECTING,
    TCP_CONNECTED, /* the other end is `peer` */
    TCP_WAITING,   /* the other end waits to be accepted by `peer` */
    TCP_ABANDONED, /* the other end has sent all, and was closed */
    TCP_CUT,       /* led out, or was reset */
    TCP_OVER,      /* both sides have closed */
    TCP_FAILED,    /* could not connect; nobody has asked for the error yet */
};

struct tcp_record {
    struct descriptor_record descriptor;
    uint64_t socket; /* the inode: which descriptors are of one socket */
    uint64_t peer;   /* the inode of the other end, or listener */
    uint32_t what;
    uint32_t family;
    struct inet_address local, remote;
    uint32_t backlog;
    uint32_t got_fin;        /* 1: the other side has closed */
    uint32_t shut;           /* 1: closed for writing; 2: for reading, by the program itself */
    uint32_t leads_out;      /* 1: the other end is not in the program */
    uint32_t receive_buffer; /* bytes, when the program has chosen them; else 0 */
    uint32_t send_buffer;
    uint32_t length; /* unread bytes that follow; then the options */
    uint32_t reserved;
};
static_assert(sizeof(struct tcp_record) == 128, "TCP record");

#define TCP(name)                                                                                                      \
    {                                                                                                                  \
        IPPROTO_TCP, name, #name                                                                                       \
    }

/* clang-format off */
static const struct socket_option tcp_options[] = {
    TCP(TCP_NODELAY), TCP(TCP_KEEPIDLE), TCP(TCP_KEEPINTVL), TCP(TCP_KEEPCNT), TCP(TCP_SYNCNT), TCP(TCP_LINGER2), TCP(TCP_CONGESTION),
    TCP(TCP_USER_TIMEOUT), TCP(TCP_NOTSENT_LOWAT), TCP(TCP_THIN_LINEAR_TIMEOUTS), TCP(TCP_THIN_DUPACK), TCP(TCP_INQ),
    TCP(TCP_FASTOPEN_NO_COOKIE), TCP(TCP_TX_DELAY),
    { 0 },
};

/* Of a connection they tell what was agreed upon, not what was asked for; and to bind an address of IPv6 sets IPV6_V6ONLY for good. */
static const struct socket_option tcp_early_options[] = {
    { IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY" }, TCP(TCP_MAXSEG), TCP(TCP_WINDOW_CLAMP), TCP(TCP_DEFER_ACCEPT), TCP(TCP_FASTOPEN), TCP(TCP_FASTOPEN_CONNECT), TCP(TCP_SAVE_SYN),
    { 0 },
};

static const struct socket_option tcp_late_options[] = { TCP(TCP_CORK), TCP(TCP_QUICKACK), { 0 } };
/* clang-format on */

static const struct socket_option *const tables[] = { inet_options, tcp_options, tcp_early_options, socket_options,
                                                      NULL };
static const struct socket_option *const late_tables[] = { socket_late_options, tcp_late_options, NULL };

static int has_table(const struct tcp_record *record, const struct socket_option *table)
{
    return table != tcp_early_options || record->what <= TCP_CONNECTING;
}

/* ---- saving ---- */

static int tcp_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return inet_is_of(descriptor, SOCK_STREAM, IPPROTO_TCP);
}

/* Of a socket that is closed: has it ever been connected? */
static int was_connected(const struct tcp_info *info)
{
    return info->tcpi_rtt || info->tcpi_bytes_acked || info->tcpi_bytes_received;
}

static uint32_t what_if_closed(int handle, const struct tcp_info *info)
{
    short events = socket_events(handle);

    if (events & POLLERR)
        return was_connected(info) ? TCP_CUT : TCP_FAILED;
    return events & POLLRDHUP ? TCP_OVER : TCP_UNUSED;
}

static void describe_connection(const struct inet_end *end, struct tcp_record *record)
{
    record->leads_out = !end->peer && !end->beyond;
    if (end->peer) {
        record->what = TCP_CONNECTED;
        record->peer = end->peer->socket;
    } else if (end->listener) {
        record->what = TCP_WAITING;
        record->peer = end->listener->socket;
        record->leads_out = 0;
    } else if (record->got_fin) {
        record->what = TCP_ABANDONED;
    } else {
        record->what = TCP_CUT;
        record->leads_out = 1;
    }
}

static void describe(const struct inet_end *end, int handle, struct tcp_record *record)
{
    struct tcp_info info;
    int locked = inet_option(handle, SOL_SOCKET, SO_BUF_LOCK);

    tcp_look(handle, &info);
    record->family = (uint32_t)inet_option(handle, SOL_SOCKET, SO_DOMAIN);
    record->local = end->local;
    record->remote = end->remote;
    record->receive_buffer = locked & SOCK_RCVBUF_LOCK ? (uint32_t)inet_option(handle, SOL_SOCKET, SO_RCVBUF) : 0;
    record->send_buffer = locked & SOCK_SNDBUF_LOCK ? (uint32_t)inet_option(handle, SOL_SOCKET, SO_SNDBUF) : 0;
    record->got_fin = info.tcpi_state != STATE_CLOSE && tcp_has_got_fin(info.tcpi_state);
    record->shut = tcp_has_sent_fin(info.tcpi_state);
    if (!tcp_has_got_fin(info.tcpi_state) && socket_events(handle) & POLLRDHUP)
        record->shut |= 2;
    if (info.tcpi_state == STATE_CLOSE)
        record->what = what_if_closed(handle, &info);
    else if (info.tcpi_state == STATE_LISTEN) {
        record->what = TCP_LISTENING;
        record->backlog = info.tcpi_sacked; /* so it is for listeners: net/ipv4/tcp.c, tcp_get_info() */
    } else if (info.tcpi_state == STATE_SYN_SENT)
        record->what = TCP_CONNECTING;
    else
        describe_connection(end, record);
}

static int refuse_odd(struct saving *saving, const struct descriptor *descriptor, const struct tcp_record *record,
                      int handle)
{
    char name[32] = "", device[32] = "", options[64];
    socklen_t name_length = sizeof name - 1, device_length = sizeof device - 1, options_length = sizeof options;
    struct tcp_info info;

    tcp_look(handle, &info);
    if (!getsockopt(handle, IPPROTO_TCP, TCP_ULP, name, &name_length) && *name)
        return refuse(saving, "R-SOCKET-OPTION", "descriptor %d is a connection with TCP_ULP %s", descriptor->number,
                      name);
    if (!getsockopt(handle, IPPROTO_IP, IP_OPTIONS, options, &options_length) && options_length)
        return refuse(saving, "R-SOCKET-OPTION", "descriptor %d is a socket with IP_OPTIONS", descriptor->number);
    if (record->what == TCP_CONNECTING && !record->remote.family)
        return refuse(saving, "R-SOCKET", "descriptor %d is connecting, and the kernel does not tell with whom",
                      descriptor->number);
    if (record->what < TCP_CONNECTED || record->what == TCP_FAILED)
        return 0;
    if (socket_events(handle) & POLLPRI)
        return refuse(saving, "R-SOCKET-QUEUE", "descriptor %d is a connection with urgent data that was not read",
                      descriptor->number);
    if (record->what == TCP_WAITING && info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes)
        return refuse(saving, "R-SOCKET-BACKLOG", "descriptor %d has sent bytes over a connection that was not accepted",
                      descriptor->number);
    if (record->local.scope || record->remote.scope)
        return refuse(saving, "R-SOCKET", "descriptor %d is a connection between link-local addresses",
                      descriptor->number);
    if (!getsockopt(handle, SOL_SOCKET, SO_BINDTODEVICE, device, &device_length) && *device && strcmp(device, "lo"))
        return refuse(saving, "R-SOCKET-OPTION", "descriptor %d is a connection bound to the device %s",
                      descriptor->number, device);
    return 0;
}

/* SO_PEEK_OFF would move with each look (socket(7)). */
static int peek(int handle, struct buffer *bytes)
{
    int unread = tcp_unread(handle), offset = inet_option(handle, SOL_SOCKET, SO_PEEK_OFF), none = -1;
    char *copy = unread ? malloc((size_t)unread) : NULL;
    ssize_t got = 0;

    if (unread && !copy)
        return -ENOMEM;
    if (unread && offset >= 0)
        setsockopt(handle, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof none);
    if (unread)
        got = recv(handle, copy, (size_t)unread, MSG_PEEK | MSG_DONTWAIT);
    if (unread && offset >= 0)
        setsockopt(handle, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
    if (got > 0)
        buffer_add(bytes, copy, (size_t)got);
    free(copy);
    return got == unread ? bytes->error : got < 0 ? -errno : -EIO;
}

static int save_all(struct saving *saving, const struct descriptor *descriptor, const struct inet_end *end,
                    struct tcp_record *record, struct buffer *payload)
{
    struct buffer bytes = { 0 };
    int handle = handle_of(descriptor), error = handle < 0 ? handle : 0;

    if (error)
        return error;
    describe(end, handle, record);
    error = refuse_odd(saving, descriptor, record, handle);
    if (!error && record->what >= TCP_CONNECTED && record->what != TCP_FAILED)
        error = peek(handle, &bytes);
    record->length = (uint32_t)bytes.length;
    buffer_add(payload, record, sizeof *record);
    buffer_add(payload, bytes.bytes, bytes.length);
    buffer_free(&bytes);
    for (int i = 0; !error && tables[i]; i++)
        if (has_table(record, tables[i]))
            error = socket_options_save(saving, descriptor, handle, tables[i], payload);
    for (int i = 0; !error && late_tables[i]; i++)
        error = socket_options_save(saving, descriptor, handle, late_tables[i], payload);
    return error;
}

static int tcp_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct tcp_record record = { .socket = descriptor->status.st_ino, .what = TCP_SEEN };
    struct buffer payload = { 0 };
    struct inet_end *first;
    int error = inet_ends(saving, &first);

    descriptor_describe(descriptor, &record.descriptor);
    if (error)
        return error;
    if (is_first_of_socket(saving, descriptor))
        error = save_all(saving, descriptor, inet_end_of(saving, descriptor), &record, &payload);
    else
        buffer_add(&payload, &record, sizeof record);
    if (!error)
        error = image_write_record(saving->writer, TAG_TCP, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* ---- restoring ---- */

/* A socket of the image. */
struct tcp_socket {
    struct tcp_socket *next;
    struct restoring *restoring;
    struct tcp_socket *peer;
    struct tcp_record record;
    const void *bytes;
    struct reader options;
    int fd; /* above the image's numbers; -1: not made yet */
};

static struct tcp_socket *find(const struct restoring *restoring, uint64_t socket)
{
    struct tcp_socket *found = restoring->tcp;

    while (found && found->record.socket != socket)
        found = found->next;
    return found;
}

static int read_record(struct reader *reader, struct tcp_record *record, const void **ret_bytes)
{
    reader_take(reader, record, sizeof *record);
    *ret_bytes = reader_view(reader, record->length);
    if (!reader->error && (record->what < TCP_SEEN || record->what > TCP_FAILED))
        reader->error = -EBADMSG;
    return reader->error;
}

/* All but what must wait until the bytes are there; what is already so is left alone. */
static int set_options(const struct tcp_socket *socket, int fd, int late)
{
    struct reader options = socket->options;
    const char *word = "its options";
    int error = 0;

    for (int i = 0; !error && tables[i]; i++)
        if (has_table(&socket->record, tables[i]))
            error = socket_options_set(tables[i], &options, fd, &word);
    for (int i = 0; !error && late && late_tables[i]; i++)
        error = socket_options_set(late_tables[i], &options, fd, &word);
    if (error)
        inet_say_option(socket->restoring, socket->record.descriptor.number, word, error);
    return error;
}

static int set_number(int fd, int option, uint32_t value)
{
    return value && setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) ? -errno : 0;
}

static int make_socket(const struct tcp_socket *model)
{
    int fd = socket((int)model->record.family, SOCK_STREAM | SOCK_CLOEXEC, 0),
        error = fd < 0 ? -errno : set_options(model, fd, 0);

    if (error && fd >= 0)
        close(fd);
    return error ? error : fd;
}

/* A socket at one end's place, with its options, bound, in a network where that is always possible. */
static int make_end(const struct tcp_socket *end, const struct inet_address *local)
{
    int fd = make_socket(end), error = fd < 0 ? fd : 0;

    if (!error)
        error = set_number(fd, SO_REUSEADDR, 1);
    if (!error)
        error = set_number(fd, SO_RCVBUF, end->record.receive_buffer / 2);
    if (!error)
        error = set_number(fd, SO_SNDBUF, end->record.send_buffer / 2);
    if (!error && !inet_is_any(local))
        error = tcp_network_add(local);
    if (!error && (local->port || !inet_is_any(local)))
        error = inet_bind(fd, local);
    if (error && fd >= 0)
        close(fd);
    return error ? error : fd;
}

/* Connects `caller` with a socket at `local`, which it calls `remote`, that has the options of `model`: *ret_answerer.
 */
static int connect_pair(int caller, const struct inet_address *remote, const struct tcp_socket *model,
                        const struct inet_address *local, int *ret_answerer)
{
    int listener = make_end(model, local), error = listener < 0 ? listener : 0;

    if (!error && listen(listener, 1))
        error = -errno;
    if (!error)
        error = inet_connect(caller, remote);
    if (!error && (*ret_answerer = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        error = -errno;
    if (listener >= 0)
        close(listener);
    return error;
}

/* Brings bytes into the receive queue of `to`, where they were. */
static int fill(int from, int to, const char *bytes, uint32_t length)
{
    uint32_t sent = 0;
    int error = 0;

    while (!error && sent < length) {
        ssize_t wrote = send(from, bytes + sent, length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (wrote > 0)
            sent += (uint32_t)wrote;
        else
            error = errno == EAGAIN ? tcp_settle(from, to) : -errno;
    }
    if (!error && length)
        error = tcp_settle(from, to);
    return !error && tcp_unread(to) != (int)length ? -EIO : error;
}

static int put_aside(struct tcp_socket *socket, int fd)
{
    socket->fd = descriptor_lift(socket->restoring, fd);
    return socket->fd < 0 ? socket->fd : 0;
}

/* Both ends, in our own network. A socket may be connected with itself. */
static int make_both(void *context)
{
    struct tcp_socket *one = context, *other = one->peer;
    int caller = make_end(one, &one->record.local), answerer = -1, error = caller < 0 ? caller : 0;

    if (!error && one == other)
        error = inet_connect(caller, &one->record.local);
    else if (!error)
        error = connect_pair(caller, &one->record.remote, other, &other->record.local, &answerer);
    if (!error)
        error = put_aside(one, caller);
    else if (caller >= 0)
        close(caller);
    if (!error && one != other)
        error = put_aside(other, answerer);
    if (!error)
        error = fill(one->fd, other->fd, other->bytes, other->record.length);
    if (!error && one != other)
        error = fill(other->fd, one->fd, one->bytes, one->record.length);
    return error;
}

static int is_closed(int fd)
{
    struct tcp_info info;

    tcp_look(fd, &info);
    return info.tcpi_state == STATE_CLOSE;
}

static int has_got_fin(int fd)
{
    struct tcp_info info;

    tcp_look(fd, &info);
    return tcp_has_got_fin(info.tcpi_state);
}

enum { PATIENCE_MILLISECONDS = 5000 };

static int until(int (*is)(int), int fd)
{
    for (int i = 0; i < PATIENCE_MILLISECONDS; i++, usleep(1000))
        if (is(fd))
            return 0;
    return -ETIMEDOUT;
}

/* The end that is left of a connection, its other end as it was when it went away. */
static int end_connection(const struct tcp_record *record, int fd, int other)
{
    const struct linger at_once = { .l_onoff = 1 };
    int error = 0;

    if ((record->shut & 1 || record->what == TCP_OVER) && shutdown(fd, SHUT_WR))
        return -errno;
    if (record->what == TCP_CUT) {
        if (record->got_fin && shutdown(other, SHUT_WR))
            return -errno;
        if (record->got_fin && (error = until(has_got_fin, fd)))
            return error;
        setsockopt(other, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* the end is then a reset: socket(7) */
    }
    return 0;
}

/* The other end, when the kernel has forgotten it: what can be reached from this one. */
static struct inet_address loopback(const struct inet_address *from)
{
    static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 127, 0, 0, 1 }, four[16] = { 127, 0, 0, 1 },
                         six[16] = { [15] = 1 };
    struct inet_address address = { .family = from->family, .port = htons(9) };
    int is_four = inet_plain(from).family == AF_INET;

    memcpy(address.bytes, from->family == AF_INET ? four : is_four ? mapped : six, sizeof address.bytes);
    return address;
}

static int make_alone(void *context)
{
    struct tcp_socket *socket = context;
    struct tcp_record *record = &socket->record;
    const struct inet_address nobody = loopback(&record->local),
                              *remote = record->remote.family ? &record->remote : &nobody;
    int fd = make_end(socket, &record->local), other = -1, error = fd < 0 ? fd : 0;

    if (!error)
        error = connect_pair(fd, remote, socket, remote, &other);
    if (!error)
        error = fill(other, fd, socket->bytes, record->length);
    if (!error)
        error = end_connection(record, fd, other);
    if (other >= 0)
        close(other);
    if (!error && record->what == TCP_ABANDONED)
        error = until(has_got_fin, fd);
    else if (!error)
        error = until(is_closed, fd);
    if (!error)
        error = put_aside(socket, fd);
    else if (fd >= 0)
        close(fd);
    return error;
}

static int has_failed(int fd)
{
    return socket_events(fd) & POLLERR;
}

/* Nobody listens in our own network. */
static int make_failed(void *context)
{
    struct tcp_socket *socket = context;
    const struct inet_address nobody = loopback(&socket->record.local);
    int fd = make_end(socket, &socket->record.local), error = fd < 0 ? fd : 0;

    if (!error && fcntl(fd, F_SETFL, O_NONBLOCK))
        error = -errno;
    if (!error && (error = inet_connect(fd, &nobody)) == -EINPROGRESS)
        error = until(has_failed, fd);
    if (!error)
        error = put_aside(socket, fd);
    else if (fd >= 0)
        close(fd);
    return error;
}

/* In the host's network. Who is not connected yet is so in the end, by tcp_wire(). */
static int make_free(struct tcp_socket *socket)
{
    const struct tcp_record *record = &socket->record;
    int fd = make_socket(socket), error = fd < 0 ? fd : 0;

    if (!error && (record->local.port || !inet_is_any(&record->local)))
        error = inet_bind(fd, &record->local);
    if (!error && record->what == TCP_LISTENING && listen(fd, (int)record->backlog))
        error = -errno;
    if (!error)
        return put_aside(socket, fd);
    if (fd >= 0) {
        inet_say_address(socket->restoring, record->descriptor.number, &record->local, error);
        close(fd);
    }
    return error;
}

/* Of a connection whose both ends come back, the second record has what is needed. */
static int make(struct tcp_socket *socket)
{
    switch (socket->record.what) {
    case TCP_CONNECTED:
        socket->peer = find(socket->restoring, socket->record.peer);
        if (!socket->peer)
            return 0;
        socket->peer->peer = socket;
        return tcp_network_run(socket->restoring, make_both, socket);
    case TCP_ABANDONED:
    case TCP_CUT:
    case TCP_OVER:
        return tcp_network_run(socket->restoring, make_alone, socket);
    case TCP_FAILED:
        return tcp_network_run(socket->restoring, make_failed, socket);
    default:
        return make_free(socket);
    }
}

static int tcp_make(struct restoring *restoring, struct reader *reader)
{
    struct tcp_socket *socket = calloc(1, sizeof *socket);
    int error = socket ? read_record(reader, &socket->record, &socket->bytes) : -ENOMEM;

    if (error || socket->record.what == TCP_SEEN || find(restoring, socket->record.socket)) {
        free(socket);
        return error;
    }
    socket->restoring = restoring;
    socket->options = *reader;
    socket->fd = -1;
    socket->next = restoring->tcp;
    restoring->tcp = socket;
    return make(socket);
}

static int tcp_open(struct restoring *restoring, struct reader *reader)
{
    struct tcp_record record;
    const void *bytes;
    int error = read_record(reader, &record, &bytes);
    const struct tcp_socket *socket = error ? NULL : find(restoring, record.socket);

    if (error)
        return error;
    if (!socket || socket->fd < 0)
        return -EBADMSG;
    if (record.what != TCP_SEEN) {
        error = set_options(socket, socket->fd, 1);
        if (!error && record.what == TCP_CONNECTED && record.shut & 1 && shutdown(socket->fd, SHUT_WR))
            error = -errno;
        if (!error && record.what >= TCP_CONNECTED && record.shut & 2 && shutdown(socket->fd, SHUT_RD))
            error = -errno;
    }
    return error ? error : socket_place(&record.descriptor, socket->fd);
}

static int is_connected(int fd)
{
    struct inet_address remote;

    inet_remote(fd, &remote);
    return remote.family != 0;
}

/* Now that all listeners are there, and nothing can fail any more that is not of the network. */
static int tcp_wire(struct restoring *restoring, struct reader *reader)
{
    struct tcp_record record;
    const void *bytes;
    int error = read_record(reader, &record, &bytes), flags, fd = record.descriptor.number;

    (void)restoring;
    if (error || (record.what != TCP_CONNECTING && record.what != TCP_WAITING))
        return error;
    flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    error = inet_connect(fd, &record.remote);
    if (error == -EINPROGRESS)
        error = record.what == TCP_WAITING ? until(is_connected, fd) : 0;
    fcntl(fd, F_SETFL, flags);
    if (!error && record.shut & 1 && shutdown(fd, SHUT_WR))
        error = -errno;
    return error;
}

/* ---- checking ---- */

static void check_network(struct restoring *restoring)
{
    int error;

    if (restoring->network_is_checked)
        return;
    restoring->network_is_checked = 1;
    needs_bubble(restoring, "TCP connections");
    error = tcp_network_try();
    if (error)
        missing(restoring,
                "R-NETWORK-NAMESPACE: the kernel refuses a network namespace (%s): the program's connections come back "
                "in one. "
                "Set sysctl user.max_net_namespaces above 0",
                strerror(-error));
}

static void check_free(struct restoring *restoring, const struct tcp_record *record, struct reader options)
{
    struct tcp_socket model = { .restoring = restoring, .record = *record, .options = options };
    int fd = make_socket(&model);

    if (fd < 0)
        missing(restoring, "R-SOCKET-OPTION: %s", restoring->image->reason);
    else if (record->local.port || !inet_is_any(&record->local))
        inet_check_bind(restoring, fd, record->descriptor.number, &record->local, record->what == TCP_LISTENING);
    restoring->image->reason[0] = 0;
    if (fd >= 0)
        close(fd);
}

static int tcp_check(struct restoring *restoring, struct reader *reader)
{
    struct tcp_record record;
    char text[INET_TEXT];
    const void *bytes;
    int error = read_record(reader, &record, &bytes);

    if (error || record.what == TCP_SEEN)
        return error;
    if (record.what < TCP_CONNECTED || record.what == TCP_WAITING)
        check_free(restoring, &record, *reader);
    else
        check_network(restoring);
    if (record.leads_out)
        adapted(restoring, "R-SOCKET-OUTSIDE", "descriptor %d, a connection with %s, comes back cut",
                record.descriptor.number, inet_text(&record.remote, text));
    return 0;
}

static void tcp_show(struct reader *reader, FILE *out)
{
    static const char *const words[] = { [TCP_SEEN] = "TCP, as above",
                                         [TCP_UNUSED] = "TCP, not connected",
                                         [TCP_LISTENING] = "TCP, listening",
                                         [TCP_CONNECTING] = "TCP, connecting",
                                         [TCP_CONNECTED] = "TCP, connected",
                                         [TCP_WAITING] = "TCP, waiting to be accepted",
                                         [TCP_ABANDONED] = "TCP, closed by the other side",
                                         [TCP_CUT] = "TCP, cut",
                                         [TCP_OVER] = "TCP, closed",
                                         [TCP_FAILED] = "TCP, connection failed" };
    char local[INET_TEXT], remote[INET_TEXT], what[256];
    struct tcp_record record;
    const void *bytes;

    if (read_record(reader, &record, &bytes))
        return;
    snprintf(what, sizeof what, "%s%s%s%s%s", words[record.what], record.local.port ? ", at " : "",
             record.local.port ? inet_text(&record.local, local) : "", record.remote.port ? ", with " : "",
             record.remote.port ? inet_text(&record.remote, remote) : "");
    if (record.length)
        snprintf(what + strlen(what), sizeof what - strlen(what), ", %u bytes in it", record.length);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_tcp = {
    .name = "TCP socket",
    .tag = TAG_TCP,
    .claim = tcp_claim,
    .save = tcp_save,
    .check = tcp_check,
    .make = tcp_make,
    .open = tcp_open,
    .wire = tcp_wire,
    .show = tcp_show,
};
