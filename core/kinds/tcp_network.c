/* SPDX-License-Identifier: MIT */
/* A network of our own, for connections that lead nowhere else: both ends come back, or the other one is gone. A socket
 * belongs to the network it was made in and stays there, while the program itself is in the host's. So such a
 * connection has its old addresses and ports, whoever has them on the host by now, and whatever of the old connection
 * the kernel still keeps there. */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tcp.h"

enum { LOOPBACK = 1 /* its index in every network */ };

static int bring_up(void)
{
    struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), error = fd < 0 ? -errno : 0;

    if (!error && ioctl(fd, SIOCSIFFLAGS, &loopback))
        error = -errno;
    if (fd >= 0)
        close(fd);
    return error;
}

/* Makes the network when it is entered first; its handle keeps it. */
static int enter(struct restoring *restoring)
{
    int error, fd;

    if (restoring->network)
        return setns(restoring->network, CLONE_NEWNET) ? -errno : 0;
    if (unshare(CLONE_NEWNET))
        return -errno;
    if ((error = bring_up()))
        return error;
    fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    fd = fd < 0 ? -errno : descriptor_lift(restoring, fd);
    if (fd < 0)
        return fd;
    restoring->network = fd;
    return 0;
}

struct errand {
    struct restoring *restoring;
    int (*work)(void *context);
    void *context;
    int result;
};

static void *run(void *argument)
{
    struct errand *errand = argument;

    errand->result = enter(errand->restoring);
    if (!errand->result)
        errand->result = errand->work(errand->context);
    return NULL;
}

/* In a thread of its own, which ends there: nobody may come back to the host's network, which is not ours. */
int tcp_network_run(struct restoring *restoring, int (*work)(void *), void *context)
{
    struct errand errand = { .restoring = restoring, .work = work, .context = context };
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, &errand);

    if (error)
        return -error;
    pthread_join(thread, NULL);
    return errand.result;
}

int tcp_network_add(const struct inet_address *address)
{
    const struct inet_address plain = inet_plain(address);
    const unsigned short bytes = plain.family == AF_INET ? 4 : 16;
    struct {
        struct nlmsghdr header;
        struct ifaddrmsg message;
        struct rtattr attribute;
        uint8_t bytes[16];
    } request = { .header = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(sizeof request.message) + (uint32_t)RTA_SPACE(bytes),
                              .nlmsg_type = RTM_NEWADDR,
                              .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE },
                  .message = { .ifa_family = (uint8_t)plain.family,
                               .ifa_prefixlen = (uint8_t)(bytes * 8),
                               .ifa_flags = IFA_F_NODAD,
                               .ifa_index = LOOPBACK },
                  .attribute = { .rta_len = (unsigned short)RTA_LENGTH(bytes), .rta_type = IFA_LOCAL } };
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        uint8_t rest[256];
    } answer = { 0 };
    int link = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), error = link < 0 ? -errno : 0;

    memcpy(request.bytes, plain.bytes, bytes);
    if (!error && (send(link, &request, request.header.nlmsg_len, 0) < 0 || recv(link, &answer, sizeof answer, 0) < 0))
        error = -errno;
    if (link >= 0)
        close(link);
    return error ? error : answer.error.error == -EEXIST ? 0 : answer.error.error;
}

/* In a child: who has no right to make networks has it in a user namespace of its own, as in the bubble. */
int tcp_network_try(void)
{
    int status;
    pid_t child = fork();

    if (!child)
        _exit(unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET) ? errno : 0);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}
