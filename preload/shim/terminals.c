/* SPDX-License-Identifier: MIT */
/* What only the process itself can tell of its terminals. Island: no libc. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

static long terminal_call(int fd, unsigned long request, void *argument)
{
    return SYS_CALL(ioctl, fd, request, argument, 0, 0, 0);
}

/* A group may be outside of our PID namespace, and has no number then. But reading nothing changes nothing, and gives EIO to
 * a group that is not in front, as SIGTTIN is blocked (drivers/tty/n_tty.c: job_control). */
static int is_in_front(int fd, int32_t group)
{
    char none;
    long got = sys_read(fd, &none, 0);

    return got == -EBADF ? group == (int32_t)SYS_CALL(getpgid, 0, 0, 0, 0, 0, 0) : got == 0;
}

static int has_locked_modes(int fd)
{
    struct termios locked = { 0 };
    const uint8_t *byte = (const uint8_t *)&locked;
    int any = 0;

    terminal_call(fd, TIOCGLCKTRMIOS, &locked);
    for (size_t i = 0; i < sizeof locked; i++)
        any |= byte[i];
    return any != 0;
}

static int tells(int fd, int event)
{
    struct pollfd ready = { .fd = fd, .events = (short)event };
    return SYS_CALL(poll, &ready, 1, 0, 0, 0, 0) == 1 && ready.revents & event;
}

long terminals_look(struct agent_page *page)
{
    struct agent_terminal *terminal = &page->terminal;
    int fd = (int)page->argument;
    long error;

    memset(terminal, 0, sizeof *terminal);
    error = terminal_call(fd, TCGETS2, &terminal->modes);
    if (error)
        return error;
    terminal->is_master = !terminal_call(fd, TIOCGPTN, &terminal->index);
    terminal_call(fd, TIOCGDEV, &terminal->device);
    terminal_call(fd, TIOCGWINSZ, terminal->size);
    terminal_call(fd, TIOCGETD, &terminal->discipline);
    terminal_call(fd, TIOCGEXCL, &terminal->is_exclusive);
    terminal->has_locked_modes = (uint32_t)has_locked_modes(fd);
    terminal->is_hung_up = terminal->is_master && tells(fd, POLLHUP);
    terminal->is_controlling = !terminal_call(fd, TIOCGSID, &terminal->session) && !terminal->is_master;
    if (terminal->is_master || terminal->is_controlling)
        terminal_call(fd, TIOCGPGRP, &terminal->group);
    terminal->is_in_front = terminal->is_controlling && is_in_front(fd, terminal->group);
    return 0;
}

static void describe_pair(struct agent_pair *pair, int master, int slave)
{
    struct stat status = { 0 };

    SYS_CALL(fstat, slave, &status, 0, 0, 0, 0);
    pair->device = status.st_dev;
    pair->mode = status.st_mode & 07777;
    pair->user = status.st_uid;
    pair->group = status.st_gid;
    terminal_call(master, TIOCGPKT, &pair->has_packets);
    terminal_call(slave, TIOCGEXCL, &pair->is_exclusive);
    terminal_call(slave, TIOCGETD, &pair->discipline);
    pair->has_news = pair->has_packets && tells(master, POLLPRI);
}

/* In the mode for packets the kernel makes news of what is done here; so it is not in it meanwhile. */
static long take_and_put(struct agent_pair *pair, int master, int slave)
{
    int off = 0, on = 1;
    long error;

    if (pair->has_packets)
        terminal_call(master, TIOCPKT, &off);
    error = terminal_bytes_take(master, slave, &pair->bytes);
    if (!error)
        error = terminal_bytes_put(master, slave, &pair->bytes);
    if (pair->has_packets)
        terminal_call(master, TIOCPKT, &on);
    return error;
}

/* By a description of our own, locked or not. That a slave whose last holder has gone is open for a moment changes nothing: it is
 * hung up again when we close it. */
static long open_slave(int master, uint32_t *ret_is_locked)
{
    int open = 0;
    long slave;

    terminal_call(master, TIOCGPTLCK, ret_is_locked);
    if (*ret_is_locked)
        terminal_call(master, TIOCSPTLCK, &open);
    slave = SYS_CALL(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0, 0, 0);
    if (*ret_is_locked)
        terminal_call(master, TIOCSPTLCK, ret_is_locked);
    return slave;
}

static long look_at_pair(void *argument)
{
    struct agent_page *page = argument;
    int master = (int)page->argument;
    long slave = open_slave(master, &page->pair.is_locked), error = 0;

    if (slave < 0)
        return slave == -EBUSY ? -EACCES : slave;
    describe_pair(&page->pair, master, (int)slave);
    if (!page->pair.has_news && !page->pair.discipline && !page->pair.is_exclusive)
        error = take_and_put(&page->pair, master, (int)slave);
    sys_close((int)slave);
    return error;
}

long terminals_look_at_pair(struct agent_page *page)
{
    int master = (int)page->argument;
    return room_with(look_at_pair, page, &master, 1);
}
