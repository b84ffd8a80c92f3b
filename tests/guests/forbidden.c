/* SPDX-License-Identifier: MIT */
/* forbidden WHAT: holds one descriptor that is refused by name, and goes on until GUEST_END is there. Says NONE where this
 * machine or user cannot have it. */
#include "guest.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

static int make_alarm_timer(const char *path)
{
    (void)path;
    return timerfd_create(CLOCK_BOOTTIME_ALARM, TFD_CLOEXEC);
}

/* Registered and closed; a stranger, which is no child, keeps what it was. */
static int make_lost_registration(const char *path)
{
    static const char *const words[] = { "sh", "-c", "until [ -e \"$0\" ]; do sleep 0.1; done", NULL, NULL };
    const char *arguments[5], *const nothing[] = { NULL };
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(EPOLL_CLOEXEC), kept = eventfd(1, 0);
    pid_t child;

    (void)path;
    memcpy(arguments, words, sizeof arguments);
    arguments[3] = getenv("GUEST_END");
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, kept, &event))
        return -1;
    child = fork();
    if (!child) {
        if (!fork())
            execve("/bin/sh", (char *const *)arguments, (char *const *)nothing);
        _exit(0);
    }
    if (waitpid(child, NULL, 0) != child || close(kept) || epoll_wait(epoll, &event, 1, 0) != 1)
        return -1;
    return epoll;
}

static int make_moved_watch(const char *path)
{
    int fd = inotify_init1(IN_CLOEXEC);

    (void)path;
    return mkdir("here", 0700) || inotify_add_watch(fd, "here", IN_CREATE) < 0 || rename("here", "there") ? -1 : fd;
}

/* Not by libc. */
static int make_raw_watch(const char *path)
{
    int fd = inotify_init1(IN_CLOEXEC);

    (void)path;
    return syscall(SYS_inotify_add_watch, fd, ".", IN_CREATE) < 0 ? -1 : fd;
}

static const struct thing {
    const char *name;
    int (*make)(const char *path);
} things[] = {
    { "alarm-timer", make_alarm_timer },
    { "lost-registration", make_lost_registration },
    { "moved-watch", make_moved_watch },
    { "raw-watch", make_raw_watch },
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
