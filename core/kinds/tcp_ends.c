/* SPDX-License-Identifier: MIT */
/* Which ends of TCP connections belong together, and what has become of the others: asked once for the whole step. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "sock_diag.h"
#include "tcp.h"

static int is_connected(const struct inet_end *end)
{
    return end->protocol == IPPROTO_TCP && end->remote.family && end->state != STATE_CLOSE &&
           end->state != STATE_SYN_SENT;
}

static struct inet_end *other_end(struct inet_end *first, const struct inet_end *end)
{
    for (; first; first = first->next)
        if (first->local.port == end->remote.port && first->remote.port == end->local.port && is_connected(first) &&
            first->network == end->network && inet_is_same(&first->local, &end->remote) &&
            inet_is_same(&first->remote, &end->local))
            return first;
    return NULL;
}

static struct inet_end *listener_at(struct inet_end *first, const struct inet_end *end)
{
    struct inet_end *found = NULL;

    for (; first; first = first->next)
        if (first->protocol == IPPROTO_TCP && first->state == STATE_LISTEN && first->network == end->network &&
            first->local.port == end->remote.port &&
            (inet_is_same(&first->local, &end->remote) || (!found && inet_is_any(&first->local))))
            found = first;
    return found;
}

static void from_diag(const struct inet_diag_msg *socket, struct inet_address *local, struct inet_address *remote)
{
    memset(local, 0, sizeof *local);
    memset(remote, 0, sizeof *remote);
    local->family = remote->family = socket->idiag_family;
    local->port = socket->id.idiag_sport;
    remote->port = socket->id.idiag_dport;
    memcpy(local->bytes, socket->id.idiag_src, socket->idiag_family == AF_INET ? 4 : 16);
    memcpy(remote->bytes, socket->id.idiag_dst, socket->idiag_family == AF_INET ? 4 : 16);
}

struct search {
    struct inet_end *first;
    uint64_t network;
};

/* Whom it wants to be connected with, getpeername(2) does not tell. */
static void note_wish(const struct search *search, uint32_t inode, const struct inet_address *remote)
{
    for (struct inet_end *end = search->first; end; end = end->next)
        if (end->state == STATE_SYN_SENT && (uint32_t)end->socket == inode)
            end->remote = *remote;
}

/* Without the scope, which the kernel does not tell in the same way. */
static int has_bytes_of(const struct inet_address *a, const struct inet_address *b)
{
    return a->port == b->port && !memcmp(inet_plain(a).bytes, inet_plain(b).bytes, sizeof a->bytes);
}

static int is_of_this_host(const struct inet_address *address, const struct inet_address *own)
{
    const struct inet_address plain = inet_plain(address);

    return !memcmp(plain.bytes, inet_plain(own).bytes, sizeof plain.bytes) ||
           (plain.family == AF_INET && plain.bytes[0] == 127);
}

/* Whoever has called, perhaps sent something, and closed, before anybody accepted. */
static void note_closed_caller(struct inet_end *first, uint64_t network, const struct inet_address *caller,
                               const struct inet_address *called)
{
    const struct inet_end call = { .network = network, .local = *caller, .remote = *called };
    struct inet_end *listener = listener_at(first, &call);

    if (listener)
        listener->beyond = STATE_CLOSE_WAIT;
}

/* A socket without an inode has no descriptor: closed by its program, or not accepted yet. */
static int note_beyond(void *context, const struct nlmsghdr *message)
{
    const struct inet_diag_msg *socket = NLMSG_DATA(message);
    struct search *search = context;
    struct inet_address local, remote;

    from_diag(socket, &local, &remote);
    if (socket->idiag_inode) {
        note_wish(search, socket->idiag_inode, &remote);
        return 0;
    }
    for (struct inet_end *end = search->first; end; end = end->next)
        if (is_connected(end) && !end->peer && end->network == search->network && has_bytes_of(&end->remote, &local) &&
            has_bytes_of(&end->local, &remote)) {
            end->beyond = socket->idiag_state;
            return 0;
        }
    if (socket->idiag_state == STATE_CLOSE_WAIT && is_of_this_host(&remote, &local))
        note_closed_caller(search->first, search->network, &remote, &local);
    return 0;
}

static uint64_t own_network(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint64_t network = 0;
    socklen_t length = sizeof network;

    if (fd >= 0) {
        getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &network, &length);
        close(fd);
    }
    return network;
}

/* Only of the host's network; in that of a restart, whoever is not held has been closed. */
static int look_beyond(struct inet_end *first)
{
    static const uint8_t families[] = { AF_INET, AF_INET6 };
    struct search search = { first, own_network() };
    int wanted = 0, error = 0;

    for (struct inet_end *end = first; end; end = end->next) {
        wanted |= end->state == STATE_SYN_SENT || end->state == STATE_LISTEN || (is_connected(end) && !end->peer);
        if (is_connected(end) && !end->peer && end->network != search.network)
            end->beyond = STATE_FIN_WAIT1;
    }
    for (size_t i = 0; wanted && !error && i < sizeof families; i++) {
        struct inet_diag_req_v2 request = { .sdiag_family = families[i],
                                            .sdiag_protocol = IPPROTO_TCP,
                                            .idiag_states = UINT32_MAX };
        error = sock_diag_dump(&request, sizeof request, note_beyond, &search);
    }
    return error;
}

static int look_at(struct inet_end *end, int *ret_handle)
{
    struct tcp_info info;

    *ret_handle = inet_keep_handle(end->descriptor);
    if (*ret_handle < 0)
        return *ret_handle;
    tcp_look(*ret_handle, &info);
    end->state = info.tcpi_state;
    return 0;
}

static int refuse_flow(struct saving *saving, const struct inet_end *to, int error)
{
    char text[INET_TEXT];

    return error != -ETIMEDOUT ? error
                               : refuse(saving, "R-SOCKET-QUEUE",
                                        "descriptor %d, a connection with %s: bytes on their way to it do not arrive",
                                        to->descriptor->number, inet_text(&to->remote, text));
}

static int settle(struct saving *saving, struct inet_end *to)
{
    int from = -1, handle, error = look_at(to, &handle);

    if (error)
        return error;
    if (to->peer)
        error = look_at(to->peer, &from);
    if (!error)
        error = refuse_flow(saving, to, tcp_settle(to->peer ? from : -1, handle));
    if (to->peer && from >= 0)
        close(from);
    close(handle);
    return error;
}

int tcp_settle_all(struct saving *saving, struct inet_end *first)
{
    int error = 0, handle;

    for (struct inet_end *end = first; end && !error; end = end->next)
        if (end->protocol == IPPROTO_TCP && !(error = look_at(end, &handle)))
            close(handle);
    for (struct inet_end *end = first; end; end = end->next)
        end->peer = is_connected(end) ? other_end(first, end) : NULL;
    if (!error)
        error = look_beyond(first);
    for (struct inet_end *end = first; end && !error; end = end->next) {
        if (end->state == STATE_LISTEN && end->beyond)
            error = refuse(saving, "R-SOCKET-BACKLOG",
                           "descriptor %d listens, and who waits to be accepted has closed already",
                           end->descriptor->number);
        else if (end->peer || tcp_has_sent_fin(end->beyond))
            error = settle(saving, end);
        else if (is_connected(end) && end->beyond)
            end->listener = listener_at(first, end);
    }
    for (struct inet_end *end = first; end && !error; end = end->next) /* once all that was on its way is there */
        if (end->protocol == IPPROTO_TCP && !(error = look_at(end, &handle)))
            close(handle);
    return error;
}
