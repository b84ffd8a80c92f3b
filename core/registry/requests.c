/* SPDX-License-Identifier: MIT */
#include "requests.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAME_BYTES = 2 * MAX_ID + 32 };

/* The directory is opened each time: a network file system then asks its server what is in it now. */
static int open_directory(const char *path)
{
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void name_of(char name[NAME_BYTES], const char *job, const char *step, const char *behind)
{
    snprintf(name, NAME_BYTES, "%s.%s%s%s", job, step, REQUEST_SUFFIX, behind);
}

static struct request_file look_in(int directory, const char *name)
{
    struct request_file request = { 0 };
    struct stat status;

    if (directory < 0 || fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW))
        return request;
    request.is_there = S_ISREG(status.st_mode) && status.st_uid == geteuid() ? 1 : -1;
    request.device = status.st_dev;
    request.inode = status.st_ino;
    request.seconds = status.st_ctim.tv_sec;
    request.nanoseconds = status.st_ctim.tv_nsec;
    return request;
}

static int is_same(const struct request_file *one, const struct request_file *other)
{
    return one->is_there == other->is_there && one->device == other->device && one->inode == other->inode &&
           one->seconds == other->seconds && one->nanoseconds == other->nanoseconds;
}

struct request_file request_look(const char *path, const char *job, const char *step)
{
    char name[NAME_BYTES];
    int directory = open_directory(path);
    struct request_file request;

    name_of(name, job, step, "");
    request = look_in(directory, name);
    if (directory >= 0)
        close(directory);
    return request;
}

int request_make(const char *path, const char *job, const char *step)
{
    char name[NAME_BYTES];
    int directory = open_directory(path), request, error;

    if (directory < 0)
        return -errno;
    name_of(name, job, step, "");
    request = openat(directory, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    error = request < 0 ? -errno : 0;
    if (request >= 0)
        close(request);
    close(directory);
    return error;
}

/* Removed when it gets no other name. */
static int take_away(const char *path, const char *job, const char *step, const struct request_file *request, const char *behind)
{
    char name[NAME_BYTES], other[NAME_BYTES];
    int directory = open_directory(path), error = 0;
    struct request_file now;

    if (directory < 0)
        return -errno;
    name_of(name, job, step, "");
    name_of(other, job, step, behind ? behind : "");
    now = look_in(directory, name);
    if (now.is_there != 1 || !is_same(&now, request))
        error = -ENOENT;
    else if (behind ? renameat(directory, name, directory, other) : unlinkat(directory, name, 0))
        error = -errno;
    close(directory);
    return error;
}

int request_remove(const char *directory, const char *job, const char *step, const struct request_file *request)
{
    return take_away(directory, job, step, request, NULL);
}

int request_set_aside(const char *directory, const char *job, const char *step, const struct request_file *request)
{
    return take_away(directory, job, step, request, REFUSED_SUFFIX);
}

/* ---- a command that stays ---- */

/* Longer than a program should forbid checkpoints; it is only then that there is something to wait for. */
#define PATIENCE "--max-wait=60"

static _Noreturn void become_command(const struct requests *requests)
{
    char target[16];
    sigset_t none;

    setsid(); /* a Ctrl-C is for the program */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    snprintf(target, sizeof target, "%d", (int)requests->target);
    execl(requests->tool, "stasis", "checkpoint", PATIENCE, target, (char *)NULL);
    _exit(EXIT_INTERNAL);
}

static void ask(struct requests *requests)
{
    struct request_file now = request_look(requests->directory, requests->job, requests->step);

    if (!now.is_there || is_same(&now, &requests->request))
        return;
    requests->request = now;
    if (now.is_there < 0) {
        fprintf(stderr, "stasis: %s/%s.%s%s asks for nothing: it is no file of this user's\n", requests->directory, requests->job, requests->step,
                REQUEST_SUFFIX);
        return;
    }
    requests->asking = fork();
    if (!requests->asking)
        become_command(requests);
    if (requests->asking < 0)
        requests->asking = 0;
}

/* A request that has been fulfilled is gone, as the saver has removed it, but where the program has its images elsewhere by now. Why one
 * was not, the command has said. */
static void learn(struct requests *requests)
{
    int status;

    if (waitpid(requests->asking, &status, WNOHANG) != requests->asking)
        return;
    requests->asking = 0;
    if (WIFEXITED(status) && !WEXITSTATUS(status))
        request_remove(requests->directory, requests->job, requests->step, &requests->request);
    else if (!request_set_aside(requests->directory, requests->job, requests->step, &requests->request))
        fprintf(stderr, "stasis: so the request is now %s/%s.%s%s\n", requests->directory, requests->job, requests->step,
                REQUEST_SUFFIX REFUSED_SUFFIX);
}

void requests_attend(struct requests *requests)
{
    if (requests->asking)
        learn(requests);
    else
        ask(requests);
}
