/* SPDX-License-Identifier: MIT */
#include "slurm_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/floor/names.h"
#include "options.h"
#include "slurm_commands.h"

static unsigned count_nodes(const char *list)
{
    char *names = strpbrk(list, "[,") ? slurm_output((char *[]){ "scontrol", "show", "hostnames", (char *)list, NULL }) : NULL;
    unsigned count = 1;

    for (const char *at = names; at && (at = strchr(at, '\n')); at++)
        count++;
    free(names);
    return count;
}

void slurm_node_options(const char *list, char *words[NODE_OPTIONS])
{
    static char nodelist[MAX_PATH], nodes[32], tasks[32];
    unsigned count = count_nodes(list);

    snprintf(nodelist, sizeof nodelist, "--nodelist=%s", list);
    snprintf(nodes, sizeof nodes, "--nodes=%u", count);
    snprintf(tasks, sizeof tasks, "--ntasks=%u", count);
    words[0] = nodelist;
    words[1] = nodes;
    words[2] = tasks;
    if (count > 1)
        setenv(ENV_NODES, list, 1);
    else
        unsetenv(ENV_NODES);
}

int slurm_run_on_nodes(char *const argv[])
{
    char *text;
    int status;

    if (!slurm_is_one_of_nodes())
        return slurm_run(argv);
    status = slurm_run_output(argv, &text);
    if (!status && (!text || !*text))
        status = complain(EXIT_NO_IMAGE, "on %s nothing of the step runs under stasis", getenv(ENV_NODES));
    else if (text && *text)
        printf("%.*s\n", (int)strcspn(text, "\n"), text);
    free(text);
    return status;
}

int slurm_is_one_of_nodes(void)
{
    return getenv(ENV_NODES) != NULL;
}
