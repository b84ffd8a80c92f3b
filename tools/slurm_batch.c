/* SPDX-License-Identifier: MIT */
/* A batch script for an sbatch that has no plugin: without our options, and with `stasis attend` as its parent when it is a shell's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "commands.h"
#include "locate.h"
#include "slurm_script.h"
#include "slurm_wrap.h"

/* ---- our options ---- */

struct rewriting {
    struct wishes *wishes;
    int waits; /* the wish whose value is the next word; -1: none */
};

static void note(struct rewriting *rewriting, int wish, const char *value, size_t length)
{
    if (!rewriting->wishes->value[wish]) /* the command line goes before */
        rewriting->wishes->value[wish] = strndup(value, length);
}

/* What is ours becomes blank. */
static void take_word(void *context, char *start, size_t length)
{
    struct rewriting *rewriting = context;
    char word[MAX_PATH], *value;
    int wish;

    if (length >= sizeof word)
        return;
    snprintf(word, sizeof word, "%.*s", (int)length, start);
    value = strchr(word, '=');
    if (rewriting->waits >= 0) {
        note(rewriting, rewriting->waits, word, length);
        rewriting->waits = -1;
    } else if (!wish_is(word, &wish)) {
        return;
    } else if (!wish_has_value(wish)) {
        note(rewriting, wish, "1", 1);
    } else if (value) {
        note(rewriting, wish, value + 1, strlen(value + 1));
    } else {
        rewriting->waits = wish;
    }
    memset(start, ' ', length);
}

/* ---- the attendant ---- */

/* sh, bash, dash, ksh, zsh: what understands the line below. */
static int is_shell_script(const char *text)
{
    static const char *const shells[] = { "sh", "bash", "dash", "ksh", "zsh" };
    const char *path = text + 2 + strspn(text + 2, " "), *end = path + strcspn(path, " \n"), *name = end;

    while (name > path && name[-1] != '/')
        name--;
    size_t length = (size_t)(end - name);
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (!strncmp(text, "#!", 2) && length == strlen(shells[i]) && !strncmp(name, shells[i], length))
            return 1;
    return 0;
}

/* Slurm has put the script where it can be executed again. */
static void print_attendant(FILE *out)
{
    const char *self = locate_self();

    if (*self && !strchr(self, '\''))
        fprintf(out, "[ -n \"${" ENV_ATTENDED ":-}\" ] || exec '%s' attend \"$0\" \"$@\"\n", self);
}

/* ---- the file ---- */

char *batch_make_path(const char *script)
{
    const char *slash = script ? strrchr(script, '/') : NULL, *base = slash ? slash + 1 : script ? script : "sbatch";
    const char *temporary = getenv("TMPDIR");
    char *path;

    if (asprintf(&path, "%s/stasis-XXXXXX/%s", temporary && *temporary ? temporary : "/tmp", base) < 0)
        return NULL;
    char *name = path + strlen(path) - strlen(base) - 1;
    *name = 0;
    if (!mkdtemp(path)) {
        free(path);
        return NULL;
    }
    *name = '/';
    return path;
}

void batch_remove(char *path)
{
    unlink(path);
    *strrchr(path, '/') = 0;
    rmdir(path);
    free(path);
}

static int write_script(const char *path, const char *text, size_t length)
{
    size_t header = script_header(text, length);
    FILE *out = fopen(path, "wxe");

    if (!out)
        return -errno;
    fwrite(text, 1, header, out);
    if (is_shell_script(text))
        print_attendant(out);
    fwrite(text + header, 1, length - header, out);
    return fclose(out) ? -errno : 0;
}

char *batch_rewrite(const char *script, struct wishes *wishes)
{
    struct rewriting rewriting = { .wishes = wishes, .waits = -1 };
    size_t length = 0;
    char *text = script_read(script ? fopen(script, "re") : stdin, &length), *path = text ? batch_make_path(script) : NULL;
    int error = text ? path ? 0 : -errno : -EINVAL;

    if (!error) {
        script_walk(text, length, take_word, &rewriting);
        error = write_script(path, text, length);
    }
    free(text);
    if (!error)
        return path;
    complain(0, "cannot read %s as a batch script, or copy it: %s", script ? script : "standard input", strerror(-error));
    if (path)
        batch_remove(path);
    return NULL;
}
