/* SPDX-License-Identifier: MIT */
/* terminal RESULT [leads]: sets its terminal to modes of its own, holds it by several descriptors, and at every tick all must be
 * as it was. Keys go into the file RESULT, until `q`. */
#include "guest.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

static struct termios wanted;
static struct winsize size;
static int controlling, written, high, inner = -1;
static char inner_name[64];
static volatile sig_atomic_t changes;
static char keys[256];

static void on_change(int number)
{
    (void)number;
    changes++;
}

static void set_modes(void)
{
    if (tcgetattr(0, &wanted))
        bad("no terminal: %s", strerror(errno));
    wanted.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
    wanted.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    wanted.c_cc[VMIN] = 3;
    wanted.c_cc[VTIME] = 2;
    wanted.c_cc[VINTR] = 7;
    if (tcsetattr(0, TCSADRAIN, &wanted))
        bad("tcsetattr: %s", strerror(errno));
}

static void open_all(void)
{
    controlling = open("/dev/tty", O_RDONLY | O_NONBLOCK);
    written = open(ttyname(0), O_WRONLY | O_NOCTTY);
    high = fcntl(1, F_DUPFD_CLOEXEC, 200);
    if (controlling < 0 || written < 0 || high < 200)
        bad("the terminal cannot be opened: %s", strerror(errno));
}

/* One who leads a session has terminals for others, too. */
static void open_inner(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);

    if (master < 0 || unlockpt(master) || ptsname_r(master, inner_name, sizeof inner_name) ||
        (inner = open(inner_name, O_RDWR | O_NOCTTY)) < 0)
        bad("no terminal can be had: %s", strerror(errno));
}

/* UTF-8, the key that erases, and the speed are those of where one sits. */
static void check_modes(void)
{
    struct termios now;

    if (tcgetattr(controlling, &now))
        bad("the controlling terminal is lost: %s", strerror(errno));
    now.c_iflag = (now.c_iflag & ~(tcflag_t)IUTF8) | (wanted.c_iflag & IUTF8);
    now.c_cc[VERASE] = wanted.c_cc[VERASE];
    if (now.c_iflag != wanted.c_iflag || now.c_oflag != wanted.c_oflag || now.c_lflag != wanted.c_lflag ||
        memcmp(now.c_cc, wanted.c_cc, sizeof now.c_cc))
        bad("the modes are others: input %x %x, output %x %x, local %x %x, VMIN %d, VTIME %d, VINTR %d", now.c_iflag, wanted.c_iflag,
            now.c_oflag, wanted.c_oflag, now.c_lflag, wanted.c_lflag, now.c_cc[VMIN], now.c_cc[VTIME], now.c_cc[VINTR]);
}

static void check_descriptors(void)
{
    struct stat one, other;
    char byte;

    if (read(controlling, &byte, 1) != -1 || errno != EAGAIN)
        bad("the controlling terminal does not say that there is nothing: %s", strerror(errno));
    if (write(written, "", 0) || read(written, &byte, 1) != -1 || errno != EBADF)
        bad("the one for writing alone: %s", strerror(errno));
    if (fcntl(high, F_GETFD) != FD_CLOEXEC || fcntl(0, F_GETFL) & O_NONBLOCK)
        bad("flags of descriptors");
    if (!ttyname(0))
        bad("the terminal has no name: %s", strerror(errno));
    fstat(0, &one);
    if (fstat(written, &other) || one.st_rdev != other.st_rdev || fstat(high, &other) || one.st_rdev != other.st_rdev)
        bad("they are several terminals");
    if (ioctl(0, FIOASYNC, &(int){ 0 }) || fcntl(1, F_SETFL, O_RDWR | O_NONBLOCK) || !(fcntl(high, F_GETFL) & O_NONBLOCK) ||
        fcntl(1, F_SETFL, O_RDWR))
        bad("a copy is none any more");
}

static void check_group(int leads)
{
    if (tcgetpgrp(0) != getpgrp() || tcgetpgrp(controlling) != getpgrp())
        bad("not in front: %d, but %d is", getpgrp(), tcgetpgrp(0));
    if (inner >= 0 && (!ttyname(inner) || strcmp(ttyname(inner), inner_name)))
        bad("the inner terminal has another name");
    if (leads && (getsid(0) != getpid() || tcgetsid(0) != getpid()))
        bad("it leads no session any more: %d", getsid(0));
}

/* Another size without the signal would leave its screen as it is. */
static void check_size(void)
{
    static int seen;
    struct winsize now;

    ioctl(0, TIOCGWINSZ, &now);
    if ((now.ws_row != size.ws_row || now.ws_col != size.ws_col) && changes == seen)
        bad("the size has changed, and nobody has said so");
    if (changes != seen)
        dprintf(written, "%d by %d\r\n", now.ws_row, now.ws_col);
    seen = changes;
    size = now;
}

static int read_keys(void)
{
    struct pollfd ready = { .fd = 0, .events = POLLIN };
    char got[16];
    ssize_t count = poll(&ready, 1, 0) == 1 ? read(0, got, sizeof got - 1) : 0;

    if (count < 0)
        bad("nothing can be read: %s", strerror(errno));
    got[count] = 0;
    strncat(keys, got, sizeof keys - strlen(keys) - 1);
    if (count)
        dprintf(written, "read %s\r\n", keys);
    return !!strchr(keys, 'q');
}

int main(int count, char **arguments)
{
    int leads = count > 2;
    FILE *result;

    signal(SIGWINCH, on_change);
    set_modes();
    open_all();
    if (leads)
        open_inner();
    ioctl(0, TIOCGWINSZ, &size);
    ready();
    do {
        check_modes();
        check_descriptors();
        check_group(leads);
        check_size();
        tick_sleep();
    } while (!read_keys());
    result = fopen(arguments[1], "w");
    if (!result || fprintf(result, "OK %s, %d by %d\n", keys, size.ws_row, size.ws_col) < 0 || fclose(result))
        bad("%s: %s", arguments[1], strerror(errno));
    return 0;
}
