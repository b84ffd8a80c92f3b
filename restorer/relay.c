/* SPDX-License-Identifier: MIT */
/* The controlling terminal of a task that leads a session of its own. A terminal controls one session only:
 *
 *   handed over  the porter leads its session, as the command of a window does: it lets go, and the task takes it
 *   relayed      the terminal belongs to the session of an interactive shell: the task gets a pair of its own, and the
 *                porter carries what is typed and what is shown, in the manner of ssh
 *   none         there is none here, or the task had none
 *
 * A task in the porter's session needs none of this: it is given the front (porter.c). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "bubble_private.h"

struct carried {
    char bytes[4096];
    size_t from, to;
};

static struct {
    int outer;             /* the command's terminal, with a description of our own; -1: none */
    int master, slave;     /* -1: not relayed. We hold the slave's side, too: the program may close it and open it again */
    struct carried typed, shown;
    int is_raw, is_saved;
    struct termios saved;  /* of the outer one, before we touched it */
} relay = { .outer = -1, .master = -1, .slave = -1 };

int relay_is_on(void)
{
    return relay.master >= 0;
}

int relay_slave(void)
{
    return relay.slave;
}

static void open_pair(void)
{
    struct termios modes;

    relay.master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (relay.master < 0)
        return;
    relay.master = bubble_lift(relay.master, LIFTED);
    if (!unlockpt(relay.master))
        relay.slave = ioctl(relay.master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (relay.slave < 0) {
        close(relay.master);
        relay.master = -1;
        return;
    }
    relay.slave = bubble_lift(relay.slave, LIFTED);
    if (!tcgetattr(relay.outer, &modes) && modes.c_lflag & ICANON)
        tcsetattr(relay.slave, TCSANOW, &modes); /* otherwise a shell edits its line there: those are not for us */
    relay_resize();
}

int relay_prepare(const struct bubble_plan *plan)
{
    if (!plan->own_session || !plan->has_terminal)
        return 0;
    relay.outer = open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (relay.outer < 0)
        return 0;
    relay.outer = bubble_lift(relay.outer, LIFTED);
    if (getsid(0) != getpid()) {
        open_pair();
        return relay_is_on() ? 0 : -errno;
    }
    /* Our group is sent SIGHUP for this: the task may not be in it yet. By ourselves: porter.c passes over it. */
    ioctl(relay.outer, TIOCNOTTY);
    return 0;
}

void relay_let_go(void)
{
    if (relay.outer >= 0 && !relay_is_on()) {
        close(relay.outer);
        relay.outer = -1;
    }
}

static int is_outer(int fd)
{
    unsigned one, other;
    return !ioctl(fd, TIOCGDEV, &one) && !ioctl(relay.outer, TIOCGDEV, &other) && one == other;
}

void relay_take(void)
{
    if (relay.outer < 0)
        return;
    ioctl(relay_is_on() ? relay.slave : relay.outer, TIOCSCTTY, 0);
    for (int stream = 0; relay_is_on() && stream <= 2; stream++)
        if (is_outer(stream))
            dup2(relay.slave, stream);
    if (relay_is_on()) {
        close(relay.master);
        close(relay.slave);
    }
    close(relay.outer);
    relay.outer = relay.master = relay.slave = -1;
}

void relay_resize(void)
{
    struct winsize size;

    if (relay_is_on() && !ioctl(relay.outer, TIOCGWINSZ, &size))
        ioctl(relay.master, TIOCSWINSZ, &size);
}

/* ---- the outer terminal's modes ---- */

static int is_in_front(void)
{
    return tcgetpgrp(relay.outer) == getpgrp();
}

/* Every key goes to the program's terminal; what it means is decided there. */
static void make_raw(void)
{
    struct termios modes;

    if (relay.is_raw || tcgetattr(relay.outer, &modes))
        return;
    if (!relay.is_saved)
        relay.saved = modes;
    relay.is_saved = relay.is_raw = 1;
    cfmakeraw(&modes);
    tcsetattr(relay.outer, TCSANOW, &modes);
}

void relay_leave_terminal(void)
{
    if (relay_is_on() && relay.is_raw && is_in_front())
        tcsetattr(relay.outer, TCSADRAIN, &relay.saved);
    relay.is_raw = 0;
}

void relay_come_back(void)
{
    relay.is_raw = 0; /* a shell may have set what it likes */
    relay_resize();
}

/* ---- carrying ---- */

static int is_empty(const struct carried *carried)
{
    return carried->from == carried->to;
}

/* 0 at the end of `fd`. */
static int fill(struct carried *carried, int fd)
{
    ssize_t got = read(fd, carried->bytes, sizeof carried->bytes);

    if (got <= 0)
        return got < 0 && errno != ENXIO;
    carried->from = 0;
    carried->to = (size_t)got;
    return 1;
}

static void empty(struct carried *carried, int fd)
{
    ssize_t done = is_empty(carried) ? 0 : write(fd, carried->bytes + carried->from, carried->to - carried->from);

    if (done > 0)
        carried->from += (size_t)done;
}

enum { LOOK_MILLISECONDS = 200 };

/* A shell that puts us in front while we run tells nobody. */
int relay_poll(struct pollfd ready[RELAY_POLLS])
{
    int front = relay_is_on() && is_in_front();

    ready[0] = (struct pollfd){ .fd = -1 };
    ready[1] = (struct pollfd){ .fd = -1 };
    if (!relay_is_on())
        return -1;
    if (front)
        make_raw();
    else
        relay.is_raw = 0;
    ready[0].events = (short)((front && is_empty(&relay.typed) ? POLLIN : 0) | (is_empty(&relay.shown) ? 0 : POLLOUT));
    ready[1].events = (short)((is_empty(&relay.shown) ? POLLIN : 0) | (is_empty(&relay.typed) ? 0 : POLLOUT));
    ready[0].fd = ready[0].events ? relay.outer : -1;
    ready[1].fd = ready[1].events ? relay.master : -1;
    return front ? -1 : LOOK_MILLISECONDS;
}

/* As when a window is closed: the kernel hangs up the program's terminal with the last descriptor of the master's side. */
static void hang_up(void)
{
    close(relay.master);
    close(relay.slave);
    relay.master = relay.slave = -1;
}

void relay_carry(const struct pollfd ready[RELAY_POLLS])
{
    if (!relay_is_on())
        return;
    if (ready[0].revents & (POLLHUP | POLLERR)) {
        hang_up();
        return;
    }
    if (ready[0].revents & POLLIN && is_empty(&relay.typed) && !fill(&relay.typed, relay.outer)) {
        hang_up();
        return;
    }
    if (ready[1].revents & POLLIN && is_empty(&relay.shown))
        fill(&relay.shown, relay.master);
    empty(&relay.typed, relay.master);
    empty(&relay.shown, relay.outer);
}

enum { END_MILLISECONDS = 1000 };

/* What the program has written before its end. An outer terminal that takes nothing for a second (Ctrl-S) is not waited for. */
void relay_end(void)
{
    struct pollfd more = { .fd = relay.master, .events = POLLIN };

    while (relay_is_on() && (!is_empty(&relay.shown) || (poll(&more, 1, 0) > 0 && more.revents & POLLIN))) {
        struct pollfd room = { .fd = relay.outer, .events = POLLOUT };
        if (is_empty(&relay.shown) && !fill(&relay.shown, relay.master))
            break;
        if (poll(&room, 1, END_MILLISECONDS) <= 0 || room.revents & (POLLHUP | POLLERR))
            break;
        empty(&relay.shown, relay.outer);
    }
    relay_leave_terminal();
}
