/* SPDX-License-Identifier: MIT */
/* A file <dir>/<job>.<step>.request asks for an image. Whoever takes one, for whatever reason, has fulfilled the request that was there before;
 * and a command that stays with a program (stasis run --requests, stasis restart --requests) looks for the file, and asks. */
#ifndef STASIS_REQUESTS_H
#define STASIS_REQUESTS_H

#include <stdint.h>
#include <sys/types.h>

#include "../floor/names.h"

enum { REQUESTS_MILLISECONDS = 1000 }; /* between two looks */

/* Which request it was: one that was made again later is another. */
struct request_file {
    uint64_t device, inode;
    int64_t seconds, nanoseconds; /* of its last change */
    int is_there;                 /* 1: and it is a file of this user's. -1: something else has that name */
};

/* -errno. One that is there already is as good. */
int request_make(const char *directory, const char *job, const char *step);
struct request_file request_look(const char *directory, const char *job, const char *step);
/* If it is still the same, it is removed; or, refused, it gets another name. -errno; -ENOENT: it is not. */
int request_remove(const char *directory, const char *job, const char *step, const struct request_file *request);
int request_set_aside(const char *directory, const char *job, const char *step, const struct request_file *request);

/* Of a command that stays. */
struct requests {
    const char *tool;      /* path of `stasis` */
    const char *directory; /* of the images */
    const char *job, *step;
    pid_t target;          /* what `stasis checkpoint` is told */
    pid_t asking;          /* that command; 0: none */
    struct request_file request; /* for which it asks; or what was complained of */
};

/* One look: asks, or learns what has come of it. A refusal is said on stderr. */
void requests_attend(struct requests *requests);

#endif
