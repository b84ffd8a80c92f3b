/* SPDX-License-Identifier: MIT */
/* The sub-commands, each defined in the file of its name. */
#ifndef STASIS_COMMANDS_H
#define STASIS_COMMANDS_H

#include "options.h"

extern const struct command command_run, command_checkpoint, command_restart, command_list, command_show, command_verify, command_scontrol;

#endif
