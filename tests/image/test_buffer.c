/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/image/buffer.h"

static struct reader reader_of(const struct buffer *buffer)
{
    return (struct reader){ .bytes = buffer->bytes, .length = buffer->length };
}

static void what_is_added_comes_back(void **state)
{
    struct buffer buffer = { 0 };
    uint32_t number = 0;

    (void)state;
    for (uint32_t i = 0; i < 10000; i++) {
        buffer_add(&buffer, &i, sizeof i);
        buffer_add_text(&buffer, "text");
    }
    buffer_add_text(&buffer, "");
    assert_int_equal(buffer.error, 0);
    assert_int_equal(buffer.length, 10000 * 12 + 4);

    struct reader reader = reader_of(&buffer);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(reader_take(&reader, &number, sizeof number), 0);
        assert_int_equal(number, i);
        char *text = reader_text(&reader);
        assert_string_equal(text, "text");
        free(text);
    }
    assert_int_equal(reader_end(&reader), -EBADMSG);
    char *text = reader_text(&reader);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(reader_end(&reader), 0);
    buffer_free(&buffer);
    buffer_free(&buffer);
}

static void nothing_is_nothing(void **state)
{
    struct buffer buffer = { 0 };
    struct reader reader;

    (void)state;
    buffer_add(&buffer, NULL, 0);
    assert_null(buffer.bytes);
    reader = reader_of(&buffer);
    assert_non_null(reader_view(&reader, 0));
    assert_int_equal(reader_end(&reader), 0);
    assert_null(reader_view(&reader, 1));
    assert_int_equal(reader_end(&reader), -EBADMSG);
}

static void the_end_is_a_wall(void **state)
{
    struct buffer buffer = { 0 };
    uint64_t number = 7;

    (void)state;
    buffer_add(&buffer, "abc", 3);
    struct reader reader = reader_of(&buffer);
    assert_int_equal(reader_take(&reader, &number, sizeof number), -EBADMSG);
    assert_int_equal(number, 0);
    /* And it stays an error, although three bytes are there. */
    assert_null(reader_view(&reader, 1));
    assert_int_equal(reader.at, 0);

    reader = reader_of(&buffer);
    assert_null(reader_view(&reader, SIZE_MAX));
    assert_int_equal(reader.error, -EBADMSG);
    buffer_free(&buffer);
}

static void bad_texts_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {
        { "\x03\0\0\0a\0b", 7 },       /* a NUL in it */
        { "\x04\0\0\0abc", 7 },        /* longer than what is there */
        { "\xff\xff\xff\xff" "abc", 7 },
        { "\x01\0\0", 3 },             /* its length is cut off */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct reader reader = { .bytes = (const uint8_t *)bad[i].bytes, .length = bad[i].length };
        assert_null(reader_text(&reader));
        assert_int_equal(reader.error, -EBADMSG);
        assert_int_equal(reader_end(&reader), -EBADMSG);
    }
}

static void a_growth_that_fails_is_remembered(void **state)
{
    struct buffer buffer = { 0 };

    (void)state;
    buffer_add(&buffer, "abc", 3);
    buffer_add(&buffer, "abc", SIZE_MAX - 1);
    assert_int_equal(buffer.error, -ENOMEM);
    buffer_add(&buffer, "def", 3);
    assert_int_equal(buffer.length, 3);
    buffer_free(&buffer);
    assert_int_equal(buffer.error, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_comes_back),
        cmocka_unit_test(nothing_is_nothing),
        cmocka_unit_test(the_end_is_a_wall),
        cmocka_unit_test(bad_texts_are_refused),
        cmocka_unit_test(a_growth_that_fails_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
