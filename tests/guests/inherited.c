/* SPDX-License-Identifier: MIT */
/* inherited events|epoll|inotify|pidfds SECONDS: what a parent has opened and its child has inherited is one thing, and both see it.
 *
 *   events   eventfds, a timerfd, a signalfd, an epoll and an inotify: what the parent sets at each tick the child must find
 *   epoll, inotify  to which the child has added what only it knows of
 *   pidfds   handles of a parent, of children, of one that has ended; inherited ones, too */
#include "sorts.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

enum { PATIENCE = 60000, SIGNALS = 4 };

static int must(int result, const char *what)
{
    if (result < 0)
        bad("%s: %s", what, strerror(errno));
    return result;
}

static uint64_t take(int fd, const char *what)
{
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    uint64_t value = 0;

    while (must(poll(&wait, 1, PATIENCE), "poll") != 1 || read(fd, &value, sizeof value) != sizeof value)
        bad("%s: nothing comes", what);
    return value;
}

static void give(int fd, uint64_t value)
{
    if (write(fd, &value, sizeof value) != sizeof value)
        bad("eventfd: %s", strerror(errno));
}

static void add(int epoll, int operation, int fd, uint64_t data)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = data };

    must(epoll_ctl(epoll, operation, fd, &event), "epoll_ctl");
}

/* ---- events ---- */

static int question, answer, timer, signals, epoll, changes, quiet[2];

static sigset_t set_of(uint64_t value)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3 + (int)(value % SIGNALS));
    return set;
}

static void look_at_signal(uint64_t value)
{
    struct signalfd_siginfo info = { 0 };
    int wanted = SIGRTMIN + 3 + (int)(value % SIGNALS);

    must(kill(getpid(), wanted), "kill");
    if (read(signals, &info, sizeof info) != sizeof info || (int)info.ssi_signo != wanted)
        bad("the signalfd gives %u instead of %d: it is not the parent's", info.ssi_signo, wanted);
}

/* A restart may have lost some, and says so. */
static void look_at_changes(void)
{
    struct pollfd wait = { .fd = changes, .events = POLLIN };
    char bytes[4096];

    if (must(poll(&wait, 1, PATIENCE), "poll") != 1 || must((int)read(changes, bytes, sizeof bytes), "inotify") <= 0)
        bad("nothing of the parent's files");
}

static void follow(void)
{
    struct epoll_event event;
    struct itimerspec set;
    uint64_t value;

    close(quiet[0]); /* still in the epoll, by way of the parent's */
    close(quiet[1]);
    do {
        if (must(epoll_wait(epoll, &event, 1, PATIENCE), "epoll") != 1)
            bad("the parent asks nothing");
        value = take(question, "question");
        must(timerfd_gettime(timer, &set), "timerfd");
        if (event.data.u64 != value || set.it_interval.tv_sec != (time_t)value || fcntl(answer, F_GETFL) != fcntl(question, F_GETFL))
            bad("question %llu, epoll %llu, timer %lld", (unsigned long long)value, (unsigned long long)event.data.u64,
                (long long)set.it_interval.tv_sec);
        look_at_signal(value);
        look_at_changes();
        must(fcntl(answer, F_SETFL, value % 2 ? O_NONBLOCK : 0), "fcntl");
        give(answer, value + 1);
    } while (value != 1);
    _exit(0);
}

static void ask(uint64_t value)
{
    const struct itimerspec set = { { (time_t)value, 0 }, { 1000, 0 } };
    sigset_t one = set_of(value);

    must(timerfd_settime(timer, 0, &set, NULL), "timerfd");
    must(signalfd(signals, &one, 0), "signalfd");
    must(rmdir("watched/one") && mkdir("watched/one", 0700) ? -1 : 0, "watched");
    must(fcntl(question, F_SETFL, fcntl(answer, F_GETFL) & O_NONBLOCK), "fcntl");
    add(epoll, EPOLL_CTL_MOD, question, value);
    give(question, value);
    if (take(answer, "answer") != value + 1 || (fcntl(answer, F_GETFL) & O_NONBLOCK) != (value % 2 ? O_NONBLOCK : 0))
        bad("another answer than the child's");
}

static void block_signals(void)
{
    for (uint64_t i = 0; i < SIGNALS; i++) {
        sigset_t set = set_of(i);
        sigprocmask(SIG_BLOCK, &set, NULL);
    }
}

static void open_events(void)
{
    sigset_t none;

    sigemptyset(&none);
    question = must(eventfd(0, EFD_CLOEXEC), "eventfd");
    answer = must(eventfd(0, EFD_CLOEXEC), "eventfd");
    timer = must(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd");
    signals = must(signalfd(-1, &none, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
    epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll");
    changes = must(inotify_init1(IN_CLOEXEC), "inotify");
    must(pipe(quiet), "pipe");
    add(epoll, EPOLL_CTL_ADD, question, 0);
    add(epoll, EPOLL_CTL_ADD, quiet[0], 1);
    mkdir("watched", 0700);
    must(inotify_add_watch(changes, "watched", IN_CREATE | IN_DELETE), "inotify");
}

static pid_t child_of(void (*run)(void))
{
    pid_t child = must(fork(), "fork");

    if (!child) {
        run();
        _exit(7);
    }
    return child;
}

static void ends_with(pid_t child, int wanted)
{
    int status;

    if (waitpid(child, &status, 0) != child || status != wanted)
        bad("child %d ended with %x", (int)child, status);
}

static void events(long ticks)
{
    pid_t child;

    block_signals();
    open_events();
    child = child_of(follow);
    must(inotify_add_watch(changes, ".", IN_ATTRIB), "inotify"); /* of which the child has not heard */
    for (uint64_t value = 2; value < 6; value++)
        ask(value);
    ready();
    for (long tick = 0; tick < ticks; tick++, tick_sleep())
        ask((uint64_t)tick + 2);
    ask(1);
    ends_with(child, 0);
}

/* ---- foreign ---- */

static void stay(void)
{
    give(answer, 1);
    take(question, "question");
    _exit(0);
}

static void watch_own_pipe(void)
{
    int own[2];

    must(pipe(own), "pipe");
    add(epoll, EPOLL_CTL_ADD, own[0], 2);
    stay();
}

static void watch_own_directory(void)
{
    must(inotify_add_watch(changes, "/", IN_CREATE), "inotify");
    stay();
}

static void with_foreign(void (*run)(void), long ticks)
{
    pid_t child;

    open_events();
    child = child_of(run);
    take(answer, "answer");
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    give(question, 1);
    ends_with(child, 0);
}

static void foreign_epoll(long ticks)
{
    with_foreign(watch_own_pipe, ticks);
}

static void foreign_inotify(long ticks)
{
    with_foreign(watch_own_directory, ticks);
}

/* ---- pidfds ---- */

static int parent, elder, ended;
static volatile sig_atomic_t told;

static void count(int signal)
{
    (void)signal;
    told++;
}

static int has_ended(int pidfd)
{
    struct pollfd wait = { .fd = pidfd, .events = POLLIN };

    return must(poll(&wait, 1, 0), "poll");
}

static void tell(int pidfd)
{
    must((int)syscall(SYS_pidfd_send_signal, pidfd, SIGUSR1, NULL, 0), "pidfd_send_signal");
}

static void wait_to_be_told(void)
{
    for (int patience = 0; !told; patience++) {
        if (patience == PATIENCE)
            bad("process %d is not told", (int)getpid());
        usleep(1000);
    }
    told = 0;
}

/* The elder answers the parent, until it has a question of 2; then it ends. */
static void be_elder(void)
{
    uint64_t value;

    do {
        wait_to_be_told();
        value = take(question, "question");
        tell(parent);
    } while (value != 2);
    _exit(3);
}

/* The younger has the elder's handle by inheritance. It sees it end. */
static void be_younger(void)
{
    struct pollfd wait = { .fd = elder, .events = POLLIN };

    if (must(poll(&wait, 1, -1), "poll") != 1)
        bad("the elder does not end");
    _exit(0);
}

static void end(void)
{
    _exit(5);
}

static void ends_by_handle(int pidfd, int wanted)
{
    siginfo_t info = { 0 };

    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) || info.si_status != wanted)
        bad("waitid by a pidfd: %d, %s", info.si_status, strerror(errno));
}

static int handle_of(pid_t pid)
{
    return must((int)syscall(SYS_pidfd_open, pid, 0), "pidfd");
}

static void pidfds(long ticks)
{
    struct epoll_event event;
    pid_t younger, dead;
    siginfo_t info;

    signal(SIGUSR1, count);
    question = must(eventfd(0, EFD_CLOEXEC), "eventfd");
    epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll");
    parent = handle_of(getpid());
    elder = handle_of(child_of(be_elder));
    dead = child_of(end);
    ended = handle_of(dead);
    must(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT), "waitid");
    add(epoll, EPOLL_CTL_ADD, elder, 9);
    younger = child_of(be_younger);
    ready();
    for (long tick = 0; tick <= ticks; tick++, tick_sleep()) {
        if (!has_ended(ended) || has_ended(elder) || epoll_wait(epoll, &event, 1, 0))
            bad("the wrong child has ended");
        give(question, tick == ticks ? 2 : 1);
        tell(elder);
        wait_to_be_told();
    }
    if (must(epoll_wait(epoll, &event, 1, PATIENCE), "epoll") != 1 || event.data.u64 != 9)
        bad("the epoll does not see the elder end");
    ends_by_handle(elder, 3);
    ends_by_handle(ended, 5);
    ends_with(younger, 0);
}

int main(int argc, char **argv)
{
    static const struct life lives[] = { { "events", events }, { "epoll", foreign_epoll }, { "inotify", foreign_inotify }, { "pidfds", pidfds }, { 0 } };

    return run_life(lives, argc, argv);
}
