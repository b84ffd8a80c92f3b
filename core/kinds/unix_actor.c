/* SPDX-License-Identifier: MIT */
#include "unix_actor.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int actor_run(int pid, int (*act)(void *context), void *context)
{
    pid_t chosen = pid;
    struct clone_args arguments = {
        .flags = CLONE_FILES, .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&chosen, .set_tid_size = 1
    };
    int status;
    long child;

    if (!pid || pid == getpid())
        return act(context);
    child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child < 0)
        return -errno;
    if (!child)
        _exit(-act(context)); /* error numbers of sockets' calls are below 256 */
    while (waitpid((pid_t)child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

static int bind_here(int fd, const char *bytes, size_t length)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (length > sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, bytes, length);
    return bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) ? -errno
                                                                                                               : 0;
}

/* The directories of a path, from the working directory on. */
static void make_directories(char *path)
{
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
}

/* In the new root, where no path leads out of it. */
static int bind_in_root(int fd, const struct unix_name *name, char *ret_path)
{
    char path[sizeof name->bytes + 1] = "";
    int error;

    memcpy(path, name->bytes, name->length);
    make_directories(path);
    error = bind_here(fd, name->bytes, name->length);
    return error || realpath(path, ret_path) ? error : -errno;
}

static int make_root(struct scratch *scratch, char *ret_root, size_t size)
{
    if (!*scratch->root) {
        strcpy(scratch->root, "/dev/shm/.stasis-XXXXXX"); /* the bubble's own, see restorer/keeper.c */
        if (!mkdtemp(scratch->root)) {
            *scratch->root = 0;
            return -errno;
        }
    }
    snprintf(ret_root, size, "%s/%u", scratch->root, scratch->count++);
    return mkdir(ret_root, 0700) ? -errno : 0;
}

int scratch_bind(struct scratch *scratch, int fd, const struct unix_name *name, struct unix_place *place)
{
    char root[64], path[MAX_PATH];
    int old_root, error;

    place->name = *name;
    place->file = NULL;
    if (!unix_name_is_path(name))
        return bind_here(fd, name->bytes, name->length);
    if ((error = make_root(scratch, root, sizeof root)))
        return error;
    old_root = open("/", O_PATH | O_CLOEXEC);
    if (old_root < 0 || chroot(root) || chdir("/"))
        error = -errno;
    if (!error)
        error = bind_in_root(fd, name, path);
    if (old_root >= 0 && (fchdir(old_root) || chroot(".")))
        error = -errno;
    close(old_root);
    if (!error && asprintf(&place->file, "%s%s", root, path) < 0)
        error = -ENOMEM;
    return error;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)type, (void)place;
    return remove(path);
}

void scratch_end(struct scratch *scratch)
{
    if (*scratch->root)
        nftw(scratch->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    *scratch->root = 0;
}

/* Length of what stands before the last component of a path, with its slash. */
static size_t directory_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash + 1 - path) : 0;
}

/* Goes where that name leads to the directory of the file; -ENOENT: from nowhere, since the file is to be elsewhere
 * (path_map.c). */
static int go_before(const char *name, const char *file)
{
    size_t directory = directory_length(name), length = directory_length(file);
    char path[MAX_PATH];

    if (directory > length || length >= sizeof path || memcmp(name, file + length - directory, directory))
        return -ENOENT;
    memcpy(path, file, length - directory);
    path[length - directory] = 0;
    return *path && chdir(path) ? -errno : 0;
}

int place_bind(int fd, const struct unix_name *name, const char *file)
{
    char path[sizeof name->bytes + 1] = "";
    int error;

    memcpy(path, name->bytes, name->length);
    if (unlink(file) && errno != ENOENT)
        return -errno;
    error = go_before(path, file);
    if (error == -ENOENT)
        return bind_here(fd, file, strlen(file) + 1);
    if (!error)
        error = bind_here(fd, name->bytes, name->length);
    if (!error && strcmp(path + directory_length(path), file + directory_length(file)) && rename(path, file))
        error = -errno; /* it had another name when it was bound */
    return error;
}

int place_address(const struct unix_place *place, struct sockaddr_un *address, socklen_t *ret_length)
{
    char directory[MAX_PATH];
    size_t length = place->name.length;

    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (place->file) {
        size_t begin = directory_length(place->file);
        length = strlen(place->file + begin) + 1;
        snprintf(directory, sizeof directory, "%.*s", (int)begin, place->file);
        if (length > sizeof address->sun_path || chdir(directory))
            return length > sizeof address->sun_path ? -ENAMETOOLONG : -errno;
        memcpy(address->sun_path, place->file + begin, length);
    } else
        memcpy(address->sun_path, place->name.bytes, length);
    *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    return 0;
}
