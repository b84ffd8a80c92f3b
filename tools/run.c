/* SPDX-License-Identifier: MIT */
/* stasis run: sets the environment and becomes the program. Nobody stays behind to supervise, unless there is something to do
 * when the program has ended. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/interval.h"
#include "../core/floor/names.h"
#include "../core/image/commit.h"
#include "commands.h"
#include "locate.h"
#include "stand_in.h"
#include "../core/registry/preloadable.h"

enum { RUN_INTERVAL, RUN_DIRECTORY, RUN_CLEANUP, RUN_JOB, RUN_KEEP, RUN_REQUESTS, RUN_RESUME, RUN_SAVE_FILES, RUN_COUNT };

#define AS_TEXT(macro) AS_TEXT_NOW(macro)
#define AS_TEXT_NOW(value) #value

/* As env(1) does. */
enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

static const struct choice choices[] = {
    [RUN_INTERVAL] = { "checkpoint", "INTERVAL", ENV_INTERVAL,
                       "take an image every INTERVAL: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S; 0: only when asked" },
    [RUN_DIRECTORY] = { "checkpoint-dir", "DIR", ENV_DIRECTORY, "put images in DIR; default: the current directory" },
    [RUN_CLEANUP] = { "cleanup", NULL, NULL, "wait for COMMAND, and remove its images when it has ended with status 0" },
    [RUN_JOB] = { "job-id", "ID", ENV_JOB, "name images ID.STEP.ckpt; default: the job id of Slurm, or the PID" },
    [RUN_KEEP] = { "keep", "N", ENV_KEEP, "keep N older images beside the newest; default: " AS_TEXT(DEFAULT_KEEP) },
    [RUN_REQUESTS] = { "requests", NULL, NULL, "stay, and take an image when somebody makes a file DIR/JOB.STEP" REQUEST_SUFFIX },
    [RUN_RESUME] = { "resume", NULL, NULL, "restart from the newest whole image of this job and step, if DIR has one" },
    [RUN_SAVE_FILES] = { "save-files", NULL, ENV_SAVE_FILES, "save the content of all files open for writing in the image" },
    { 0 },
};

/* Sets one environment variable from an option, once it is known to be good; or notes it as wanted. 0 or an exit status. */
static int take_option(int option, const char *value, int wanted[RUN_COUNT])
{
    char name[MAX_PATH];
    uint32_t number;

    wanted[option] = 1;
    if (!choices[option].variable)
        return 0;
    if (option == RUN_INTERVAL && interval_parse(value, &number))
        return complain_usage(&command_run, "%s%s", INTERVAL_BAD, value);
    if (option == RUN_KEEP && options_number(value, MAX_KEEP, &number))
        return complain_usage(&command_run, "--keep=%s: give a number from 0 to %d", value, MAX_KEEP);
    if (option == RUN_JOB && (strlen(value) >= MAX_ID || image_name(name, sizeof name, value, "0")))
        return complain_usage(&command_run, "--job-id=%s: give 1 to %d characters, not '.' first, without '/'", value, MAX_ID - 1);
    if (setenv(choices[option].variable, value ? value : "1", 1))
        return complain(EXIT_SYSTEM, "cannot set %s: %m", choices[option].variable);
    return 0;
}

/* Makes the directory absolute, for the program may go elsewhere, and sure: better now than after a day. */
static int settle_directory(void)
{
    char path[MAX_PATH];
    const char *given = getenv(ENV_DIRECTORY);
    struct stat status;

    if (!given || !*given)
        given = ".";
    errno = 0;
    if (!realpath(given, path) || stat(path, &status) || (!S_ISDIR(status.st_mode) && (errno = ENOTDIR))
        || eaccess(path, W_OK | X_OK))
        return complain(EXIT_CANNOT_CREATE, "images cannot be put in '%s': %m; name a directory that you may write to with "
                        "--checkpoint-dir=DIR", given);
    if (setenv(ENV_DIRECTORY, path, 1))
        return complain(EXIT_SYSTEM, "cannot set %s: %m", ENV_DIRECTORY);
    return 0;
}

static int preload_shim(void)
{
    char directory[MAX_PATH], helpers[MAX_PATH], *value;
    const char *others = getenv("LD_PRELOAD");
    int unusual, failed;

    if (locate_shim(directory))
        return complain(EXIT_INTERNAL, "%s cannot be found; install Stasis again, or set %s to the directory that holds it", SHIM_NAME,
                        ENV_LIBEXEC);
    if (strpbrk(directory, ": \t\n"))
        return complain(EXIT_INTERNAL, "%s is in '%s', and LD_PRELOAD cannot name a file with a space or ':' in its path; install "
                        "Stasis elsewhere", SHIM_NAME, directory);
    if (locate_helper(SAVER_NAME, helpers, &unusual))
        return complain(EXIT_INTERNAL, "the helper program %s cannot be found; install Stasis again, or set %s to the directory "
                        "that holds it", SAVER_NAME, ENV_LIBEXEC);
    failed = asprintf(&value, "%s/%s%s%s", directory, SHIM_NAME, others && *others ? ":" : "", others ? others : "") < 0
             || setenv("LD_PRELOAD", value, 1) || (unusual && setenv(ENV_LIBEXEC, helpers, 1));
    return failed ? complain(EXIT_SYSTEM, "cannot set the environment: %m") : 0;
}

static int become(char **argv)
{
    char file[MAX_PATH];
    struct refusal refusal = preloadable_check(argv[0], file);

    if (refusal.name)
        return complain(EXIT_REFUSED, "%s: %s %s, so the loader would leave %s out and it could not be checkpointed; "
                        "run it without stasis, or see the refusals in the documentation", refusal.name, file, refusal.reason,
                        SHIM_NAME);
    execvp(argv[0], argv);
    return complain(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, "cannot run '%s': %m", argv[0]);
}

/* The names of the images, as the shim will have them. NULL: the program's PID. */
static const char *job_name(void)
{
    const char *job = getenv(ENV_JOB);

    if (!job || !*job)
        job = getenv(ENV_SLURM_JOB);
    return job && *job ? job : NULL;
}

static const char *step_name(void)
{
    const char *step = getenv(ENV_STEP);

    if (!step || !*step)
        step = getenv(ENV_SLURM_STEP);
    return step && *step ? step : "0";
}

static int check_command_line(int operands, const int wanted[RUN_COUNT])
{
    static const int of_a_whole[] = { RUN_RESUME, RUN_CLEANUP, RUN_REQUESTS };
    const char *run = getenv(ENV_RUN), *tasks = getenv(ENV_SLURM_TASKS);

    if (!operands)
        return complain_usage(&command_run, "no command to run");
    if (wanted[RUN_RESUME] && !job_name())
        return complain_usage(&command_run, "--resume: of which job? Give --job-id=ID, for there is no job of Slurm");
    if (wanted[RUN_CLEANUP] && tasks && atoi(tasks) > 1)
        return complain_usage(&command_run, "--cleanup: this step has %s tasks, and the first to end would remove the images of all", tasks);
    for (size_t i = 0; i < sizeof of_a_whole / sizeof *of_a_whole; i++)
        if (wanted[of_a_whole[i]] && run && *run)
            return complain_usage(&command_run, "--%s: this command is itself part of a program under stasis, and comes back with it",
                                  choices[of_a_whole[i]].name);
    return 0;
}

/* The program is a child of ours, with a run of a number that we know. */
static int run_and_stay(char **argv, int cleans_up, const char *tool)
{
    struct stand_in program;
    int status = stand_in_fork(&program);

    if (status || program.pid)
        return status ? status : stand_in_wait(&program, job_name(), step_name(), cleans_up, tool);
    return become(argv);
}

static int run(int argc, char **argv)
{
    const char *value, *tool;
    int wanted[RUN_COUNT] = { 0 }, option, status = 0;

    while (!status && (option = options_next(&command_run, argc, argv, &value)) >= 0)
        status = take_option(option, value, wanted);
    if (!status)
        status = check_command_line(argc - optind, wanted);
    if (!status)
        status = settle_directory();
    tool = wanted[RUN_REQUESTS] && !status ? stand_in_tool() : NULL;
    if (!status && wanted[RUN_RESUME])
        status = restart_when_there_is(getenv(ENV_DIRECTORY), job_name(), step_name(), wanted[RUN_CLEANUP], tool);
    if (!status)
        status = preload_shim();
    if (status)
        return status;
    return wanted[RUN_CLEANUP] || tool ? run_and_stay(argv + optind, wanted[RUN_CLEANUP], tool) : become(argv + optind);
}

const struct command command_run = {
    .name = "run",
    .operands = "[--] COMMAND [ARG...]",
    .summary = "Run a program so that it can be stopped and brought back",
    .notes = "COMMAND keeps the PID of 'stasis run'. Its images appear in DIR as\n"
             "JOB.STEP.ckpt, older ones as JOB.STEP.ckpt.1, .2 and so on. 'kill -USR2 PID'\n"
             "takes one at once. With --cleanup or --requests, 'stasis run' stays and forwards\n"
             "signals.\n"
             "Status 75: the program was stopped after a checkpoint. Run it again, with --resume.",
    .choices = choices,
    .stops_at_operand = 1,
    .run = run,
};
