/* SPDX-License-Identifier: MIT */
#include "slurm_script.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char MARK[] = "#SBATCH";

enum { MARK_LENGTH = sizeof MARK - 1 };

char *script_read(FILE *file, size_t *ret_length)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t length = file ? getdelim(&text, &room, 0, file) : -1;

    if (file)
        fclose(file);
    if (length < 0 || strlen(text) != (size_t)length) {
        free(text);
        return NULL;
    }
    *ret_length = (size_t)length;
    return text;
}

/* Up to a blank outside quotes. */
static size_t word_length(const char *text, size_t length)
{
    char quote = 0;
    size_t at = 0;

    for (; at < length && (quote || !isspace((unsigned char)text[at])); at++) {
        if (quote && text[at] == quote)
            quote = 0;
        else if (!quote && (text[at] == '\'' || text[at] == '"'))
            quote = text[at];
    }
    return at;
}

static void walk_line(char *line, size_t length, void (*word)(void *context, char *start, size_t length), void *context)
{
    for (size_t at = MARK_LENGTH; at < length;) {
        size_t one = word_length(line + at, length - at);
        if (line[at] == '#') /* the rest is a comment */
            return;
        if (one)
            word(context, line + at, one);
        at += one ? one : 1;
    }
}

/* From `at` to the end of the line. */
static size_t line_length(const char *text, size_t length, size_t at)
{
    const char *end = memchr(text + at, '\n', length - at);

    return end ? (size_t)(end - text) - at : length - at;
}

static int is_command(const char *line, size_t length)
{
    return length && *line != '#' && strspn(line, " \t\r") < length;
}

size_t script_header(const char *text, size_t length)
{
    size_t at = 0, line;

    for (; at < length && !is_command(text + at, line = line_length(text, length, at)); at += line + 1)
        continue;
    return at < length ? at : length;
}

void script_walk(char *text, size_t length, void (*word)(void *context, char *start, size_t length), void *context)
{
    size_t end = script_header(text, length), line;

    for (size_t at = 0; at < end; at += line + 1) {
        line = line_length(text, end, at);
        if (line >= MARK_LENGTH && !memcmp(text + at, MARK, MARK_LENGTH))
            walk_line(text + at, line, word, context);
    }
}
