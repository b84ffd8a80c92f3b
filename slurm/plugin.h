/* SPDX-License-Identifier: MIT */
/* The plugin's parts. */
#ifndef STASIS_PLUGIN_H
#define STASIS_PLUGIN_H

#include <slurm/spank.h>

/* output.c: the files for the task's output, which the shim opens, when it may. */
void output_check(spank_t spank, int is_wanted);

/* batch.c, in the process that is to become the batch script: `stasis attend` stands by it. */
void batch_attend(spank_t spank, const char *stasis);

/* finished.c: in slurmstepd, when the task of a step has ended; and in the task of a job's later life, which it ends if it had. */
void finished_note(spank_t spank);
void finished_end(spank_t spank);

#endif
