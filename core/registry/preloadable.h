/* SPDX-License-Identifier: MIT */
/* Whether the dynamic loader will put libstasis.so into a program: it silently does not for some. */
#ifndef STASIS_PRELOADABLE_H
#define STASIS_PRELOADABLE_H

#include "../floor/names.h"

struct refusal {
    const char *name;   /* "R-STATIC"; NULL: nothing is against it */
    const char *reason; /* what `file` is: "is statically linked" */
};

/* Looks at the program that execvp(command) would run; of a script, at the interpreter in its first line. ret_file gets
 * the path of what was looked at last. What cannot be found or read is not refused: exec will say why it cannot be run. */
struct refusal preloadable_check(const char *command, char ret_file[MAX_PATH]);

#endif
