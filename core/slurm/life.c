/* SPDX-License-Identifier: MIT */
/* What a batch script that comes back from its image cannot know: the SLURM_ variables of its job's present life, and from which image each of its
 * sruns goes on. <prefix>.life has them, each with its NUL: NAME=VALUE as in an environment, "@script=PATH" where Slurm has put the script, and
 * "@NUMBER=IMAGE"; a life that began with an image has a bare "@". <prefix>.life.first is that of the life in which the script began. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../floor/names.h"
#include "slurm.h"

#define SCRIPT "@script"

extern char **environ;

static const char ALL_SLURM[] = "SLURM";

struct texts {
    char *bytes;
    size_t length;
};

static int is_wanted(const char *variable)
{
    return !strncmp(variable, ALL_SLURM, sizeof ALL_SLURM - 1);
}

/* 0 or -errno: whole, or as it was. */
static int write_whole(const char *path, const char *script, char *const *images)
{
    char *const *environment = environ;
    char temporary[MAX_PATH + 8];
    int is_written = 1;
    FILE *file;

    snprintf(temporary, sizeof temporary, "%s.new", path);
    unlink(temporary);
    file = fopen(temporary, "wxe");
    for (; file && *environment; environment++)
        if (is_wanted(*environment))
            is_written &= fwrite(*environment, strlen(*environment) + 1, 1, file) == 1;
    if (file)
        fprintf(file, SCRIPT "=%s%c", script, 0);
    for (; file && images && *images; images++)
        is_written &= fwrite(*images, strlen(*images) + 1, 1, file) == 1;
    if (!file || (fclose(file) | !is_written) || rename(temporary, path)) {
        int error = errno;
        unlink(temporary);
        return error ? -error : -ENOSPC;
    }
    return 0;
}

int life_begin(const char *prefix, const char *script, char *const *images)
{
    char path[MAX_PATH + 16];
    int error = 0;

    if (!images) {
        snprintf(path, sizeof path, "%s" FIRST_LIFE_SUFFIX, prefix);
        error = write_whole(path, script, NULL);
    }
    snprintf(path, sizeof path, "%s" LIFE_SUFFIX, prefix);
    return error ? error : write_whole(path, script, images);
}

static struct texts read_texts(const char *prefix, const char *suffix)
{
    struct texts texts = { 0 };
    char path[MAX_PATH + 16];
    size_t room = 0, got;

    snprintf(path, sizeof path, "%s%s", prefix, suffix);
    FILE *file = fopen(path, "re");
    while (file) {
        char *more = texts.length + 4096 >= room ? realloc(texts.bytes, room += 65536) : texts.bytes;
        if (!more)
            break;
        texts.bytes = more;
        got = fread(texts.bytes + texts.length, 1, room - texts.length - 1, file);
        texts.length += got;
        texts.bytes[texts.length] = 0;
        if (!got)
            break;
    }
    if (file)
        fclose(file);
    return texts;
}

static const char *value_in(const struct texts *texts, const char *name, size_t length)
{
    for (size_t at = 0; at < texts->length; at += strlen(texts->bytes + at) + 1)
        if (!strncmp(texts->bytes + at, name, length) && texts->bytes[at + length] == '=')
            return texts->bytes + at + length + 1;
    return NULL;
}

static int same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

/* What the script has changed itself is left to it. */
static void enter_variable(const char *variable, const struct texts *first, const struct texts *now)
{
    char name[256];
    size_t length = strcspn(variable, "=");

    if (length >= sizeof name || !is_wanted(variable))
        return;
    snprintf(name, sizeof name, "%.*s", (int)length, variable);
    const char *was = value_in(first, name, length), *is = value_in(now, name, length);
    if (same(was, is) || !same(was, getenv(name)))
        return;
    if (is)
        setenv(name, is, 1);
    else
        unsetenv(name);
}

void life_enter(const char *prefix, int number, char image[MAX_PATH])
{
    struct texts first = read_texts(prefix, FIRST_LIFE_SUFFIX), now = read_texts(prefix, LIFE_SUFFIX);
    char name[16];
    int length = snprintf(name, sizeof name, "@%d", number);
    const char *path = value_in(&now, name, (size_t)length);

    for (size_t at = 0; at < first.length; at += strlen(first.bytes + at) + 1)
        enter_variable(first.bytes + at, &first, &now);
    *image = 0;
    for (size_t at = 0; at < now.length; at += strlen(now.bytes + at) + 1) {
        enter_variable(now.bytes + at, &first, &now);
        if (!strcmp(now.bytes + at, LIFE_WITH_IMAGE))
            snprintf(image, MAX_PATH, "%s", path ? path : SRUN_FRESH);
    }
    free(first.bytes);
    free(now.bytes);
}

int life_script(const char *prefix, char path[MAX_PATH])
{
    struct texts now = read_texts(prefix, LIFE_SUFFIX);
    const char *script = value_in(&now, SCRIPT, sizeof SCRIPT - 1);

    snprintf(path, MAX_PATH, "%s", script ? script : "");
    free(now.bytes);
    return script ? 0 : -ENOENT;
}
