/* SPDX-License-Identifier: MIT */
/* A page's file for a program that may not make one so large itself (its hard RLIMIT_FSIZE): whoever asks for the page lays
 * it ready in the registry, under a name the program knows. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../floor/agent_page.h"
#include "registry.h"

/* Hard limit, bytes, by /proc/PID/limits; RLIM_INFINITY reads as 0. */
static unsigned long long file_size_limit(pid_t pid)
{
    char path[64], line[256];
    unsigned long long limit = 0;

    snprintf(path, sizeof path, "/proc/%d/limits", (int)pid);
    FILE *limits = fopen(path, "re");
    while (limits && fgets(line, sizeof line, limits))
        if (sscanf(line, "Max file size %*s %llu", &limit) == 1)
            break;
    if (limits)
        fclose(limits);
    return limit;
}

/* The program's owner, whom root may be asking for. */
static int give(int descriptor, uid_t owner, gid_t group)
{
    return owner == geteuid() || !fchown(descriptor, owner, group);
}

static int open_registry(uid_t owner, gid_t group)
{
    char path[64];
    int made, directory;

    snprintf(path, sizeof path, "%s%u", REGISTRY_ROOT, owner);
    made = !mkdir(path, 0700);
    directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory >= 0 && made)
        (void)!(give(directory, owner, group) && !fchmod(directory, 0700));
    return directory;
}

/* All of its memory is there: the program only maps it. */
static void make_file(int directory, uid_t owner, gid_t group)
{
    int file = openat(directory, SPARE_PAGE, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (file < 0)
        return;
    if (fchmod(file, 0600) || ftruncate(file, AGENT_PAGE_BYTES) || posix_fallocate(file, 0, 2 * PAGE_BYTES) ||
        !give(file, owner, group))
        unlinkat(directory, SPARE_PAGE, 0);
    close(file);
}

int spare_lay(pid_t pid)
{
    unsigned long long limit = file_size_limit(pid);
    char path[64];
    struct stat status;
    int directory;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    if (!limit || limit >= AGENT_PAGE_BYTES || stat(path, &status))
        return -1;
    directory = open_registry(status.st_uid, status.st_gid);
    if (directory >= 0)
        make_file(directory, status.st_uid, status.st_gid);
    return directory;
}

void spare_take_away(int directory)
{
    if (directory < 0)
        return;
    unlinkat(directory, SPARE_PAGE, 0);
    close(directory);
}
