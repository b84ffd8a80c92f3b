/* SPDX-License-Identifier: MIT */
/* Bytes between the two ends of a connection. What the receiver has can be peeked; what still waits in the sender's
 * queue cannot be read by anybody without CAP_NET_ADMIN. It waits because the receiver's buffer is full. So that is
 * made larger for a moment, the kernel brings the bytes over, and then it is as large as before: over-full, which the
 * kernel copes with.
 *
 * It grows by its own size at a time. Then the window never gets larger than it was, and no promise of room is left
 * that will not be kept: that would cost the sender retransmissions, and in small buffers slow it down for good. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tcp.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

enum { FLOW_MILLISECONDS = 2000, ARRIVAL_ROUNDS = 20, ROUND_MICROSECONDS = 50 };

void tcp_look(int fd, struct tcp_info *info)
{
    socklen_t length = sizeof *info;

    memset(info, 0, sizeof *info);
    getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length);
}

int tcp_has_sent_fin(uint32_t state)
{
    return state == STATE_FIN_WAIT1 || state == STATE_FIN_WAIT2 || state == STATE_CLOSING || state == STATE_LAST_ACK ||
           state == STATE_TIME_WAIT;
}

int tcp_has_got_fin(uint32_t state)
{
    return state == STATE_CLOSE_WAIT || state == STATE_LAST_ACK || state == STATE_CLOSING || state == STATE_TIME_WAIT ||
           state == STATE_CLOSE;
}

static int queue(int fd, unsigned long which)
{
    int bytes = 0;
    return ioctl(fd, which, &bytes) ? 0 : bytes;
}

int tcp_unread(int fd)
{
    return queue(fd, SIOCINQ);
}

/* The receiver may have bytes and not have said so yet: then the counters of both tell, as long as nothing was sent
 * twice. */
static int has_arrived(int from, int to)
{
    struct tcp_info sender, receiver;

    tcp_look(to, &receiver);
    if (from < 0)
        return tcp_has_got_fin(receiver.tcpi_state);
    tcp_look(from, &sender);
    if (sender.tcpi_state == STATE_CLOSE)
        return 1;
    if (tcp_has_sent_fin(sender.tcpi_state) && !tcp_has_got_fin(receiver.tcpi_state))
        return 0;
    if (sender.tcpi_state == STATE_FIN_WAIT1 || sender.tcpi_state == STATE_LAST_ACK ||
        sender.tcpi_state == STATE_CLOSING)
        return 0; /* about to change */
    if (!queue(from, SIOCOUTQ))
        return 1;
    return !sender.tcpi_bytes_retrans && sender.tcpi_bytes_sent + sender.tcpi_notsent_bytes ==
                                             receiver.tcpi_bytes_received - tcp_has_sent_fin(sender.tcpi_state);
}

/* What Nagle's algorithm or TCP_CORK holds back goes out (tcp(7)): a push comes with TCP_NODELAY, whatever it was. */
static void push(int from)
{
    int delay = from < 0 || inet_option(from, IPPROTO_TCP, TCP_NODELAY), on = 1;

    if (from < 0)
        return;
    setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!delay)
        setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &delay, sizeof delay);
}

/* Any read, even a peek, makes the receiver tell how much room it has by now. */
static void announce_room(int to)
{
    char byte;
    if (recv(to, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
        return;
}

static void set_number(int fd, int option, int value)
{
    setsockopt(fd, SOL_SOCKET, option, &value, sizeof value);
}

struct room {
    int buffer, locked, low;
};

static void note_room(int to, struct room *room)
{
    room->buffer = inet_option(to, SOL_SOCKET, SO_RCVBUF);
    room->locked = inet_option(to, SOL_SOCKET, SO_BUF_LOCK);
    room->low = inet_option(to, SOL_SOCKET, SO_RCVLOWAT);
}

/* SO_RCVBUF goes up to net.core.rmem_max. SO_RCVLOWAT makes a buffer that is not locked as large as it needs, up to
 * what net.ipv4.tcp_rmem allows, which is usually more. */
static void widen(int to, const struct room *room, int step)
{
    uint32_t memory[16] = { 0 };
    socklen_t length = sizeof memory;
    int wanted;

    getsockopt(to, SOL_SOCKET, SO_MEMINFO, memory, &length);
    wanted = (int)memory[0] + step;
    if (inet_option(to, SOL_SOCKET, SO_RCVBUF) >= wanted)
        return;
    set_number(to, SO_RCVBUF, wanted / 2);
    if (inet_option(to, SOL_SOCKET, SO_RCVBUF) >= wanted - 1)
        return;
    set_number(to, SO_BUF_LOCK, room->locked & ~SOCK_RCVBUF_LOCK);
    set_number(to, SO_RCVLOWAT, wanted / 2);
}

static void give_room_back(int to, const struct room *room)
{
    if (inet_option(to, SOL_SOCKET, SO_RCVBUF) != room->buffer)
        set_number(to, SO_RCVBUF, room->buffer / 2);
    set_number(to, SO_BUF_LOCK, room->locked);
    if (inet_option(to, SOL_SOCKET, SO_RCVLOWAT) != room->low)
        set_number(to, SO_RCVLOWAT, room->low);
}

/* Larger and larger steps when nothing comes: a segment may be larger than the buffer was. */
static int make_room(int from, int to, const struct room *room)
{
    int64_t deadline = clock_now(CLOCK_MONOTONIC) + FLOW_MILLISECONDS * INT64_C(1000000);
    int step = room->buffer, before = tcp_unread(to);

    while (!has_arrived(from, to) && clock_now(CLOCK_MONOTONIC) < deadline) {
        widen(to, room, step);
        announce_room(to);
        int now = tcp_unread(to);
        if (now == before && !has_arrived(from, to)) {
            step = step < 1 << 26 ? step + step / 2 : step;
            usleep(ROUND_MICROSECONDS);
        }
        before = now;
    }
    return has_arrived(from, to) ? 0 : -ETIMEDOUT;
}

int tcp_settle(int from, int to)
{
    struct room room;
    int error;

    if (has_arrived(from, to))
        return 0;
    push(from);
    for (int round = 0; round < ARRIVAL_ROUNDS; round++) {
        announce_room(to);
        if (has_arrived(from, to))
            return 0;
        usleep(ROUND_MICROSECONDS);
    }
    note_room(to, &room);
    error = make_room(from, to, &room);
    give_room_back(to, &room);
    return error;
}
