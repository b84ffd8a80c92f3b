/* SPDX-License-Identifier: MIT */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../floor/text.h"
#include "entry.h"
#include "read.h"

enum { LABEL_BYTES = 9, MAX_ASIDE = 100000, LINK_TRIES = 100 };

#define LABEL_DAMAGED "damaged"

/* Whose image stands under a name. */
enum belongs { NOBODY, OURS, OTHERS };

/* One image_commit on its way. */
struct commit {
    struct image_writer *writer;
    int directory;
    const char *name;
    unsigned keep;
    struct entry moved; /* where <name> went, when it could not stay for want of hard links; else empty */
};

static int same_file(int directory, const char *a, const char *b)
{
    struct stat left, right;

    return !fstatat(directory, a, &left, AT_SYMLINK_NOFOLLOW) && !fstatat(directory, b, &right, AT_SYMLINK_NOFOLLOW) &&
           left.st_dev == right.st_dev && left.st_ino == right.st_ino;
}

static int is_there(int directory, const char *name)
{
    struct stat file;
    return !fstatat(directory, name, &file, AT_SYMLINK_NOFOLLOW);
}

/* 1 when linkat's errno says that this file cannot have a second name: file system, or protected_hardlinks. */
static int links_are_refused(int error)
{
    return error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK || error == EXDEV;
}

/* Gives `from` the name `to` as well. Where there are no hard links it moves there and *ret_moved is 1.
 * Never overwrites: -EEXIST. */
static int name_also(int directory, const char *from, const char *to, int *ret_moved)
{
    *ret_moved = 0;
    if (!linkat(directory, from, directory, to, 0))
        return 0;
    if (!links_are_refused(errno))
        return -errno;
    if (is_there(directory, to))
        return -EEXIST;
    if (renameat(directory, from, directory, to))
        return -errno;
    *ret_moved = 1;
    return 0;
}

/* The nameless file gets a name. /proc first: AT_EMPTY_PATH wants a capability from kernels before 6.10. */
static int link_nameless(struct image_writer *writer, const char *to)
{
    char self[32];

    snprintf(self, sizeof self, "/proc/self/fd/%d", writer->descriptor);
    if (!linkat(AT_FDCWD, self, writer->directory_descriptor, to, AT_SYMLINK_FOLLOW))
        return 0;
    if (errno == EEXIST || errno == ENOSPC || errno == EDQUOT || errno == EIO)
        return -errno;
    if (!linkat(writer->descriptor, "", writer->directory_descriptor, to, AT_EMPTY_PATH))
        return 0;
    return -errno;
}

static int make_temporary(struct commit *commit)
{
    struct image_writer *writer = commit->writer;
    struct entry temporary;
    int error, tries = LINK_TRIES;

    if (writer->temporary)
        return 0;
    do {
        error = image_temporary_name(temporary.name, sizeof temporary.name, commit->name);
        if (error)
            return error;
        /* Before the link, so that image_writer_close removes it whatever happens. */
        free(writer->temporary);
        writer->temporary = strdup(temporary.name);
        error = writer->temporary ? link_nameless(writer, temporary.name) : -ENOMEM;
    } while (error == -EEXIST && --tries);
    if (error) {
        free(writer->temporary);
        writer->temporary = NULL;
    }
    return error;
}

/* enum belongs, or -errno when it could not be found out for reasons that are not the file's. label: the start of its run, or
 * LABEL_DAMAGED. */
static int belongs(const struct commit *commit, const char *name, char label[LABEL_BYTES])
{
    struct image image;
    char uuid[UUID_TEXT];
    int error = image_open_at(&image, commit->directory, name);

    if (error == -ENOENT)
        return NOBODY;
    if (error && !image_error_is_of_file(error))
        return error;
    image_close(&image);
    strcpy(label, LABEL_DAMAGED);
    /* A newer version's header can be trusted: its run is known. Of a damaged image nothing is. */
    if (error && !(error == -EPROTO && image.header.magic == IMAGE_MAGIC))
        return OTHERS;
    text_from_uuid(image.header.run, uuid);
    snprintf(label, LABEL_BYTES, "%.8s", uuid);
    return memcmp(image.header.run, commit->writer->header.run, UUID_BYTES) ? OTHERS : OURS;
}

/* Sets `from` aside whole, under the first free name. It stays under its own as well when `stays`. */
static int set_aside(struct commit *commit, const char *from, const char *label, int stays)
{
    struct entry to;
    int error = -EEXIST, moved = 0;

    for (unsigned n = 0; n < MAX_ASIDE && error == -EEXIST; n++) {
        error = n ? entry_format(&to, "%s" IMAGE_ASIDE "%s.%u", commit->name, label, n)
                  : entry_format(&to, "%s" IMAGE_ASIDE "%s", commit->name, label);
        if (!error)
            error = name_also(commit->directory, from, to.name, &moved);
        /* An earlier commit came as far as here, and no further. */
        if (error == -EEXIST && same_file(commit->directory, from, to.name))
            error = 0;
    }
    if (error)
        return error;
    if (stays && moved)
        commit->moved = to;
    if (!stays && !moved && unlinkat(commit->directory, from, 0))
        return -errno;
    return 0;
}

static int numbered(const struct commit *commit, struct entry *to, unsigned number)
{
    return entry_format(to, "%s.%u", commit->name, number);
}

/* Sets aside those of <name>.1, .2 ... that are not this run's. */
static int clear_generations(struct commit *commit)
{
    struct buffer numbers;
    struct entry generation;
    char label[LABEL_BYTES];
    int error = entry_generations(commit->directory, commit->name, &numbers);

    for (size_t at = 0; at < numbers.length && !error; at += sizeof(unsigned)) {
        error = numbered(commit, &generation, *(const unsigned *)(numbers.bytes + at));
        int whose = error ? error : belongs(commit, generation.name, label);
        if (whose == OTHERS)
            error = set_aside(commit, generation.name, label, 0);
        else if (whose < 0)
            error = whose;
    }
    buffer_free(&numbers);
    return error;
}

/* Moves .1 .. .N up by one, N + 1 being the first number that is free. From the top: no name is overwritten, so that
 * whatever fails, nothing is lost. */
static int shift_up(struct commit *commit)
{
    struct entry from, to;
    unsigned number = 1;
    int error = numbered(commit, &to, number);

    while (!error && is_there(commit->directory, to.name))
        error = numbered(commit, &to, ++number);
    for (; !error && number > 1; number--) {
        error = numbered(commit, &from, number - 1);
        if (!error && renameat(commit->directory, from.name, commit->directory, to.name))
            error = -errno;
        to = from;
    }
    return error;
}

/* The image that is there becomes .1, and stays under its name until the new one takes it. */
static int rotate(struct commit *commit)
{
    struct entry first;
    int moved = 0, error = numbered(commit, &first, 1);

    /* The rename of an earlier commit failed after all this was done. */
    if (error || same_file(commit->directory, commit->name, first.name))
        return error;
    error = shift_up(commit);
    if (!error)
        error = name_also(commit->directory, commit->name, first.name, &moved);
    if (!error && moved)
        commit->moved = first;
    return error;
}

/* Steps 1 and 2 of commit.h. The name itself before the generations: it gets the name aside without a number. */
static int make_room(struct commit *commit)
{
    char label[LABEL_BYTES];
    struct stat file = { 0 };
    int whose = belongs(commit, commit->name, label), error = 0;

    if (whose < 0)
        return whose;
    /* Only files are worth keeping: a planted link is replaced by the rename, not followed, not kept. */
    if (whose == OTHERS && !fstatat(commit->directory, commit->name, &file, AT_SYMLINK_NOFOLLOW) && S_ISREG(file.st_mode))
        error = set_aside(commit, commit->name, label, 1);
    if (!error)
        error = clear_generations(commit);
    if (!error && whose == OURS && commit->keep)
        error = rotate(commit);
    return error;
}

static int take_name(struct commit *commit)
{
    struct image_writer *writer = commit->writer;

    if (renameat(commit->directory, writer->temporary, commit->directory, commit->name))
        return -errno;
    free(writer->temporary);
    writer->temporary = NULL;
    return 0;
}

static int sync_directory(int directory)
{
    int result;

    do
        result = fsync(directory);
    while (result && errno == EINTR);
    /* Some file systems (FUSE, CIFS) have no sync of directories, and need none. */
    return !result || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -errno;
}

/* What stays behind for an error is removed by the next commit: the new image stands, so there is nobody to tell. */
static void remove_beyond(const struct commit *commit)
{
    struct buffer numbers;
    struct entry generation;
    char label[LABEL_BYTES];

    if (entry_generations(commit->directory, commit->name, &numbers))
        return;
    for (size_t at = 0; at < numbers.length; at += sizeof(unsigned)) {
        unsigned number = *(const unsigned *)(numbers.bytes + at);
        if (number > commit->keep && !numbered(commit, &generation, number) &&
            belongs(commit, generation.name, label) == OURS)
            unlinkat(commit->directory, generation.name, 0);
    }
    buffer_free(&numbers);
}

static int format_path(const struct image_writer *writer, const char *name, char *ret_path)
{
    int length = snprintf(ret_path, MAX_PATH, "%s/%s", writer->directory, name);
    return length < 0 || length >= MAX_PATH ? -ENAMETOOLONG : 0;
}

int image_commit(struct image_writer *writer, const char *name, unsigned keep, char *ret_path)
{
    struct commit commit = { writer, writer->directory_descriptor, name, keep, { "" } };
    int error = atomic_load(&writer->error);

    if (!error && (!*name || *name == '.' || strchr(name, '/')))
        error = -EINVAL;
    if (!error)
        error = format_path(writer, name, ret_path);
    if (!error)
        error = make_temporary(&commit);
    if (!error)
        error = make_room(&commit);
    if (!error)
        error = take_name(&commit);
    if (error) {
        if (*commit.moved.name)
            renameat(commit.directory, commit.moved.name, commit.directory, name);
        return error;
    }
    error = sync_directory(commit.directory);
    if (!error)
        remove_beyond(&commit);
    return error;
}

struct sweep {
    int directory;
    const char *name;
};

static int sweep_entry(void *context, const char *entry)
{
    const struct sweep *sweep = context;

    if (entry_is_temporary(entry, sweep->name))
        unlinkat(sweep->directory, entry, 0);
    return 0;
}

void image_sweep(const char *directory, const char *name)
{
    struct sweep sweep = { open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), name };

    if (sweep.directory < 0)
        return;
    entry_walk(sweep.directory, sweep_entry, &sweep);
    close(sweep.directory);
}
