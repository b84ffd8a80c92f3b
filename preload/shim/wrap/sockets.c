/* SPDX-License-Identifier: MIT */
/* Waits in sockets that have a time of their own (SO_RCVTIMEO, SO_SNDTIMEO). The kernel gives EINTR for them after a stop, and would
 * begin the whole time anew when they are made again. Until the program first asks for such a time, each wrapper is one branch. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../../core/floor/syscalls.h"
#include "wrap.h"

struct socket_wait {
    struct deadline deadline;
    struct timeval whole;
};

static void wait_begin(struct socket_wait *wait, int fd, int option)
{
    socklen_t length = sizeof wait->whole;

    wait->whole = (struct timeval){ 0 };
    SYS_CALL(getsockopt, fd, SOL_SOCKET, option, &wait->whole, &length, 0); /* fails for what is no socket */
    if (wait->whole.tv_sec || wait->whole.tv_usec)
        deadline_begin_socket(&wait->deadline, deadline_of_timeval(&wait->whole), fd, option);
}

/* The socket has what is left for its time only as long as this call lasts. Returns 1 when it was made again. */
static int wait_end(struct socket_wait *wait)
{
    if (!wait->whole.tv_sec && !wait->whole.tv_usec)
        return 0;
    deadline_end(&wait->deadline);
    if (!wait->deadline.is_shortened)
        return 0;
    SYS_CALL(setsockopt, wait->deadline.socket, SOL_SOCKET, wait->deadline.option, &wait->whole, sizeof wait->whole, 0);
    return 1;
}

/* The wait, and the first call, are apart: all others pay for a branch and a jump only. */
#define WRAP_SOCKET(result, name, option, parameters, arguments)        \
    NEXT_OF(name);                                                      \
    static __attribute__((noinline)) result rare_##name parameters      \
    {                                                                   \
        struct socket_wait wait;                                        \
        result got;                                                     \
        if (!shim.timed_sockets)                                        \
            return NEXT(name) arguments;                                \
        wait_begin(&wait, fd, option);                                  \
        got = NEXT(name) arguments;                                     \
        wait_end(&wait);                                                \
        return got;                                                     \
    }                                                                   \
    EXPORTED result name parameters                                     \
    {                                                                   \
        void *next = __atomic_load_n(&next_of_##name, __ATOMIC_RELAXED); \
        if (__builtin_expect(shim.timed_sockets || !next, 0))           \
            return rare_##name arguments;                               \
        return ((__typeof__(&name))next) arguments;                     \
    }

WRAP_SOCKET(ssize_t, recv, SO_RCVTIMEO, (int fd, void *to, size_t length, int flags), (fd, to, length, flags))
WRAP_SOCKET(ssize_t, recvfrom, SO_RCVTIMEO,
            (int fd, void *restrict to, size_t length, int flags, __SOCKADDR_ARG from, socklen_t *restrict from_length),
            (fd, to, length, flags, from, from_length))
WRAP_SOCKET(ssize_t, recvmsg, SO_RCVTIMEO, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP_SOCKET(int, recvmmsg, SO_RCVTIMEO, (int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *time),
            (fd, messages, count, flags, time))
WRAP_SOCKET(ssize_t, read, SO_RCVTIMEO, (int fd, void *to, size_t length), (fd, to, length))
WRAP_SOCKET(ssize_t, readv, SO_RCVTIMEO, (int fd, const struct iovec *parts, int count), (fd, parts, count))
WRAP_SOCKET(int, accept, SO_RCVTIMEO, (int fd, __SOCKADDR_ARG from, socklen_t *restrict length), (fd, from, length))
WRAP_SOCKET(int, accept4, SO_RCVTIMEO, (int fd, __SOCKADDR_ARG from, socklen_t *restrict length, int flags),
            (fd, from, length, flags))
WRAP_SOCKET(ssize_t, send, SO_SNDTIMEO, (int fd, const void *from, size_t length, int flags), (fd, from, length, flags))
WRAP_SOCKET(ssize_t, sendto, SO_SNDTIMEO,
            (int fd, const void *from, size_t length, int flags, __CONST_SOCKADDR_ARG to, socklen_t to_length),
            (fd, from, length, flags, to, to_length))
WRAP_SOCKET(ssize_t, sendmsg, SO_SNDTIMEO, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP_SOCKET(int, sendmmsg, SO_SNDTIMEO, (int fd, struct mmsghdr *messages, unsigned count, int flags), (fd, messages, count, flags))
WRAP_SOCKET(ssize_t, write, SO_SNDTIMEO, (int fd, const void *from, size_t length), (fd, from, length))
WRAP_SOCKET(ssize_t, writev, SO_SNDTIMEO, (int fd, const struct iovec *parts, int count), (fd, parts, count))

/* What fortified programs call. */
extern ssize_t __read_chk(int fd, void *to, size_t length, size_t room);
extern ssize_t __recv_chk(int fd, void *to, size_t length, size_t room, int flags);
extern ssize_t __recvfrom_chk(int fd, void *restrict to, size_t length, size_t room, int flags, __SOCKADDR_ARG from,
                              socklen_t *restrict from_length);
WRAP_SOCKET(ssize_t, __read_chk, SO_RCVTIMEO, (int fd, void *to, size_t length, size_t room), (fd, to, length, room))
WRAP_SOCKET(ssize_t, __recv_chk, SO_RCVTIMEO, (int fd, void *to, size_t length, size_t room, int flags),
            (fd, to, length, room, flags))
WRAP_SOCKET(ssize_t, __recvfrom_chk, SO_RCVTIMEO,
            (int fd, void *restrict to, size_t length, size_t room, int flags, __SOCKADDR_ARG from,
             socklen_t *restrict from_length),
            (fd, to, length, room, flags, from, from_length))

NEXT_OF(connect);

/* A connection that was begun goes on; what its time would have ended with is EINPROGRESS, not what the second call gives. */
EXPORTED int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t length)
{
    struct socket_wait wait;
    int got;

    if (__builtin_expect(!shim.timed_sockets, 1))
        return NEXT(connect)(fd, to, length);
    wait_begin(&wait, fd, SO_SNDTIMEO);
    got = NEXT(connect)(fd, to, length);
    if (wait_end(&wait) && got && errno == EALREADY)
        errno = EINPROGRESS;
    return got;
}

NEXT_OF(setsockopt);

enum { RECEIVE_TIME_OF_64_BITS = 66, SEND_TIME_OF_64_BITS }; /* SO_RCVTIMEO_NEW and SO_SNDTIMEO_NEW, 5.1 */

EXPORTED int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    if (level == SOL_SOCKET && (option == SO_RCVTIMEO || option == SO_SNDTIMEO || option == RECEIVE_TIME_OF_64_BITS ||
                                option == SEND_TIME_OF_64_BITS))
        shim.timed_sockets = 1; /* before it is: it may be waited for at once */
    return NEXT(setsockopt)(fd, level, option, value, length);
}
