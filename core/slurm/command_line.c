/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slurm.h"

/* The words, behind the list of them. */
static char **as_list(const char *text, size_t length, int *ret_count)
{
    size_t words = 0, at = 0;
    char **list, *copy;

    for (size_t i = 0; i < length; i++)
        words += !text[i];
    list = malloc((words + 1) * sizeof *list + length);
    if (!list)
        return NULL;
    copy = memcpy(list + words + 1, text, length);
    for (size_t i = 0; i < words; i++, at += strlen(copy + at) + 1)
        list[i] = copy + at;
    list[words] = NULL;
    *ret_count = (int)words;
    return list;
}

char **command_line(int *ret_count)
{
    FILE *file = fopen("/proc/self/cmdline", "re");
    char *text = NULL, **list = NULL, piece[4096];
    size_t length = 0, got;

    if (!file)
        return NULL;
    while ((got = fread(piece, 1, sizeof piece, file)) > 0) {
        char *more = realloc(text, length + got);
        if (!more)
            break;
        text = more;
        memcpy(text + length, piece, got);
        length += got;
    }
    fclose(file);
    if (length)
        list = as_list(text, length, ret_count);
    free(text);
    return list;
}
