/* SPDX-License-Identifier: MIT */
/* Addresses of IPv4 and IPv6, as guests use them. */
#ifndef INTERNET_H
#define INTERNET_H

#include "guest.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static inline union address loopback(int family)
{
    union address address = { 0 };

    address.any.sa_family = (sa_family_t)family;
    if (family == AF_INET)
        address.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        address.six.sin6_addr = in6addr_loopback;
    return address;
}

static inline socklen_t size_of(const union address *address)
{
    return address->any.sa_family == AF_INET ? sizeof address->four : sizeof address->six;
}

/* ask: getsockname or getpeername */
static inline union address name(int fd, int (*ask)(int, struct sockaddr *, socklen_t *))
{
    union address address;
    socklen_t length = sizeof address;

    memset(&address, 0, sizeof address);
    if (ask(fd, &address.any, &length))
        bad("no name: %s", strerror(errno));
    return address;
}

/* Writes the port of a socket of IPv4 to a file that is there at once, whole. */
static inline void tell_port(int fd, const char *file)
{
    char temporary[4096];
    int out;

    snprintf(temporary, sizeof temporary, "%s.new", file);
    out = open(temporary, O_WRONLY | O_CREAT, 0644);
    if (out < 0 || dprintf(out, "%d\n", ntohs(name(fd, getsockname).four.sin_port)) < 0 || close(out) || rename(temporary, file))
        bad("%s: %s", file, strerror(errno));
}

#endif
