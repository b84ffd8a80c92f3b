/* SPDX-License-Identifier: MIT */
/* The working directory, by its path. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kind.h"

static int directory_save(struct saving *saving, const struct descriptor *none)
{
    char *path = proc_link(saving->view, "cwd"), *root = proc_link(saving->view, "root");
    struct stat link, there;
    char name[64];
    struct buffer payload = { 0 };
    int error = path && root ? 0 : -errno;

    (void)none;
    snprintf(name, sizeof name, "/proc/%d/cwd", saving->view);
    if (!error && strcmp(root, "/"))
        error = refuse(saving, "R-CHROOT", "the program has %s as its root directory", root);
    if (!error && (stat(name, &link) || stat(path, &there) || link.st_ino != there.st_ino || link.st_dev != there.st_dev))
        error = refuse(saving, "R-DELETED-DIRECTORY", "the working directory %s is deleted", path);
    if (!error) {
        buffer_add_text(&payload, path);
        error = image_write_record(saving->writer, TAG_WORKING_DIRECTORY, RECORD_REQUIRED, saving->index, &payload);
    }
    buffer_free(&payload);
    free(path);
    free(root);
    return error;
}

static int directory_check(struct restoring *restoring, struct reader *reader)
{
    char *path = path_read(restoring, reader, reader_text(reader));

    if (path && access(path, X_OK))
        missing(restoring, "R-FILE-MISSING: %s: %s; it is the program's working directory", path, strerror(errno));
    free(path);
    return reader->error;
}

static int directory_wire(struct restoring *restoring, struct reader *reader)
{
    char *path = path_read(restoring, reader, reader_text(reader));
    int error = path && chdir(path) ? -errno : reader->error;

    free(path);
    return error;
}

static void directory_show(struct reader *reader, FILE *out)
{
    char *path = reader_text(reader);
    if (path)
        fprintf(out, "  %s\n", path);
    free(path);
}

const struct kind kind_working_directory = {
    .name = "working directory",
    .tag = TAG_WORKING_DIRECTORY,
    .late = 1,
    .save = directory_save,
    .check = directory_check,
    .wire = directory_wire,
    .show = directory_show,
};
