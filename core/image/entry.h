/* SPDX-License-Identifier: MIT */
/* The names of images in a directory: making them, and taking them apart. */
#ifndef STASIS_ENTRY_H
#define STASIS_ENTRY_H

#include <limits.h>

#include "buffer.h"

/* A name in a directory, with its NUL. */
struct entry {
    char name[NAME_MAX + 1];
};

/* Formats to->name. 0 or -ENAMETOOLONG. */
int entry_format(struct entry *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The bytes of entry that are an image's name, that is up to the end of "<job>.<step>.ckpt" or "<job>.ckpt", whether a
 * generation number stands behind or not; 0 when it is no such name. *ret_job: the length of the job in it. */
size_t entry_stem(const char *entry, size_t *ret_job);

/* 1 when these two lengths are those of "<job>.ckpt", whose step is BATCH_STEP. */
int entry_is_whole_job(size_t length, size_t job);

/* 1 when entry is one of image_temporary_name for `name`. */
int entry_is_temporary(const char *entry, const char *name);

/* Calls each(context, entry) for all names in a directory, `.` and `..` too, until it returns non-zero, which is then
 * returned. -errno. The directory may change meanwhile. */
int entry_walk(int directory, int (*each)(void *context, const char *entry), void *context);

/* The numbers of the older generations of `name` there, as unsigned, ascending. The caller frees. -errno. */
int entry_generations(int directory, const char *name, struct buffer *ret_numbers);

/* malloc'ed: `directory` itself if absolute, else with the working directory before it. NULL and errno. */
char *entry_absolute(const char *directory);

#endif
