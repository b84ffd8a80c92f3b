/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "../../core/floor/interval.h"

enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };

static const struct {
    const char *text;
    uint32_t seconds;
} good[] = {
    { "30", 30 * MINUTE },
    { "1", MINUTE },
    { "007", 7 * MINUTE },
    { "0", 0 },
    { "0:0", 0 },
    { "0:30", 30 },
    { "0:01", 1 },
    { "90:90", 90 * MINUTE + 90 },
    { "1:2:3", HOUR + 2 * MINUTE + 3 },
    { "00:00:00", 0 },
    { "100:100:100", 100 * HOUR + 100 * MINUTE + 100 },
    { "1-2", DAY + 2 * HOUR },
    { "1-2:3", DAY + 2 * HOUR + 3 * MINUTE },
    { "1-2:3:4", DAY + 2 * HOUR + 3 * MINUTE + 4 },
    { "0-0:0:5", 5 },
    { "365-0", 365 * DAY },
    { "3660-0", 3660u * DAY }, /* ten years, the most */
    { "-1", 0 },
    { "infinite", 0 },
    { "INFINITE", 0 },
    { "Unlimited", 0 },
    { "00000000000000000000030", 30 * MINUTE }, /* 23 characters */
};

static const char *const bad[] = {
    "", " ", " 1", "1 ", "1\n", "1:", ":1", ":", "-", "1-", "-0", "-2", "--1", "1-2-3", "1:2-3", "1:2:3:4", "1-2:3:4:5",
    "1-2:", "1-:2", "1::2", "abc", "5m", "1h", "+3", "1.5", "1,5", "0x10", "1:-2", "infinit", "infinitely", "unlimited ",
    "000000000000000000000030",              /* 24 characters */
    "3661-0", "5270401", "87841:0:0",        /* over ten years */
    "99999999999999999999999",               /* more than 64 bits */
    "18446744073709551616", "18446744073709551617:0",
    "4294967296", "307445734561825861",      /* * 60 is 2^64 + ... */
};

static void good_ones_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint32_t seconds = 12345;
        if (interval_parse(good[i].text, &seconds) || seconds != good[i].seconds)
            fail_msg("\"%s\" gives %u, not %u seconds", good[i].text, seconds, good[i].seconds);
    }
}

static void bad_ones_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t seconds = 12345;
        if (interval_parse(bad[i], &seconds) != -EINVAL)
            fail_msg("\"%s\" gives %u seconds", bad[i], seconds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_are_read),
        cmocka_unit_test(bad_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
