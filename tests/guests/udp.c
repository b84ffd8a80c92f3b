/* SPDX-License-Identifier: MIT */
/* udp WHAT [PORT]: holds UDP sockets of one sort and finds them as they must be at every tick. `udp server FILE` is what PORT leads to. */
#include "internet.h"
#include "sorts.h"

#include <poll.h>
#include <pthread.h>

static int receiver[2], caller[2], wide, unbound, group;
static union address name_of_receiver[2], name_of_caller[2], name_of_gone;

static int new_bound(int family)
{
    union address address = loopback(family);
    int fd = socket(family, SOCK_DGRAM, 0);

    check(fd >= 0 && !bind(fd, &address.any, size_of(&address)), "bind");
    return fd;
}

static void send_to(int fd, const union address *to, const char *text)
{
    check(sendto(fd, text, strlen(text), 0, &to->any, size_of(to)) == (ssize_t)strlen(text), "sendto");
}

/* The next datagram is this one, from there. */
static void comes(int fd, const char *wanted, const union address *from)
{
    char text[64] = "";
    union address sender;
    socklen_t length = sizeof sender;
    struct pollfd wait = { .fd = fd, .events = POLLIN };

    memset(&sender, 0, sizeof sender);
    check(poll(&wait, 1, -1) == 1, wanted);
    ssize_t got = recvfrom(fd, text, sizeof text, MSG_DONTWAIT, &sender.any, &length);
    if (got != (ssize_t)strlen(wanted) || memcmp(text, wanted, strlen(wanted)) || memcmp(&sender, from, size_of(from)))
        bad("'%s' came in place of '%s', at tick %ld", text, wanted, tick);
}

/* Datagrams wait across the moment: of a socket that sends to anybody, one that is connected, and one that is closed. */
static int make_talk(void)
{
    static const int families[] = { AF_INET, AF_INET6 };
    union address any = { .four = { .sin_family = AF_INET } };
    int gone = new_bound(AF_INET);

    for (int i = 0; i < 2; i++) {
        receiver[i] = new_bound(families[i]);
        name_of_receiver[i] = name(receiver[i], getsockname);
        caller[i] = socket(families[i], SOCK_DGRAM, 0);
        check(!connect(caller[i], &name_of_receiver[i].any, size_of(&name_of_receiver[i])), "connect");
        name_of_caller[i] = name(caller[i], getsockname);
    }
    wide = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(!bind(wide, &any.any, sizeof any.four), "bind to all");
    unbound = socket(AF_INET6, SOCK_DGRAM, 0);
    name_of_gone = name(gone, getsockname);
    send_to(gone, &name_of_receiver[0], "from one that is gone");
    close(gone);
    return dup2(wide, 100) == 100;
}

static void names_are_kept(void)
{
    for (int i = 0; i < 2; i++) {
        union address a = name(receiver[i], getsockname), b = name(caller[i], getsockname), c = name(caller[i], getpeername);
        if (memcmp(&a, &name_of_receiver[i], sizeof a) || memcmp(&b, &name_of_caller[i], sizeof b) || memcmp(&c, &name_of_receiver[i], sizeof c))
            bad("other names at tick %ld", tick);
    }
}

static int talks(void)
{
    char text[32], last[32];
    union address at_all = name(wide, getsockname);

    at_all.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    names_are_kept();
    snprintf(text, sizeof text, "tick %ld", tick);
    snprintf(last, sizeof last, "tick %ld", tick - 1);
    for (int i = 0; i < 2; i++) {
        check(send(caller[i], text, strlen(text), 0) == (ssize_t)strlen(text), "send");
        send_to(receiver[i], &name_of_caller[i], text);
        if (i == 0 && tick == 110)
            comes(receiver[0], "from one that is gone", &name_of_gone);
        if (tick && i)
            comes(receiver[i], last, &name_of_caller[i]);
        if (tick)
            comes(caller[i], last, &name_of_receiver[i]);
    }
    send_to(receiver[0], &at_all, "");
    send_to(receiver[0], &at_all, text);
    if (tick)
        comes(wide, last, &name_of_receiver[0]);
    comes(100, "", &name_of_receiver[0]);
    check(fcntl(wide, F_GETFL) & O_NONBLOCK && fcntl(wide, F_GETFD) == FD_CLOEXEC && !fcntl(100, F_GETFD), "flags");
    check(name(unbound, getsockname).six.sin6_port == 0, "not bound");
    return 1;
}

static int talk_ends(void)
{
    char text[32];

    for (long i = 0; i < tick; i++) {
        snprintf(text, sizeof text, "tick %ld", i);
        comes(receiver[0], text, &name_of_caller[0]);
    }
    return 1;
}

/* Groups of both families, with and without sources, and options. */
static int make_group(void)
{
    struct ip_mreqn all = { .imr_multiaddr.s_addr = htonl(0xefa51701), .imr_ifindex = 1 };
    struct ip_mreq_source from = { .imr_multiaddr.s_addr = htonl(0xefa51702), .imr_interface.s_addr = htonl(INADDR_LOOPBACK),
                                   .imr_sourceaddr.s_addr = htonl(INADDR_LOOPBACK) };
    struct ipv6_mreq six = { .ipv6mr_interface = 1 };
    struct in_addr loopback_address = { htonl(INADDR_LOOPBACK) };
    int one = 1, ttl = 7;

    inet_pton(AF_INET6, "ff05::5115", &six.ipv6mr_multiaddr);
    receiver[0] = socket(AF_INET, SOCK_DGRAM, 0);
    union address any = { .four = { .sin_family = AF_INET } };
    check(!bind(receiver[0], &any.any, sizeof any.four), "bind");
    caller[0] = new_bound(AF_INET);
    group = socket(AF_INET6, SOCK_DGRAM, 0);
    check(!setsockopt(receiver[0], IPPROTO_IP, IP_ADD_MEMBERSHIP, &all, sizeof all), "join");
    check(!setsockopt(receiver[0], IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &from, sizeof from), "join source");
    check(!setsockopt(group, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof six), "join of IPv6");
    check(!setsockopt(caller[0], IPPROTO_IP, IP_MULTICAST_IF, &loopback_address, sizeof loopback_address), "IP_MULTICAST_IF");
    check(!setsockopt(caller[0], IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl), "IP_MULTICAST_TTL");
    return !setsockopt(caller[0], SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
}

static int groups_hear(void)
{
    union address to = name(receiver[0], getsockname), from = name(caller[0], getsockname);
    struct ipv6_mreq six = { .ipv6mr_interface = 1 };
    int value = 0;
    socklen_t length = sizeof value;

    to.four.sin_addr.s_addr = htonl(0xefa51701);
    send_to(caller[0], &to, "to all");
    comes(receiver[0], "to all", &from);
    to.four.sin_addr.s_addr = htonl(0xefa51702);
    send_to(caller[0], &to, "from one source");
    comes(receiver[0], "from one source", &from);
    inet_pton(AF_INET6, "ff05::5115", &six.ipv6mr_multiaddr);
    check(setsockopt(group, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof six) && errno == EADDRINUSE, "a member already");
    check(!getsockopt(caller[0], IPPROTO_IP, IP_MULTICAST_TTL, &value, &length) && value == 7, "IP_MULTICAST_TTL");
    check(!getsockopt(caller[0], SOL_SOCKET, SO_BROADCAST, &value, &length) && value == 1, "SO_BROADCAST");
    return 1;
}

static volatile int was_received;

static void *in_receive(void *unused)
{
    (void)unused;
    comes(receiver[0], "in the end", &name_of_caller[0]);
    was_received = 1;
    return NULL;
}

static int make_blocked(void)
{
    pthread_t thread;

    receiver[0] = new_bound(AF_INET);
    caller[0] = new_bound(AF_INET);
    name_of_receiver[0] = name(receiver[0], getsockname);
    name_of_caller[0] = name(caller[0], getsockname);
    return !pthread_create(&thread, NULL, in_receive, NULL);
}

static int nothing(void)
{
    return !was_received;
}

static int blocked_ends(void)
{
    send_to(caller[0], &name_of_receiver[0], "in the end");
    while (!was_received)
        tick_sleep();
    return 1;
}

/* A datagram from a socket of somebody else, at an address that is taken at the restart. */
static int make_outside(void)
{
    struct pollfd wait = { .events = POLLIN };

    receiver[0] = wait.fd = new_bound(AF_INET);
    union address server = loopback(AF_INET);
    server.four.sin_port = htons((uint16_t)atoi(given));
    send_to(receiver[0], &server, "hello");
    return poll(&wait, 1, 10000) == 1;
}

static int outside_ends(void)
{
    char byte;
    return recv(receiver[0], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Protocols that no kind knows. */
static int make_other(void)
{
    receiver[0] = socket(AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */);
    if (receiver[0] < 0)
        receiver[0] = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
    return receiver[0] >= 0;
}

static int serve(void)
{
    char text[16];
    union address sender;
    socklen_t length = sizeof sender;
    int server = new_bound(AF_INET);

    tell_port(server, given);
    while (recvfrom(server, text, sizeof text, 0, &sender.any, &length) >= 0)
        send_to(server, &sender, "world");
    return 1;
}

static const struct sort sorts[] = {
    { "talk", make_talk, talks, talk_ends },
    { "group", make_group, groups_hear, nothing },
    { "blocked", make_blocked, nothing, blocked_ends },
    { "other", make_other, nothing, nothing },
    { "outside", make_outside, nothing, outside_ends },
    { "server", serve, nothing, NULL },
    { 0 },
};

int main(int argc, char **argv)
{
    return run_sort(sorts, argc, argv, 120);
}
