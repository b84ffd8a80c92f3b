/* SPDX-License-Identifier: MIT */
/* forbidden WHAT: holds one descriptor that is refused by name, and goes on while it is held. Says NONE where this
 * machine or user cannot have it. */
#include "guest.h"

#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
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
    static const char *const words[] = { "sh", "-c", "while [ -e \"$0.hold\" ]; do sleep 0.1; done", NULL, NULL };
    const char *arguments[5], *const nothing[] = { NULL };
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(EPOLL_CLOEXEC), kept = eventfd(1, 0);
    pid_t child;

    (void)path;
    memcpy(arguments, words, sizeof arguments);
    arguments[3] = getenv("GUEST_READY");
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

static int make_pidfd(const char *path)
{
    (void)path;
    return (int)syscall(SYS_pidfd_open, getppid(), 0);
}

static int make_fanotify(const char *path)
{
    (void)path;
    return (int)syscall(SYS_fanotify_init, 0x200 /* FAN_REPORT_FID: anybody may */ | FAN_CLOEXEC, O_RDONLY);
}

static int make_userfaultfd(const char *path)
{
    (void)path;
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
}

static int make_io_uring(const char *path)
{
    uint32_t parameters[30] = { 0 };

    (void)path;
    return (int)syscall(425 /* io_uring_setup */, 4, parameters);
}

/* With a thread of the kernel's, which blocks all signals. */
static int make_polled_ring(const char *path)
{
    uint32_t parameters[30] = { [2] = 2 /* flags: IORING_SETUP_SQPOLL */ };

    (void)path;
    return (int)syscall(425, 4, parameters);
}

/* The descriptor is closed, the ring still mapped. */
static int make_mapped_ring(const char *path)
{
    int fd = make_io_uring(path);
    void *ring = fd < 0 ? MAP_FAILED : mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    return ring == MAP_FAILED ? -1 : 0;
}

static int make_perf_event(const char *path)
{
    struct perf_event_attr attributes = { .type = PERF_TYPE_SOFTWARE, .size = sizeof attributes, .config = PERF_COUNT_SW_TASK_CLOCK,
                                          .exclude_kernel = 1, .exclude_hv = 1 };

    (void)path;
    return (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 8 /* PERF_FLAG_FD_CLOEXEC */);
}

static int make_bpf_map(const char *path)
{
    union bpf_attr attributes = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1 };

    (void)path;
    return (int)syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
}

static int make_device(const char *path)
{
    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

static const struct thing {
    const char *name;
    int (*make)(const char *path);
} things[] = {
    { "alarm-timer", make_alarm_timer },
    { "lost-registration", make_lost_registration },
    { "moved-watch", make_moved_watch },
    { "raw-watch", make_raw_watch },
    { "pidfd", make_pidfd },
    { "fanotify", make_fanotify },
    { "userfaultfd", make_userfaultfd },
    { "io-uring", make_io_uring },
    { "polled-ring", make_polled_ring },
    { "mapped-ring", make_mapped_ring },
    { "perf-event", make_perf_event },
    { "bpf-map", make_bpf_map },
    { "device", make_device },
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
    while (is_held())
        tick_sleep();
    if (fd >= 0 && fcntl(fd, F_GETFD) < 0)
        bad("the descriptor is gone");
    printf("OK %s\n", thing->name);
    return 0;
}
