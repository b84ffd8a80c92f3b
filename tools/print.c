/* SPDX-License-Identifier: MIT */
#include "print.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const char *print_size(uint64_t bytes, char text[SIZE_TEXT])
{
    const char *unit = "BKMGTPE";
    double size = (double)bytes;

    /* 1023.5 would be printed as 1024. */
    for (; size >= 1023.5; size /= 1024)
        unit++;
    snprintf(text, SIZE_TEXT, *unit != 'B' && size < 9.95 ? "%.1f%c" : "%.0f%c", size, *unit);
    return text;
}

const char *print_time(uint64_t seconds, int with_zone, char text[TIME_TEXT])
{
    time_t moment = (time_t)seconds;
    struct tm parts;

    if (!localtime_r(&moment, &parts) || !strftime(text, TIME_TEXT, with_zone ? "%FT%T%z" : "%FT%T", &parts))
        snprintf(text, TIME_TEXT, "?");
    return text;
}

const char *print_clean(char *to, size_t size, const char *field, size_t field_size)
{
    size_t length = strnlen(field, field_size);

    if (length >= size)
        length = size - 1;
    for (size_t i = 0; i < length; i++)
        to[i] = (unsigned char)field[i] < ' ' || field[i] == 0x7f ? '?' : field[i];
    to[length] = 0;
    return to;
}
