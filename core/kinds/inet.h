/* SPDX-License-Identifier: MIT */
/* What TCP and UDP share: addresses, options of IP, and which sockets of the step belong together. */
#ifndef STASIS_INET_H
#define STASIS_INET_H

#include <sys/socket.h>

#include "sockets.h"

/* An address as records have it. */
struct inet_address {
    uint16_t family;   /* AF_INET, AF_INET6; 0: none */
    uint16_t port;     /* as on the wire */
    uint32_t scope;    /* of a link-local address of IPv6 */
    uint8_t bytes[16]; /* of IPv4 the first 4 */
};

enum { INET_TEXT = 64 };

/* getsockname, or getpeername: family 0 when there is none. */
void inet_local(int fd, struct inet_address *ret_address);
void inet_remote(int fd, struct inet_address *ret_address);
void inet_from_kernel(const struct sockaddr_storage *from, struct inet_address *ret_address);
socklen_t inet_for_kernel(const struct inet_address *address, struct sockaddr_storage *ret_address);
/* An address of IPv4 that is written as one of IPv6 becomes one of IPv4. */
struct inet_address inet_plain(const struct inet_address *address);
int inet_is_same(const struct inet_address *a, const struct inet_address *b);
int inet_is_any(const struct inet_address *address); /* 0.0.0.0, ::, or none */
const char *inet_text(const struct inet_address *address, char text[INET_TEXT]);

extern const struct socket_option inet_options[]; /* of IPPROTO_IP and IPPROTO_IPV6 */

/* SO_DOMAIN, SO_PROTOCOL and others; 0 when there is no such option. */
int inet_option(int fd, int level, int name);
short socket_events(int fd); /* of poll(2) */
/* Is it a socket of IPv4 or IPv6 with this type and protocol? */
int inet_is_of(const struct descriptor *descriptor, int type, int protocol);

/* A socket of the step, while it is saved. */
struct inet_end {
    struct inet_end *next;
    const struct descriptor *descriptor; /* the first that leads to it */
    uint64_t socket;                     /* inode */
    uint64_t network;                    /* SO_NETNS_COOKIE: in another one the same addresses are others */
    int protocol;
    uint32_t state; /* of TCP: enum tcp_state_of_kernel in tcp.h */
    struct inet_address local, remote;
    struct inet_end *peer; /* TCP: the other end, when the step holds it */
    uint32_t
        beyond; /* TCP: what the other end is when the step does not hold it: the kernel's state; 0: not on this host */
    struct inet_end *listener; /* TCP: where the other end waits to be accepted */
};

/* All sockets of IPv4 and IPv6 of the step, found when first asked for. 0 or -errno. */
int inet_ends(struct saving *saving, struct inet_end **ret_first);
struct inet_end *inet_end_of(struct saving *saving, const struct descriptor *descriptor); /* NULL: none */
void inet_ends_forget(struct saving *saving); /* when another try begins, or the image is done */
/* A handle that stays until it is closed; -errno. */
int inet_keep_handle(const struct descriptor *descriptor);

/* tcp.c: finds the other ends, and brings what is in flight to where it can be seen. */
int tcp_settle_all(struct saving *saving, struct inet_end *first);

/* At a restart, on a socket that is thrown away: may this address be bound, and listened at? missing() says why not. */
void inet_check_bind(struct restoring *restoring, int fd, int number, const struct inet_address *local, int listens);
/* Into image->reason. */
void inet_say_option(const struct restoring *restoring, int number, const char *word, int error);
void inet_say_address(const struct restoring *restoring, int number, const struct inet_address *local, int error);
int inet_bind(int fd, const struct inet_address *local); /* 0 or -errno */
int inet_connect(int fd, const struct inet_address *remote);

#endif
