/* SPDX-License-Identifier: MIT */
#include "locate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/floor/text.h"
#include "options.h"

/* From meson: absolute, without a slash at the end. */
static const char prefix[] = STASIS_PREFIX;
static const char libexec_directory[] = STASIS_LIBEXECDIR;
static const char library_directory[] = STASIS_LIBDIR;

/* A directory to look in; base NULL: there is none. */
struct place {
    const char *base;
    const char *rest;
};

/* Only the directory is resolved, so that it outlives the current one: the file in it may be a symbolic link, and its name
 * is what we were asked for. */
static int holds(const struct place *place, const char *name, int mode, char ret_directory[MAX_PATH])
{
    char path[MAX_PATH + 64];

    if (!place->base)
        return 0;
    snprintf(path, sizeof path, "%s%s", place->base, place->rest);
    if (!realpath(path, ret_directory))
        return 0;
    snprintf(path, sizeof path, "%s/%s", ret_directory, name);
    return !access(path, mode);
}

const char *locate_self(void)
{
    static char path[MAX_PATH];
    ssize_t length = readlink("/proc/self/exe", path, MAX_PATH - 1);

    path[length < 0 ? 0 : length] = 0;
    return path;
}

/* The directory above the one that holds this executable, or NULL. */
static const char *own_root(char root[MAX_PATH])
{
    snprintf(root, MAX_PATH, "%s", locate_self());
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(root, '/');
        if (!slash)
            return NULL;
        *slash = 0;
    }
    return root;
}

/* The part of an installed directory behind the prefix ("/lib/x86_64-linux-gnu"): the same wherever the prefix went. */
static const char *behind_prefix(const char *directory)
{
    return text_starts(directory, prefix) ? directory + sizeof prefix - 1 : "/not-in-the-prefix";
}

/* The executable's own place comes before the compiled-in one: a stasis of the build tree goes with the helpers of the
 * build tree, though an older one is installed. */
static int search(const char *installed, const char *in_build, const char *name, int mode, char ret_directory[MAX_PATH])
{
    char root[MAX_PATH];
    const char *own = own_root(root);
    const struct place places[] = {
        { getenv(ENV_LIBEXEC), "" },
        { own, behind_prefix(installed) },
        { own, in_build },
        { installed, "" },
    };

    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (holds(&places[i], name, mode, ret_directory))
            return 0;
    return -ENOENT;
}

int locate_helper(const char *name, char ret_directory[MAX_PATH], int *ret_unusual)
{
    char usual[MAX_PATH];

    if (search(libexec_directory, "/libexec", name, X_OK, ret_directory))
        return -ENOENT;
    if (ret_unusual)
        *ret_unusual = !realpath(libexec_directory, usual) || strcmp(usual, ret_directory);
    return 0;
}

int locate_shim(char ret_directory[MAX_PATH])
{
    return search(library_directory, "/preload/shim", SHIM_NAME, R_OK, ret_directory);
}

int locate_exec(const char *name, char **argv)
{
    char directory[MAX_PATH], path[MAX_PATH + 64];

    if (locate_helper(name, directory, NULL))
        return complain(EXIT_INTERNAL, "the helper program %s is neither in %s nor near this program; install Stasis again, or "
                        "set %s to the directory that holds it", name, libexec_directory, ENV_LIBEXEC);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    argv[0] = path;
    execv(path, argv);
    return complain(EXIT_SYSTEM, "cannot run %s: %m", path);
}
