/* SPDX-License-Identifier: MIT */
/* Unix sockets. unix MODE: sets up what the mode says in the working directory, says ready, waits until it is released, and then uses and
 * checks all of it, down to the last byte. */
#include "guest.h"

#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MUST(what) must((what) >= 0, #what, __LINE__)
#define IS(what) must(what, #what, __LINE__)

static void must(int holds, const char *what, int line)
{
    if (!holds)
        bad("line %d: %s: %s", line, what, strerror(errno));
}

static void wait_until_released(void)
{
    ready();
    do
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    while (is_held());
}

static void pair(int type, int ends[2])
{
    MUST(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
}

static char pattern_byte(uint64_t seed, size_t at)
{
    return (char)mix(seed * 1000003 + at);
}

static void send_pattern(int fd, uint64_t seed, size_t length)
{
    char *bytes = malloc(length + 1);

    for (size_t i = 0; i < length; i++)
        bytes[i] = pattern_byte(seed, i);
    for (size_t at = 0; at < length || !length;) {
        ssize_t sent = send(fd, bytes + at, length - at, MSG_NOSIGNAL);
        MUST(sent);
        if (!length)
            break;
        at += (size_t)sent;
    }
    free(bytes);
}

static void read_pattern(int fd, uint64_t seed, size_t length)
{
    char bytes[8192];

    for (size_t at = 0; at < length;) {
        size_t most = length - at < sizeof bytes ? length - at : sizeof bytes;
        ssize_t got = recv(fd, bytes, most, MSG_DONTWAIT);
        if (got <= 0)
            bad("%zu bytes of %zu, then %zd: %s", at, length, got, strerror(errno));
        for (ssize_t i = 0; i < got; i++)
            if (bytes[i] != pattern_byte(seed, at + (size_t)i))
                bad("byte %zu of %zu is wrong", at + (size_t)i, length);
        at += (size_t)got;
    }
}

/* One message, whole. */
static void read_message(int fd, uint64_t seed, size_t length)
{
    static char bytes[262144];
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

    if (got != (ssize_t)length)
        bad("a message of %zd bytes in place of %zu: %s", got, length, strerror(errno));
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != pattern_byte(seed, i))
            bad("byte %zu of a message of %zu is wrong", i, length);
}

static void is_empty(int fd)
{
    char byte;

    if (recv(fd, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
        bad("something is left in %d: %s", fd, strerror(errno));
}

static void is_over(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);

    if (got)
        bad("no end in %d: %zd, %s", fd, got, strerror(errno));
}

static void talk(int one, int other)
{
    send_pattern(one, 71, 300);
    read_pattern(other, 71, 300);
    send_pattern(other, 72, 5);
    read_pattern(one, 72, 5);
}

static socklen_t name(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    strcpy(address->sun_path + (*path == '@'), path + (*path == '@'));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + (*path != '@'));
}

static int bound(int type, const char *path)
{
    struct sockaddr_un address;
    socklen_t length = name(&address, path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    MUST(fd);
    MUST(bind(fd, (struct sockaddr *)&address, length));
    return fd;
}

static int connect_path(int fd, const char *path)
{
    struct sockaddr_un address;
    socklen_t length = name(&address, path);
    return connect(fd, (struct sockaddr *)&address, length);
}

static int connected(int type, const char *path)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    MUST(fd);
    MUST(connect_path(fd, path));
    return fd;
}

/* `path` NULL: no name */
static void is_named(const struct sockaddr_un *address, socklen_t length, const char *path)
{
    struct sockaddr_un wanted;
    socklen_t wanted_length = path ? name(&wanted, path) : sizeof wanted.sun_family;

    if (length != wanted_length || (path && memcmp(address->sun_path, wanted.sun_path, length - offsetof(struct sockaddr_un, sun_path))))
        bad("an address of %u bytes, '%.*s', in place of '%s'", length, (int)length - 2, address->sun_path, path ? path : "none");
}

static void has_name(int fd, const char *path)
{
    struct sockaddr_un address;
    socklen_t length = sizeof address;

    MUST(getsockname(fd, (struct sockaddr *)&address, &length));
    is_named(&address, length, path);
}

static void has_peer(int fd, const char *path)
{
    struct sockaddr_un address;
    socklen_t length = sizeof address;

    MUST(getpeername(fd, (struct sockaddr *)&address, &length));
    is_named(&address, length, path);
}

static void has_maker(int fd, pid_t pid)
{
    struct ucred peer;
    socklen_t length = sizeof peer;

    MUST(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    if (peer.pid != pid || (pid && (peer.uid != getuid() || peer.gid != getgid())))
        bad("process %d, user %d made the other end, in place of process %d", (int)peer.pid, (int)peer.uid, (int)pid);
}

static int option(int fd, int which)
{
    int value = -1;
    socklen_t length = sizeof value;

    MUST(getsockopt(fd, SOL_SOCKET, which, &value, &length));
    return value;
}

static void set(int fd, int which, int value)
{
    MUST(setsockopt(fd, SOL_SOCKET, which, &value, sizeof value));
}

/* ---- modes ---- */

static void stream(void)
{
    int ends[2], copy;

    pair(SOCK_STREAM, ends);
    copy = dup(ends[1]);
    MUST(copy);
    MUST(fcntl(ends[0], F_SETFL, O_NONBLOCK));
    send_pattern(ends[0], 1, 90000);
    send_pattern(ends[1], 2, 17);
    wait_until_released();
    IS(fcntl(ends[0], F_GETFL) & O_NONBLOCK && !(fcntl(ends[1], F_GETFL) & O_NONBLOCK));
    IS(fcntl(ends[0], F_GETFD) == FD_CLOEXEC && fcntl(copy, F_GETFD) == 0);
    has_name(ends[0], NULL);
    has_peer(ends[0], NULL);
    has_maker(ends[0], getpid());
    read_pattern(copy, 1, 90000);
    is_empty(ends[1]);
    read_pattern(ends[0], 2, 17);
    is_empty(ends[0]);
    talk(ends[0], copy);
    close(copy);
    close(ends[1]);
    is_over(ends[0]);
}

/* On a standard stream, but with both ends here: no other can take its place. */
static void standard_input(void)
{
    int ends[2];

    pair(SOCK_STREAM, ends);
    MUST(dup2(ends[0], 0));
    close(ends[0]);
    send_pattern(ends[1], 1, 100);
    wait_until_released();
    read_pattern(0, 1, 100);
    talk(0, ends[1]);
}

static void messages(int type)
{
    int ends[2];

    pair(type, ends);
    for (size_t i = 1; i <= 5; i++)
        send_pattern(ends[0], i, i * 100);
    send_pattern(ends[0], 6, 100000);
    send_pattern(ends[0], 7, 0);
    send_pattern(ends[0], 8, 1);
    send_pattern(ends[1], 9, 33);
    wait_until_released();
    for (size_t i = 1; i <= 5; i++)
        read_message(ends[1], i, i * 100);
    read_message(ends[1], 6, 100000);
    read_message(ends[1], 7, 0);
    read_message(ends[1], 8, 1);
    is_empty(ends[1]);
    read_message(ends[0], 9, 33);
    is_empty(ends[0]);
    has_maker(ends[0], getpid());
    talk(ends[0], ends[1]);
}

static void datagram(void)
{
    messages(SOCK_DGRAM);
}

static void packet(void)
{
    messages(SOCK_SEQPACKET);
}

static void half(int type)
{
    int ends[2], both[2], deaf[2];

    pair(type, ends);
    send_pattern(ends[0], 1, 1000);
    MUST(shutdown(ends[0], SHUT_WR));
    send_pattern(ends[1], 2, 10);
    pair(type, both);
    send_pattern(both[0], 3, 20);
    MUST(shutdown(both[0], SHUT_RDWR));
    pair(type, deaf);
    send_pattern(deaf[1], 4, 30);
    MUST(shutdown(deaf[0], SHUT_RD));
    wait_until_released();
    read_pattern(ends[1], 1, 1000);
    is_over(ends[1]);
    IS(send(ends[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    send_pattern(ends[1], 5, 10);
    read_pattern(ends[0], 2, 10);
    read_pattern(ends[0], 5, 10);
    is_empty(ends[0]);
    read_pattern(both[1], 3, 20);
    is_over(both[1]);
    is_over(both[0]);
    IS(send(both[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    read_pattern(deaf[0], 4, 30);
    is_over(deaf[0]);
    IS(send(deaf[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    send_pattern(deaf[0], 6, 40);
    read_pattern(deaf[1], 6, 40);
}

static void shut(void)
{
    half(SOCK_STREAM);
    half(SOCK_SEQPACKET);
}

static void closed(void)
{
    int ends[2], reset[2], packets[2], datagrams[2], silent[2];
    char byte;

    pair(SOCK_STREAM, ends);
    send_pattern(ends[0], 1, 5000);
    close(ends[0]);
    pair(SOCK_STREAM, reset);
    send_pattern(reset[0], 2, 50);
    send_pattern(reset[1], 3, 1);
    close(reset[0]);
    pair(SOCK_SEQPACKET, packets);
    send_pattern(packets[0], 4, 60);
    send_pattern(packets[0], 5, 61);
    close(packets[0]);
    pair(SOCK_DGRAM, datagrams);
    send_pattern(datagrams[0], 6, 70);
    close(datagrams[0]);
    pair(SOCK_SEQPACKET, silent);
    send_pattern(silent[1], 7, 80);
    close(silent[0]);
    wait_until_released();
    read_pattern(ends[1], 1, 5000);
    is_over(ends[1]);
    IS(send(ends[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    read_pattern(reset[1], 2, 50);
    IS(recv(reset[1], &byte, 1, 0) == -1 && errno == ECONNRESET);
    is_over(reset[1]);
    read_message(packets[1], 4, 60);
    read_message(packets[1], 5, 61);
    is_over(packets[1]);
    read_message(datagrams[1], 6, 70);
    is_empty(datagrams[1]);
    IS(send(datagrams[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED);
    IS(send(datagrams[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == ENOTCONN);
    IS(recv(silent[1], &byte, 1, 0) == -1 && errno == ECONNRESET);
    is_over(silent[1]);
}

static int accept_from(int listener, const char *peer)
{
    struct sockaddr_un address;
    socklen_t length = sizeof address;
    int fd = accept(listener, (struct sockaddr *)&address, &length);

    MUST(fd);
    is_named(&address, length, peer);
    return fd;
}

/* A socket that listens, one connection that is accepted, two that wait, and no room for more. */
static void listening(int type, const char *path, const char *first_name, const char *second_name)
{
    int listener = bound(type, path), client, accepted, waiting[2], late;

    MUST(listen(listener, 1));
    client = connected(type, path);
    accepted = accept_from(listener, NULL);
    send_pattern(client, 1, 400);
    send_pattern(accepted, 2, 500);
    waiting[0] = bound(type, first_name);
    MUST(connect_path(waiting[0], path));
    waiting[1] = bound(type, second_name);
    MUST(connect_path(waiting[1], path));
    MUST(shutdown(waiting[1], SHUT_WR));
    late = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    wait_until_released();
    IS(option(listener, SO_ACCEPTCONN) == 1);
    has_name(listener, path);
    has_name(accepted, path);
    has_name(client, NULL);
    has_peer(client, path);
    has_peer(accepted, NULL);
    has_maker(client, getpid());
    has_maker(accepted, getpid());
    read_pattern(accepted, 1, 400);
    read_pattern(client, 2, 500);
    talk(client, accepted);
    IS(connect_path(late, path) == -1 && errno == EAGAIN);
    int first = accept_from(listener, first_name), second = accept_from(listener, second_name);
    has_maker(first, getpid());
    talk(first, waiting[0]);
    is_over(second);
    send_pattern(second, 3, 9);
    read_pattern(waiting[1], 3, 9);
    MUST(connect_path(late, path));
    talk(accept_from(listener, NULL), late);
}

static void listens(void)
{
    listening(SOCK_STREAM, "server.sock", "first.sock", "second.sock");
}

static void abstract(void)
{
    char names[3][64];

    for (int i = 0; i < 3; i++)
        snprintf(names[i], sizeof names[i], "@stasis-guest-%d-%d", i, getpid());
    listening(SOCK_SEQPACKET, names[0], names[1], names[2]);
}

static void receive_from(int fd, const char *sender, uint64_t seed, size_t length)
{
    struct sockaddr_un address;
    socklen_t address_length = sizeof address;
    char byte;

    memset(&address, 0, sizeof address);
    MUST(recvfrom(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, (struct sockaddr *)&address, &address_length));
    if (sender || address_length)
        is_named(&address, address_length, sender);
    read_message(fd, seed, length);
}

static void send_to(int fd, const char *path, uint64_t seed, size_t length)
{
    struct sockaddr_un address;
    socklen_t address_length = name(&address, path);
    char bytes[2048];

    for (size_t i = 0; i < length; i++)
        bytes[i] = pattern_byte(seed, i);
    IS(sendto(fd, bytes, length, 0, (struct sockaddr *)&address, address_length) == (ssize_t)length);
}

static void addresses(void)
{
    int server = bound(SOCK_DGRAM, "server.sock"), named = bound(SOCK_DGRAM, "named.sock"), gone = bound(SOCK_DGRAM, "gone.sock");
    int nameless = socket(AF_UNIX, SOCK_DGRAM, 0), one = bound(SOCK_DGRAM, "one.sock"), other = bound(SOCK_DGRAM, "@stasis-guest-other");
    int orphan = socket(AF_UNIX, SOCK_DGRAM, 0), lost = bound(SOCK_DGRAM, "lost.sock"), automatic = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un own;
    socklen_t length = sizeof own;

    send_to(named, "server.sock", 1, 100);
    send_to(nameless, "server.sock", 2, 0);
    send_to(gone, "server.sock", 3, 300);
    send_to(named, "server.sock", 4, 400);
    close(gone);
    unlink("gone.sock");
    MUST(connect_path(named, "server.sock"));
    MUST(connect_path(one, "@stasis-guest-other"));
    MUST(connect_path(other, "one.sock"));
    send_pattern(one, 5, 50);
    MUST(connect_path(orphan, "lost.sock"));
    close(lost);
    unlink("lost.sock");
    MUST(bind(automatic, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX }, sizeof own.sun_family));
    MUST(getsockname(automatic, (struct sockaddr *)&own, &length));
    wait_until_released();
    receive_from(server, "named.sock", 1, 100);
    receive_from(server, NULL, 2, 0);
    receive_from(server, "gone.sock", 3, 300);
    receive_from(server, "named.sock", 4, 400);
    is_empty(server);
    send_pattern(named, 6, 60);
    receive_from(server, "named.sock", 6, 60);
    send_to(server, "named.sock", 7, 70);
    receive_from(named, "server.sock", 7, 70);
    has_peer(named, "server.sock");
    has_maker(named, 0);
    receive_from(other, "one.sock", 5, 50);
    talk(one, other);
    has_peer(orphan, "lost.sock");
    IS(send(orphan, "x", 1, MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED);
    struct sockaddr_un now;
    socklen_t now_length = sizeof now;
    MUST(getsockname(automatic, (struct sockaddr *)&now, &now_length));
    IS(now_length == length && !memcmp(&now, &own, length));
    struct sockaddr_un to = own;
    IS(sendto(nameless, "y", 1, 0, (struct sockaddr *)&to, length) == 1);
    IS(sendto(server, "z", 1, 0, (struct sockaddr *)&to, length) == 1);
}

/* Files that are no more where they were, or never were there by an absolute path. */
static void paths(void)
{
    char absolute[108], gone[108], directory[80];
    int deleted, again, full, client;

    IS(getcwd(directory, sizeof directory) != NULL);
    snprintf(gone, sizeof gone, "%s/deleted.sock", directory);
    deleted = bound(SOCK_STREAM, gone);
    MUST(listen(deleted, 5));
    unlink("deleted.sock");
    again = bound(SOCK_STREAM, gone);
    MUST(listen(again, 5));
    snprintf(absolute, sizeof absolute, "%s/full.sock", directory);
    full = bound(SOCK_STREAM, absolute);
    wait_until_released();
    has_name(full, absolute);
    MUST(listen(full, 3));
    close(connected(SOCK_STREAM, "full.sock"));
    has_name(deleted, gone);
    has_name(again, gone);
    client = connected(SOCK_STREAM, "deleted.sock");
    talk(client, accept_from(again, NULL));
    MUST(fcntl(deleted, F_SETFL, O_NONBLOCK));
    IS(accept(deleted, NULL, NULL) == -1 && errno == EAGAIN);
}

static void datagram_paths(void)
{
    int sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    char absolute[108], directory[80];
    int renamed, relative;
    struct stat status;

    IS(getcwd(directory, sizeof directory) != NULL);
    snprintf(absolute, sizeof absolute, "%s/draft.sock", directory);
    renamed = bound(SOCK_DGRAM, absolute);
    MUST(rename("draft.sock", "final.sock"));
    mkdir("below", 0700);
    relative = bound(SOCK_DGRAM, "below/../below/./relative.sock");
    MUST(chmod("below/relative.sock", 0640));
    wait_until_released();
    has_name(renamed, absolute);
    has_name(relative, "below/../below/./relative.sock");
    MUST(stat("below/relative.sock", &status));
    IS((status.st_mode & 07777) == 0640);
    IS(access("draft.sock", F_OK) == -1);
    send_to(sender, "final.sock", 1, 10);
    read_message(renamed, 1, 10);
    send_to(sender, "below/relative.sock", 2, 20);
    read_message(relative, 2, 20);
}

static struct timeval timeout_of(int fd, int which)
{
    struct timeval time;
    socklen_t length = sizeof time;

    MUST(getsockopt(fd, SOL_SOCKET, which, &time, &length));
    return time;
}

static void options(void)
{
    struct timeval patience = { .tv_sec = 7, .tv_usec = 500000 };
    struct linger linger = { .l_onoff = 1, .l_linger = 9 }, linger_now;
    socklen_t length = sizeof linger_now;
    int ends[2], usual = 0, small, large;

    pair(SOCK_STREAM, ends);
    usual = option(ends[1], SO_SNDBUF);
    send_pattern(ends[1], 1, 60000);
    set(ends[0], SO_SNDBUF, 30000);
    set(ends[0], SO_RCVBUF, 40000);
    set(ends[1], SO_SNDBUF, 5000); /* less than is on its way */
    small = option(ends[1], SO_SNDBUF);
    large = option(ends[0], SO_RCVBUF);
    set(ends[0], SO_KEEPALIVE, 1);
    set(ends[0], SO_PRIORITY, 4);
    set(ends[0], SO_RCVLOWAT, 3000);
    set(ends[0], SO_TIMESTAMPNS, 1);
    set(ends[0], SO_PEEK_OFF, 100);
    MUST(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
    MUST(setsockopt(ends[1], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience));
    MUST(setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    wait_until_released();
    IS(option(ends[0], SO_SNDBUF) == 60000 && option(ends[1], SO_SNDBUF) == small && option(ends[0], SO_RCVBUF) == large);
    IS(option(ends[1], SO_RCVBUF) == usual);
    IS(option(ends[0], SO_KEEPALIVE) == 1 && option(ends[1], SO_KEEPALIVE) == 0);
    IS(option(ends[0], SO_PRIORITY) == 4 && option(ends[0], SO_RCVLOWAT) == 3000 && option(ends[0], SO_TIMESTAMPNS) == 1);
    IS(option(ends[0], SO_PEEK_OFF) == 100 && option(ends[1], SO_PEEK_OFF) == -1);
    IS(timeout_of(ends[0], SO_RCVTIMEO).tv_sec == 7 && timeout_of(ends[0], SO_RCVTIMEO).tv_usec == 500000);
    IS(timeout_of(ends[1], SO_SNDTIMEO).tv_sec == 7 && timeout_of(ends[1], SO_RCVTIMEO).tv_sec == 0);
    MUST(getsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger_now, &length));
    IS(!memcmp(&linger, &linger_now, sizeof linger));
    read_pattern(ends[0], 1, 60000);
}

/* Who sent the next byte. */
static void has_sender(int fd, pid_t pid, char byte)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char got = 0;
    struct iovec vector = { .iov_base = &got, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct ucred sender;

    IS(recvmsg(fd, &message, MSG_DONTWAIT) == 1 && got == byte);
    IS(message.msg_controllen && control.header.cmsg_type == SCM_CREDENTIALS);
    memcpy(&sender, CMSG_DATA(&control.header), sizeof sender);
    if (sender.pid != pid || sender.uid != getuid() || sender.gid != getgid())
        bad("'%c' was sent by process %d, not %d", byte, (int)sender.pid, (int)pid);
}

/* Children that connect and send, and are gone. */
static void makers(void)
{
    int listener = bound(SOCK_STREAM, "server.sock"), client = socket(AF_UNIX, SOCK_STREAM, 0), accepted, streams[2], datagrams[2], state;
    pid_t child;

    MUST(listen(listener, 5));
    pair(SOCK_STREAM, streams);
    pair(SOCK_DGRAM, datagrams);
    set(streams[1], SO_PASSCRED, 1);
    set(datagrams[1], SO_PASSCRED, 1);
    MUST(send(streams[0], "abc", 3, 0));
    MUST(send(datagrams[0], "m", 1, 0));
    child = fork();
    MUST(child);
    if (!child) {
        MUST(connect_path(client, "server.sock"));
        MUST(send(streams[0], "de", 2, 0));
        MUST(send(datagrams[0], "n", 1, 0));
        _exit(0);
    }
    IS(waitpid(child, &state, 0) == child && !state);
    MUST(send(streams[0], "f", 1, 0));
    accepted = accept_from(listener, NULL);
    wait_until_released();
    has_maker(accepted, child);
    has_maker(client, getpid());
    has_maker(streams[0], getpid());
    for (const char *byte = "abcdef"; *byte; byte++)
        has_sender(streams[1], *byte == 'd' || *byte == 'e' ? child : getpid(), *byte);
    has_sender(datagrams[1], getpid(), 'm');
    has_sender(datagrams[1], child, 'n');
    IS(option(streams[1], SO_PASSCRED) == 1 && option(streams[0], SO_PASSCRED) == 0);
    is_empty(streams[1]);
    has_name(streams[0], NULL);
    talk(client, accepted);
}

static void many(void)
{
    struct rlimit limit;
    int pairs = getenv("GUEST_PAIRS") ? atoi(getenv("GUEST_PAIRS")) : 600;

    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    int (*ends)[2] = calloc((size_t)pairs, sizeof *ends);
    for (int i = 0; i < pairs; i++) {
        pair(i % 2 ? SOCK_STREAM : SOCK_DGRAM, ends[i]);
        send_pattern(ends[i][0], (uint64_t)i, 20);
    }
    wait_until_released();
    for (int i = 0; i < pairs; i++) {
        read_pattern(ends[i][1], (uint64_t)i, 20);
        talk(ends[i][0], ends[i][1]);
    }
}

/* ---- with another program ---- */

/* For the other program: a stream that says hello to who comes, and says back what it hears; and a log of datagrams in log.txt. */
static void serve(void)
{
    int listener = bound(SOCK_STREAM, "outside.sock"), log, file, fd;
    char path[108], directory[80], byte;

    IS(getcwd(directory, sizeof directory) != NULL);
    snprintf(path, sizeof path, "%s/log.sock", directory);
    log = bound(SOCK_DGRAM, path);
    MUST(listen(listener, 5));
    MUST(file = open("log.txt", O_WRONLY | O_CREAT | O_APPEND, 0644));
    ready();
    for (struct pollfd wait[] = { { .fd = listener, .events = POLLIN }, { .fd = log, .events = POLLIN } };;) {
        MUST(poll(wait, 2, -1));
        if (wait[0].revents) {
            MUST(fd = accept(listener, NULL, NULL));
            MUST(send(fd, "hello", 5, 0));
            if (recv(fd, &byte, 1, 0) == 1)
                MUST(send(fd, &byte, 1, 0));
            close(fd);
        }
        if (wait[1].revents && recv(log, &byte, 1, 0) == 1)
            MUST(write(file, &byte, 1));
    }
}

/* Is this a life after the connection broke? The test says so by a file. */
static int is_cut(void)
{
    return !access("cut", F_OK);
}

static void outside(void)
{
    int fd = connected(SOCK_STREAM, "outside.sock");
    char got[8];

    IS(recv(fd, got, 2, MSG_WAITALL) == 2 && !memcmp(got, "he", 2));
    while (recv(fd, got, 3, MSG_PEEK) != 3)
        continue;
    wait_until_released();
    has_peer(fd, "outside.sock");
    IS(recv(fd, got, 3, MSG_WAITALL) == 3 && !memcmp(got, "llo", 3));
    if (is_cut()) {
        IS(recv(fd, got, 1, 0) == -1 && errno == ECONNRESET);
        is_over(fd);
        IS(send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    } else
        IS(send(fd, "x", 1, 0) == 1 && recv(fd, got, 1, 0) == 1 && *got == 'x');
}

/* As syslog does. */
static void logs(void)
{
    int fd = connected(SOCK_DGRAM, "log.sock");

    MUST(send(fd, "a", 1, 0));
    wait_until_released();
    if (is_cut())
        IS(send(fd, "b", 1, 0) == -1 && errno == ECONNREFUSED);
    else
        MUST(send(fd, "b", 1, 0));
}

/* ---- what is refused, as long as it is there ---- */

static void rights(void)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    char byte = 'r';
    struct iovec vector = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    int ends[2], sent[2];

    pair(SOCK_STREAM, ends);
    MUST(pipe(sent));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &sent[0], sizeof(int));
    MUST(send(ends[0], "before", 6, 0));
    MUST(sendmsg(ends[0], &message, 0));
    wait_until_released();
    char bytes[8];
    IS(recv(ends[1], bytes, 6, 0) == 6 && !memcmp(bytes, "before", 6));
    memset(&control, 0, sizeof control);
    IS(recvmsg(ends[1], &message, 0) == 1 && byte == 'r' && control.header.cmsg_type == SCM_RIGHTS);
    int got;
    memcpy(&got, CMSG_DATA(&control.header), sizeof got);
    IS(write(sent[1], "p", 1) == 1 && read(got, &byte, 1) == 1 && byte == 'p');
}

static void urgent(void)
{
    int ends[2];
    char byte;

    pair(SOCK_STREAM, ends);
    if (send(ends[0], "u", 1, MSG_OOB) < 0) {
        puts("none"); /* before Linux 5.15 */
        return;
    }
    wait_until_released();
    IS(recv(ends[1], &byte, 1, MSG_OOB) == 1 && byte == 'u');
}

static void early(void)
{
    int listener = bound(SOCK_STREAM, "server.sock"), client;

    MUST(listen(listener, 5));
    client = connected(SOCK_STREAM, "server.sock");
    send_pattern(client, 1, 10);
    wait_until_released();
    read_pattern(accept_from(listener, NULL), 1, 10);
}

static void early_closed(void)
{
    int listener = bound(SOCK_STREAM, "server.sock"), client;

    MUST(listen(listener, 5));
    client = connected(SOCK_STREAM, "server.sock");
    send_pattern(client, 1, 10);
    close(client);
    wait_until_released();
    read_pattern(accept_from(listener, NULL), 1, 10);
}

static void relative(void)
{
    int listener = bound(SOCK_STREAM, "server.sock");

    MUST(listen(listener, 5));
    mkdir("elsewhere", 0700);
    MUST(chdir("elsewhere"));
    wait_until_released();
    int client = connected(SOCK_STREAM, "../server.sock");
    talk(client, accept_from(listener, NULL));
}

static void netlink(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);

    MUST(fd);
    wait_until_released();
    IS(option(fd, SO_DOMAIN) == AF_NETLINK);
}


int main(int count, char **arguments)
{
    static const struct {
        const char *word;
        void (*run)(void);
    } modes[] = {
        { "stream", stream }, { "stdin", standard_input }, { "datagram", datagram }, { "packet", packet }, { "shut", shut },   { "closed", closed },
        { "listens", listens }, { "abstract", abstract }, { "addresses", addresses }, { "paths", paths }, { "datagram-paths", datagram_paths },
        { "options", options }, { "makers", makers }, { "many", many },
        { "serve", serve }, { "outside", outside }, { "logs", logs },
        { "rights", rights }, { "urgent", urgent }, { "early", early }, { "early-closed", early_closed }, { "relative", relative },
        { "netlink", netlink },
    };

    if (getenv("GUEST_UNDUMPABLE"))
        prctl(PR_SET_DUMPABLE, 0);
    for (size_t i = 0; count > 1 && i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(modes[i].word, arguments[1])) {
            modes[i].run();
            puts("OK");
            return 0;
        }
    bad("what?");
}
