/* SPDX-License-Identifier: MIT */
#include "passing.h"

#include <errno.h>
#include <sys/socket.h>

#include "agent_page.h"
#include "syscalls.h"

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(AGENT_MAX_HANDLES * sizeof(int))];
};

long passing_send(int socket, const int *descriptors, size_t count)
{
    union control control = { 0 };
    char byte = 'd';
    struct iovec vector = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
    long result;

    control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int)) };
    __builtin_memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
    result = SYS_CALL(sendmsg, socket, &message, MSG_NOSIGNAL, 0, 0, 0);
    return result < 0 ? result : 0;
}

long passing_receive(int socket, int *ret_descriptors, size_t count, int flags)
{
    union control control = { 0 };
    char byte;
    struct iovec vector = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    long got = SYS_CALL(recvmsg, socket, &message, flags | MSG_CMSG_CLOEXEC, 0, 0, 0);

    if (got < 0)
        return got;
    if (!got || control.header.cmsg_type != SCM_RIGHTS || control.header.cmsg_len != CMSG_LEN(count * sizeof(int)))
        return -EPROTO;
    __builtin_memcpy(ret_descriptors, CMSG_DATA(&control.header), count * sizeof(int));
    return 0;
}
