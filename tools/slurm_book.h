/* SPDX-License-Identifier: MIT */
/* What a batch job must know of its former lives and no image tells: <dir>/<job>.book. */
#ifndef STASIS_SLURM_BOOK_H
#define STASIS_SLURM_BOOK_H

#include <stdint.h>

/* In the first life: how long its output files are (descriptors 1 and 2), and what time it is. */
void book_begin(const char *directory, const char *job);
/* In a later one that begins anew, as there is no image: cuts them to that, so that no line comes twice. */
void book_cut_output(const char *directory, const char *job);
/* When the first life began, in seconds since 1970; -1: it is not known. */
int64_t book_began(const char *directory, const char *job);
/* The job has ended well. */
void book_remove(const char *directory, const char *job);

#endif
