/* SPDX-License-Identifier: MIT */
/* blocking SECONDS FILE: a thread in every sort of blocking call, through libc and as a bare system call. None may give
 * EINTR that the program has no signal for, none may end before its time. Waits without a time end when, and only when,
 * the main thread gives them what they wait for. How late the latest timed wait was, in ms, is written to FILE. */
#include "guest.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <threads.h>

enum { SHORT_MS = 30, LONG_MS = 3000, WAITED = 34 + 6 /* SIGRTMIN + 6, in which no handler is */, NEVER = WAITED + 1, READ = WAITED + 2, READ_RAW = WAITED + 3 };

static volatile int stop;
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t held_for_writing = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static uint32_t word;

static struct timespec span(long ms)
{
    return (struct timespec){ ms / 1000, ms % 1000 * 1000000L };
}

static struct timespec until(clockid_t clock, long ms)
{
    struct timespec time;

    clock_gettime(clock, &time);
    time.tv_sec += ms / 1000 + (time.tv_nsec + ms % 1000 * 1000000L) / 1000000000L;
    time.tv_nsec = (time.tv_nsec + ms % 1000 * 1000000L) % 1000000000L;
    return time;
}

/* ---- timed: each returns 0 when it ended as it should, else an error number ---- */

static int ended(long result, long wanted, int error)
{
    if (result != wanted)
        return result < 0 ? errno : 1000 + (int)result;
    return result < 0 && errno != error ? errno : 0;
}

static sigset_t set_of(int number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    return set;
}

static int by_nanosleep(long ms)
{
    struct timespec time = span(ms), left = { 7, 7 };

    return ended(nanosleep(&time, &left), 0, 0);
}

static int by_sleep(long ms)
{
    return ms < 1000 ? ended(usleep((useconds_t)ms * 1000), 0, 0) : (int)sleep((unsigned)ms / 1000);
}

static int by_thrd_sleep(long ms)
{
    struct timespec time = span(ms);

    return thrd_sleep(&time, NULL) ? EINTR : 0;
}

static int by_clock_boottime(long ms)
{
    struct timespec time = span(ms);

    return clock_nanosleep(CLOCK_BOOTTIME, 0, &time, NULL);
}

static int by_clock_absolute(long ms)
{
    struct timespec time = until(CLOCK_MONOTONIC, ms);

    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static int by_poll(long ms)
{
    return ended(poll(NULL, 0, (int)ms), 0, 0);
}

static int by_ppoll(long ms)
{
    struct timespec time = span(ms);

    return ended(ppoll(NULL, 0, &time, NULL), 0, 0);
}

static int by_select(long ms)
{
    struct timeval time = { ms / 1000, ms % 1000 * 1000 };

    return ended(select(0, NULL, NULL, NULL, &time), 0, 0);
}

static int by_pselect(long ms)
{
    struct timespec time = span(ms);
    sigset_t none;

    sigemptyset(&none);
    return ended(pselect(0, NULL, NULL, NULL, &time, &none), 0, 0);
}

static int by_semaphore(long ms)
{
    struct timespec time = until(CLOCK_REALTIME, ms);

    return ended(sem_timedwait(&semaphore, &time), -1, ETIMEDOUT);
}

static int by_condition(long ms)
{
    struct timespec time = until(CLOCK_REALTIME, ms);
    int error;

    pthread_mutex_lock(&mutex);
    error = pthread_cond_timedwait(&condition, &mutex, &time);
    pthread_mutex_unlock(&mutex);
    return error == ETIMEDOUT ? 0 : error ? error : EAGAIN;
}

static int by_mutex(long ms)
{
    struct timespec time = until(CLOCK_REALTIME, ms);
    int error = pthread_mutex_timedlock(&held, &time);

    return error == ETIMEDOUT ? 0 : error ? error : EAGAIN;
}

static int by_rwlock(long ms)
{
    struct timespec time = until(CLOCK_REALTIME, ms);
    int error = pthread_rwlock_timedrdlock(&held_for_writing, &time);

    return error == ETIMEDOUT ? 0 : error ? error : EAGAIN;
}

static int by_sigtimedwait(long ms)
{
    struct timespec time = span(ms);
    sigset_t set = set_of(NEVER);

    return ended(sigtimedwait(&set, NULL, &time), -1, EAGAIN);
}

/* Descriptors on which nothing ever comes, and an epoll that watches them all. */
enum { SILENT = 3 };
static int silent[SILENT], silent_epoll;

static int by_epoll_wait(long ms)
{
    struct epoll_event event;

    return ended(epoll_wait(silent_epoll, &event, 1, (int)ms), 0, 0);
}

static int by_epoll_pwait(long ms)
{
    struct epoll_event event;
    sigset_t none;

    sigemptyset(&none);
    return ended(epoll_pwait(silent_epoll, &event, 1, (int)ms, &none), 0, 0);
}

static int by_epoll_pwait2(long ms)
{
    struct timespec time = span(ms);
    struct epoll_event event;
    int got = epoll_pwait2(silent_epoll, &event, 1, &time, NULL);

    return got < 0 && errno == ENOSYS ? by_epoll_wait(ms) : ended(got, 0, 0);
}

static int raw_epoll_wait(long ms)
{
    struct epoll_event event;

    return ended(syscall(SYS_epoll_wait, silent_epoll, &event, 1, (int)ms), 0, 0);
}

static int by_poll_events(long ms)
{
    struct pollfd wait[SILENT];

    for (int i = 0; i < SILENT; i++)
        wait[i] = (struct pollfd){ .fd = silent[i], .events = POLLIN };
    return ended(poll(wait, SILENT, (int)ms), 0, 0);
}

static int by_select_events(long ms)
{
    struct timeval time = { ms / 1000, ms % 1000 * 1000 };
    fd_set wait;

    FD_ZERO(&wait);
    for (int i = 0; i < SILENT; i++)
        FD_SET(silent[i], &wait);
    return ended(select(silent[SILENT - 1] + 1, &wait, NULL, NULL, &time), 0, 0);
}

static int by_timerfd(long ms)
{
    static __thread int timer;
    struct itimerspec value = { .it_value = span(ms) };
    uint64_t count = 0;

    if (!timer)
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (timerfd_settime(timer, 0, &value, NULL))
        return errno;
    return ended(read(timer, &count, sizeof count), sizeof count, 0) ?: count == 1 ? 0 : EAGAIN;
}

static int raw_nanosleep(long ms)
{
    struct timespec time = span(ms);

    return ended(syscall(SYS_nanosleep, &time, NULL), 0, 0);
}

static int raw_clock(long ms)
{
    struct timespec time = span(ms);

    return ended(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, &time), 0, 0);
}

static int raw_clock_absolute(long ms)
{
    struct timespec time = until(CLOCK_MONOTONIC, ms);

    return ended(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL), 0, 0);
}

static int raw_poll(long ms)
{
    return ended(syscall(SYS_poll, NULL, 0, (int)ms), 0, 0);
}

static int raw_ppoll(long ms)
{
    struct timespec time = span(ms);

    return ended(syscall(SYS_ppoll, NULL, 0, &time, NULL, 8), 0, 0);
}

static int raw_select(long ms)
{
    struct timeval time = { ms / 1000, ms % 1000 * 1000 };

    return ended(syscall(SYS_select, 0, NULL, NULL, NULL, &time), 0, 0);
}

static int raw_pselect(long ms)
{
    struct timespec time = span(ms);
    struct {
        const void *set;
        size_t length;
    } mask = { NULL, 8 };

    return ended(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &time, &mask), 0, 0);
}

static int raw_futex(long ms)
{
    struct timespec time = span(ms);

    return ended(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), -1, ETIMEDOUT);
}

static int raw_futex_absolute(long ms)
{
    struct timespec time = until(CLOCK_MONOTONIC, ms);

    return ended(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &time, NULL, 1), -1, ETIMEDOUT);
}

static int raw_futex_waitv(long ms)
{
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } wait = { 0, (uint64_t)(uintptr_t)&word, 2 | 0x80 /* u32, private */, 0 };
    struct timespec time = until(CLOCK_MONOTONIC, ms);
    long result = syscall(449 /* futex_waitv */, &wait, 1, 0, &time, CLOCK_MONOTONIC);

    return result == -1 && errno == ENOSYS ? by_clock_absolute(ms) : ended(result, -1, ETIMEDOUT);
}

static int raw_sigtimedwait(long ms)
{
    struct timespec time = span(ms);
    sigset_t set = set_of(NEVER);

    return ended(syscall(SYS_rt_sigtimedwait, &set, NULL, &time, 8), -1, EAGAIN);
}

/* ---- sockets, whose time is an option of theirs ---- */

/* A socket that listens and has one connection: no more are taken. */
static int full_listener;
static struct sockaddr_un full_address;
static socklen_t full_length = sizeof full_address;

static int listening(struct sockaddr_un *address, socklen_t *length)
{
    struct sockaddr_un any = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any.sun_family) || listen(fd, 0) ||
        getsockname(fd, (struct sockaddr *)address, length))
        bad("a socket that listens: %s", strerror(errno));
    return fd;
}

static int connecting(const struct sockaddr_un *address, socklen_t length)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)address, length))
        bad("a connection: %s", strerror(errno));
    return fd;
}

static int timed_pair(int ends[2], int option, long ms)
{
    struct timeval time = { ms / 1000, ms % 1000 * 1000 };

    return socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || setsockopt(ends[0], SOL_SOCKET, option, &time, sizeof time) ? errno : 0;
}

static int end_pair(int ends[2], long result)
{
    int error = ended(result, -1, EAGAIN);

    close(ends[0]);
    close(ends[1]);
    return error;
}

static int by_timed_recv(long ms)
{
    int ends[2], error = timed_pair(ends, SO_RCVTIMEO, ms);
    char byte;

    return error ? error : end_pair(ends, recv(ends[0], &byte, 1, 0));
}

static int by_timed_read(long ms)
{
    int ends[2], error = timed_pair(ends, SO_RCVTIMEO, ms);
    char byte;

    return error ? error : end_pair(ends, read(ends[0], &byte, 1));
}

static int by_timed_recvmsg(long ms)
{
    int ends[2], error = timed_pair(ends, SO_RCVTIMEO, ms);
    char byte;
    struct iovec vector = { &byte, 1 };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };

    return error ? error : end_pair(ends, recvmsg(ends[0], &message, 0));
}

static int by_timed_send(long ms)
{
    int ends[2], error = timed_pair(ends, SO_SNDTIMEO, ms);
    static const char bytes[1000];

    while (!error && send(ends[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
    return error ? error : end_pair(ends, send(ends[0], "x", 1, 0));
}

static int by_timed_accept(long ms)
{
    struct timeval time = { ms / 1000, ms % 1000 * 1000 };
    struct sockaddr_un address;
    socklen_t length = sizeof address;
    int fd = listening(&address, &length), error;

    error = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) ? errno : ended(accept(fd, NULL, NULL), -1, EAGAIN);
    close(fd);
    return error;
}

static int by_timed_connect(long ms)
{
    struct timeval time = { ms / 1000, ms % 1000 * 1000 };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), error;

    error = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time)
                ? errno
                : ended(connect(fd, (struct sockaddr *)&full_address, full_length), -1, EAGAIN);
    close(fd);
    return error;
}

static const struct way {
    const char *name;
    int (*wait)(long ms);
    int real_time; /* by the wall clock: after a restart it may be over early, which is right; 2: in ticks of the kernel */
} ways[] = {
    { "nanosleep", by_nanosleep, 0 },
    { "usleep and sleep", by_sleep, 0 },
    { "thrd_sleep", by_thrd_sleep, 0 },
    { "clock_nanosleep of boot time", by_clock_boottime, 0 },
    { "clock_nanosleep TIMER_ABSTIME", by_clock_absolute, 0 },
    { "poll", by_poll, 0 },
    { "ppoll", by_ppoll, 0 },
    { "select", by_select, 0 },
    { "pselect", by_pselect, 0 },
    { "sem_timedwait", by_semaphore, 1 },
    { "pthread_cond_timedwait", by_condition, 1 },
    { "pthread_mutex_timedlock", by_mutex, 1 },
    { "pthread_rwlock_timedrdlock", by_rwlock, 1 },
    { "sigtimedwait", by_sigtimedwait, 0 },
    { "epoll_wait", by_epoll_wait, 0 },
    { "epoll_pwait", by_epoll_pwait, 0 },
    { "epoll_pwait2", by_epoll_pwait2, 0 },
    { "raw epoll_wait", raw_epoll_wait, 0 },
    { "poll of events", by_poll_events, 0 },
    { "select of events", by_select_events, 0 },
    { "read of a timerfd", by_timerfd, 0 },
    { "raw nanosleep", raw_nanosleep, 0 },
    { "raw clock_nanosleep", raw_clock, 0 },
    { "raw clock_nanosleep TIMER_ABSTIME", raw_clock_absolute, 0 },
    { "raw poll", raw_poll, 0 },
    { "raw ppoll", raw_ppoll, 0 },
    { "raw select", raw_select, 0 },
    { "raw pselect6", raw_pselect, 0 },
    { "raw futex", raw_futex, 0 },
    { "raw futex, absolute", raw_futex_absolute, 0 },
    { "raw futex_waitv", raw_futex_waitv, 0 },
    { "raw rt_sigtimedwait", raw_sigtimedwait, 0 },
    { "recv with SO_RCVTIMEO", by_timed_recv, 2 },
    { "read with SO_RCVTIMEO", by_timed_read, 2 },
    { "recvmsg with SO_RCVTIMEO", by_timed_recvmsg, 2 },
    { "send with SO_SNDTIMEO", by_timed_send, 2 },
    { "accept with SO_RCVTIMEO", by_timed_accept, 2 },
    { "connect with SO_SNDTIMEO", by_timed_connect, 2 },
};

enum { WAYS = sizeof ways / sizeof ways[0] };
static double latest[2 * WAYS];

static void wait_once(int thread)
{
    const struct way *way = &ways[thread / 2];
    long ms = thread % 2 ? LONG_MS : SHORT_MS;
    double start = seconds_now(), late;
    int error = way->wait(ms);

    late = seconds_now() - start - (double)ms / 1000;
    if (error)
        bad("%s of %ld ms: %s", way->name, ms, error < 1000 ? strerror(error) : "it returned something else");
    if (late < (way->real_time ? -0.012 : -0.002) && way->real_time != 1)
        bad("%s of %ld ms was over %.3f s early", way->name, ms, -late);
    if (late > latest[thread])
        latest[thread] = late;
}

static void *timed(void *thread)
{
    while (!stop)
        wait_once((int)(intptr_t)thread);
    return NULL;
}

/* ---- without a time: each comes back once for each thing it is given ---- */

static int pipe_ends[2], raw_pipe_ends[2], poll_pipe_ends[2], socket_ends[2];
static __thread volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

/* Blocked but while it waits, so that no signal comes just before. */
static int by_sigsuspend(void)
{
    sigset_t open;

    pthread_sigmask(SIG_SETMASK, NULL, &open);
    sigdelset(&open, SIGUSR1);
    return ended(sigsuspend(&open), -1, EINTR);
}

static int by_raw_sigsuspend(void)
{
    sigset_t open;

    pthread_sigmask(SIG_SETMASK, NULL, &open);
    sigdelset(&open, SIGUSR1);
    return ended(syscall(SYS_rt_sigsuspend, &open, 8), -1, EINTR);
}

static int by_ppoll_signal(void)
{
    sigset_t open;

    pthread_sigmask(SIG_SETMASK, NULL, &open);
    sigdelset(&open, SIGUSR1);
    return ended(ppoll(NULL, 0, NULL, &open), -1, EINTR);
}

/* A signal that comes just before pause() is lost, so its handler counts, and what counts is that the pause is over. */
static int by_sigwait(void)
{
    sigset_t set = set_of(WAITED);
    int number = 0, error = sigwait(&set, &number);

    return error ? error : number == WAITED ? 0 : EAGAIN;
}

static int by_sigwaitinfo(void)
{
    sigset_t set = set_of(WAITED);

    return ended(sigwaitinfo(&set, NULL), WAITED, 0);
}

static int by_raw_sigwait(void)
{
    sigset_t set = set_of(WAITED);

    return ended(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8), WAITED, 0);
}

static int by_read(void)
{
    char got;

    return ended(read(pipe_ends[0], &got, 1), 1, 0);
}

static int by_raw_read(void)
{
    char got;

    return ended(syscall(SYS_read, raw_pipe_ends[0], &got, 1), 1, 0);
}

static int by_poll_pipe(void)
{
    struct pollfd wait = { .fd = poll_pipe_ends[0], .events = POLLIN };
    char got;
    int error = ended(poll(&wait, 1, -1), 1, 0);

    return error ? error : ended(read(poll_pipe_ends[0], &got, 1), 1, 0);
}

static int by_recv(void)
{
    char got;

    return ended(recv(socket_ends[0], &got, 1, 0), 1, 0);
}

static int listener;
static struct sockaddr_un listener_address;
static socklen_t listener_length = sizeof listener_address;

static int by_accept(void)
{
    static int before = -1;

    if (before >= 0)
        close(before);
    before = accept(listener, NULL, NULL);
    return before < 0 ? errno : 0;
}

static void give_connection(void)
{
    static int before = -1;

    if (before >= 0)
        close(before); /* which was accepted */
    before = connecting(&listener_address, listener_length);
}

/* It has room for one: that of the call before. */
static int crowded;
static struct sockaddr_un crowded_address;
static socklen_t crowded_length = sizeof crowded_address;

static int by_connect(void)
{
    static int before[2] = { -1, -1 }; /* the second waits to be accepted */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), error;

    error = fd < 0 ? errno : ended(connect(fd, (struct sockaddr *)&crowded_address, crowded_length), 0, 0);
    if (before[0] >= 0)
        close(before[0]);
    before[0] = before[1];
    before[1] = fd;
    return error;
}

static void give_room(void)
{
    static int before = -1;

    if (before >= 0)
        close(before);
    before = accept(crowded, NULL, NULL);
    if (before < 0)
        bad("accept: %s", strerror(errno));
}

/* These are given an event by a function, and one of them reads it. */
static int event, watched_event, watching, watched;
static volatile long modified;

static void give_event(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof one) != sizeof one)
        bad("write to an eventfd: %s", strerror(errno));
}

static void give_to_read(void)
{
    give_event(event);
}

static void give_to_epoll(void)
{
    give_event(watched_event);
}

static void give_change(void)
{
    modified++;
    if (pwrite(watched, "x", 1, 0) != 1)
        bad("write: %s", strerror(errno));
}

static int by_read_event(void)
{
    uint64_t got = 0;

    return ended(read(event, &got, sizeof got), sizeof got, 0) ?: got == 1 ? 0 : EAGAIN;
}

static int by_epoll_event(void)
{
    static __thread int epoll;
    struct epoll_event told = { .events = EPOLLIN, .data.u32 = 7 };
    uint64_t got = 0;
    int error;

    if (!epoll && ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, watched_event, &told)))
        return errno;
    error = ended(epoll_wait(epoll, &told, 1, -1), 1, 0);
    return error ? error : ended(read(watched_event, &got, sizeof got), sizeof got, 0) ?: got == 1 && told.data.u32 == 7 ? 0 : EAGAIN;
}

/* For all signals: the stop signal is none of them. */
static int read_signal(int *fd, int raw, uint32_t wanted)
{
    struct signalfd_siginfo info = { 0 };
    sigset_t all;

    sigfillset(&all);
    sigdelset(&all, SIGUSR1);
    if (!*fd)
        *fd = raw ? (int)syscall(SYS_signalfd4, -1, &all, 8, SFD_CLOEXEC) : signalfd(-1, &all, SFD_CLOEXEC);
    if (*fd < 0)
        return errno;
    return ended(read(*fd, &info, sizeof info), sizeof info, 0) ?: info.ssi_signo == wanted ? 0 : EAGAIN;
}

static int by_read_signal(void)
{
    static int fd;

    return read_signal(&fd, 0, READ);
}

static int by_read_raw_signal(void)
{
    static int fd;

    return read_signal(&fd, 1, READ_RAW);
}

/* What a restart has lost shows in the file itself. */
static int by_read_change(void)
{
    static long seen;
    char events[4096];

    while (seen == modified)
        if (read(watching, events, sizeof events) <= 0)
            return errno;
    seen++;
    return 0;
}

static sem_t given;

static int by_sem_wait(void)
{
    return ended(sem_wait(&given), 0, 0);
}

static struct endless {
    const char *name;
    int (*wait)(void);
    int signal;     /* that ends it; 0: `end` or the semaphore */
    int *end;       /* of a pipe, to write to */
    volatile long count;
    pthread_t thread;
    void (*give)(void);
} endless[] = {
    { "sigsuspend", by_sigsuspend, SIGUSR1, NULL, 0, 0, NULL },
    { "raw rt_sigsuspend", by_raw_sigsuspend, SIGUSR1, NULL, 0, 0, NULL },
    { "ppoll for a signal", by_ppoll_signal, SIGUSR1, NULL, 0, 0, NULL },
    { "sigwait", by_sigwait, WAITED, NULL, 0, 0, NULL },
    { "sigwaitinfo", by_sigwaitinfo, WAITED, NULL, 0, 0, NULL },
    { "raw rt_sigtimedwait", by_raw_sigwait, WAITED, NULL, 0, 0, NULL },
    { "read", by_read, 0, &pipe_ends[1], 0, 0, NULL },
    { "raw read", by_raw_read, 0, &raw_pipe_ends[1], 0, 0, NULL },
    { "poll of a pipe", by_poll_pipe, 0, &poll_pipe_ends[1], 0, 0, NULL },
    { "sem_wait", by_sem_wait, 0, NULL, 0, 0, NULL },
    { "recv", by_recv, 0, &socket_ends[1], 0, 0, NULL },
    { "accept", by_accept, 0, NULL, 0, 0, give_connection },
    { "connect", by_connect, 0, NULL, 0, 0, give_room },
    { "read of an eventfd", by_read_event, 0, NULL, 0, 0, give_to_read },
    { "epoll_wait of an eventfd", by_epoll_event, 0, NULL, 0, 0, give_to_epoll },
    { "read of a signalfd", by_read_signal, READ, NULL, 0, 0, NULL },
    { "read of a raw signalfd", by_read_raw_signal, READ_RAW, NULL, 0, 0, NULL },
    { "read of inotify", by_read_change, 0, NULL, 0, 0, give_change },
};

enum { ENDLESS = sizeof endless / sizeof endless[0], GIVE_EVERY = 20 };

static void *without_time(void *argument)
{
    struct endless *self = argument;

    while (!stop) {
        int error = self->wait();
        if (error)
            bad("%s: %s", self->name, error < 1000 ? strerror(error) : "it returned something else");
        if (self->signal == SIGUSR1 && signals != self->count + 1)
            bad("%s came back after %d signals of %ld", self->name, (int)signals, self->count + 1);
        self->count++;
    }
    return NULL;
}

/* ---- writes of more than fits, which wait with a part of it written, and reads of all that is to come: they must not come
 * back with that part ---- */

enum { MUCH = 1 << 18, SLOWLY = 3000 };

static ssize_t by_write(int fd, const void *bytes, size_t length)
{
    return write(fd, bytes, length);
}

static ssize_t by_raw_write(int fd, const void *bytes, size_t length)
{
    return syscall(SYS_write, fd, bytes, length);
}

static ssize_t by_send(int fd, const void *bytes, size_t length)
{
    return send(fd, bytes, length, 0);
}

static ssize_t by_recv_all(int fd, const void *bytes, size_t length)
{
    return recv(fd, (void *)bytes, length, MSG_WAITALL);
}

static struct flow {
    const char *name;
    ssize_t (*put)(int fd, const void *bytes, size_t length);
    int is_socket, receives;
    int ends[2];
    pthread_t writer;
} flows[] = {
    { "write", by_write, 0, 0, { 0 }, 0 },
    { "raw write", by_raw_write, 0, 0, { 0 }, 0 },
    { "write to a socket", by_write, 1, 0, { 0 }, 0 },
    { "send", by_send, 1, 0, { 0 }, 0 },
    { "recv of all", by_recv_all, 1, 1, { 0 }, 0 },
};

enum { FLOWS = sizeof flows / sizeof flows[0] };

static void *pour(void *argument)
{
    static char much[MUCH];
    struct flow *flow = argument;

    while (!stop) {
        ssize_t done = flow->put(flow->ends[1], much, sizeof much);
        if (done != sizeof much && !(stop && flow->receives))
            bad("%s: %zd of %d bytes (%s)", flow->name, done, MUCH, strerror(errno));
    }
    close(flow->ends[1]);
    return NULL;
}

static void start_flows(void)
{
    for (int i = 0; i < FLOWS; i++)
        if ((flows[i].is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, flows[i].ends) : pipe(flows[i].ends)) ||
            pthread_create(&flows[i].writer, NULL, pour, &flows[i]))
            bad("%s", flows[i].name);
}

static void drink(void)
{
    char some[SLOWLY] = { 0 };

    for (int i = 0; i < FLOWS; i++)
        if ((flows[i].receives ? write(flows[i].ends[0], some, sizeof some) : read(flows[i].ends[0], some, sizeof some)) < 1)
            bad("%s: nothing came", flows[i].name);
}

static void end_flows(void)
{
    char some[SLOWLY];

    for (int i = 0; i < FLOWS; i++) {
        if (flows[i].receives)
            shutdown(flows[i].ends[0], SHUT_WR);
        while (read(flows[i].ends[0], some, sizeof some) > 0)
            ;
        pthread_join(flows[i].writer, NULL);
    }
}

/* So does a read of much randomness: random(4). */
static void *be_random(void *argument)
{
    static char much[MUCH];
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

    (void)argument;
    while (!stop) {
        if (read(fd, much, sizeof much) != sizeof much)
            bad("randomness came in parts");
        tick_sleep();
    }
    close(fd);
    return NULL;
}

/* pause() has no way to wait without a race, so it is only looked at that it does not come back by itself. */
static volatile int paused;

static void *for_ever(void *argument)
{
    if (argument)
        syscall(SYS_pause);
    else
        pause();
    if (!paused || errno != EINTR || !signals)
        bad("pause came back");
    return NULL;
}

static void give(struct endless *waiter)
{
    if (waiter->give)
        waiter->give();
    else if (waiter->signal)
        pthread_kill(waiter->thread, waiter->signal);
    else if (!waiter->end)
        sem_post(&given);
    else if (write(*waiter->end, "x", 1) != 1)
        bad("write: %s", strerror(errno));
}

static void wait_for_count(const struct endless *waiter, long wanted)
{
    for (int patience = 0; waiter->count < wanted; patience++) {
        if (patience > 12000)
            bad("%s did not end when it should", waiter->name);
        tick_sleep();
    }
    if (waiter->count > wanted)
        bad("%s came back of itself", waiter->name);
}

static void give_all(long *times)
{
    for (int i = 0; i < ENDLESS; i++)
        give(&endless[i]);
    ++*times;
    for (int i = 0; i < ENDLESS; i++)
        wait_for_count(&endless[i], *times);
}

static void end_pauses(pthread_t pauses[2])
{
    sigset_t set = set_of(SIGUSR1);

    paused = 1;
    for (int i = 0; i < 2; i++)
        while (!pthread_kill(pauses[i], SIGUSR1) && pthread_tryjoin_np(pauses[i], NULL))
            tick_sleep();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void set_up_events(void)
{
    struct epoll_event told = { .events = EPOLLIN };
    sigset_t never = set_of(NEVER);
    char path[64];

    snprintf(path, sizeof path, "watched-%d", (int)getpid());
    event = eventfd(0, EFD_CLOEXEC);
    watched_event = eventfd(0, EFD_CLOEXEC);
    watched = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    watching = inotify_init1(IN_CLOEXEC);
    if (event < 0 || watched_event < 0 || watched < 0 || inotify_add_watch(watching, path, IN_MODIFY) < 0)
        bad("descriptors for events: %s", strerror(errno));
    silent[0] = eventfd(0, EFD_CLOEXEC);
    silent[1] = signalfd(-1, &never, SFD_CLOEXEC);
    silent[2] = inotify_init1(IN_CLOEXEC);
    silent_epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < SILENT; i++)
        if (epoll_ctl(silent_epoll, EPOLL_CTL_ADD, silent[i], &told))
            bad("epoll_ctl: %s", strerror(errno));
}

static void set_up(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t set = set_of(WAITED);

    sigaction(SIGUSR1, &action, NULL);
    sigaddset(&set, NEVER);
    sigaddset(&set, READ);
    sigaddset(&set, READ_RAW);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sem_init(&semaphore, 0, 0);
    sem_init(&given, 0, 0);
    pthread_mutex_lock(&held);
    pthread_rwlock_wrlock(&held_for_writing);
    set_up_events();
    if (pipe(pipe_ends) || pipe(raw_pipe_ends) || pipe(poll_pipe_ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, socket_ends))
        bad("pipe");
    listener = listening(&listener_address, &listener_length);
    crowded = listening(&crowded_address, &crowded_length);
    connecting(&crowded_address, crowded_length);
    full_listener = listening(&full_address, &full_length);
    connecting(&full_address, full_length);
}

static void write_latest(const char *path)
{
    FILE *file = fopen(path, "w");
    int worst = 0;

    for (int i = 1; i < 2 * WAYS; i++)
        if (latest[i] > latest[worst])
            worst = i;
    if (!file || fprintf(file, "%.0f %s of %d ms\n", latest[worst] * 1000, ways[worst / 2].name,
                         worst % 2 ? LONG_MS : SHORT_MS) < 0 || fclose(file))
        bad("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 1, 5), times = 0;
    sigset_t open = set_of(SIGUSR1);
    pthread_t threads[2 * WAYS], pauses[2], random;

    set_up();
    for (intptr_t i = 0; i < 2 * WAYS; i++)
        if (pthread_create(&threads[i], NULL, timed, (void *)i))
            bad("pthread_create");
    for (int i = 0; i < ENDLESS; i++)
        if (pthread_create(&endless[i].thread, NULL, without_time, &endless[i]))
            bad("pthread_create");
    pthread_sigmask(SIG_UNBLOCK, &open, NULL);
    for (intptr_t i = 0; i < 2; i++)
        if (pthread_create(&pauses[i], NULL, for_ever, (void *)i))
            bad("pthread_create");
    start_flows();
    if (pthread_create(&random, NULL, be_random, NULL))
        bad("pthread_create");
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        if (tick % GIVE_EVERY == 0)
            give_all(&times);
        drink();
        tick_sleep();
    }
    stop = 1;
    end_flows();
    pthread_join(random, NULL);
    give_all(&times);
    end_pauses(pauses);
    for (int i = 0; i < 2 * WAYS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ENDLESS; i++)
        pthread_join(endless[i].thread, NULL);
    if (argc > 2)
        write_latest(argv[2]);
    printf("OK blocking\n");
    return 0;
}
