/* SPDX-License-Identifier: MIT */
/* Our options for Slurm's commands, where no plugin takes them. */
#ifndef STASIS_SLURM_WRAP_H
#define STASIS_SLURM_WRAP_H

enum { WISH_INTERVAL, WISH_DIRECTORY, WISH_RESTART, WISH_CLEANUP, WISH_PROLOG, WISHES };

/* What was asked for; NULL: not. */
struct wishes {
    char *value[WISHES];
};

/* Whether this word (without what is behind its '=') is an option of ours; *ret_wish which. */
int wish_is(const char *word, int *ret_wish);
/* Whether a value belongs to it. */
int wish_has_value(int wish);

/* slurm_batch.c: `script` (NULL: standard input) without our options, which are noted in wishes unless they are there already, as a file whose path
 * is returned, to be removed with batch_remove. NULL: said already. */
char *batch_make_path(const char *script);
char *batch_rewrite(const char *script, struct wishes *wishes);
void batch_remove(char *path);

#endif
