/* SPDX-License-Identifier: MIT */
/* Children belong to the step whatever the program does to its environment (`env -i`, an array of its own): what is missing of ours is
 * added. What is there is left as it is, but for LD_PRELOAD, before whose libraries ours is put. Used between vfork and exec, so
 * on the stack alone. */
#include "environment.h"

#include "../../../core/floor/text.h"
#include "../shim.h"

extern char **environ;

static const char *const names[] = { ENV_RUN, ENV_INTERVAL, ENV_DIRECTORY, ENV_JOB, ENV_KEEP, ENV_SAVE_FILES, ENV_SIGNAL, ENV_LIBEXEC,
                                     ENV_TEST_FAIL, ENV_STEP, ENV_SLURM_JOB, ENV_SLURM_STEP };

enum { COUNT = sizeof names / sizeof *names };

static const char *noted[COUNT] NEAR_THE_SHIM; /* of names: "NAME=value"; NULL: there was none */
static char *const none[] = { NULL };

void environment_note(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        const char *value = text_environment(environ, names[i]);
        if (value)
            noted[i] = shim_keep(names[i], "=", value);
    }
}

static int is_preloaded(char *const *environment)
{
    const char *value = text_environment(environment, "LD_PRELOAD");
    return value && text_find(value, SHIM_NAME);
}

size_t environment_size(char *const *environment)
{
    size_t count = 0, missing = 0;

    environment = environment ? environment : none;
    for (size_t i = 0; i < COUNT; i++)
        missing += noted[i] && !text_environment(environment, names[i]);
    missing += !is_preloaded(environment);
    while (environment[count])
        count++;
    return missing && shim.own_path ? count + missing + 1 : 0;
}

char *const *environment_complete(char *const *environment, size_t size, char **whole, char *preload)
{
    const char *others = NULL;
    size_t count = 0, at;

    if (!size)
        return environment;
    environment = environment ? environment : none;
    if (!is_preloaded(environment))
        whole[count++] = preload;
    for (size_t i = 0; i < COUNT; i++)
        if (noted[i] && !text_environment(environment, names[i]))
            whole[count++] = (char *)noted[i];
    for (; *environment; environment++)
        if (whole[0] == preload && text_starts(*environment, "LD_PRELOAD="))
            others = text_find(*environment, "=") + 1;
        else
            whole[count++] = *environment;
    whole[count] = NULL;
    at = text_add(preload, ENVIRONMENT_PRELOAD, 0, "LD_PRELOAD=");
    at = text_add(preload, ENVIRONMENT_PRELOAD, at, shim.own_path);
    if (others && *others)
        text_add(preload, ENVIRONMENT_PRELOAD, text_add(preload, ENVIRONMENT_PRELOAD, at, ":"), others);
    return whole;
}
