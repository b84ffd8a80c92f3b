/* SPDX-License-Identifier: MIT */
/* forbidden WHAT: holds one descriptor that is refused by name, and goes on until GUEST_END is there. Says NONE where this
 * machine or user cannot have it. */
#include "guest.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int make_alarm_timer(const char *path)
{
    (void)path;
    return timerfd_create(CLOCK_BOOTTIME_ALARM, TFD_CLOEXEC);
}

/* Registered, sent to ourselves, and closed: it lives on in a message. */
static int make_lost_registration(const char *path)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
    char byte = 'x';
    struct iovec vector = { &byte, 1 };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(0), pair[2], sent = eventfd(1, 0);

    (void)path;
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, sent, &event) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return -1;
    memcpy(CMSG_DATA(&control.header), &sent, sizeof sent);
    if (sendmsg(pair[0], &message, 0) != 1 || close(sent) || epoll_wait(epoll, &event, 1, 0) != 1)
        return -1;
    return epoll;
}

static const struct thing {
    const char *name;
    int (*make)(const char *path);
} things[] = {
    { "alarm-timer", make_alarm_timer },
    { "lost-registration", make_lost_registration },
};

int main(int count, char **arguments)
{
    const struct thing *thing = NULL;
    int fd;

    for (size_t i = 0; count > 1 && i < sizeof things / sizeof *things; i++)
        if (!strcmp(arguments[1], things[i].name))
            thing = &things[i];
    if (!thing)
        return 2;
    fd = thing->make(count > 2 ? arguments[2] : NULL);
    if (fd < 0)
        printf("NONE %s: %s\n", thing->name, strerror(errno));
    fflush(stdout);
    ready();
    while (!may_end())
        tick_sleep();
    if (fd >= 0 && fcntl(fd, F_GETFD) < 0)
        bad("the descriptor is gone");
    printf("OK %s\n", thing->name);
    return 0;
}
