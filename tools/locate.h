/* SPDX-License-Identifier: MIT */
/* Where our own other parts are: the helper programs and libstasis.so. Each is looked for in ENV_LIBEXEC, then by this
 * executable's own place (the build tree, or an install wherever it was moved to), then where meson said it goes. */
#ifndef STASIS_LOCATE_H
#define STASIS_LOCATE_H

#include "../core/floor/names.h"

/* The directory that holds the helper `name` (SAVER_NAME, RESTORER_NAME); absolute. *ret_unusual (may be NULL): 1 when it
 * is not the compiled-in one, so that the shim must be told by ENV_LIBEXEC. 0, or -ENOENT. */
int locate_helper(const char *name, char ret_directory[MAX_PATH], int *ret_unusual);

/* The path of this very command; "" when it cannot be had. */
const char *locate_self(void);
/* The directory that holds libstasis.so; absolute. 0, or -ENOENT. */
int locate_shim(char ret_directory[MAX_PATH]);

/* Becomes a helper; argv[0] is set here. Returns only on failure, having complained: an exit status. */
int locate_exec(const char *name, char **argv);

#endif
