/* SPDX-License-Identifier: MIT */
/* The sub-commands, each defined in the file of its name. */
#ifndef STASIS_COMMANDS_H
#define STASIS_COMMANDS_H

#include "options.h"

extern const struct command command_run, command_checkpoint, command_restart, command_list, command_show, command_verify, command_scontrol,
    command_attend, command_srun, command_sbatch, command_salloc, command_task_prolog, command_outside;

/* restart.c: restarts from the newest whole image of job and step. Returns 0 when there is none, or an exit status. */
int restart_when_there_is(const char *directory, const char *job, const char *step, int cleans_up, const char *tool); /* `tool`: of stand_in_wait() */

#endif
