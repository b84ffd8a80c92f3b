/* SPDX-License-Identifier: MIT */
/* The #SBATCH lines of a batch script, as sbatch(1) reads them: up to the first line that is a command. */
#ifndef STASIS_SLURM_SCRIPT_H
#define STASIS_SLURM_SCRIPT_H

#include <stddef.h>
#include <stdio.h>

/* All of it, to be freed; NULL when it cannot be read, or has a NUL in it. Closes file, which may be NULL. */
char *script_read(FILE *file, size_t *ret_length);

/* Calls `word` for each word of the #SBATCH lines in text[length], which may change the word's bytes in place. Quotes are taken as part of a word that has
 * them. */
void script_walk(char *text, size_t length, void (*word)(void *context, char *start, size_t length), void *context);

/* How long the part of text is that these lines can stand in. */
size_t script_header(const char *text, size_t length);

#endif
