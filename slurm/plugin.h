/* SPDX-License-Identifier: MIT */
/* The plugin's parts. */
#ifndef STASIS_PLUGIN_H
#define STASIS_PLUGIN_H

#include <slurm/spank.h>

/* submission.c, in sbatch. Images are wanted: a requeued job must not empty its output file. Before sbatch reads its environment. */
void submission_wants_images(void);
/* What the job must know of the command line; when sbatch has read all its options. */
void submission_note(void);

/* output.c. In srun: the files that it writes its task's output to. */
void output_note(void);
/* In the task: writes to these files itself. */
void output_take(spank_t spank, int is_wanted);

/* batch.c, in the process that is to become the batch script: `stasis attend` stands by it. */
void batch_attend(spank_t spank, const char *stasis);

/* command_line.c: the words of this process's command line, NULL-terminated, freed with free(). NULL when it cannot be read. */
char **command_line(int *ret_count);

#endif
