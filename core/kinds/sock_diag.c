/* SPDX-License-Identifier: MIT */
#include "sock_diag.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 32768 }; /* NLMSG_GOODSIZE is 8 kB; a dump uses up to 32 kB (netlink(7)) */

static int ask(int link, const void *request, size_t length)
{
    struct nlmsghdr header = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(length),
                               .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                               .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP };
    struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
    struct iovec parts[] = { { .iov_base = &header, .iov_len = sizeof header },
                             { .iov_base = (void *)request, .iov_len = length } };
    struct msghdr message = { .msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = parts, .msg_iovlen = 2 };

    return sendmsg(link, &message, 0) < 0 ? -errno : 0;
}

static int end_of_dump(const struct nlmsghdr *header)
{
    int error = 0;

    if (header->nlmsg_len >= NLMSG_LENGTH(sizeof error))
        memcpy(&error, NLMSG_DATA(header), sizeof error);
    return error < 0 ? error : 0;
}

/* 1: there is more to come; 0 or -errno at the end. */
static int take_answers(const char *answers, size_t left, int (*each)(void *, const struct nlmsghdr *), void *context)
{
    int error = 0;

    for (const struct nlmsghdr *header = (const void *)answers; NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
        if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR)
            return end_of_dump(header);
        if (header->nlmsg_flags & NLM_F_DUMP_INTR)
            return -EAGAIN;
        if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY && (error = each(context, header)))
            return error;
    }
    return 1;
}

int sock_diag_dump(const void *request, size_t length, int (*each)(void *, const struct nlmsghdr *), void *context)
{
    static char answers[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    int link = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    int error = link < 0 ? -errno : ask(link, request, length);

    if (!error)
        error = 1;
    while (error == 1) {
        ssize_t got = recv(link, answers, sizeof answers, 0);
        if (got > 0)
            error = take_answers(answers, (size_t)got, each, context);
        else if (got == 0 || errno != EINTR)
            error = got ? -errno : -EPROTO;
    }
    if (link >= 0)
        close(link);
    return error;
}

const void *sock_diag_attribute(const struct nlmsghdr *message, size_t fixed, unsigned short type, size_t *ret_length)
{
    const struct rtattr *attribute = (const void *)((const char *)NLMSG_DATA(message) + NLMSG_ALIGN(fixed));
    size_t left = message->nlmsg_len - NLMSG_LENGTH(fixed);

    if (message->nlmsg_len < NLMSG_LENGTH(fixed))
        return NULL;
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
        if ((attribute->rta_type & NLA_TYPE_MASK) == type) {
            *ret_length = RTA_PAYLOAD(attribute);
            return RTA_DATA(attribute);
        }
    return NULL;
}
