/* SPDX-License-Identifier: MIT */
/* What every sub-command shares: its row, its options, and the one voice in which it complains. */
#ifndef STASIS_OPTIONS_H
#define STASIS_OPTIONS_H

#include <stdint.h>

/* One option. --help and getopt both read it from here; docs/man/stasis.1 names the same ones. */
struct choice {
    const char *name;     /* long, without the dashes; NULL ends the list */
    const char *argument; /* what --help calls its value; NULL: it takes none */
    const char *variable; /* the environment variable that means the same; NULL: none */
    const char *help;
};

/* One sub-command: its file defines it, main.c lists it. */
struct command {
    const char *name;
    const char *operands;
    const char *summary;
    const char *notes;         /* more for --help; may be NULL */
    const struct choice *choices;
    int stops_at_operand;      /* 1: what follows the first operand is somebody else's command line */
    int (*run)(int argc, char **argv);
};

/* The next option: its index in command->choices, *ret_value its value; or -1 at the end (optind: first operand).
 * Answers --help itself, and a bad option with EXIT_USAGE: does not return then. */
int options_next(const struct command *command, int argc, char **argv, const char **ret_value);

/* "stasis: ..." on stderr. Returns status. */
int complain(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a bad command line, and where to find help. Returns EXIT_USAGE. */
int complain_usage(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Decimal digits from 0 to maximum. 0 or -EINVAL. */
int options_number(const char *text, uint32_t maximum, uint32_t *ret_number);

#endif
