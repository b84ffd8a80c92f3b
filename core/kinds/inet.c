/* SPDX-License-Identifier: MIT */
#include "inet.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sock_diag.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* 6.3 */
#endif
#ifndef IPV6_RECVERR_RFC4884
#define IPV6_RECVERR_RFC4884 31
#endif
/* linux/in6.h, which cannot be had beside netinet/in.h */
enum { FLOW_INFO_SEND = 33, INTERFACE = 76, RECEIVE_FRAGMENT_SIZE = 77 };

#define IP(name)                                                                                                       \
    {                                                                                                                  \
        IPPROTO_IP, name, #name                                                                                        \
    }
#define IPV6(name)                                                                                                     \
    {                                                                                                                  \
        IPPROTO_IPV6, name, #name                                                                                      \
    }

/* clang-format off */
const struct socket_option inet_options[] = {
    IP(IP_TOS), IP(IP_TTL), IP(IP_MINTTL), IP(IP_MTU_DISCOVER), IP(IP_FREEBIND), IP(IP_TRANSPARENT), IP(IP_NODEFRAG),
    IP(IP_BIND_ADDRESS_NO_PORT), IP(IP_LOCAL_PORT_RANGE), IP(IP_CHECKSUM), IP(IP_PKTINFO), IP(IP_RECVTOS), IP(IP_RECVTTL),
    IP(IP_RECVOPTS), IP(IP_RETOPTS), IP(IP_RECVERR), IP(IP_RECVERR_RFC4884), IP(IP_RECVORIGDSTADDR), IP(IP_RECVFRAGSIZE), IP(IP_PASSSEC),
    IP(IP_UNICAST_IF),
    IPV6(IPV6_UNICAST_HOPS), IPV6(IPV6_MINHOPCOUNT), IPV6(IPV6_TCLASS), IPV6(IPV6_MTU_DISCOVER), IPV6(IPV6_DONTFRAG),
    IPV6(IPV6_AUTOFLOWLABEL), IPV6(IPV6_ADDR_PREFERENCES), IPV6(IPV6_FREEBIND), IPV6(IPV6_TRANSPARENT),
    IPV6(IPV6_RECVPKTINFO), IPV6(IPV6_RECVHOPLIMIT), IPV6(IPV6_RECVTCLASS), IPV6(IPV6_RECVRTHDR), IPV6(IPV6_RECVHOPOPTS),
    IPV6(IPV6_RECVDSTOPTS), IPV6(IPV6_RECVERR), IPV6(IPV6_RECVERR_RFC4884), IPV6(IPV6_RECVPATHMTU), IPV6(IPV6_ORIGDSTADDR),
    { IPPROTO_IPV6, FLOW_INFO_SEND, "IPV6_FLOWINFO_SEND" }, { IPPROTO_IPV6, INTERFACE, "IPV6_UNICAST_IF" },
    { IPPROTO_IPV6, RECEIVE_FRAGMENT_SIZE, "IPV6_RECVFRAGSIZE" },
    { 0 },
};
/* clang-format on */

void inet_from_kernel(const struct sockaddr_storage *from, struct inet_address *to)
{
    memset(to, 0, sizeof *to);
    to->family = from->ss_family;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const void *)from;
        to->port = four->sin_port;
        memcpy(to->bytes, &four->sin_addr, sizeof four->sin_addr);
    } else {
        const struct sockaddr_in6 *six = (const void *)from;
        to->port = six->sin6_port;
        to->scope = six->sin6_scope_id;
        memcpy(to->bytes, &six->sin6_addr, sizeof six->sin6_addr);
    }
}

static void ask(int fd, int (*name)(int, struct sockaddr *, socklen_t *), struct inet_address *address)
{
    struct sockaddr_storage got = { 0 };
    socklen_t length = sizeof got;

    if (name(fd, (struct sockaddr *)&got, &length) || (got.ss_family != AF_INET && got.ss_family != AF_INET6))
        memset(address, 0, sizeof *address);
    else
        inet_from_kernel(&got, address);
}

void inet_local(int fd, struct inet_address *address)
{
    ask(fd, getsockname, address);
}

void inet_remote(int fd, struct inet_address *address)
{
    ask(fd, getpeername, address);
}

socklen_t inet_for_kernel(const struct inet_address *address, struct sockaddr_storage *to)
{
    memset(to, 0, sizeof *to);
    to->ss_family = address->family;
    if (address->family == AF_INET) {
        struct sockaddr_in *four = (void *)to;
        four->sin_port = address->port;
        memcpy(&four->sin_addr, address->bytes, sizeof four->sin_addr);
        return sizeof *four;
    }
    struct sockaddr_in6 *six = (void *)to;
    six->sin6_port = address->port;
    six->sin6_scope_id = address->scope;
    memcpy(&six->sin6_addr, address->bytes, sizeof six->sin6_addr);
    return sizeof *six;
}

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

struct inet_address inet_plain(const struct inet_address *address)
{
    struct inet_address plain = *address;

    if (address->family == AF_INET6 && !memcmp(address->bytes, mapped, sizeof mapped)) {
        memset(plain.bytes, 0, sizeof plain.bytes);
        memcpy(plain.bytes, address->bytes + sizeof mapped, 4);
        plain.family = AF_INET;
        plain.scope = 0;
    }
    return plain;
}

int inet_is_same(const struct inet_address *a, const struct inet_address *b)
{
    const struct inet_address one = inet_plain(a), other = inet_plain(b);
    return one.family && !memcmp(&one, &other, sizeof one);
}

int inet_is_any(const struct inet_address *address)
{
    static const uint8_t zero[16];
    const struct inet_address plain = inet_plain(address);

    return !memcmp(plain.bytes, zero, sizeof zero);
}

const char *inet_text(const struct inet_address *address, char text[INET_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";

    inet_ntop(address->family, address->bytes, host, sizeof host);
    snprintf(text, INET_TEXT, address->family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, ntohs(address->port));
    return text;
}

int inet_option(int fd, int level, int name)
{
    int value = 0;
    socklen_t length = sizeof value;

    return getsockopt(fd, level, name, &value, &length) ? 0 : value;
}

int inet_is_of(const struct descriptor *descriptor, int type, int protocol)
{
    int handle = is_socket(descriptor) ? handle_of(descriptor) : -1, domain;

    if (handle < 0)
        return 0;
    domain = inet_option(handle, SOL_SOCKET, SO_DOMAIN);
    return (domain == AF_INET || domain == AF_INET6) && inet_option(handle, SOL_SOCKET, SO_TYPE) == type &&
           inet_option(handle, SOL_SOCKET, SO_PROTOCOL) == protocol;
}

int inet_keep_handle(const struct descriptor *descriptor)
{
    int handle = handle_of(descriptor), kept;

    if (handle < 0)
        return handle;
    kept = fcntl(handle, F_DUPFD_CLOEXEC, 0);
    return kept < 0 ? -errno : kept;
}

short socket_events(int fd)
{
    struct pollfd look = { .fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP };
    return poll(&look, 1, 0) < 0 ? 0 : look.revents;
}

/* ---- all sockets of the step ---- */

static int add_end(struct saving *saving, const struct descriptor *descriptor)
{
    int handle = handle_of(descriptor), domain;
    struct inet_end *end;
    socklen_t length = sizeof end->network;

    if (handle < 0)
        return handle;
    domain = inet_option(handle, SOL_SOCKET, SO_DOMAIN);
    if (domain != AF_INET && domain != AF_INET6)
        return 0;
    end = calloc(1, sizeof *end);
    if (!end)
        return -ENOMEM;
    end->descriptor = descriptor;
    end->socket = descriptor->status.st_ino;
    end->protocol = inet_option(handle, SOL_SOCKET, SO_PROTOCOL);
    getsockopt(handle, SOL_SOCKET, SO_NETNS_COOKIE, &end->network, &length);
    inet_local(handle, &end->local);
    inet_remote(handle, &end->remote);
    end->next = saving->first->inet_ends;
    saving->first->inet_ends = end;
    return 0;
}

int inet_ends(struct saving *saving, struct inet_end **ret_first)
{
    int error = 0;

    if (!saving->first->inet_ends) {
        for (struct saving *process = saving->first; process; process = process->next)
            for (size_t i = 0; !error && i < process->descriptor_count; i++)
                if (is_socket(&process->descriptors[i]) && is_first_of_socket(saving, &process->descriptors[i]))
                    error = add_end(saving, &process->descriptors[i]);
        if (!error)
            error = tcp_settle_all(saving, saving->first->inet_ends);
    }
    *ret_first = saving->first->inet_ends;
    return error;
}

struct inet_end *inet_end_of(struct saving *saving, const struct descriptor *descriptor)
{
    struct inet_end *end = saving->first->inet_ends;

    while (end && end->socket != descriptor->status.st_ino)
        end = end->next;
    return end;
}

void inet_ends_forget(struct saving *saving)
{
    for (struct inet_end *next; saving->inet_ends; saving->inet_ends = next) {
        next = saving->inet_ends->next;
        free(saving->inet_ends);
    }
}

/* ---- addresses at a restart ---- */

void inet_say_option(const struct restoring *restoring, int number, const char *word, int error)
{
    snprintf(restoring->image->reason, sizeof restoring->image->reason, "descriptor %d: %s cannot be set: %s", number,
             word, strerror(-error));
}

void inet_say_address(const struct restoring *restoring, int number, const struct inet_address *local, int error)
{
    char text[INET_TEXT];

    snprintf(restoring->image->reason, sizeof restoring->image->reason, "%s, where descriptor %d was: %s",
             inet_text(local, text), number, strerror(-error));
}

int inet_bind(int fd, const struct inet_address *local)
{
    struct sockaddr_storage address;
    socklen_t length = inet_for_kernel(local, &address);

    return bind(fd, (struct sockaddr *)&address, length) ? -errno : 0;
}

int inet_connect(int fd, const struct inet_address *remote)
{
    struct sockaddr_storage address;
    socklen_t length = inet_for_kernel(remote, &address);

    return connect(fd, (struct sockaddr *)&address, length) ? -errno : 0;
}

/* Who has a port: a socket that listens, or any, or what the kernel keeps of closed connections for a minute. */
struct occupant {
    uint16_t port;
    uint32_t inode, user;
    int found;
};

static int look_at(void *context, const struct nlmsghdr *message)
{
    const struct inet_diag_msg *socket = NLMSG_DATA(message);
    struct occupant *occupant = context;

    if (socket->id.idiag_sport != occupant->port || (occupant->found && !socket->idiag_inode))
        return 0;
    occupant->found = 1;
    occupant->inode = socket->idiag_inode;
    occupant->user = socket->idiag_uid;
    return 0;
}

/* Of the port that a socket is to have. */
static struct occupant occupant_of(int fd, const struct inet_address *local)
{
    static const uint8_t families[] = { AF_INET, AF_INET6 };
    struct occupant occupant = { .port = local->port };

    for (size_t i = 0; i < sizeof families; i++) {
        struct inet_diag_req_v2 request = { .sdiag_family = families[i],
                                            .sdiag_protocol = (uint8_t)inet_option(fd, SOL_SOCKET, SO_PROTOCOL),
                                            .idiag_states = UINT32_MAX };
        sock_diag_dump(&request, sizeof request, look_at, &occupant);
    }
    return occupant;
}

/* A process of ours that holds the socket; 0: none that we may look at. */
static int holder_of(uint32_t inode)
{
    char wanted[64], path[64 + NAME_MAX], target[64];
    DIR *processes = opendir("/proc");
    struct dirent *process, *entry;
    int found = 0;

    snprintf(wanted, sizeof wanted, "socket:[%u]", inode);
    while (processes && !found && (process = readdir(processes))) {
        snprintf(path, sizeof path, "/proc/%d/fd", atoi(process->d_name));
        DIR *descriptors = atoi(process->d_name) ? opendir(path) : NULL;
        while (descriptors && !found && (entry = readdir(descriptors))) {
            ssize_t length = readlinkat(dirfd(descriptors), entry->d_name, target, sizeof target - 1);
            target[length < 0 ? 0 : length] = 0;
            if (!strcmp(target, wanted))
                found = atoi(process->d_name);
        }
        if (descriptors)
            closedir(descriptors);
    }
    if (processes)
        closedir(processes);
    return found;
}

static void say_occupied(struct restoring *restoring, int number, const struct inet_address *local,
                         const struct occupant *occupant)
{
    char text[INET_TEXT], whose[64] = "by somebody";
    int holder = occupant->inode ? holder_of(occupant->inode) : 0;

    if (holder)
        snprintf(whose, sizeof whose, "by process %d", holder);
    else if (occupant->inode)
        snprintf(whose, sizeof whose, "by user %u", occupant->user);
    else if (occupant->found)
        snprintf(whose, sizeof whose, "by closed connections, for a minute");
    missing(restoring, "R-PORT-IN-USE: %s, where descriptor %d was, is in use %s", inet_text(local, text), number,
            whose);
}

/* Connections that are closed, perhaps by the very kill that has made the restart necessary, are waited for: each is gone after a
 * minute (tcp(7): TIME_WAIT). */
static int bind_when_free(const struct restoring *restoring, int fd, const struct inet_address *local)
{
    enum { MOST_MILLISECONDS = 65000, LOOK_MILLISECONDS = 200 };
    int waited = 0, error;
    char text[INET_TEXT];

    while ((error = inet_bind(fd, local)) == -EADDRINUSE && waited < MOST_MILLISECONDS && !restoring->policy.only_check) {
        struct occupant occupant = occupant_of(fd, local);
        if (!occupant.found || occupant.inode)
            break;
        if (!waited && isatty(STDERR_FILENO))
            fprintf(stderr, "stasis: %s is in use by closed connections; waiting for them, up to a minute\n", inet_text(local, text));
        poll(NULL, 0, LOOK_MILLISECONDS);
        waited += LOOK_MILLISECONDS;
    }
    return error;
}

void inet_check_bind(struct restoring *restoring, int fd, int number, const struct inet_address *local, int listens)
{
    int error = bind_when_free(restoring, fd, local);
    char text[INET_TEXT];

    if (!error && listens && listen(fd, 0)) /* two that may share a port may not both listen */
        error = -errno;
    if (error == -EADDRINUSE) {
        struct occupant occupant = occupant_of(fd, local);
        say_occupied(restoring, number, local, &occupant);
    } else if (error)
        missing(restoring, "R-ADDRESS: descriptor %d was at %s, which cannot be had here: %s", number,
                inet_text(local, text), strerror(-error));
}
