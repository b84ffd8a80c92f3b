/* SPDX-License-Identifier: MIT */
/* stasis srun, sbatch and salloc: Slurm's commands with our options, for a user whose site has no plugin. The options become variables, and a
 * task prolog (srun(1)) preloads the shim into the tasks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/floor/interval.h"
#include "../core/floor/names.h"
#include "../core/slurm/slurm.h"
#include "commands.h"
#include "locate.h"
#include "slurm_commands.h"
#include "slurm_wrap.h"

static const struct choice choices[] = { { 0 } };

static const struct {
    const char *option, *variable, *batch; /* batch: what sbatch calls the variable */
} known[WISHES] = {
    [WISH_INTERVAL] = { "--checkpoint", ENV_INTERVAL, ENV_BATCH_INTERVAL },
    [WISH_DIRECTORY] = { "--checkpoint-dir", ENV_DIRECTORY, ENV_BATCH_DIRECTORY },
    [WISH_RESTART] = { "--restart-dir", ENV_RESTART, NULL },
    [WISH_CLEANUP] = { "--cleanup", ENV_CLEANUP, NULL },
    [WISH_PROLOG] = { "--task-prolog", ENV_SLURM_PROLOG, NULL },
};

int wish_is(const char *word, int *ret_wish)
{
    size_t length = strcspn(word, "=");

    for (int i = 0; i < WISHES; i++)
        if (strlen(known[i].option) == length && !strncmp(word, known[i].option, length)) {
            *ret_wish = i;
            return 1;
        }
    return 0;
}

int wish_has_value(int wish)
{
    return wish != WISH_CLEANUP;
}

/* ---- whose word is it? ---- */

/* Options without a value, or with one only behind '='; all others may have it in the next word. */
static const char *const plain_options[] = {
    "--bell", "--no-bell", "--bcast", "--contiguous", "--disable-status", "--exact", "--exclusive", "--external", "--get-user-env", "--help", "--hold",
    "--ignore-pbs", "--immediate", "--interactive", "--kill-command", "--kill-on-bad-exit", "--kill-on-invalid-dep=", "--label", "--multi-prog", "--nice",
    "--no-allocate", "--no-kill", "--no-requeue", "--no-shell", "--overcommit", "--overlap", "--oversubscribe", "--parsable", "--preserve-env",
    "--propagate", "--pty", "--quiet", "--quit-on-interrupt", "--reboot", "--requeue", "--send-libs", "--share", "--spread-job", "--test-only",
    "--unbuffered", "--usage", "--use-min-nodes", "--verbose", "--version", "--x11",
};

/* `letters`: short options without a value; `waits`: --wait is one of them, too. */
static int takes_next(const char *word, const char *letters)
{
    size_t length;

    if (word[1] != '-') {
        length = 1 + strspn(word + 1, letters);
        return word[length] && !word[length + 1];
    }
    if (strchr(word, '=') || (!strcmp(word, "--wait") && strchr(letters, 'W')))
        return 0;
    for (size_t i = 0; i < sizeof plain_options / sizeof *plain_options; i++)
        if (!strcmp(word, plain_options[i]))
            return 0;
    return 1;
}

/* Takes our options out of argv, which gets shorter. Returns the index of the first word that is no option. */
static int strip(int *argc, char **argv, const char *letters, struct wishes *wishes)
{
    int to = 1, from = 1, wish;

    while (from < *argc && argv[from][0] == '-' && argv[from][1] && strcmp(argv[from], "--")) {
        char *word = argv[from++], *value = strchr(word, '=');
        if (wish_is(word, &wish)) {
            wishes->value[wish] = !wish_has_value(wish) ? "1" : value ? value + 1 : from < *argc ? argv[from++] : NULL;
            continue;
        }
        argv[to++] = word;
        if (takes_next(word, letters) && from < *argc)
            argv[to++] = argv[from++];
    }
    int first = to;
    while (from < *argc)
        argv[to++] = argv[from++];
    argv[to] = NULL;
    *argc = to;
    return first;
}

/* ---- what becomes of it ---- */

static int export_wishes(const struct wishes *wishes, int is_batch)
{
    uint32_t seconds;

    for (int i = 0; i < WISH_PROLOG; i++) {
        const char *value = wishes->value[i];
        if (!value && is_batch && known[i].batch)
            value = getenv(known[i].batch);
        if (!value)
            value = getenv(known[i].variable);
        if (!value || !*value)
            continue;
        if (i == WISH_INTERVAL && interval_parse(value, &seconds))
            return complain(EXIT_USAGE, "%s%s", INTERVAL_BAD, value);
        if (i == WISH_DIRECTORY || i == WISH_RESTART)
            slurm_export_path(known[i].variable, value);
        else
            setenv(known[i].variable, value, 1);
    }
    return 0;
}

/* A prolog that the user has already is run by ours. */
static int export_prolog(const struct wishes *wishes)
{
    const char *own = wishes->value[WISH_PROLOG] ? wishes->value[WISH_PROLOG] : getenv(ENV_SLURM_PROLOG);
    char directory[MAX_PATH], path[MAX_PATH + 64];

    if (locate_helper(WRAPPERS "/" PROLOG_NAME, directory, NULL))
        return complain(EXIT_INTERNAL, "%s/%s cannot be found; install Stasis again", WRAPPERS, PROLOG_NAME);
    snprintf(path, sizeof path, "%s/" WRAPPERS "/" PROLOG_NAME, directory);
    if (own && *own && strcmp(own, path))
        setenv(ENV_PROLOG, own, 1);
    setenv(ENV_SLURM_PROLOG, path, 1);
    return 0;
}

static int is_wanted(void)
{
    for (int i = 0; i < WISH_CLEANUP; i++) {
        const char *value = getenv(known[i].variable);
        if (value && *value)
            return 1;
    }
    return 0;
}

/* 0, or an exit status. Without a wish the command is what it always was. */
static int prepare(const struct wishes *wishes, int is_batch)
{
    int status = !is_batch && wishes->value[WISH_CLEANUP] ? complain(EXIT_USAGE, CLEANUP_BAD) : export_wishes(wishes, is_batch);

    if (status)
        return status;
    if (is_wanted())
        return export_prolog(wishes);
    if (wishes->value[WISH_PROLOG])
        setenv(ENV_SLURM_PROLOG, wishes->value[WISH_PROLOG], 1);
    return 0;
}

/* ---- the commands ---- */

static int run_srun(int argc, char **argv)
{
    struct wishes wishes = { 0 };
    int status;

    strip(&argc, argv, "EhHIjkKlOQsuvVXZ", &wishes);
    status = prepare(&wishes, 0);
    if (status)
        return status;
    if (is_wanted())
        output_note();
    argv[0] = "srun";
    return slurm_become("srun", argv);
}

static int run_salloc(int argc, char **argv)
{
    struct wishes wishes = { 0 };
    int status;

    strip(&argc, argv, "hHIkKOQsuvV", &wishes);
    status = prepare(&wishes, 0);
    argv[0] = "salloc";
    return status ? status : slurm_become("salloc", argv);
}

static int has_option(char **argv, int count, const char *name)
{
    for (int i = 1; i < count; i++)
        if (!strncmp(argv[i], name, strlen(name)))
            return 1;
    return 0;
}

/* The script without our options is a file of its own, under the same name, as that names the job. */
static int submit(int argc, char **argv, int first, struct wishes *wishes)
{
    char *words[argc + 2], *script = batch_rewrite(first < argc ? argv[first] : NULL, wishes);
    int status;

    if (!script)
        return EXIT_NO_IMAGE;
    status = prepare(wishes, 1);
    memcpy(words, argv, sizeof *argv * ((size_t)argc + 1));
    words[first] = script;
    if (first == argc)
        words[first + 1] = NULL;
    if (!status)
        status = slurm_run(words);
    batch_remove(script);
    return status;
}

static int run_sbatch(int argc, char **argv)
{
    struct wishes wishes = { 0 };
    int first, status;

    submitted_append();
    submitted_note();
    first = strip(&argc, argv, "hHIkOQsuvVW", &wishes);
    submitted_keep(argv, first);
    argv[0] = "sbatch";
    if (!has_option(argv, first, "--wrap") && !has_option(argv, first, "--help") && !has_option(argv, first, "--version"))
        return submit(argc, argv, first, &wishes);
    status = prepare(&wishes, 1);
    return status ? status : slurm_become("sbatch", argv);
}

#define NOTES \
    "Its own options are Slurm's, and --checkpoint=INTERVAL, --checkpoint-dir=DIR and\n" \
    "--restart-dir=DIR, as the plugin has them."

#define BATCH_NOTES \
    NOTES " With --cleanup the images of a job that\n" \
    "has ended with status 0 are removed."

const struct command command_srun = {
    .name = "srun",
    .operands = "COMMAND [ARG...]",
    .summary = "srun(1) with options for checkpoints, where there is no plugin",
    .notes = NOTES,
    .choices = choices,
    .run = run_srun,
};

const struct command command_salloc = {
    .name = "salloc",
    .operands = "[COMMAND [ARG...]]",
    .summary = "salloc(1) with the same options",
    .notes = NOTES,
    .choices = choices,
    .run = run_salloc,
};

const struct command command_sbatch = {
    .name = "sbatch",
    .operands = "[SCRIPT [ARG...]]",
    .summary = "sbatch(1) with the same options, in #SBATCH lines, too",
    .notes = BATCH_NOTES,
    .choices = choices,
    .run = run_sbatch,
};
