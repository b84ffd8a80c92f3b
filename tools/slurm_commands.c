/* SPDX-License-Identifier: MIT */
#include "slurm_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"
#include "../core/floor/names.h"

static int is_ours(const char *path)
{
    struct stat own, other;

    return !stat("/proc/self/exe", &own) && !stat(path, &other) && own.st_ino == other.st_ino && own.st_dev == other.st_dev;
}

int slurm_become(const char *name, char *const argv[])
{
    const char *directories = getenv("PATH");
    char path[MAX_PATH];

    for (const char *at = directories ? directories : "/usr/bin:/bin", *end; at; at = *end ? end + 1 : NULL) {
        end = at + strcspn(at, ":");
        snprintf(path, sizeof path, "%.*s/%s", (int)(end - at), at, name);
        if (!access(path, X_OK) && !is_ours(path))
            execv(path, argv);
    }
    return complain(EXIT_SYSTEM, "cannot run %s: there is none in PATH but ours; is Slurm installed?", name);
}

static pid_t start(char *const argv[], int output)
{
    pid_t child = fork();

    if (child)
        return child;
    if (output >= 0)
        dup2(output, 1);
    if (strchr(argv[0], '/'))
        execv(argv[0], argv);
    else
        slurm_become(argv[0], argv);
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

int slurm_run_output(char *const argv[], char **ret_text)
{
    int ends[2];
    size_t length = 0, room = 0;
    char *text = NULL;

    *ret_text = NULL;
    if (pipe(ends))
        return EXIT_SYSTEM;
    pid_t child = start(argv, ends[1]);
    close(ends[1]);
    FILE *output = fdopen(ends[0], "r");
    if (output && getdelim(&text, &room, 0, output) > 0)
        length = strlen(text);
    if (output)
        fclose(output);
    if (!text)
        text = strdup("");
    if (length && text[length - 1] == '\n')
        text[length - 1] = 0;
    *ret_text = text;
    return child < 0 ? EXIT_SYSTEM : wait_for(child);
}

char *slurm_output(char *const argv[])
{
    char *text;

    if (!slurm_run_output(argv, &text))
        return text;
    free(text);
    return NULL;
}
