/* SPDX-License-Identifier: MIT */
/* What a job was submitted with, in its book: for `scontrol checkpoint restart` when Slurm has forgotten it. */
#ifndef STASIS_SLURM_REQUEST_H
#define STASIS_SLURM_REQUEST_H

/* In the first life, behind what is in the book: sbatch's options and directory, the script with its arguments, the environment. */
void request_note(const char *directory, const char *job, char **script);
/* In the job that goes on for it: which number the images have. */
void request_note_former(const char *directory, const char *job, const char *images);
/* Submits it anew, to go on where it was; sbatch prints the new number. EXIT_NO_IMAGE, and nothing said: there is no such book. */
int request_submit(const char *directory, const char *job);

#endif
