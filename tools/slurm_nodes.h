/* SPDX-License-Identifier: MIT */
/* A command on each node of a step. */
#ifndef STASIS_SLURM_NODES_H
#define STASIS_SLURM_NODES_H

enum { NODE_OPTIONS = 3 };

/* srun's options for one process on each node of the list ("n[1-3],n7"), into words[NODE_OPTIONS]. They stay as they are until the next
 * call. */
void slurm_node_options(const char *list, char *words[NODE_OPTIONS]);

/* Runs that srun to its end; it runs `stasis checkpoint`, which says the same on all nodes that have something of the step, and nothing on the
 * others. Exit status. */
int slurm_run_on_nodes(char *const argv[]);

/* Whether this is one of several. */
int slurm_is_one_of_nodes(void);

#endif
