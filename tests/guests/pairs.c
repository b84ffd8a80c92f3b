/* SPDX-License-Identifier: MIT */
/* pairs SECONDS [stopped|news|exclusive|alone]: holds both sides of several terminals, one of which controls it. At every tick it reads what it had written at the
 * tick before, so that something is always on its way: lines and the beginning of one, single bytes, packets, and the last words
 * of a side that is closed. Numbers, names, modes, sizes, locks must stay as they are. With a word, there is one more in a state that
 * nobody can bring back. */
#include "guest.h"

#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

static struct pair {
    int master, slave;
    char name[64];
    struct termios modes;
    struct winsize size;
} lines, bytes, packets, locked, closed;
static int named;
static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    (void)number;
    interrupts++;
}

static void open_pair(struct pair *pair, tcflag_t off)
{
    static unsigned short rows = 20;

    pair->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (pair->master < 0 || unlockpt(pair->master) || ptsname_r(pair->master, pair->name, sizeof pair->name))
        bad("no terminal can be had: %s", strerror(errno));
    pair->slave = open(pair->name, O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (pair->slave < 0 || tcgetattr(pair->slave, &pair->modes))
        bad("%s: %s", pair->name, strerror(errno));
    pair->modes.c_lflag &= ~off;
    pair->modes.c_lflag |= NOFLSH;
    pair->modes.c_cc[VEOL] = '|';
    pair->size = (struct winsize){ ++rows, 70, 5, 6 };
    if (tcsetattr(pair->slave, TCSANOW, &pair->modes) || ioctl(pair->master, TIOCSWINSZ, &pair->size))
        bad("%s: %s", pair->name, strerror(errno));
}

static void check_pair(const struct pair *pair)
{
    struct termios modes;
    struct winsize size;
    char name[64], *seen;

    if (tcgetattr(pair->slave, &modes) || memcmp(&modes, &pair->modes, offsetof(struct termios, c_cc)) ||
        memcmp(modes.c_cc, pair->modes.c_cc, sizeof modes.c_cc))
        bad("the modes of %s are others", pair->name);
    if (ioctl(pair->slave, TIOCGWINSZ, &size) || memcmp(&size, &pair->size, sizeof size))
        bad("the size of %s is another", pair->name);
    seen = ttyname(pair->slave);
    if (ptsname_r(pair->master, name, sizeof name) || strcmp(name, pair->name) || !seen || strcmp(seen, name))
        bad("%s has another name: %s, %s", pair->name, name, seen ? seen : strerror(errno));
}

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        bad("%s cannot be written: %s", text, strerror(errno));
}

static void get(int fd, const char *wanted, const char *what)
{
    char got[256] = "";
    ssize_t count, length = 0;

    while (length < (ssize_t)strlen(wanted) && poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 60000) == 1 &&
           (count = read(fd, got + length, sizeof got - 1 - (size_t)length)) > 0)
        length += count;
    if (strcmp(got, wanted))
        bad("%s: '%s' in place of '%s' (%s)", what, got, wanted, strerror(errno));
}

/* Ctrl-C, typed at the terminal that controls the program. */
static void check_control(void)
{
    int before = interrupts;

    if (tcgetpgrp(lines.slave) != getpgrp() || tcgetsid(lines.slave) != getpid() || tcgetpgrp(named) != getpgrp())
        bad("the controlling terminal is none");
    put(lines.master, "\3");
    for (int tries = 0; interrupts == before && tries < 1000; tries++)
        usleep(1000);
    if (interrupts != before + 1)
        bad("Ctrl-C gives no SIGINT");
    get(lines.master, "^C", "the echo of Ctrl-C");
}

/* "line N" and the beginning of the next wait to be read; their echo waits at the master. */
static void use_lines(long tick)
{
    char text[64];

    put(lines.master, "\177 ");
    snprintf(text, sizeof text, "%ld|", tick);
    put(lines.master, text);
    snprintf(text, sizeof text, "line %ld\n", tick - 1);
    get(lines.slave, text, "a line");
    snprintf(text, sizeof text, "unfinished %ld|", tick);
    get(lines.slave, text, "a line that was unfinished");
    snprintf(text, sizeof text, "line %ld\r\nunfinished-\b \b %ld|", tick - 1, tick);
    get(lines.master, text, "the echo");
    if (tick % 10 == 0)
        check_control();
    snprintf(text, sizeof text, "line %ld\nunfinished-", tick);
    put(lines.master, text);
}

static void use_bytes(long tick)
{
    char text[32], shown[32];

    snprintf(text, sizeof text, "%c%ld\1\n", (char)(128 + tick % 100), tick - 1);
    snprintf(shown, sizeof shown, "%ld\r\n", tick - 1);
    if (tick) {
        get(bytes.slave, text, "bytes");
        get(bytes.master, shown, "output");
    }
    snprintf(text, sizeof text, "%c%ld\1\n", (char)(128 + (tick + 1) % 100), tick);
    put(bytes.master, text);
    snprintf(shown, sizeof shown, "%ld\n", tick);
    put(bytes.slave, shown);
}

static void use_packets(long tick)
{
    char got[32], wanted[32];
    int length = snprintf(wanted, sizeof wanted, "%cp%ld", TIOCPKT_DATA, tick - 1), on = 0;

    if (ioctl(packets.master, TIOCGPKT, &on) || !on)
        bad("packets come no more");
    if (tick && (read(packets.master, got, sizeof got) != length || memcmp(got, wanted, (size_t)length)))
        bad("a packet is another");
    snprintf(wanted, sizeof wanted, "p%ld", tick);
    put(packets.slave, wanted);
}

static void check_others(void)
{
    struct pollfd ready = { .fd = closed.master, .events = POLLIN };
    struct stat status;
    int is_locked = 0;

    if (ioctl(locked.master, TIOCGPTLCK, &is_locked) || !is_locked || open(locked.name, O_RDWR | O_NOCTTY) != -1 || errno != EIO)
        bad("%s is not locked any more", locked.name);
    if (poll(&ready, 1, 0) != 1 || ready.revents != (POLLIN | POLLHUP))
        bad("the side that was closed: %#x", (unsigned)ready.revents);
    if (fstat(bytes.slave, &status) || (status.st_mode & 0777) != 0640)
        bad("%s has mode %o", bytes.name, status.st_mode);
    if (!(fcntl(lines.slave, F_GETFL) & O_NONBLOCK) || fcntl(lines.master, F_GETFL) & O_NONBLOCK ||
        fcntl(lines.master, F_GETFD) != FD_CLOEXEC || fcntl(lines.slave, F_GETFD))
        bad("flags of descriptors");
}

static void open_all(void)
{
    struct pair unused;
    int on = 1;

    signal(SIGINT, on_interrupt);
    open_pair(&closed, 0);
    open_pair(&lines, 0);
    open_pair(&unused, 0);
    open_pair(&packets, 0);
    open_pair(&locked, 0);
    open_pair(&bytes, ICANON | ECHO | ISIG);
    put(closed.slave, "last words");
    close(closed.slave);
    close(unused.master); /* a hole in the numbers */
    close(unused.slave);
    fchmod(bytes.slave, 0640);
    if (ioctl(packets.master, TIOCPKT, &on) || ioctl(locked.master, TIOCSPTLCK, &on))
        bad("packets or lock: %s", strerror(errno));
    setsid();
    if (ioctl(lines.slave, TIOCSCTTY, 0) || (named = open("/dev/tty", O_RDWR)) < 0)
        bad("the controlling terminal: %s", strerror(errno));
    put(lines.master, "line -1\nunfinished-");
}

static void open_odd(const char *what)
{
    struct pair odd;
    int on = 1;

    open_pair(&odd, 0);
    if (!strcmp(what, "stopped"))
        tcflow(odd.slave, TCOOFF);
    else if (!strcmp(what, "exclusive"))
        ioctl(odd.slave, TIOCEXCL);
    else if (!strcmp(what, "alone")) {
        if (posix_openpt(O_RDWR | O_NOCTTY) < 0)
            bad("no terminal can be had: %s", strerror(errno));
    } else {
        ioctl(odd.master, TIOCPKT, &on);
        tcflow(odd.slave, TCOOFF);
        tcflow(odd.slave, TCOON);
    }
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 2);

    open_all();
    if (count > 2)
        open_odd(arguments[2]);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        check_pair(&lines);
        check_pair(&bytes);
        check_pair(&packets);
        check_others();
        use_lines(tick);
        use_bytes(tick);
        use_packets(tick);
        tick_sleep();
    }
    get(closed.master, "last words", "last words");
    printf("OK pairs\n");
    return 0;
}
