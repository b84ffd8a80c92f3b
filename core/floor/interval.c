/* SPDX-License-Identifier: MIT */
#include "interval.h"

#include <errno.h>

#include "text.h"

enum { MAX_SECONDS = 10 * 366 * 86400, MAX_TEXT = 24 };

static int equal_any_case(const char *text, const char *upper)
{
    for (; *text && *upper; text++, upper++) {
        char c = *text >= 'a' && *text <= 'z' ? (char)(*text - 'a' + 'A') : *text;
        if (c != *upper)
            return 0;
    }
    return !*text && !*upper;
}

/* Reads the fields between ':' into fields[4], the days of "D-" first when *ret_days says so. */
static int read_fields(const char *text, uint64_t fields[4], int *ret_days)
{
    int count = 0;

    *ret_days = 0;
    for (;;) {
        const char *start = text;
        if (count == 4)
            return -EINVAL;
        fields[count++] = text_number(&text);
        if (text == start)
            return -EINVAL;
        if (!*text)
            return count;
        if (*text == '-' && count == 1)
            *ret_days = 1;
        else if (*text != ':')
            return -EINVAL;
        text++;
    }
}

int interval_parse(const char *text, uint32_t *ret_seconds)
{
    static const uint32_t with_days[4] = { 86400, 3600, 60, 1 };
    /* Without days, the last of one field counts minutes, the last of two or three seconds. */
    static const uint32_t plain[3][3] = { { 60, 0, 0 }, { 60, 1, 0 }, { 3600, 60, 1 } };
    uint64_t fields[4], seconds = 0;
    int days, count;

    *ret_seconds = 0;
    if (text_equal(text, "-1") || equal_any_case(text, "INFINITE") || equal_any_case(text, "UNLIMITED"))
        return 0;
    if (text_length(text) >= MAX_TEXT)
        return -EINVAL;
    count = read_fields(text, fields, &days);
    if (count < 0 || (days && count < 2) || (!days && count > 3))
        return -EINVAL;
    for (int i = 0; i < count; i++) {
        if (fields[i] > MAX_SECONDS)
            return -EINVAL;
        seconds += fields[i] * (days ? with_days[i] : plain[count - 1][i]);
    }
    if (seconds > MAX_SECONDS)
        return -EINVAL;
    *ret_seconds = (uint32_t)seconds;
    return 0;
}
