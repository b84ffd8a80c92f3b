/* SPDX-License-Identifier: MIT */
/* What the parts of `stasis attend` share. */
#ifndef STASIS_SLURM_ATTEND_H
#define STASIS_SLURM_ATTEND_H

#include <stdint.h>
#include <sys/types.h>

#include "../core/floor/names.h"
#include "../core/registry/requests.h"
#include "../core/slurm/slurm.h"

struct attended {
    const char *number;         /* SLURM_JOB_ID */
    char name[2 * MAX_ID];      /* the same, or ARRAY_ELEMENT: the number of an array's last element means the whole array */
    const char *directory;
    struct former former;       /* images may have its number */
    char prefix[MAX_PATH];      /* ENV_SRUNS of the script; "": it does not run under the shim */
    pid_t script, worker;       /* worker: takes the last images, and asks for the requeue */
    pid_t taker;                /* takes those of the interval */
    int has_complained;         /* somebody has been told why the script has no image */
    uint32_t interval;          /* seconds; 0: none */
    int64_t due;                /* CLOCK_MONOTONIC seconds */
    struct requests requests;   /* for an image of the whole */
    int64_t began;              /* seconds since 1970 */
    int64_t limit;              /* in seconds, of this life; 0 when not known yet */
    int is_to_requeue;          /* --requeue was given */
    int64_t lead;               /* --signal=...@SECONDS: how long before the limit the user wants to be told */
};

/* slurm_beginning.c: what the script is to have in its environment besides, texts NAME=VALUE; none: it does not run under the shim. */
enum { MOST_VARIABLES = 4 };
struct beginning {
    char *variables[MOST_VARIABLES];
    int count;
};
/* Without the plugin: the environment becomes what it would be with it. */
void beginning_prepare(const struct attended *job);
/* The script goes on from the last image of the whole, or begins with its first line. */
void beginning_settle(struct attended *job, const char *script, struct beginning *ret_beginning);
/* To the plugin; or the script is started here. 0 or an exit status. */
void beginning_tell(int pipe, const struct beginning *beginning);
int beginning_start(struct attended *job, char **argv, const struct beginning *beginning);

/* slurm_interval.c: when an image of the whole is due, it is taken. Seconds until it wants to be asked again. */
void interval_settle(struct attended *job);
int64_t interval_look(struct attended *job);
/* The same for a request by a file, or by a signal to the script. */
int64_t interval_look_for_request(struct attended *job);
/* Learns what has come of it. */
void interval_learn(struct attended *job);
/* Gives up what is under way. */
void interval_end(struct attended *job);
/* The script and its steps; or, where the script cannot be taken along, the steps alone. max_wait: seconds, or NULL. Exit status of the whole. */
int interval_take(const struct attended *job, const char *max_wait);

#endif
