/* SPDX-License-Identifier: MIT */
/* stasis restart --path-map=OLD=NEW: trees that are elsewhere now. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kind.h"

int path_rule_is_good(const char *rule)
{
    const char *equals = strchr(rule, '=');

    return rule[0] == '/' && equals && equals[1] == '/' && strlen(rule) < MAX_PATH;
}

/* Without slashes at its end; "/" has length 0. */
static size_t trimmed(const char *path, size_t length)
{
    while (length && path[length - 1] == '/')
        length--;
    return length;
}

/* The bytes of `path` that the rule's OLD covers, whole components; -1: it is not below OLD. */
static long covered(const char *rule, const char *path)
{
    size_t length = trimmed(rule, strcspn(rule, "="));

    return !strncmp(rule, path, length) && (path[length] == '/' || !path[length]) ? (long)length : -1;
}

/* The longest OLD wins, of equal ones the last. */
char *path_now(const struct restoring *restoring, char *then)
{
    const char *chosen = NULL, *new, *rest;
    long length = -1;
    char *now;

    for (size_t i = 0; then && i < restoring->policy.path_rule_count; i++) {
        const char *rule = restoring->policy.path_rules[i];
        if (covered(rule, then) >= length && covered(rule, then) >= 0) {
            chosen = rule;
            length = covered(rule, then);
        }
    }
    if (!chosen)
        return then;
    new = strchr(chosen, '=') + 1;
    size_t head = trimmed(new, strlen(new));
    rest = strcmp(then + length, "/") ? then + length : "";
    if (asprintf(&now, "%.*s%s", (int)head, new, head || *rest ? rest : "/") < 0)
        now = NULL;
    free(then);
    return now;
}

char *path_read(const struct restoring *restoring, struct reader *reader, char *then)
{
    char *path = path_now(restoring, then);

    if (!path && !reader->error)
        reader->error = -ENOMEM;
    return path;
}
