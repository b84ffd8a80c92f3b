/* SPDX-License-Identifier: MIT */
#include "slurm_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/slurm/slurm.h"

static int state_directory(char *path, size_t size)
{
    const char *home = getenv("HOME");
    const struct passwd *user = home && *home ? NULL : getpwuid(geteuid());

    return slurm_state_directory(getenv("XDG_STATE_HOME"), user ? user->pw_dir : home, path, size);
}

static void read_file(struct state *state)
{
    char text[128] = "";

    if (pread(state->file, text, sizeof text - 1, 0) > 0)
        sscanf(text, "disabled %" SCNu32 "\nerror %" SCNu32 "\nbegan %" SCNd64, &state->disabled, &state->error, &state->began);
}

/* The one that held it may have removed it meanwhile. */
static int is_there_still(const struct state *state)
{
    struct stat ours, there;

    return !fstat(state->file, &ours) && !stat(state->path, &there) && ours.st_ino == there.st_ino;
}

int state_open(struct state *state, const char *id)
{
    int error;

    *state = (struct state){ .file = -1 };
    error = state_directory(state->path, sizeof state->path - 1 - strlen(id));
    if (error)
        return error;
    snprintf(state->path + strlen(state->path), sizeof state->path - strlen(state->path), "/%s", id);
    do {
        if (state->file >= 0)
            close(state->file);
        state->file = open(state->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (state->file < 0)
            return -errno;
        state->is_busy = flock(state->file, LOCK_EX | LOCK_NB) != 0;
    } while (!state->is_busy && !is_there_still(state));
    read_file(state);
    return 0;
}

void state_write(const struct state *state)
{
    char text[128];
    int length = snprintf(text, sizeof text, "disabled %" PRIu32 "\nerror %" PRIu32 "\nbegan %" PRId64 "\n", state->disabled,
                          state->error, state->began);

    if (ftruncate(state->file, 0) || pwrite(state->file, text, (size_t)length, 0) != length)
        return; /* it is remembered less well */
}

void state_close(struct state *state)
{
    if (state->file < 0)
        return;
    if (!state->is_busy && !state->disabled && !state->error)
        unlink(state->path);
    close(state->file);
    state->file = -1;
}
