/* SPDX-License-Identifier: MIT */
/* posix_spawn, system and popen: libc executes the program itself, so the environment is completed before. Their child blocks all signals
 * until our handler is gone, and is asked for nothing (core/registry/summon.c): it needs no more. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>

#include "../shim.h"
#include "environment.h"

extern char **environ;

#define WRAP_SPAWN(name)                                                                                               \
    NEXT_OF(name);                                                                                                     \
    EXPORTED int name(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,                         \
                      const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])         \
    {                                                                                                                  \
        ENVIRONMENT_WHOLE(whole, environment);                                                                         \
        return NEXT(name)(pid, path, actions, attributes, arguments, whole);                                           \
    }

WRAP_SPAWN(posix_spawn)
WRAP_SPAWN(posix_spawnp)

/* These take what environ says: it is another for as long as the call takes, in a program that has taken ours out of it. */
#define WRAP_SHELL(result, name, parameters, arguments) \
    NEXT_OF(name);                                      \
    EXPORTED result name parameters                     \
    {                                                   \
        char **old = environ;                           \
        ENVIRONMENT_WHOLE(whole, old);                  \
        if (whole == old)                               \
            return NEXT(name) arguments;                \
        environ = (char **)whole;                       \
        result got = NEXT(name) arguments;              \
        environ = old;                                  \
        return got;                                     \
    }

WRAP_SHELL(int, system, (const char *command), (command))
WRAP_SHELL(FILE *, popen, (const char *command, const char *mode), (command, mode))
