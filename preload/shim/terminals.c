/* SPDX-License-Identifier: MIT */
/* What only the process itself can tell of its terminals. Island: no libc. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <string.h>

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

long terminals_look(struct agent_page *page)
{
    struct agent_terminal *terminal = &page->terminal;
    int fd = (int)page->argument;
    uint32_t number;
    int32_t session;
    long error;

    memset(terminal, 0, sizeof *terminal);
    error = terminal_call(fd, TCGETS2, &terminal->modes);
    if (error)
        return error;
    terminal->is_master = !terminal_call(fd, TIOCGPTN, &number);
    terminal_call(fd, TIOCGDEV, &terminal->device);
    terminal_call(fd, TIOCGWINSZ, terminal->size);
    terminal_call(fd, TIOCGETD, &terminal->discipline);
    terminal_call(fd, TIOCGEXCL, &terminal->is_exclusive);
    terminal->has_locked_modes = (uint32_t)has_locked_modes(fd);
    terminal->is_controlling = !terminal->is_master && !terminal_call(fd, TIOCGSID, &session);
    if (terminal->is_master || terminal->is_controlling)
        terminal_call(fd, TIOCGPGRP, &terminal->group);
    terminal->is_in_front = terminal->is_controlling && is_in_front(fd, terminal->group);
    return 0;
}
