/* SPDX-License-Identifier: MIT */
/* What is on its way in a pair is taken out and put back, and whoever reads then finds what he would have found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "../../core/floor/terminal_bytes.h"

static int master, slave;
static struct terminal_bytes taken, again;

static void change(tcflag_t input, tcflag_t output, tcflag_t local)
{
    struct termios modes;

    tcgetattr(slave, &modes);
    modes.c_iflag = input;
    modes.c_oflag = output;
    modes.c_lflag = local;
    assert_int_equal(tcsetattr(slave, TCSANOW, &modes), 0);
}

static int open_pair(void **state)
{
    (void)state;
    master = posix_openpt(O_RDWR | O_NOCTTY);
    unlockpt(master);
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK);
    return slave < 0;
}

static int close_pair(void **state)
{
    (void)state;
    close(master);
    close(slave);
    return 0;
}

static void type(const char *text, size_t length)
{
    assert_int_equal(write(master, text, length), length);
}

static void take_and_put(void)
{
    static struct termios before, after; /* their padding is zeros */

    tcgetattr(slave, &before);
    assert_int_equal(terminal_bytes_take(master, slave, &taken), 0);
    assert_int_equal(terminal_bytes_put(master, slave, &taken), 0);
    assert_int_equal(terminal_bytes_take(master, slave, &again), 0);
    assert_int_equal(terminal_bytes_put(master, slave, &again), 0);
    assert_int_equal(taken.shown, again.shown);
    assert_int_equal(taken.typed, again.typed);
    assert_memory_equal(taken.shown_bytes, again.shown_bytes, taken.shown);
    assert_memory_equal(taken.typed_bytes, again.typed_bytes, taken.typed);
    assert_memory_equal(taken.typed_marks, again.typed_marks, taken.typed);
    tcgetattr(slave, &after);
    assert_memory_equal(&before, &after, sizeof before);
}

static void reads(int fd, const char *text, ssize_t length)
{
    char got[8192];

    assert_int_equal(read(fd, got, sizeof got), length);
    if (length > 0)
        assert_memory_equal(got, text, length);
}

static void nothing(void **state)
{
    (void)state;
    take_and_put();
    assert_int_equal(taken.shown + taken.typed, 0);
    reads(slave, "", -1);
}

static void lines_and_an_unfinished_one(void **state)
{
    (void)state;
    change(ICRNL, OPOST | ONLCR, ICANON | ISIG | IEXTEN);
    type("one\rtwo\n\nunfin", 14);
    take_and_put();
    assert_int_equal(taken.typed, 14);
    reads(slave, "one\n", 4);
    reads(slave, "two\n", 4);
    reads(slave, "\n", 1);
    reads(slave, "", -1);
    type("ished\x7f!\n", 8);
    reads(slave, "unfinishe!\n", 11);
}

static void unfinished_alone(void **state)
{
    (void)state;
    change(0, 0, ICANON);
    type("\1\2\3" "5\0\377", 6);
    take_and_put();
    reads(slave, "", -1);
    type("\n", 1);
    reads(slave, "\1\2\3" "5\0\377\n", 7);
}

static void ends_of_file_and_other_ends(void **state)
{
    struct termios modes;

    (void)state;
    change(0, 0, ICANON | IEXTEN);
    tcgetattr(slave, &modes);
    modes.c_cc[VEOL] = 1;
    modes.c_cc[VEOL2] = ';';
    tcsetattr(slave, TCSANOW, &modes);
    type("a;b\1c\4" "line\n\4", 12);
    take_and_put();
    reads(slave, "a;", 2);
    reads(slave, "b\1", 2);
    reads(slave, "c", 1);
    reads(slave, "line\n", 5);
    reads(slave, "", 0);
    reads(slave, "", -1);
}

/* A newline behind the key that quotes ends no line. */
static void quoted(void **state)
{
    (void)state;
    change(0, 0, ICANON | IEXTEN);
    type("a\026\nb\026\004c\n", 9);
    take_and_put();
    reads(slave, "a\nb\4c\n", 6);
}

static void single_bytes(void **state)
{
    char text[2000];

    (void)state;
    change(0, 0, 0);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7);
    type(text, sizeof text);
    take_and_put();
    reads(slave, text, sizeof text);
}

static void output(void **state)
{
    (void)state;
    change(ICRNL | IXON, OPOST | ONLCR, ICANON | ECHO | ISIG);
    assert_int_equal(write(slave, "a\nb", 3), 3);
    type("x\ny", 3);
    take_and_put();
    reads(master, "a\r\nbx\r\ny", 8);
    reads(slave, "x\n", 2);
}

static void many_lines_both_ways(void **state)
{
    char text[3500];

    (void)state;
    change(0, 0, ICANON);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 50 == 49 ? '\n' : (char)('a' + i % 26);
    type(text, sizeof text);
    for (int i = 0; i < 2; i++)
        assert_int_equal(write(slave, text, 3000), 3000);
    take_and_put();
    assert_int_equal(taken.shown, 6000);
    assert_int_equal(taken.typed, sizeof text);
}

static void stopped(void **state)
{
    (void)state;
    assert_int_equal(tcflow(slave, TCOOFF), 0);
    assert_int_equal(terminal_bytes_take(master, slave, &taken), -EBUSY);
    assert_int_equal(tcflow(slave, TCOON), 0);
    assert_int_equal(terminal_bytes_take(master, slave, &taken), 0);
}

int main(void)
{
#define A_TEST(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)
    const struct CMUnitTest tests[] = {
        A_TEST(nothing), A_TEST(lines_and_an_unfinished_one), A_TEST(unfinished_alone), A_TEST(ends_of_file_and_other_ends),
        A_TEST(quoted), A_TEST(single_bytes), A_TEST(output), A_TEST(many_lines_both_ways), A_TEST(stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
