/* SPDX-License-Identifier: MIT */
/* The plugin's parts. */
#ifndef STASIS_PLUGIN_H
#define STASIS_PLUGIN_H

#include <slurm/spank.h>

/* output.c: the files for the task's output, which the shim opens, when it may. */
void output_check(spank_t spank, int is_wanted);

/* cr_socket.c, in srun: tells the step to whom SLURM_SRUN_CR_SOCKET names. */
void cr_socket_tell(spank_t spank);

/* batch.c, in the process that is to become the batch script: `stasis attend` stands by it. Returns in that process, which has what the script is to
 * have in its environment; 0: nothing, and the script is to run as it is, else under the shim. */
int batch_attend(spank_t spank, const char *stasis);

/* program.c: says so when the task's program cannot have the shim; or has the shim come with our command instead, which is not run, either, when
 * the task goes on from an image. Ends the task where it cannot. */
void program_check(spank_t spank);
void program_replace(spank_t spank, const char *stasis);

/* steps.c: in slurmstepd, when a task of a step has ended; and in the task that begins, in a later life (is_again) perhaps from its image:
 * ends it, if it had come to its end before. */
void steps_note_end(spank_t spank);
void steps_begin(spank_t spank, int is_again, int has_image);
/* The step's name in images, to name[size]: which srun of its script it is, or else Slurm's number. "": none. */
const char *steps_name(spank_t spank, char *name, int size);

#endif
