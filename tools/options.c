/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/floor/names.h"
#include "../core/floor/text.h"

enum { MAX_CHOICES = 16, HELP_COLUMN = 28, HELP_WIDTH = 79, FIRST_VALUE = 256 };

static const struct choice help_choice = { "help", NULL, NULL, "print this and exit" };

static void complain_in(const char *format, va_list arguments)
{
    fputs("stasis: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int complain(int status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    complain_in(format, arguments);
    va_end(arguments);
    return status;
}

static int point_to_help(const struct command *command)
{
    fprintf(stderr, "Try 'stasis %s --help'.\n", command->name);
    return EXIT_USAGE;
}

int complain_usage(const struct command *command, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    complain_in(format, arguments);
    va_end(arguments);
    return point_to_help(command);
}

/* Prints words from HELP_COLUMN to HELP_WIDTH; `column` is where the cursor stands. */
static void print_wrapped(const char *text, int column)
{
    if (column >= HELP_COLUMN)
        column = printf("\n") - 1;
    printf("%*s", HELP_COLUMN - column, "");
    column = HELP_COLUMN;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH)
            column = printf("\n%*s", HELP_COLUMN, "") - 1;
        else if (column > HELP_COLUMN)
            column += printf(" ");
        column += printf("%.*s", word, text);
        text += word + (text[word] == ' ');
    }
    printf("\n");
}

static void print_choice(const struct choice *choice)
{
    char help[512];
    const char *argument = choice->argument;

    snprintf(help, sizeof help, choice->variable ? "%s [%s]" : "%s", choice->help, choice->variable);
    print_wrapped(help, printf("  --%s%s%s", choice->name, argument ? "=" : "", argument ? argument : ""));
}

static void print_help(const struct command *command)
{
    printf("Usage: stasis %s [OPTION...] %s\n%s.\n\nOptions:\n", command->name, command->operands, command->summary);
    for (const struct choice *choice = command->choices; choice->name; choice++)
        print_choice(choice);
    print_choice(&help_choice);
    if (command->notes)
        printf("\n%s\n", command->notes);
}

static struct option as_getopt(const struct choice *choice, int value)
{
    return (struct option){ choice->name, choice->argument ? required_argument : no_argument, NULL, value };
}

int options_next(const struct command *command, int argc, char **argv, const char **ret_value)
{
    struct option table[MAX_CHOICES + 2] = { 0 };
    int count = 0, value;

    for (; command->choices[count].name && count < MAX_CHOICES; count++)
        table[count] = as_getopt(&command->choices[count], FIRST_VALUE + count);
    table[count] = as_getopt(&help_choice, 'h');
    value = getopt_long(argc, argv, command->stops_at_operand ? "+h" : "h", table, NULL);
    if (value == '?')
        exit(point_to_help(command));
    if (value == 'h') {
        print_help(command);
        exit(fflush(stdout) ? EXIT_CANNOT_WRITE : 0);
    }
    *ret_value = optarg;
    return value < 0 ? -1 : value - FIRST_VALUE;
}

int options_number(const char *text, uint32_t maximum, uint32_t *ret_number)
{
    const char *end = text;
    uint64_t number = text_number(&end);

    /* Ten digits hold every uint32_t and cannot overflow the uint64_t. */
    if (end == text || *end || end - text > 10 || number > maximum)
        return -EINVAL;
    *ret_number = (uint32_t)number;
    return 0;
}
