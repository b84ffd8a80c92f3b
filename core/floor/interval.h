/* SPDX-License-Identifier: MIT */
/* Slurm's time grammar for --checkpoint and SLURM_CHECKPOINT. */
#ifndef STASIS_INTERVAL_H
#define STASIS_INTERVAL_H

#include <stdint.h>

/* M, M:S, H:M:S, D-H, D-H:M, D-H:M:S (digits only; a field may exceed its usual range, as in Slurm), or -1, INFINITE,
 * UNLIMITED in any case: none. *ret_seconds gets the interval, 0: none. Returns 0, or -EINVAL for anything else,
 * also for intervals over ten years. Uses no libc. */
int interval_parse(const char *text, uint32_t *ret_seconds);

#define INTERVAL_BAD "Invalid checkpoint interval specification: "

#endif
