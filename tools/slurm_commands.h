/* SPDX-License-Identifier: MIT */
/* Slurm's own commands, run as the user: its authentication is ours, and no library of one release is needed. */
#ifndef STASIS_SLURM_COMMANDS_H
#define STASIS_SLURM_COMMANDS_H

/* Runs a command to its end. Its exit status; EXIT_SYSTEM when it has none. */
int slurm_run(char *const argv[]);
/* The same, and what it prints without the last newline, to be freed; may be NULL. */
int slurm_run_output(char *const argv[], char **ret_text);
/* What a command prints without the last newline, to be freed; NULL when it fails, having said why itself. */
char *slurm_output(char *const argv[]);
/* Becomes Slurm's own command, also where ours of that name comes first in PATH. Returns an exit status, said already, when it cannot. */
int slurm_become(const char *name, char *const argv[]);

#endif
