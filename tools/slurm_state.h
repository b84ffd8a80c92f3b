/* SPDX-License-Identifier: MIT */
/* What `scontrol checkpoint` remembers of a job or step for its user, as slurmctld did: whether it is disabled, whether a request is under
 * way, and how the last one ended. A small file below $XDG_STATE_HOME (or ~/.local/state), which is there only while there is something
 * to remember. */
#ifndef STASIS_SLURM_STATE_H
#define STASIS_SLURM_STATE_H

#include <stdint.h>

#include "../core/floor/names.h"

struct state {
    char path[MAX_PATH];
    int file;            /* -1: not open */
    int is_busy;         /* another request is under way, begun at `began` */
    uint32_t disabled;   /* how many times more than enabled */
    uint32_t error;      /* exit status of the last request */
    int64_t began;       /* seconds since 1970 */
};

/* id: JOB or JOB.STEP. Opens and locks; is_busy when another holds it. -errno. */
int state_open(struct state *state, const char *id);
/* Writes it, and keeps it open. */
void state_write(const struct state *state);
/* Removes the file when there is nothing to remember. */
void state_close(struct state *state);

#endif
