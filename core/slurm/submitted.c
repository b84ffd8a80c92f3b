/* SPDX-License-Identifier: MIT */
/* In sbatch, as the user: what `stasis attend` on the batch node must know and Slurm does not hand on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../floor/names.h"
#include "slurm.h"

static const char STOP[] = { OPTIONS_STOP, 0 };
static int is_mode_ours;

/* The environment goes before #SBATCH lines, and the command line before the environment: sbatch(1). */
void submitted_append(void)
{
    if (is_mode_ours || getenv(ENV_BATCH_OPEN_MODE))
        return;
    setenv(ENV_BATCH_OPEN_MODE, "append", 1);
    is_mode_ours = 1;
}

/* A job's own sbatch is another matter. */
void submitted_end_append(void)
{
    if (is_mode_ours)
        unsetenv(ENV_BATCH_OPEN_MODE);
}

/* As getopt_long(3) shortens them. */
static int is_option(const char *word, const char *name, size_t shortest)
{
    size_t length = strcspn(word, "=");

    return length >= shortest && !strncmp(word, name, length);
}

/* It may be the value of the word before. */
static int is_script(const char *word, const char *before)
{
    return *word != '-' && (*before != '-' || strchr(before, '=') || (before[1] != '-' && strlen(before) > 2));
}

/* Slurm takes a plugin's options from the command line only when it has looked at the environment. */
void submitted_look(void)
{
    int count = 0;
    char **line = command_line(&count);

    for (int i = 1; i < count && strcmp(line[i], "--") && !is_script(line[i], i > 1 ? line[i - 1] : ""); i++)
        if (is_option(line[i], "--checkpoint-dir", 5) || is_option(line[i], "--restart-dir", 6))
            submitted_append();
    free(line);
}

struct words {
    char text[1024];
    size_t length;
};

static void add(struct words *words, const char *before, const char *word)
{
    int length = snprintf(words->text + words->length, sizeof words->text - words->length, "%s%s%s", words->length ? " " : "", before, word);

    if (length > 0 && words->length + (size_t)length < sizeof words->text)
        words->length += (size_t)length;
    else
        words->text[words->length] = 0;
}

static void add_command_line(struct words *words)
{
    int count = 0;
    char **line = command_line(&count);

    for (int i = 1; i < count; i++) {
        int is_signal = is_option(line[i], "--signal", 5);
        if (is_signal && !strchr(line[i], '=') && i + 1 < count)
            add(words, "--signal=", line[++i]);
        else if (is_signal || is_option(line[i], "--requeue", 7) || is_option(line[i], "--no-requeue", 6))
            add(words, "", line[i]);
    }
    free(line);
}

/* --wrap and its command are a script by now. Options that do not fit are not kept: then nobody can submit it anew. */
void submitted_keep(char **words, int count)
{
    static char text[32768];
    size_t length = 0;

    unsetenv(ENV_OPTIONS);
    for (int i = 1; i < count; i++) {
        if (is_option(words[i], "--wrap", 5)) {
            i += !strchr(words[i], '=');
            continue;
        }
        size_t room = sizeof text - length;
        int added = snprintf(text + length, room, "%s%s", words[i], i + 1 < count ? STOP : "");
        if (added < 0 || (size_t)added >= room || memchr(words[i], OPTIONS_STOP, strlen(words[i])))
            return;
        length += (size_t)added;
    }
    setenv(ENV_OPTIONS, text, 1);
}

/* In rising order: what comes last holds. */
void submitted_note(void)
{
    struct words words = { .length = 0 };
    const char *signal = getenv(ENV_BATCH_SIGNAL);

    if (getenv(ENV_BATCH_REQUEUE))
        add(&words, "--requeue", "");
    if (getenv(ENV_BATCH_NO_REQUEUE))
        add(&words, "--no-requeue", "");
    if (signal)
        add(&words, "--signal=", signal);
    add_command_line(&words);
    setenv(ENV_SUBMITTED, words.text, 1);
}
