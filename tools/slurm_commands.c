/* SPDX-License-Identifier: MIT */
#include "slurm_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"
#include "../core/floor/names.h"

static pid_t start(char *const argv[], int output)
{
    pid_t child = fork();

    if (child)
        return child;
    if (output >= 0)
        dup2(output, 1);
    execvp(argv[0], argv);
    complain(0, "cannot run %s: %m; is Slurm installed?", argv[0]);
    _exit(EXIT_SYSTEM);
}

static int wait_for(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_SYSTEM;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SYSTEM;
}

int slurm_run(char *const argv[])
{
    pid_t child = start(argv, -1);
    return child < 0 ? EXIT_SYSTEM : wait_for(child);
}

char *slurm_output(char *const argv[])
{
    int ends[2];
    size_t length = 0, room = 0;
    char *text = NULL;

    if (pipe(ends))
        return NULL;
    pid_t child = start(argv, ends[1]);
    close(ends[1]);
    FILE *output = fdopen(ends[0], "r");
    if (output && getdelim(&text, &room, 0, output) > 0)
        length = strlen(text);
    if (output)
        fclose(output);
    if (!text)
        text = strdup("");
    if (child < 0 || wait_for(child)) {
        free(text);
        return NULL;
    }
    if (length && text[length - 1] == '\n')
        text[length - 1] = 0;
    return text;
}
