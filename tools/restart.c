/* SPDX-License-Identifier: MIT */
/* stasis restart: chooses the image and becomes stasis-restorer. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../core/floor/names.h"
#include "../core/image/commit.h"
#include "../core/image/read.h"
#include "../core/kinds/kind.h"
#include "commands.h"
#include "locate.h"
#include "stand_in.h"

enum { RESTART_CHECK, RESTART_CLEANUP, RESTART_JOB, RESTART_NO_TAILS, RESTART_PATH_MAP, RESTART_REQUESTS, RESTART_STRICT };

static const struct choice choices[] = {
    [RESTART_CHECK] = { "check", NULL, NULL, "only say whether it could be restarted here, and what is missing" },
    [RESTART_CLEANUP] = { "cleanup", NULL, NULL, "remove the program's images when it has ended with status 0" },
    [RESTART_JOB] = { "job-id", "ID", NULL, "of several jobs in DIR, the one to restart; JOB.STEP of several steps" },
    [RESTART_NO_TAILS] = { "no-tails", NULL, NULL, "cut off what was written to files after the checkpoint, and do not keep it as "
                           "FILE" TAIL_SUFFIX },
    [RESTART_PATH_MAP] = { "path-map", "OLD=NEW", NULL, "files below OLD are now below NEW; absolute paths; may be given again" },
    [RESTART_REQUESTS] = { "requests", NULL, NULL, "take an image when somebody makes a file JOB.STEP" REQUEST_SUFFIX " beside IMAGE" },
    [RESTART_STRICT] = { "strict", NULL, NULL, "refuse what would otherwise be adapted: see stasis(1)" },
    { 0 },
};

static int complain_choice(int error, const char *directory, const char *job, const char *candidates)
{
    const char *of = job ? " of job " : "", *name = job ? job : "";

    if (error == -ENOTUNIQ) {
        complain(0, "'%s' holds images of several jobs or steps; name one of them with --job-id=JOB or JOB.STEP:\n%s", directory,
                 candidates);
        return EXIT_NO_IMAGE;
    }
    if (error == -ENOENT)
        complain(0, "there is no image%s%s in '%s'; 'stasis list DIR' shows what a directory holds", of, name, directory);
    else if (*candidates)
        complain(0, "no image%s%s in '%s' is good:\n%s", of, name, directory, candidates);
    else
        complain(0, "cannot choose an image%s%s in '%s': %s", of, name, directory, strerror(-error));
    return image_exit_status(error);
}

/* image_find; a job without image may be JOB.STEP. */
static int find_job(const char *directory, const char *job, char path[MAX_PATH], struct buffer *candidates)
{
    int error = image_find(directory, job, NULL, path, candidates);
    const char *dot = job ? strrchr(job, '.') : NULL;
    char *head;

    if (error != -ENOENT || !dot)
        return error;
    head = strndup(job, (size_t)(dot - job));
    if (!head)
        return -ENOMEM;
    error = image_find(directory, head, dot + 1, path, candidates);
    free(head);
    return error;
}

/* Candidates as text, to be said: without the last newline, as complain adds its own. */
static const char *text_of(struct buffer *candidates)
{
    if (!candidates->bytes || candidates->error || !candidates->length)
        return "";
    candidates->bytes[candidates->length - 1] = 0;
    return (const char *)candidates->bytes;
}

/* What is to be said when files have their size again: malloc'ed, or NULL. 0 or an exit status. */
static int make_notice(const char *path, const char *candidates, char **ret_notice)
{
    if (*candidates && asprintf(ret_notice, "restarting from %s, because these are not good:\n%s", path, candidates) < 0)
        return complain(EXIT_SYSTEM, "no memory");
    return 0;
}

/* The newest whole image of the one job in the directory. 0 or an exit status. *ret_notice: of make_notice. */
static int find_in(const char *directory, const char *job, char path[MAX_PATH], char **ret_notice)
{
    struct buffer candidates = { 0 };
    int error = find_job(directory, job, path, &candidates);

    error = error ? complain_choice(error, directory, job, text_of(&candidates)) : make_notice(path, text_of(&candidates), ret_notice);
    buffer_free(&candidates);
    return error;
}

static int find_image(const char *operand, const char *job, char path[MAX_PATH], char **ret_notice)
{
    struct stat status;

    if (stat(operand, &status))
        return complain(errno == EACCES ? EXIT_NOT_ALLOWED : EXIT_NO_IMAGE, "cannot restart from '%s': %m", operand);
    if (S_ISDIR(status.st_mode))
        return find_in(operand, job, path, ret_notice);
    if (job)
        return complain_usage(&command_restart, "--job-id chooses in a directory, and '%s' is a file", operand);
    snprintf(path, MAX_PATH, "%s", operand);
    return 0;
}

/* The restorer has these options, too. */
static int hand_on(int option, const char *value, char **restorer, int *count)
{
    if (option == RESTART_PATH_MAP && !path_rule_is_good(value))
        return complain_usage(&command_restart, "--path-map=%s: give OLD=NEW, two absolute paths", value);
    if (option == RESTART_REQUESTS)
        value = stand_in_tool();
    if (asprintf(&restorer[*count], value ? "--%s=%s" : "--%s", choices[option].name, value) < 0)
        return complain(EXIT_SYSTEM, "no memory");
    ++*count;
    return 0;
}

/* `restorer` has `count` of its arguments, and room for four more. Returns on failure: exit status. */
static int become_restorer(char **restorer, int count, char *path, const char *notice)
{
    if (notice && asprintf(&restorer[count++], "--notice=%s", notice) < 0)
        return complain(EXIT_SYSTEM, "no memory");
    restorer[count++] = "--"; /* a path may begin with a dash */
    restorer[count] = path;
    return locate_exec(RESTORER_NAME, restorer);
}

int restart_when_there_is(const char *directory, const char *job, const char *step, int cleans_up, const char *tool)
{
    char path[MAX_PATH], *restorer[9] = { NULL, "--counted" }, *notice = NULL;
    struct buffer candidates = { 0 };
    int error = image_find(directory, job, step, path, &candidates), count = 2, status = 0;

    if (cleans_up)
        status = hand_on(RESTART_CLEANUP, NULL, restorer, &count);
    if (tool && !status)
        status = hand_on(RESTART_REQUESTS, NULL, restorer, &count);
    if (status)
        return status;
    if (error == -ENOENT)
        status = 0;
    else if (error == -EBADMSG)
        status = complain(0, "%s.%s is started anew, as there is no whole image of it in %s:\n%s", job, step, directory, text_of(&candidates));
    else if (error)
        status = complain_choice(error, directory, job, text_of(&candidates));
    else if (!(status = make_notice(path, text_of(&candidates), &notice)))
        status = become_restorer(restorer, count, path, notice);
    buffer_free(&candidates);
    return status;
}

static int restart(int argc, char **argv)
{
    char path[MAX_PATH];
    char **restorer = calloc((size_t)argc + 4, sizeof *restorer);
    char *notice = NULL;
    const char *job = NULL, *value;
    int count = 1, status = restorer ? 0 : complain(EXIT_SYSTEM, "no memory");

    for (int option; !status && (option = options_next(&command_restart, argc, argv, &value)) >= 0;)
        if (option == RESTART_JOB)
            job = value;
        else
            status = hand_on(option, value, restorer, &count);
    if (!status && argc - optind != 1)
        status = complain_usage(&command_restart, "give one image, or the directory it is in");
    if (!status)
        status = find_image(argv[optind], job, path, &notice);
    return status ? status : become_restorer(restorer, count, path, notice);
}

const struct command command_restart = {
    .name = "restart",
    .operands = "IMAGE|DIR",
    .summary = "Bring a program back from its image",
    .notes = "In a directory the newest whole image of the job is taken. The command becomes\n"
             "the program in the foreground: it forwards signals and ends as the program does.",
    .choices = choices,
    .run = restart,
};
