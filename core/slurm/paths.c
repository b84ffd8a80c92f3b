/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../floor/names.h"
#include "slurm.h"

void slurm_export_path(const char *variable, const char *value)
{
    char path[MAX_PATH];
    size_t length;

    if (*value == '/') {
        setenv(variable, value, 1);
        return;
    }
    if (!getcwd(path, sizeof path))
        return;
    length = strlen(path);
    if (strcmp(value, "."))
        snprintf(path + length, sizeof path - length, "/%s", value);
    setenv(variable, path, 1);
}
