/* SPDX-License-Identifier: MIT */
/* A task of Slurm's writes to the file of its job itself, not by way of slurmstepd and srun: see core/slurm/output.c. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../../core/floor/names.h"
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

/* INODE:WORD:PATH. The very file, on whichever node; -1 otherwise. */
static int open_same(const char *value)
{
    struct stat status;
    uint64_t inode = text_number(&value);
    const char *path = *value == ':' ? text_find(value + 1, ":") : NULL;
    int file = path ? (int)sys_openat(AT_FDCWD, path + 1, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0) : -1;

    if (file < 0)
        return -1;
    if (!sys_fstatat(file, "", &status, AT_EMPTY_PATH) && S_ISREG(status.st_mode) && status.st_ino == inode) {
        SYS_CALL(fcntl, file, F_SETFL, O_APPEND, 0, 0, 0);
        return file;
    }
    sys_close(file);
    return -1;
}

/* A pipe is slurmstepd's; else it has opened a file for this very task. */
static int take(int descriptor, const char *value)
{
    struct stat status;
    int file;

    if (sys_fstatat(descriptor, "", &status, AT_EMPTY_PATH) || !S_ISFIFO(status.st_mode))
        return 0;
    file = open_same(value);
    if (file < 0)
        return 0;
    SYS_CALL(dup2, file, descriptor, 0, 0, 0, 0);
    sys_close(file);
    return 1;
}

NEXT_OF(unsetenv);

void output_take(void)
{
    const char *output = text_environment(environ, ENV_STDOUT), *error = text_environment(environ, ENV_STDERR);
    int is_taken = output && take(1, output);

    if (is_taken && error && text_equal(output, error))
        SYS_CALL(dup2, 1, 2, 0, 0, 0, 0); /* one position, as it was */
    else if (error)
        take(2, error);
    if (output)
        NEXT(unsetenv)(ENV_STDOUT);
    if (error)
        NEXT(unsetenv)(ENV_STDERR);
}
