/* SPDX-License-Identifier: MIT */
/* events WHAT: descriptors that stand for events: eventfd, timerfd, signalfd, epoll, inotify, pidfd. Looks at them at every tick, while it is
 * held. What a kernel tells in fdinfo must stay, word for word, what it told at first. */
#include "guest.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

static int must(int result, const char *what)
{
    if (result < 0)
        bad("%s: %s", what, strerror(errno));
    return result;
}

static int is_ready(int fd, short events)
{
    struct pollfd wait = { .fd = fd, .events = events };

    return poll(&wait, 1, 0) == 1 && wait.revents & events;
}

/* The lines of fdinfo that begin with `key`, sorted. */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *lines_of(int fd, const char *key)
{
    char path[64], line[256], *lines[1024], *all = calloc(1, 1 << 16);
    int count = 0;
    FILE *info;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    info = fopen(path, "re");
    while (info && fgets(line, sizeof line, info))
        if (!strncmp(line, key, strlen(key)) && count < 1024) {
            char *end = strstr(line, "pos:"); /* inodes may be others */
            if (end)
                *end = 0;
            lines[count++] = strdup(line);
        }
    qsort(lines, (size_t)count, sizeof *lines, by_text);
    for (int i = 0; i < count; i++) {
        strcat(all, lines[i]);
        free(lines[i]);
    }
    if (info)
        fclose(info);
    return all;
}

static void same_lines(int fd, const char *key, const char *then)
{
    char *now = lines_of(fd, key);

    if (!*then || strcmp(now, then))
        bad("fdinfo of %d was\n%sand is\n%s", fd, then, now);
    free(now);
}

/* ---- eventfd ---- */

static int counter, semaphore, full, shared, empty;

static void make_eventfds(void)
{
    const uint64_t most = UINT64_MAX - 1;

    counter = must(eventfd(5, EFD_NONBLOCK), "eventfd");
    semaphore = must(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    full = must(eventfd(0, EFD_NONBLOCK), "eventfd");
    empty = must(eventfd(0, EFD_SEMAPHORE), "eventfd");
    shared = must(dup(counter), "dup");
    must((int)write(full, &most, sizeof most), "write");
}

static uint64_t read_count(int fd)
{
    uint64_t got = 0;

    must((int)read(fd, &got, sizeof got), "read of an eventfd");
    return got;
}

static void write_count(int fd, uint64_t count)
{
    must((int)write(fd, &count, sizeof count), "write to an eventfd");
}

static void look_at_eventfds(void)
{
    uint64_t one = 1;

    if (read_count(shared) != 5 || is_ready(counter, POLLIN))
        bad("a counter was not 5, or two descriptors are not one");
    write_count(counter, 5);
    for (int i = 0; i < 3; i++)
        if (read_count(semaphore) != 1)
            bad("a semaphore gave more than 1");
    if (is_ready(semaphore, POLLIN))
        bad("a semaphore was over 3");
    write_count(semaphore, 3);
    if (write(full, &one, sizeof one) != -1 || errno != EAGAIN || is_ready(full, POLLOUT))
        bad("a full counter was not full");
    if (is_ready(empty, POLLIN))
        bad("an empty semaphore was not empty");
    write_count(empty, 2);
    if (read_count(empty) != 1 || read_count(empty) != 1 || fcntl(empty, F_GETFL) & O_NONBLOCK || fcntl(empty, F_GETFD))
        bad("an empty semaphore is none");
    if (!(fcntl(semaphore, F_GETFL) & O_NONBLOCK) || fcntl(semaphore, F_GETFD) != FD_CLOEXEC)
        bad("flags");
}

static void end_eventfds(void)
{
    if (read_count(full) != UINT64_MAX - 1)
        bad("the count of the full one");
}

/* ---- timerfd ---- */

enum { PERIOD_MS = 7 };

static int64_t now_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static struct timespec time_of(int64_t nanoseconds)
{
    return (struct timespec){ nanoseconds / 1000000000, nanoseconds % 1000000000 };
}

static struct timer {
    const char *name;
    clockid_t clock;
    int flags;           /* of timerfd_settime */
    int64_t first, every; /* ms */
    int unread;          /* until the end */
    int fd;
    int64_t start;       /* of the first expiration; on `clock`, or, of relative ones, the monotonic one */
    uint64_t seen;
} timers[] = {
    { "read at every tick", CLOCK_MONOTONIC, 0, PERIOD_MS, PERIOD_MS, 0, 0, 0, 0 },
    { "never read", CLOCK_MONOTONIC, 0, PERIOD_MS, 3 * PERIOD_MS, 1, 0, 0, 0 },
    { "at a time, never read", CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, 1, PERIOD_MS, 1, 0, 0, 0 },
    { "of boot time", CLOCK_BOOTTIME, TFD_TIMER_ABSTIME, 300, PERIOD_MS, 0, 0, 0, 0 },
    { "of the wall, for a time from now", CLOCK_REALTIME, 0, 2 * PERIOD_MS, PERIOD_MS, 0, 0, 0, 0 },
    { "at a time of the wall", CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 3600000, 0, 0, 0, 0, 0 },
    { "once, expired", CLOCK_MONOTONIC, 0, 1, 0, 1, 0, 0, 0 },
    { "once, in an hour", CLOCK_BOOTTIME, 0, 3600000, 0, 0, 0, 0, 0 },
};
enum { TIMERS = sizeof timers / sizeof *timers };
static int unset;

static clockid_t told_by(const struct timer *timer)
{
    return timer->flags & TFD_TIMER_ABSTIME ? timer->clock : CLOCK_MONOTONIC;
}

static void make_timerfds(void)
{
    unset = must(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK), "timerfd");
    for (int i = 0; i < TIMERS; i++) {
        struct timer *timer = &timers[i];
        struct itimerspec value = { time_of(timer->every * 1000000), time_of(timer->first * 1000000) };
        timer->fd = must(timerfd_create(timer->clock, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd");
        timer->start = now_of(told_by(timer)) + timer->first * 1000000;
        if (timer->flags & TFD_TIMER_ABSTIME)
            value.it_value = time_of(timer->start);
        must(timerfd_settime(timer->fd, timer->flags, &value, NULL), "timerfd_settime");
    }
}

/* As many expirations as there can have been by now, to the very one; a relative timer was set a moment later than `start` says,
 * and the wall clock may be put right while it runs. */
static void read_timer(struct timer *timer)
{
    int64_t before = now_of(told_by(timer)), after, every = timer->every * 1000000;
    const int64_t slack = timer->flags & TFD_TIMER_ABSTIME ? 0 : 20000000;
    uint64_t got = 0;
    int64_t least, most;

    if (read(timer->fd, &got, sizeof got) < 0 && errno != EAGAIN)
        bad("read of the timer %s: %s", timer->name, strerror(errno));
    after = now_of(told_by(timer));
    timer->seen += got;
    least = before - slack < timer->start ? 0 : every ? (before - slack - timer->start) / every + 1 : 1;
    most = after < timer->start ? 0 : every ? (after - timer->start) / every + 1 : 1;
    if ((int64_t)timer->seen < least || (int64_t)timer->seen > most)
        bad("timer %s: %ju expirations, should be %jd to %jd", timer->name, (uintmax_t)timer->seen, (intmax_t)least, (intmax_t)most);
}

static void look_at_left(const struct timer *timer)
{
    struct itimerspec stands;
    int64_t left = timer->start - now_of(told_by(timer)), told;

    must(timerfd_gettime(timer->fd, &stands), "timerfd_gettime");
    told = stands.it_value.tv_sec * 1000000000LL + stands.it_value.tv_nsec;
    if (timer->first >= 3600000 && (told > left + 100000000 || told < left - 100000000))
        bad("timer %s: %jd ns are left, should be %jd", timer->name, (intmax_t)told, (intmax_t)left);
    if (stands.it_interval.tv_nsec != timer->every * 1000000)
        bad("timer %s: interval", timer->name);
}

static void look_at_timerfds(void)
{
    struct itimerspec stands;

    for (int i = 0; i < TIMERS; i++)
        if (!timers[i].unread) {
            read_timer(&timers[i]);
            look_at_left(&timers[i]);
        } else if (now_of(told_by(&timers[i])) > timers[i].start + 50000000 && !is_ready(timers[i].fd, POLLIN))
            bad("timer %s: nothing to read", timers[i].name);
    must(timerfd_gettime(unset, &stands), "timerfd_gettime");
    if (stands.it_value.tv_sec || stands.it_value.tv_nsec || is_ready(unset, POLLIN))
        bad("a timer that was never set");
    if (strcmp(lines_of(timers[5].fd, "settime flags"), "settime flags: 03\n"))
        bad("flags: %s", lines_of(timers[5].fd, "settime flags"));
}

static void end_timerfds(void)
{
    for (int i = 0; i < TIMERS; i++)
        read_timer(&timers[i]);
}

/* ---- signalfd ---- */

static int some, all, watch_some;
static int sent;
static char *some_lines;

static void make_signalfds(void)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = 7 };
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigaddset(&set, SIGURG);
    must(sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
    some = must(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), "signalfd");
    some_lines = lines_of(some, "sigmask");
    sigfillset(&set);
    sigdelset(&set, SIGRTMIN + 3);
    sigdelset(&set, SIGURG);
    all = must((int)syscall(SYS_signalfd4, -1, &set, 8, SFD_NONBLOCK), "signalfd"); /* not by libc */
    watch_some = must(epoll_create1(0), "epoll");
    must(epoll_ctl(watch_some, EPOLL_CTL_ADD, some, &event), "epoll_ctl");
    sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = ++sent });
}

/* The signal of the last tick is there, with its value, and none that nobody has sent. */
static void look_at_signalfds(void)
{
    struct signalfd_siginfo info = { 0 };
    struct epoll_event event;

    if (epoll_wait(watch_some, &event, 1, 0) != 1 || event.data.u32 != 7)
        bad("a signal that waits is not seen by epoll");
    if (read(some, &info, sizeof info) != sizeof info || info.ssi_signo != (uint32_t)SIGRTMIN + 3 || info.ssi_int != sent ||
        info.ssi_pid != (uint32_t)getpid())
        bad("signal %u with %d instead of %d", info.ssi_signo, info.ssi_int, sent);
    if (read(some, &info, sizeof info) != -1 || errno != EAGAIN)
        bad("a second signal: %u", info.ssi_signo);
    if (read(all, &info, sizeof info) != -1 || errno != EAGAIN)
        bad("signal %u, which nobody has sent", info.ssi_signo);
    if (epoll_wait(watch_some, &event, 1, 0))
        bad("epoll sees a signal that is gone");
    sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = ++sent });
    same_lines(some, "sigmask", some_lines);
}

/* ---- epoll ---- */

enum { MANY = 300 };
static int outer, inner, level, edge, pipe_ends[2], spent_pipe[2], spent_timer, spent_signal, once, moved[2], reused, first_number, many;
static int spurious;
static char *outer_lines, *inner_lines, *many_lines;

static void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = { .events = events, .data.u64 = data };

    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/* Data words of all that is reported now, as bits. */
static uint64_t reported(int epoll)
{
    struct epoll_event events[64];
    int count = must(epoll_wait(epoll, events, 64, 0), "epoll_wait");
    uint64_t bits = 0;

    for (int i = 0; i < count; i++)
        bits |= UINT64_C(1) << events[i].data.u64;
    return bits;
}

enum { LEVEL = 1, EDGE, INNER, PIPE, SPENT_PIPE, SPENT_TIMER, SPENT_SIGNAL, ONCE, MOVED, MOVED_TOO, EXCLUSIVE };
#define BIT(number) (UINT64_C(1) << (number))

static void spend(uint64_t data)
{
    if (reported(outer) != BIT(data))
        bad("spending");
}

/* Each reports once, and is silent from then on. */
static void make_spent(void)
{
    struct itimerspec soon = { .it_value.tv_nsec = 1 }, never = { 0 };
    struct signalfd_siginfo info;
    sigset_t set;
    char byte = 'x';

    must(pipe2(spent_pipe, O_NONBLOCK), "pipe");
    watch(outer, spent_pipe[0], EPOLLIN | EPOLLONESHOT, SPENT_PIPE);
    must((int)write(spent_pipe[1], &byte, 1), "write");
    spend(SPENT_PIPE);
    must((int)read(spent_pipe[0], &byte, 1), "read");
    spent_timer = must(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd");
    watch(outer, spent_timer, EPOLLIN | EPOLLET | EPOLLONESHOT, SPENT_TIMER);
    must(timerfd_settime(spent_timer, 0, &soon, NULL), "timerfd_settime");
    while (!is_ready(spent_timer, POLLIN))
        tick_sleep();
    spend(SPENT_TIMER);
    must(timerfd_settime(spent_timer, 0, &never, NULL), "timerfd_settime");
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    must(sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
    spent_signal = must(signalfd(-1, &set, 0), "signalfd");
    watch(outer, spent_signal, EPOLLIN | EPOLLONESHOT, SPENT_SIGNAL);
    raise(SIGWINCH);
    spend(SPENT_SIGNAL);
    must((int)read(spent_signal, &info, sizeof info), "read");
}

/* Registered under numbers that are closed, or another's, by now. */
static void make_moved(void)
{
    int two[2];

    for (int i = 0; i < 2; i++) {
        two[i] = must(eventfd(0, EFD_NONBLOCK), "eventfd");
        if (i)
            must(dup2(two[1], first_number), "dup2");
        else
            first_number = two[0];
        watch(outer, first_number, EPOLLIN, i ? MOVED_TOO : MOVED);
        moved[i] = must(fcntl(first_number, F_DUPFD, 100), "dup");
        if (i)
            close(two[1]);
    }
    close(first_number);
    reused = must(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    if (reused != first_number)
        must(dup3(reused, first_number, O_CLOEXEC), "dup3");
}

static void make_epolls(void)
{
    outer = must(epoll_create1(EPOLL_CLOEXEC), "epoll");
    inner = must(epoll_create1(0), "epoll");
    make_spent();
    make_moved();
    level = must(eventfd(0, EFD_NONBLOCK), "eventfd");
    edge = must(eventfd(0, EFD_NONBLOCK), "eventfd");
    once = must(eventfd(0, EFD_NONBLOCK), "eventfd");
    must(pipe2(pipe_ends, O_NONBLOCK), "pipe");
    watch(inner, level, EPOLLIN, LEVEL);
    watch(inner, pipe_ends[0], EPOLLIN | EPOLLRDHUP | EPOLLPRI, PIPE);
    watch(outer, inner, EPOLLIN, INNER);
    watch(outer, edge, EPOLLIN | EPOLLET, EDGE);
    watch(outer, once, EPOLLIN | EPOLLONESHOT, ONCE);
    watch(outer, pipe_ends[0], EPOLLIN | EPOLLEXCLUSIVE, EXCLUSIVE);
    many = must(epoll_create1(0), "epoll");
    for (int i = 0; i < MANY; i++)
        watch(many, must(eventfd((unsigned)i % 2, 0), "eventfd"), EPOLLIN | (i % 3 ? EPOLLET : 0), mix((uint64_t)i));
    outer_lines = lines_of(outer, "tfd:");
    inner_lines = lines_of(inner, "tfd:");
    many_lines = lines_of(many, "tfd:");
    write_count(edge, 1);
}

static void expect(int epoll, uint64_t wanted, const char *what)
{
    uint64_t got = reported(epoll);

    if (got == (wanted | BIT(EDGE))) { /* an edge may come twice: once for each restart */
        got = wanted;
        spurious++;
    }
    if (got != wanted)
        bad("%s: %#jx instead of %#jx", what, (uintmax_t)got, (uintmax_t)wanted);
}

static void look_at_spent(void)
{
    struct signalfd_siginfo info;
    char byte = 'x';

    must((int)write(spent_pipe[1], &byte, 1), "write");
    raise(SIGWINCH);
    expect(outer, 0, "what has reported once");
    must((int)read(spent_pipe[0], &byte, 1), "read");
    must((int)read(spent_signal, &info, sizeof info), "read");
}

static void look_at_moved(void)
{
    for (int i = 0; i < 2; i++) {
        write_count(moved[i], 1);
        expect(outer, BIT(i ? MOVED_TOO : MOVED), "a number that is another's by now");
        read_count(moved[i]);
    }
}

static void look_at_epolls(void)
{
    char byte = 'x';

    if (reported(outer) != BIT(EDGE))
        bad("the edge of the last tick is lost");
    expect(outer, 0, "nothing");
    write_count(level, 1);
    expect(outer, BIT(INNER), "an epoll in an epoll");
    expect(outer, BIT(INNER), "an epoll in an epoll, again");
    expect(inner, BIT(LEVEL), "the inner one");
    read_count(level);
    expect(outer, 0, "the inner one has nothing");
    must((int)write(pipe_ends[1], &byte, 1), "write");
    expect(outer, BIT(INNER) | BIT(EXCLUSIVE), "a pipe");
    expect(inner, BIT(PIPE), "the same pipe");
    must((int)read(pipe_ends[0], &byte, 1), "read");
    look_at_spent();
    look_at_moved();
    same_lines(outer, "tfd:", outer_lines);
    same_lines(inner, "tfd:", inner_lines);
    same_lines(many, "tfd:", many_lines);
    write_count(edge, 1);
}

static void end_epolls(void)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = SPENT_PIPE };

    read_count(edge);
    expect(outer, 0, "the edge is gone");
    close(spent_pipe[1]);
    expect(outer, 0, "a hang-up of what has reported once");
    must(epoll_ctl(outer, EPOLL_CTL_MOD, spent_pipe[0], &event), "epoll_ctl");
    expect(outer, BIT(SPENT_PIPE), "set again");
    write_count(once, 1);
    expect(outer, BIT(ONCE), "once");
    expect(outer, 0, "once is once");
    if (spurious > 2)
        bad("%d spurious edges", spurious);
    for (int i = 0; i < 2; i++)
        close(moved[i]);
    same_lines(inner, "tfd:", inner_lines);
}

/* ---- inotify ---- */

enum { GAPS = 40, FILES = 100, READS = 6 };
static int watching, lazy, second, overflows, gap_watch, file_watches[FILES], place_watch, link_watch, second_watch;
static char *watching_lines, *lazy_lines, *second_lines;

static int watch_path(int fd, const char *path, uint32_t mask)
{
    return must(inotify_add_watch(fd, path, mask), path);
}

static void touch(const char *path)
{
    int fd = must(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), path);

    must((int)pwrite(fd, "x", 1, 0), "write");
    close(fd);
}

static const char *file_name(int file)
{
    static char name[32];

    snprintf(name, sizeof name, "place/%03d", file);
    return name;
}

static void make_inotifies(void)
{
    int first;

    if ((mkdir("place", 0700) || mkdir("other", 0700) || mkdir("once", 0700) || symlink("place", "link")) && errno != EEXIST)
        bad("mkdir: %s", strerror(errno));
    watching = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify");
    for (int i = 0; i < FILES; i++) {
        touch(file_name(i));
        file_watches[i] = watch_path(watching, file_name(i), IN_MODIFY);
        for (int gap = 0; gap < i % 3 * GAPS; gap++)
            must(inotify_rm_watch(watching, watch_path(watching, "other", IN_CREATE)), "rm");
    }
    place_watch = watch_path(watching, "link/../link", IN_CREATE | IN_EXCL_UNLINK | IN_ONLYDIR);
    if (watch_path(watching, "link", IN_DELETE | IN_MASK_ADD) != place_watch)
        bad("two watches for one directory");
    link_watch = watch_path(watching, "link", IN_ATTRIB | IN_DONT_FOLLOW);
    gap_watch = watch_path(watching, "once", IN_CREATE | IN_ONESHOT);
    lazy = must(inotify_init1(IN_NONBLOCK), "inotify");
    watch_path(lazy, "other", IN_MODIFY | IN_CREATE);
    touch("other/lazy");
    first = must(inotify_init1(IN_NONBLOCK), "inotify");
    second_watch = watch_path(first, "place", IN_MODIFY);
    second = must(fcntl(first, F_DUPFD_CLOEXEC, 50), "dup");
    must(dup2(lazy, first), "dup2");
    watching_lines = lines_of(watching, "inotify");
    lazy_lines = lines_of(lazy, "inotify");
    second_lines = lines_of(second, "inotify");
}

/* Events without those that say that some are lost, each of which stands at the head. */
static int read_events(int fd, struct inotify_event *to, int most)
{
    char bytes[4096];
    ssize_t got;
    int count = 0;

    while ((got = read(fd, bytes, sizeof bytes)) > 0)
        for (char *at = bytes; at < bytes + got;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            if (event->mask & IN_Q_OVERFLOW)
                overflows++;
            else if (count < most)
                to[count++] = *event;
            at += sizeof *event + event->len;
        }
    if (got < 0 && errno != EAGAIN)
        bad("read of inotify: %s", strerror(errno));
    return count;
}

static void expect_event(int fd, int watch, uint32_t mask, const char *what)
{
    struct inotify_event events[READS];
    int before = overflows, count = read_events(fd, events, READS);

    if (!count && overflows > before)
        return; /* it was not read yet when the image was taken */
    if (count != 1 || events[0].wd != watch || events[0].mask != mask)
        bad("%s: %d events, watch %d instead of %d, mask %#x", what, count, count ? events[0].wd : 0, watch, count ? events[0].mask : 0);
}

static void look_at_inotifies(void)
{
    static int file;
    struct inotify_event none[READS];

    read_events(watching, none, 0); /* what a restart has lost */
    read_events(second, none, 0);
    file = (file + 1) % FILES;
    touch(file_name(file));
    expect_event(watching, file_watches[file], IN_MODIFY, "a file");
    expect_event(second, second_watch, IN_MODIFY, "a file in a directory");
    if (!symlink("x", "place/new")) /* else it is of the life before, which went on behind the image */
        expect_event(watching, place_watch, IN_CREATE, "a new file");
    if (!unlink("place/new"))
        expect_event(watching, place_watch, IN_DELETE, "no file");
    if (!is_ready(lazy, POLLIN))
        bad("events that were not read are gone");
    same_lines(watching, "inotify", watching_lines);
    same_lines(lazy, "inotify", lazy_lines);
    same_lines(second, "inotify", second_lines);
}

static void end_inotifies(void)
{
    struct inotify_event events[READS];
    int before = overflows, count;

    touch("once/once");
    count = read_events(watching, events, READS);
    if (count != 2 || events[0].wd != gap_watch || events[0].mask != IN_CREATE || events[1].mask != IN_IGNORED)
        bad("once: %d events", count);
    must(fchownat(AT_FDCWD, "link", getuid(), (gid_t)-1, AT_SYMLINK_NOFOLLOW), "chown");
    expect_event(watching, link_watch, IN_ATTRIB, "a link");
    count = read_events(lazy, events, READS);
    if (count < 1 && overflows == before)
        bad("events that were not read: %d, and %d overflows", count, overflows - before);
    if (watch_path(watching, "other/lazy", IN_MODIFY) <= gap_watch)
        bad("a number is given again");
    if (overflows > 3 * 2)
        bad("%d overflows", overflows);
}

/* ---- pidfd ---- */

static int self, self_thread, gone;
static volatile sig_atomic_t urgent;

static void on_urgent(int number)
{
    (void)number;
    urgent++;
}

static void make_pidfds(void)
{
    signal(SIGURG, on_urgent);
    self = must((int)syscall(SYS_pidfd_open, getpid(), O_NONBLOCK), "pidfd");
    self_thread = (int)syscall(SYS_pidfd_open, getpid(), O_EXCL /* PIDFD_THREAD, Linux 6.9 */);
    pid_t child = must(fork(), "fork");
    if (!child)
        _exit(0);
    gone = must((int)syscall(SYS_pidfd_open, child, O_NONBLOCK), "pidfd of a child");
    must(waitpid(child, NULL, 0), "waitpid");
}

static void look_at_pidfds(void)
{
    char line[64];

    urgent = 0;
    must((int)syscall(SYS_pidfd_send_signal, self, SIGURG, NULL, 0), "pidfd_send_signal");
    if (!urgent || is_ready(self, POLLIN) || !(fcntl(self, F_GETFL) & O_NONBLOCK) || fcntl(self, F_GETFD) != FD_CLOEXEC)
        bad("a pidfd of ourselves");
    snprintf(line, sizeof line, "Pid:\t%d\n", getpid());
    if (strcmp(lines_of(self, "Pid"), line))
        bad("a pidfd of %s", lines_of(self, "Pid"));
    if (self_thread >= 0)
        must((int)syscall(SYS_pidfd_send_signal, self_thread, 0, NULL, 0), "pidfd_send_signal");
    if (!is_ready(gone, POLLIN) || syscall(SYS_pidfd_send_signal, gone, 0, NULL, 0) != -1 || errno != ESRCH ||
        !(fcntl(gone, F_GETFL) & O_NONBLOCK) || strcmp(lines_of(gone, "Pid"), "Pid:\t-1\n"))
        bad("a pidfd of a process that is gone, but of %s", lines_of(gone, "Pid"));
}

/* ---- epoll and standard input ---- */

static int stream_epoll, lines;

static void make_stream(void)
{
    stream_epoll = must(epoll_create1(0), "epoll");
    watch(stream_epoll, 0, EPOLLIN, 1);
}

static void look_at_stream(void)
{
    char got[64];

    while (reported(stream_epoll) == BIT(1)) {
        must((int)read(0, got, sizeof got), "read");
        lines++;
    }
}

static void end_stream(void)
{
    for (int patience = 0; lines < 2; patience++) {
        if (patience > 3000)
            bad("%d lines came", lines);
        tick_sleep();
        look_at_stream();
    }
}

static const struct thing {
    const char *name;
    void (*make)(void), (*look)(void), (*end)(void);
} things[] = {
    { "eventfd", make_eventfds, look_at_eventfds, end_eventfds },
    { "timerfd", make_timerfds, look_at_timerfds, end_timerfds },
    { "signalfd", make_signalfds, look_at_signalfds, NULL },
    { "epoll", make_epolls, look_at_epolls, end_epolls },
    { "inotify", make_inotifies, look_at_inotifies, end_inotifies },
    { "pidfd", make_pidfds, look_at_pidfds, NULL },
    { "stream", make_stream, look_at_stream, end_stream },
};

int main(int count, char **arguments)
{
    const struct thing *thing = NULL;

    for (size_t i = 0; count > 1 && i < sizeof things / sizeof *things; i++)
        if (!strcmp(arguments[1], things[i].name))
            thing = &things[i];
    if (!thing)
        return 2;
    thing->make();
    tick_sleep();
    thing->look();
    ready();
    while (is_held()) {
        tick_sleep();
        thing->look();
    }
    if (thing->end)
        thing->end();
    printf("OK %s\n", thing->name);
    return 0;
}
