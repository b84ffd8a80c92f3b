/* SPDX-License-Identifier: MIT */
/* tcp WHAT [PORT]: holds TCP sockets of one sort, both ends of each connection unless it leads to PORT, and finds them as they must be at
 * every tick. `tcp server FILE` is what PORT leads to. */
#include "internet.h"
#include "sorts.h"
#include "streams.h"

#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { MOST = 400 };
static int listener;
static int one[MOST], other[MOST], count; /* ends of connections */
static union address name_of_one[MOST], name_of_other[MOST];
static struct stream there[MOST], back[MOST];

static int new_socket(int family)
{
    int fd = socket(family, SOCK_STREAM, 0);

    check(fd >= 0, "socket");
    return fd;
}

static void set(int fd, int level, int option, int value)
{
    check(!setsockopt(fd, level, option, &value, sizeof value), "setsockopt");
}

static int get(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof value;

    check(!getsockopt(fd, level, option, &value, &length), "getsockopt");
    return value;
}

static int is_named(int fd, const union address *own, const union address *theirs)
{
    union address now = name(fd, getsockname), then = name(fd, getpeername);
    return !memcmp(&now, own, sizeof now) && !memcmp(&then, theirs, sizeof then);
}

/* Listens at a free port. */
static int new_listener(int family, int backlog)
{
    union address address = loopback(family);
    int fd = new_socket(family);

    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    check(!bind(fd, &address.any, size_of(&address)) && !listen(fd, backlog), "listen");
    return fd;
}

static int connect_to(int fd, int to)
{
    union address address = name(to, getsockname);
    return connect(fd, &address.any, size_of(&address));
}

static void add_pair(int at, int caller)
{
    check(!connect_to(caller, at), "connect");
    one[count] = caller;
    other[count] = accept(at, NULL, NULL);
    check(other[count] >= 0, "accept");
    name_of_one[count] = name(caller, getsockname);
    name_of_other[count] = name(other[count], getsockname);
    there[count] = (struct stream){ .from = one[count], .to = other[count], .seed = 2 * (uint64_t)count + 1 };
    back[count] = (struct stream){ .from = other[count], .to = one[count], .seed = 2 * (uint64_t)count + 2 };
    count++;
}

static void names_are_kept(void)
{
    for (int i = 0; i < count; i++)
        if (!is_named(one[i], &name_of_one[i], &name_of_other[i]) || !is_named(other[i], &name_of_other[i], &name_of_one[i]))
            bad("connection %d has other names at tick %ld", i, tick);
}

/* ---- connections with bytes both ways, and a listener that goes on ---- */

static int second_listener;

static int make_pairs(void)
{
    listener = new_listener(AF_INET, 20);
    second_listener = new_listener(AF_INET6, 20);
    for (int i = 0; i < 6; i++) {
        add_pair(listener, new_socket(AF_INET));
        add_pair(second_listener, new_socket(AF_INET6));
    }
    return 1;
}

/* A few bytes stay behind at each tick. */
static void talk(int i)
{
    stream_send(&there[i], 10 + (long)(mix((uint64_t)(tick * 100 + i)) % 3000));
    stream_send(&back[i], 10 + (long)(mix((uint64_t)(tick * 100 + i + 50)) % 300));
    stream_receive(&there[i], (long)(there[i].sent - there[i].got) - tick % 7);
    stream_receive(&back[i], (long)(back[i].sent - back[i].got) - tick % 5);
}

static void call_anew(int at)
{
    int caller = new_socket(name(at, getsockname).any.sa_family), answerer;
    char byte = 0;

    check(!connect_to(caller, at), "connect anew");
    answerer = accept(at, NULL, NULL);
    check(answerer >= 0 && send(caller, "x", 1, 0) == 1 && recv(answerer, &byte, 1, 0) == 1 && byte == 'x', "talk anew");
    close(caller);
    close(answerer);
}

static int pairs_talk(void)
{
    for (int i = 0; i < count; i++)
        talk(i);
    names_are_kept();
    if (tick % 10 == 0) {
        call_anew(listener);
        call_anew(second_listener);
    }
    return 1;
}

static int pairs_end(void)
{
    for (int i = 0; i < count; i++) {
        check(!shutdown(one[i], SHUT_WR) && !shutdown(other[i], SHUT_WR), "shutdown");
        stream_ends(&there[i]);
        stream_ends(&back[i]);
    }
    return 1;
}

static int make_many(void)
{
    listener = new_listener(AF_INET, MOST);
    second_listener = listener;
    while (count < MOST / 2)
        add_pair(listener, new_socket(AF_INET));
    return 1;
}

/* IPv4 through a socket of IPv6, any address of this host, two descriptors for one socket, flags. */
static int make_odd(void)
{
    union address any = { .six = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any } };
    int caller;

    listener = new_socket(AF_INET6);
    second_listener = listener;
    check(!bind(listener, &any.any, sizeof any.six) && !listen(listener, 3), "listen");
    any = name(listener, getsockname);
    union address four = loopback(AF_INET);
    four.four.sin_port = any.six.sin6_port;
    four.four.sin_addr.s_addr = htonl(0x7f010203);
    for (int i = 0; i < 3; i++) {
        caller = new_socket(AF_INET);
        check(!connect(caller, &four.any, sizeof four.four), "connect");
        one[i] = caller;
        other[i] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        name_of_one[i] = name(caller, getsockname);
        name_of_other[i] = name(other[i], getsockname);
        there[i] = (struct stream){ .from = one[i], .to = other[i], .seed = 2 * (uint64_t)i + 1 };
        back[i] = (struct stream){ .from = other[i], .to = one[i], .seed = 2 * (uint64_t)i + 2 };
    }
    count = 3;
    return dup2(one[0], 100) == 100 && dup3(other[1], 101, O_CLOEXEC) == 101 && !fcntl(one[2], F_SETFL, O_NONBLOCK);
}

static int odd_ones_talk(void)
{
    struct stat a, b;

    for (int i = 0; i < count; i++) {
        talk(i);
        if (name(one[i], getpeername).four.sin_addr.s_addr != htonl(0x7f010203) || name(other[i], getsockname).any.sa_family != AF_INET6 ||
            fcntl(other[i], F_GETFD) != FD_CLOEXEC || !(fcntl(other[i], F_GETFL) & O_NONBLOCK) || fcntl(one[i], F_GETFD) ||
            (i == 2) != !!(fcntl(one[i], F_GETFL) & O_NONBLOCK) ||
            name_of_one[i].four.sin_port != name(one[i], getsockname).four.sin_port)
            bad("connection %d is another", i);
    }
    check(!fstat(one[0], &a) && !fstat(100, &b) && a.st_ino == b.st_ino, "copy of one");
    check(!fstat(other[1], &a) && !fstat(101, &b) && a.st_ino == b.st_ino && fcntl(101, F_GETFD) == FD_CLOEXEC, "copy of other");
    if (tick % 10 == 0)
        call_anew(listener);
    return 1;
}

static int make_self(void)
{
    union address address = loopback(AF_INET);
    int fd = new_socket(AF_INET);

    check(!bind(fd, &address.any, size_of(&address)) && !connect_to(fd, fd), "connect with itself");
    one[0] = other[0] = fd;
    name_of_one[0] = name_of_other[0] = name(fd, getsockname);
    there[0] = (struct stream){ .from = fd, .to = fd, .seed = 1 };
    count = 1;
    return 1;
}

static int self_talks(void)
{
    stream_send(&there[0], 1000);
    stream_receive(&there[0], (long)(there[0].sent - there[0].got) - 500);
    names_are_kept();
    return 1;
}

/* ---- queues that are full ---- */

static const int buffers[][2] = { { 0, 0 }, { 4096, 0 }, { 30000, 20000 }, { 1000000, 1000000 }, { 0, 3000 }, { 1, 1 } };
enum { FULL = sizeof buffers / sizeof buffers[0] };

static int make_full(void)
{
    for (int i = 0; i < FULL; i++) {
        int caller = new_socket(AF_INET);
        listener = new_listener(AF_INET, 5);
        if (buffers[i][0])
            set(listener, SOL_SOCKET, SO_RCVBUF, buffers[i][0]);
        if (buffers[i][1])
            set(caller, SOL_SOCKET, SO_SNDBUF, buffers[i][1]);
        add_pair(listener, caller);
        close(listener);
    }
    return 1;
}

static void fill(struct stream *stream)
{
    while (stream_send(stream, 1 << 20))
        continue;
}

static int full_ones_flow(void)
{
    for (int i = 0; i < count; i++) {
        int buffer = get(other[i], SOL_SOCKET, SO_RCVBUF);
        fill(&there[i]);
        stream_receive(&there[i], i == 5 || i == 1 ? 500 : 100000);
        if (buffers[i][0] && buffer != (buffers[i][0] < 1152 ? 2304 : 2 * buffers[i][0]))
            bad("connection %d has a buffer of %d", i, buffer);
        stream_send(&back[i], 3);
        stream_receive(&back[i], 1);
    }
    names_are_kept();
    return 1;
}

/* ---- connections that are half closed, or closed ---- */

enum { BY_ONE, FOR_READING, BY_BOTH, ABANDONED, ABANDONED_FULL, RESET, RESET_EMPTY, HALF_THEN_RESET, CLOSED_EMPTY, CORKED, HALVES };

static int make_halves(void)
{
    const struct linger at_once = { .l_onoff = 1 };

    listener = new_listener(AF_INET, 5);
    for (int i = 0; i < HALVES; i++) {
        add_pair(listener, new_socket(AF_INET));
        if (i == CORKED)
            set(one[i], IPPROTO_TCP, TCP_CORK, 1);
        if (i != RESET_EMPTY && i != CLOSED_EMPTY)
            stream_send(&there[i], 5000);
        stream_send(&back[i], i == RESET || i == RESET_EMPTY || i == CLOSED_EMPTY ? 0 : 300);
    }
    fill(&there[ABANDONED_FULL]);
    check(!shutdown(one[BY_ONE], SHUT_WR) && !shutdown(other[FOR_READING], SHUT_RD) && !shutdown(one[BY_BOTH], SHUT_WR) &&
              !shutdown(other[BY_BOTH], SHUT_WR) && !shutdown(other[HALF_THEN_RESET], SHUT_WR) && !shutdown(other[CLOSED_EMPTY], SHUT_WR),
          "shutdown");
    stream_receive(&back[ABANDONED], 300); /* what is not read makes a reset of a close */
    stream_receive(&back[ABANDONED_FULL], 300);
    close(one[ABANDONED]);
    close(one[ABANDONED_FULL]);
    close(one[CLOSED_EMPTY]);
    setsockopt(one[RESET], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(one[RESET_EMPTY], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(one[HALF_THEN_RESET], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(one[RESET]);
    close(one[RESET_EMPTY]);
    close(one[HALF_THEN_RESET]);
    return 1;
}

static short events(int fd)
{
    struct pollfd look = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

    poll(&look, 1, 0);
    return look.revents;
}

static int halves_are_there(void)
{
    stream_send(&back[BY_ONE], 20);
    stream_receive(&back[BY_ONE], 20);
    stream_receive(&there[FOR_READING], 5);
    stream_receive(&there[BY_BOTH], 2);
    stream_receive(&back[BY_BOTH], 1);
    stream_receive(&there[ABANDONED], 3);
    stream_receive(&there[ABANDONED_FULL], 1000);
    stream_receive(&there[RESET], 4);
    stream_receive(&there[HALF_THEN_RESET], 4);
    stream_send(&there[CORKED], 3);
    stream_receive(&there[CORKED], 5);
    if (get(one[CORKED], IPPROTO_TCP, TCP_CORK) != 1)
        bad("not corked any more");
    if (!(events(other[BY_ONE]) & POLLRDHUP) || !(events(other[FOR_READING]) & POLLRDHUP) || events(one[FOR_READING]) & POLLRDHUP)
        bad("the half that is closed is not: %x %x %x", events(other[BY_ONE]), events(other[FOR_READING]), events(one[FOR_READING]));
    if (events(other[RESET]) != (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP))
        bad("what was reset looks like %x", events(other[RESET]));
    return 1;
}

static void is_reset(int fd)
{
    char byte;

    errno = 0;
    if (recv(fd, &byte, 1, 0) != -1 || errno != ECONNRESET || recv(fd, &byte, 1, 0) != 0 || send(fd, "x", 1, MSG_NOSIGNAL) != -1 ||
        errno != EPIPE)
        bad("what was reset is not: %s", strerror(errno));
}

static int halves_end(void)
{
    char byte;

    stream_ends(&there[BY_ONE]);
    stream_ends(&there[BY_BOTH]);
    stream_ends(&back[BY_BOTH]);
    stream_ends(&there[ABANDONED]);
    stream_ends(&there[ABANDONED_FULL]);
    check(send(one[BY_ONE], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "closed for writing");
    check(send(other[BY_BOTH], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "closed by both");
    stream_receive(&there[RESET], 5000);
    is_reset(other[RESET]);
    is_reset(other[RESET_EMPTY]);
    stream_receive(&there[HALF_THEN_RESET], 5000);
    is_reset(other[HALF_THEN_RESET]);
    check(recv(other[CLOSED_EMPTY], &byte, 1, 0) == 0, "closed and empty");
    stream_receive(&there[FOR_READING], 5000);
    check(recv(other[FOR_READING], &byte, 1, 0) == 0, "closed for reading");
    return 1;
}

/* ---- connections that nobody has accepted ---- */

enum { WAITING = 4 };

static int make_backlog(void)
{
    listener = new_listener(AF_INET, 10);
    set(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
    for (count = 0; count < WAITING; count++) {
        one[count] = new_socket(AF_INET);
        check(!connect_to(one[count], listener), "connect");
        name_of_one[count] = name(one[count], getsockname);
    }
    return 1;
}

static int the_next_is_accepted(void)
{
    int here, fd;
    char byte = 0;

    if (tick % 20)
        return 1;
    fd = accept(listener, NULL, NULL);
    check(fd >= 0, "accept");
    union address caller = name(fd, getpeername);
    for (here = 0; here < WAITING && memcmp(&caller, &name_of_one[here], sizeof caller); here++)
        continue;
    check(here < WAITING, "who is it");
    check(send(one[here], "x", 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1 && byte == 'x', "talk");
    close(fd);
    close(one[here]);
    one[here] = new_socket(AF_INET);
    check(!connect_to(one[here], listener), "connect");
    name_of_one[here] = name(one[here], getsockname);
    return 1;
}

/* ---- not connected ---- */

static int unused, bound, failed, connecting, full;

static int make_unconnected(void)
{
    union address address = loopback(AF_INET);

    unused = new_socket(AF_INET6);
    bound = new_socket(AF_INET);
    check(!bind(bound, &address.any, size_of(&address)), "bind");
    name_of_one[0] = name(bound, getsockname);
    failed = new_socket(AF_INET);
    fcntl(failed, F_SETFL, O_NONBLOCK);
    check(connect_to(failed, bound) && errno == EINPROGRESS, "connect to nobody"); /* it is bound, but does not listen */
    full = new_listener(AF_INET, 0);
    one[0] = new_socket(AF_INET);
    check(!connect_to(one[0], full), "connect"); /* more are not taken */
    connecting = new_socket(AF_INET);
    fcntl(connecting, F_SETFL, O_NONBLOCK);
    check(connect_to(connecting, full) && errno == EINPROGRESS, "connect and wait");
    return 1;
}

static int unconnected_are_there(void)
{
    union address now = name(bound, getsockname);

    if (memcmp(&now, &name_of_one[0], sizeof now) || events(bound) != (POLLOUT | POLLHUP) || events(unused) != (POLLOUT | POLLHUP))
        bad("not as new: %x %x", events(bound), events(unused));
    if (!(events(failed) & POLLERR) || events(connecting))
        bad("failed %x, connecting %x", events(failed), events(connecting));
    return 1;
}

static int unconnected_end(void)
{
    struct pollfd wait = { .fd = connecting, .events = POLLOUT };

    check(get(failed, SOL_SOCKET, SO_ERROR) == ECONNREFUSED && !get(failed, SOL_SOCKET, SO_ERROR), "error");
    check(!listen(bound, 1), "listen");
    check(!connect_to(unused, bound) || errno == EINVAL || errno == ENETUNREACH, "connect with the unused");
    close(accept(full, NULL, NULL));
    while (!poll(&wait, 1, 1000)) /* the kernel tries again after 1, 3, 7 seconds */
        continue;
    check(!get(connecting, SOL_SOCKET, SO_ERROR), "connected in the end");
    check(accept(full, NULL, NULL) >= 0, "accept in the end");
    return 1;
}

/* ---- options ---- */

static const struct {
    int level, name, value;
} wanted[] = {
    { IPPROTO_IP, IP_TOS, 0x10 }, /* sets the priority, too */
    { SOL_SOCKET, SO_KEEPALIVE, 1 },    { SOL_SOCKET, SO_OOBINLINE, 1 },    { SOL_SOCKET, SO_RCVLOWAT, 3 },
    { SOL_SOCKET, SO_PRIORITY, 5 },     { IPPROTO_TCP, TCP_NODELAY, 1 },    { IPPROTO_TCP, TCP_KEEPIDLE, 61 },
    { IPPROTO_TCP, TCP_KEEPINTVL, 17 }, { IPPROTO_TCP, TCP_KEEPCNT, 4 },    { IPPROTO_TCP, TCP_SYNCNT, 3 },
    { IPPROTO_TCP, TCP_LINGER2, 7 },    { IPPROTO_TCP, TCP_USER_TIMEOUT, 12345 }, { IPPROTO_TCP, 25 /* NOTSENT_LOWAT */, 4321 },
    { IPPROTO_IP, IP_TTL, 33 },         { IPPROTO_IP, IP_RECVERR, 1 },      { IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT },
};
enum { WANTED = sizeof wanted / sizeof wanted[0] };

static void set_all(int fd)
{
    for (int i = 0; i < WANTED; i++)
        set(fd, wanted[i].level, wanted[i].name, wanted[i].value);
    check(!setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), "TCP_CONGESTION");
}

static void all_are_set(int fd, const char *which)
{
    struct linger linger;
    struct timeval patience;
    char text[16] = "";
    socklen_t length = sizeof text;

    for (int i = 0; i < WANTED; i++)
        if (get(fd, wanted[i].level, wanted[i].name) != wanted[i].value)
            bad("%s: option %d of level %d is %d", which, wanted[i].name, wanted[i].level, get(fd, wanted[i].level, wanted[i].name));
    check(!getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text, &length) && !strcmp(text, "reno"), which);
    length = sizeof linger;
    check(!getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length) && linger.l_onoff == 1 && linger.l_linger == 3, which);
    length = sizeof patience;
    check(!getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, &length) && patience.tv_sec == 77, which);
}

static int make_options(void)
{
    const struct linger linger = { 1, 3 };
    const struct timeval patience = { .tv_sec = 77 };

    listener = new_listener(AF_INET, 7);
    set(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 7);
    set(listener, IPPROTO_TCP, TCP_FASTOPEN, 9);
    add_pair(second_listener = new_listener(AF_INET, 1), new_socket(AF_INET));
    unused = new_socket(AF_INET);
    int all[] = { listener, one[0], other[0], unused };
    for (int i = 0; i < 4; i++) {
        set_all(all[i]);
        setsockopt(all[i], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        setsockopt(all[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    set(unused, IPPROTO_TCP, TCP_MAXSEG, 999);
    close(second_listener);
    return 1;
}

static int options_are_kept(void)
{
    all_are_set(listener, "listener");
    all_are_set(one[0], "caller");
    all_are_set(other[0], "answerer");
    all_are_set(unused, "unused");
    check(get(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT) == 7 && get(listener, IPPROTO_TCP, TCP_FASTOPEN) == 9, "the listener's own");
    check(get(listener, SOL_SOCKET, SO_REUSEADDR) == 1 && get(one[0], SOL_SOCKET, SO_REUSEADDR) == 0 &&
              get(other[0], SOL_SOCKET, SO_REUSEADDR) == 1 && get(unused, SOL_SOCKET, SO_REUSEADDR) == 0,
          "SO_REUSEADDR");
    check(get(unused, IPPROTO_TCP, TCP_MAXSEG) == 999, "TCP_MAXSEG");
    return 1;
}

/* ---- calls that block ---- */

static volatile int blocked_done;

static void *in_accept(void *unused_argument)
{
    int fd = accept(listener, NULL, NULL);

    (void)unused_argument;
    check(fd >= 0, "accept");
    __atomic_fetch_add(&blocked_done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *in_receive(void *at)
{
    int i = *(int *)at;
    char bytes[8];
    long got = recv(other[i], bytes, 8, i == 1 ? MSG_WAITALL : 0);

    check(got == 8 && !memcmp(bytes, "12345678", 8), "recv");
    __atomic_fetch_add(&blocked_done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *in_send(void *at)
{
    static char much[1 << 20];
    int i = *(int *)at;

    for (long left = 20 << 20, sent; left; left -= sent) /* a signal may make any of them shorter */
        check((sent = send(one[i], much, left < (long)sizeof much ? (size_t)left : sizeof much, 0)) > 0, "send");
    __atomic_fetch_add(&blocked_done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *in_poll(void *at)
{
    int i = *(int *)at;
    struct pollfd wait = { .fd = other[i], .events = POLLIN };

    check(poll(&wait, 1, -1) == 1 && wait.revents == POLLIN, "poll");
    __atomic_fetch_add(&blocked_done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* To one who takes no more: it waits until somebody is accepted. */
static void *in_connect(void *at)
{
    const struct timeval patience = { .tv_sec = 3000 };
    int fd = new_socket(AF_INET);

    check(!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), "SO_SNDTIMEO");
    check(!connect_to(fd, *(int *)at), "connect");
    __atomic_fetch_add(&blocked_done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static int make_blocked(void)
{
    static int numbers[] = { 0, 1, 2, 3 };
    static void *(*const runs[])(void *) = { in_receive, in_receive, in_send, in_poll };
    const struct timeval patience = { .tv_sec = 3000 };
    pthread_t thread;

    listener = new_listener(AF_INET, 5);
    for (int i = 0; i < 4; i++)
        add_pair(listener, new_socket(AF_INET));
    check(!setsockopt(other[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
    check(!setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
    for (int i = 0; i < 4; i++)
        check(!pthread_create(&thread, NULL, runs[i], &numbers[i]), "thread");
    full = new_listener(AF_INET, 0);
    check(!connect_to(new_socket(AF_INET), full), "connect");
    return !pthread_create(&thread, NULL, in_connect, &full) && !pthread_create(&thread, NULL, in_accept, NULL);
}

static int nobody_is_done(void)
{
    return !blocked_done;
}

static int blocked_end(void)
{
    static char bytes[1 << 20];
    long left = 20 << 20, got;
    int caller = new_socket(AF_INET);

    check(!connect_to(caller, listener), "connect");
    check(send(one[0], "12345678", 8, 0) == 8 && send(one[1], "1234", 4, 0) == 4, "send");
    tick_sleep();
    check(send(one[1], "5678", 4, 0) == 4 && send(one[3], "x", 1, 0) == 1, "send");
    while (left && (got = recv(other[2], bytes, sizeof bytes, 0)) > 0)
        left -= got;
    check(accept(full, NULL, NULL) >= 0, "accept");
    while (blocked_done < 6)
        tick_sleep();
    return 1;
}

/* ---- a connection with a child, and a listener that both hold ---- */

static void raise_and_send_back(int fd)
{
    char bytes[4096];
    long got = recv(fd, bytes, sizeof bytes, 0);

    if (got <= 0)
        _exit(got != 0);
    for (long i = 0; i < got; i++)
        bytes[i]++;
    check(send(fd, bytes, (size_t)got, 0) == got, "send back");
}

static void __attribute__((noreturn)) be_the_child(void)
{
    struct pollfd wait[] = { { .fd = other[0], .events = POLLIN }, { .fd = listener, .events = POLLIN } };

    close(one[0]);
    for (;;) {
        if (poll(wait, 2, -1) <= 0)
            bad("poll in the child: %s", strerror(errno));
        if (wait[0].revents)
            raise_and_send_back(other[0]);
        if (wait[1].revents) {
            int fd = accept(listener, NULL, NULL);
            check(send(fd, "h", 1, 0) == 1, "greet"); /* what is sent before nobody could keep */
            raise_and_send_back(fd);
            close(fd);
        }
    }
}

static int make_family(void)
{
    listener = new_listener(AF_INET, 5);
    add_pair(listener, new_socket(AF_INET));
    if (!fork())
        be_the_child();
    return !close(other[0]);
}

static int child_answers(void)
{
    int fd = tick % 10 ? one[0] : new_socket(AF_INET);
    char bytes[4096], back[4096];

    if (fd != one[0])
        check(!connect_to(fd, listener) && recv(fd, back, 1, 0) == 1, "connect");
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)mix((uint64_t)tick * 5000 + i);
    size_t length = fd == one[0] ? sizeof bytes : 1;
    check(send(fd, bytes, length, 0) == (ssize_t)length, "send to the child");
    check(recv(fd, back, length, MSG_WAITALL) == (ssize_t)length, "hear from the child");
    for (size_t i = 0; i < length; i++)
        check(back[i] == (char)(bytes[i] + 1), "what the child says");
    if (fd != one[0])
        close(fd);
    return 1;
}

static int child_ends(void)
{
    int status;

    close(one[0]);
    return wait(&status) > 0 && !status;
}

/* ---- what leads out ---- */

static int make_outside(void)
{
    union address address = loopback(AF_INET);
    char answer[10];

    address.four.sin_port = htons((uint16_t)atoi(given));
    for (count = 0; count < 2; count++) {
        one[count] = new_socket(AF_INET);
        check(!connect(one[count], &address.any, size_of(&address)), "connect");
        name_of_one[count] = name(one[count], getsockname);
    }
    check(send(one[0], "hello", 5, 0) == 5, "send");
    while (recv(one[0], answer, 10, MSG_PEEK) < 10) /* it is there, and stays */
        continue;
    return 1;
}

static int outside_was_cut;

/* Until it is cut it can be used. */
static int outside_is_there(void)
{
    char bytes[10];
    int error = get(one[1], SOL_SOCKET, SO_ERROR);
    long got = recv(one[0], bytes, 10, MSG_PEEK | MSG_DONTWAIT);

    check(got == 10 && !memcmp(bytes, "helloworld", 10), "what had come");
    check(!error || (error == ECONNRESET && !outside_was_cut), "error");
    outside_was_cut |= error != 0;
    return 1;
}

static int outside_ends(void)
{
    union address now = name(one[1], getsockname);
    char bytes[10];

    check(outside_was_cut, "it was cut");
    check(!memcmp(&now, &name_of_one[1], sizeof now), "name");
    check(recv(one[0], bytes, 10, 0) == 10, "what had come");
    is_reset(one[0]);
    check(send(one[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "send");
    return 1;
}

/* The other side: answers whoever says hello, and keeps all connections. Its port is written to a file. */
static int serve(void)
{
    char bytes[5];
    int fd;

    listener = new_listener(AF_INET, 10);
    tell_port(listener, given);
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct pollfd wait = { .fd = fd, .events = POLLIN };
        if (count++ == 0 && poll(&wait, 1, -1) == 1 && recv(fd, bytes, 5, MSG_WAITALL) == 5)
            check(send(fd, "helloworld", 10, 0) == 10, "answer");
    }
    return 1;
}

static int make_urgent(void)
{
    listener = new_listener(AF_INET, 5);
    add_pair(listener, new_socket(AF_INET));
    return send(one[0], "abc", 3, MSG_OOB) == 3;
}

static int make_unaccepted_bytes(void)
{
    listener = new_listener(AF_INET, 5);
    one[0] = new_socket(AF_INET);
    return !connect_to(one[0], listener) && send(one[0], "abc", 3, 0) == 3;
}

static int make_closed_caller(void)
{
    listener = new_listener(AF_INET, 5);
    one[0] = new_socket(AF_INET);
    return !connect_to(one[0], listener) && send(one[0], "abc", 3, 0) == 3 && !close(one[0]);
}

static int nothing(void)
{
    return 1;
}

static const struct sort sorts[] = {
    { "pairs", make_pairs, pairs_talk, pairs_end },
    { "many", make_many, pairs_talk, pairs_end },
    { "odd", make_odd, odd_ones_talk, pairs_end },
    { "self", make_self, self_talks, NULL },
    { "full", make_full, full_ones_flow, NULL },
    { "halves", make_halves, halves_are_there, halves_end },
    { "backlog", make_backlog, the_next_is_accepted, NULL },
    { "unconnected", make_unconnected, unconnected_are_there, unconnected_end },
    { "options", make_options, options_are_kept, NULL },
    { "blocked", make_blocked, nobody_is_done, blocked_end },
    { "family", make_family, child_answers, child_ends },
    { "outside", make_outside, outside_is_there, outside_ends },
    { "urgent", make_urgent, nothing, NULL },
    { "unaccepted-bytes", make_unaccepted_bytes, nothing, NULL },
    { "closed-caller", make_closed_caller, nothing, NULL },
    { "server", serve, nothing, NULL },
    { 0 },
};

int main(int argc, char **argv)
{
    return run_sort(sorts, argc, argv, 120);
}
