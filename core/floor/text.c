/* SPDX-License-Identifier: MIT */
#include "text.h"

size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

int text_equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

int text_starts(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return 0;
    return 1;
}

const char *text_find(const char *text, const char *part)
{
    while (!text_starts(text, part))
        if (!*text++)
            return NULL;
    return text;
}

const char *text_file_name(const char *path)
{
    const char *name = path;

    for (; *path; path++)
        if (*path == '/')
            name = path + 1;
    return name;
}

size_t text_add(char *to, size_t size, size_t at, const char *text)
{
    while (*text && at + 1 < size)
        to[at++] = *text++;
    to[at] = 0;
    return at;
}

static size_t add_in_base(char *to, size_t size, size_t at, uint64_t number, unsigned base)
{
    char digits[24];
    size_t count = sizeof digits - 1;

    digits[count] = 0;
    do {
        digits[--count] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    return text_add(to, size, at, digits + count);
}

size_t text_add_number(char *to, size_t size, size_t at, uint64_t number)
{
    return add_in_base(to, size, at, number, 10);
}

size_t text_add_hex(char *to, size_t size, size_t at, uint64_t number)
{
    return add_in_base(to, size, at, number, 16);
}

size_t text_add_error(char *to, size_t size, size_t at, const char *what, long error)
{
    at = text_add(to, size, at, what);
    at = text_add(to, size, at, ", error ");
    at = text_add_number(to, size, at, (uint64_t)-error);
    return text_add(to, size, at, "\n");
}

uint64_t text_number(const char **text)
{
    uint64_t number = 0;
    while (**text >= '0' && **text <= '9') {
        unsigned digit = (unsigned)(*(*text)++ - '0');
        number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
    }
    return number;
}

void text_mark_uuid(uint8_t uuid[16])
{
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

void text_from_uuid(const uint8_t uuid[16], char text[37])
{
    size_t at = 0;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        text[at++] = "0123456789abcdef"[uuid[i] >> 4];
        text[at++] = "0123456789abcdef"[uuid[i] & 15];
    }
    text[at] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int text_to_uuid(const char *text, uint8_t uuid[16])
{
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return -1;
        int high = hex_digit(text[0]);
        int low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return -1;
        uuid[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    return 0;
}

const char *text_environment(char *const *environment, const char *name)
{
    size_t length = text_length(name);
    for (; environment && *environment; environment++)
        if (**environment == *name && text_starts(*environment, name) && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

int text_list_holds(const char *list, const char *word)
{
    size_t length = text_length(word);
    while (list && *list) {
        if (text_starts(list, word) && (list[length] == ',' || !list[length]))
            return 1;
        while (*list && *list != ',')
            list++;
        list += *list == ',';
    }
    return 0;
}

void text_leave_out(char *paths, const char *name)
{
    char *to = paths, *path = paths, *end;

    for (; *path; path = *end ? end + 1 : end) {
        for (end = path; *end && *end != ':' && *end != ' ';)
            end++;
        char separator = *end;
        *end = 0;
        int is_named = text_equal(text_file_name(path), name);
        *end = separator;
        if (is_named)
            continue;
        if (to != paths)
            *to++ = ':';
        while (path < end)
            *to++ = *path++;
    }
    *to = 0;
}
