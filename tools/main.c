/* SPDX-License-Identifier: MIT */
/* stasis: finds the sub-command. A new one is one file and one line here and in commands.h. */
#include <stdio.h>
#include <string.h>

#include "../core/floor/names.h"
#include "commands.h"
#include "../core/registry/registry.h"

static const struct command *const commands[] = {
    &command_run, &command_checkpoint, &command_restart, &command_list, &command_show, &command_verify, &command_scontrol,
    &command_attend, &command_srun, &command_sbatch, &command_salloc, &command_task_prolog, &command_outside,
};

enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static int print_commands(FILE *out)
{
    fprintf(out, "Usage: stasis COMMAND [OPTION...] [ARGUMENT...]\n"
                 "Stops programs and brings them back: unmodified, without root.\n\nCommands:\n");
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-12s%s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "\n'stasis COMMAND --help' says more; so does stasis(1).\n");
    return 0;
}

/* A link to us with the name of one of Slurm's commands, or NULL. */
static const struct command *called_as(const char *path)
{
    static const struct command *const wrappers[] = { &command_srun, &command_sbatch, &command_salloc, &command_scontrol, &command_task_prolog,
                                                     &command_outside };
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
        if (!strcmp(name, wrappers[i]->name))
            return wrappers[i];
    return strcmp(name, "srun_cr") ? NULL : &command_srun; /* steps of a batch job come back by srun itself */
}

static int dispatch(int argc, char **argv)
{
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return print_commands(stdout);
    if (!strcmp(argv[1], "--version")) {
        printf("stasis %s\n", STASIS_VERSION);
        return 0;
    }
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(argv[1], commands[i]->name)) {
            argv[1] = argv[0] = "stasis"; /* how getopt's own messages begin */
            registry_sweep();
            return commands[i]->run(argc - 1, argv + 1);
        }
    complain(0, "there is no %s '%s'", argv[1][0] == '-' ? "option" : "command", argv[1]);
    fprintf(stderr, "Try 'stasis --help'.\n");
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const struct command *wrapper = called_as(argv[0]);
    int status;

    if (wrapper)
        return wrapper->run(argc, argv);
    if (argc < 2) {
        print_commands(stderr);
        return EXIT_USAGE;
    }
    status = dispatch(argc, argv);
    /* Output that never arrived (a full disk) is a failure, not a success. */
    if ((fflush(stdout) || ferror(stdout)) && !status)
        return complain(EXIT_CANNOT_WRITE, "cannot write to standard output: %m");
    return status;
}
