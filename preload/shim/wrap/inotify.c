/* SPDX-License-Identifier: MIT */
/* inotify_add_watch: the path is noted, for the kernel tells only the inode that it led to. */
#include <sys/inotify.h>

#include "../shim.h"

NEXT_OF(inotify_add_watch);

EXPORTED int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    int watch = NEXT(inotify_add_watch)(fd, path, mask);

    if (watch >= 0)
        watches_note(fd, watch, path, mask);
    return watch;
}
