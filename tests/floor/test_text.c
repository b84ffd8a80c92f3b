/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "../../core/floor/text.h"

static void comparing(void **state)
{
    (void)state;
    assert_int_equal(text_length(""), 0);
    assert_int_equal(text_length("four"), 4);
    assert_true(text_equal("", ""));
    assert_true(text_equal("a", "a"));
    assert_false(text_equal("a", "ab"));
    assert_false(text_equal("ab", "a"));
    assert_false(text_equal("a", "b"));
    assert_true(text_starts("abc", ""));
    assert_true(text_starts("abc", "ab"));
    assert_true(text_starts("abc", "abc"));
    assert_false(text_starts("ab", "abc"));
    assert_false(text_starts("", "a"));
}

static void adding(void **state)
{
    char to[64];
    size_t at;

    (void)state;
    at = text_add(to, sizeof to, 0, "pid ");
    at = text_add_number(to, sizeof to, at, 0);
    at = text_add(to, sizeof to, at, "/");
    at = text_add_number(to, sizeof to, at, UINT64_MAX);
    at = text_add(to, sizeof to, at, " ");
    at = text_add_hex(to, sizeof to, at, UINT64_MAX - 15);
    assert_string_equal(to, "pid 0/18446744073709551615 fffffffffffffff0");
    assert_int_equal(at, strlen(to));
    assert_int_equal(text_add(to, sizeof to, at, ""), at);
}

static void adding_stops_at_the_end(void **state)
{
    char to[9] = "12345678";
    size_t at = text_add(to, 8, 0, "abcdefghij");

    (void)state;
    assert_int_equal(at, 7);
    assert_string_equal(to, "abcdefg");
    assert_int_equal(to[8], 0);
    assert_int_equal(text_add(to, 8, at, "more"), 7);
    assert_int_equal(text_add_number(to, 8, at, 99), 7);
    assert_string_equal(to, "abcdefg");
    at = text_add_number(to, 4, 2, 123);
    assert_int_equal(at, 3);
    assert_string_equal(to, "ab1");
}

static void numbers(void **state)
{
    const char *text = "120:7x";

    (void)state;
    assert_int_equal(text_number(&text), 120);
    assert_int_equal(*text++, ':');
    assert_int_equal(text_number(&text), 7);
    assert_string_equal(text, "x");
    assert_int_equal(text_number(&text), 0);
    assert_string_equal(text, "x");
}

static void uuids(void **state)
{
    static const char *const bad[] = {
        "", "00112233", "00112233-4455-6677-8899-aabbccddee", "00112233-4455-6677-8899-aabbccddeef",
        "001122334455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899_aabbccddeeff",
        "0011223g-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-AABBCCDDEEFF", "-0112233-4455-6677-8899-aabbccddeeff",
    };
    const char *text = "00112233-4455-6677-8899-aabbccddeeff";
    uint8_t uuid[16];
    char again[37];

    (void)state;
    assert_int_equal(text_to_uuid(text, uuid), 0);
    for (int i = 0; i < 16; i++)
        assert_int_equal(uuid[i], i * 17);
    text_from_uuid(uuid, again);
    assert_string_equal(again, text);
    /* What follows is the caller's: STASIS_RUN has a pid behind it. */
    assert_int_equal(text_to_uuid("00112233-4455-6677-8899-aabbccddeeff:12", uuid), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (text_to_uuid(bad[i], uuid) != -1)
            fail_msg("\"%s\" is taken for an uuid", bad[i]);
}

static void environments(void **state)
{
    char *const block[] = { "A=1", "AB=2", "EMPTY=", "BARE", "AB=3", NULL };
    char *const none[] = { NULL };

    (void)state;
    assert_string_equal(text_environment(block, "A"), "1");
    assert_string_equal(text_environment(block, "AB"), "2");
    assert_string_equal(text_environment(block, "EMPTY"), "");
    assert_null(text_environment(block, "BARE"));
    assert_null(text_environment(block, "B"));
    assert_null(text_environment(none, "A"));
    assert_null(text_environment(NULL, "A"));
}

static void lists(void **state)
{
    (void)state;
    assert_true(text_list_holds("one,two,three", "one"));
    assert_true(text_list_holds("one,two,three", "two"));
    assert_true(text_list_holds("one,two,three", "three"));
    assert_false(text_list_holds("one,two,three", "thre"));
    assert_false(text_list_holds("one,two,three", "wo"));
    assert_false(text_list_holds("", "one"));
    assert_false(text_list_holds(NULL, "one"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparing), cmocka_unit_test(adding), cmocka_unit_test(adding_stops_at_the_end),
        cmocka_unit_test(numbers),   cmocka_unit_test(uuids),  cmocka_unit_test(environments),
        cmocka_unit_test(lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
