/* SPDX-License-Identifier: MIT */
#include "slurm_request.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "commands.h"
#include "slurm_commands.h"
#include "slurm_script.h"
#include "slurm_wrap.h"

extern char **environ;

/* "request", and behind it fields: a line "NAME BYTES", so many bytes, and the end of the line. Words end with a NUL each. */
static const char BEGIN[] = "request\n";

enum { MAX_WORDS = 4096 };

/* ---- writing ---- */

static void write_field(FILE *book, const char *name, const char *bytes, size_t length)
{
    fprintf(book, "%s %zu\n", name, length);
    fwrite(bytes, 1, length, book);
    fputc('\n', book);
}

/* What Slurm and we have put into the job's environment is put there again. */
static int is_users(const char *variable)
{
    static const char *const kept[] = { ENV_INTERVAL "=", ENV_DIRECTORY "=", ENV_CLEANUP "=", ENV_SLURM_PROLOG "=", ENV_SLURM_CONF "=" };
    static const char *const dropped[] = { "SLURM_", "SLURMD_", "ENVIRONMENT=", ENV_ATTENDED "=", ENV_RUN "=" };

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (!strncmp(variable, kept[i], strlen(kept[i])))
            return 1;
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        if (!strncmp(variable, dropped[i], strlen(dropped[i])))
            return 0;
    return 1;
}

static void write_words(FILE *book, const char *name, char **words, int (*is_wanted)(const char *word))
{
    size_t length = 0;

    for (char **word = words; *word; word++)
        length += is_wanted(*word) ? strlen(*word) + 1 : 0;
    fprintf(book, "%s %zu\n", name, length);
    for (char **word = words; *word; word++)
        if (is_wanted(*word))
            fwrite(*word, 1, strlen(*word) + 1, book);
    fputc('\n', book);
}

/* Of an array this element alone. */
static void write_options(FILE *book, const char *options)
{
    const char *element = getenv(ENV_SLURM_ELEMENT);
    char *text;

    if (!element) {
        write_field(book, "options", options, strlen(options));
    } else if (asprintf(&text, "%s%c--array=%s", options, OPTIONS_STOP, element) > 0) {
        write_field(book, "options", text, strlen(text));
        free(text);
    }
}

static int is_any(const char *word)
{
    (void)word;
    return 1;
}

void request_note(const char *directory, const char *job, char **script)
{
    const char *options = getenv(ENV_OPTIONS), *where = getenv(ENV_SLURM_SUBMITTED_IN), *name = getenv(ENV_SLURM_JOB_NAME);
    char path[MAX_PATH], *text;
    size_t length = 0;
    FILE *book;

    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    text = script_read(fopen(script[0], "re"), &length);
    book = options && where && text && !access(path, W_OK) ? fopen(path, "ae") : NULL;
    if (book) {
        fputs(BEGIN, book);
        write_options(book, options);
        write_field(book, "directory", where, strlen(where));
        write_field(book, "name", name ? name : "", name ? strlen(name) : 0);
        write_field(book, "script", text, length);
        write_words(book, "arguments", script + 1, is_any);
        write_words(book, "environment", environ, is_users);
        fclose(book);
    }
    free(text);
}

void request_note_former(const char *directory, const char *job, const char *images)
{
    char path[MAX_PATH];
    FILE *book;

    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    book = access(path, W_OK) ? NULL : fopen(path, "ae");
    if (book) {
        write_field(book, "images", images, strlen(images));
        fclose(book);
    }
}

/* ---- reading ---- */

/* The whole book, with a NUL behind it. */
static char *read_book(const char *path, size_t *ret_length)
{
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    char *text = NULL;

    if (file >= 0 && !fstat(file, &status) && S_ISREG(status.st_mode) && status.st_uid == geteuid())
        text = malloc((size_t)status.st_size + 1);
    if (text && read(file, text, (size_t)status.st_size) != status.st_size) {
        free(text);
        text = NULL;
    }
    if (file >= 0)
        close(file);
    if (text)
        text[*ret_length = (size_t)status.st_size] = 0;
    return text;
}

/* A field's bytes, NUL-terminated, and their number; NULL: it is not there. The text is changed: ask for each field once. */
static char *field(char *text, size_t size, const char *name, size_t *ret_length)
{
    char *at = memmem(text, size, BEGIN, sizeof BEGIN - 1), *end = text + size;
    char word[32];
    size_t length;
    int head;

    for (at = at ? at + sizeof BEGIN - 1 : end; at < end && sscanf(at, "%31s %zu%n", word, &length, &head) == 2; at += length + 1) {
        at += head + 1;
        if (at > end || length >= (size_t)(end - at))
            return NULL;
        if (!strcmp(word, name)) {
            at[length] = 0;
            *ret_length = length;
            return at;
        }
        at[length] = '\n';
    }
    return NULL;
}

/* Words that each end with `stop`, behind those that are there; 0: too many. */
static int add_words(char **words, int count, char *text, size_t length, char stop)
{
    for (char *end = text + length; text < end && count < MAX_WORDS; text += strlen(text) + 1) {
        char *mark = memchr(text, stop, (size_t)(end - text));
        if (mark)
            *mark = 0;
        words[count++] = text;
    }
    return count < MAX_WORDS ? count : 0;
}

/* ---- submitting ---- */

static int write_script(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "wxe");

    return !file || fwrite(text, 1, length, file) != length || fclose(file) ? complain(EXIT_CANNOT_CREATE, "cannot write %s: %m", path) : 0;
}

/* The environment that it had; Slurm's configuration is where it is now. */
static int set_environment(char **variables, const char *name, const char *former)
{
    const char *configuration = getenv(ENV_SLURM_CONF), *path = getenv("PATH");
    char *here = configuration ? strdup(configuration) : NULL, *commands = path ? strdup(path) : NULL;

    clearenv();
    for (; *variables; variables++)
        putenv(*variables);
    if (here)
        setenv(ENV_SLURM_CONF, here, 1);
    if (commands)
        setenv("PATH", commands, 0);
    free(here);
    free(commands);
    return (*name && setenv(ENV_BATCH_JOB_NAME, name, 1)) || setenv(ENV_BATCH_OPEN_MODE, "append", 1) || setenv(ENV_FORMER, former, 1)
               ? complain(EXIT_SYSTEM, "cannot set the environment: %m") : 0;
}

struct fields {
    char *options, *directory, *name, *script, *arguments, *environment, *images;
    size_t images_length, options_length, directory_length, name_length, script_length, arguments_length, environment_length;
};

static int find_fields(char *text, size_t size, struct fields *fields)
{
    /* from the last to the first: a NUL behind a field is no end of line for those before it */
    fields->images = field(text, size, "images", &fields->images_length);
    fields->environment = field(text, size, "environment", &fields->environment_length);
    fields->arguments = field(text, size, "arguments", &fields->arguments_length);
    fields->script = field(text, size, "script", &fields->script_length);
    fields->name = field(text, size, "name", &fields->name_length);
    fields->directory = field(text, size, "directory", &fields->directory_length);
    fields->options = field(text, size, "options", &fields->options_length);
    return fields->environment && fields->arguments && fields->script && fields->name && fields->directory && fields->options;
}

static int submit(const struct fields *fields, const char *job)
{
    static char *words[MAX_WORDS + 1] = { "sbatch", "--parsable" }, *variables[MAX_WORDS + 1];
    char former[64], *script = batch_make_path(NULL);
    int count = add_words(words, 2, fields->options, fields->options_length, OPTIONS_STOP);
    int status = script ? write_script(script, fields->script, fields->script_length) : complain(EXIT_CANNOT_CREATE, "cannot make a file: %m");

    snprintf(former, sizeof former, "%s,%s", job, fields->images ? fields->images : job);
    if (count) {
        words[count++] = script;
        count = add_words(words, count, fields->arguments, fields->arguments_length, 0);
    }
    if (!status && (!count || (fields->environment_length && !add_words(variables, 0, fields->environment, fields->environment_length, 0))))
        status = complain(EXIT_SYSTEM, "there are too many words in the book of job %s", job);
    if (!status && chdir(fields->directory))
        status = complain(EXIT_NO_IMAGE, "cannot submit it from %s, as it was: %m", fields->directory);
    if (!status)
        status = set_environment(variables, fields->name, former);
    if (!status)
        status = slurm_run(words);
    if (script)
        batch_remove(script);
    return status;
}

int request_submit(const char *directory, const char *job)
{
    char path[MAX_PATH], *text;
    size_t size = 0;
    struct fields fields;
    int status = EXIT_NO_IMAGE;

    snprintf(path, sizeof path, "%s/%s" BOOK_SUFFIX, directory, job);
    text = read_book(path, &size);
    if (text && find_fields(text, size, &fields))
        status = submit(&fields, job);
    free(text);
    return status;
}
