/* SPDX-License-Identifier: MIT */
/* Making sockets what they were: in the name of a process that is not there yet or no more, and under names whose place
 * is not ours to use. The working directory is another afterwards: the caller keeps its own. */
#ifndef STASIS_UNIX_ACTOR_H
#define STASIS_UNIX_ACTOR_H

#include <sys/socket.h>

#include "unix_format.h"

/* Runs act(context) in a process of that PID, with our descriptors, which ends then: the kernel notes who connects,
 * listens, makes a pair or sends. 0 and our own: here. What it changes in memory is lost. Returns what act returns (0
 * or -errno), or -errno. */
int actor_run(int pid, int (*act)(void *context), void *context);

/* Where a socket lies that has a path for a name: not always the place that its name tells. */
struct unix_place {
    struct unix_name name;
    char *file; /* malloc'ed; NULL for an abstract name */
};

/* An empty tree of directories that vanishes, for sockets whose file has been deleted, or is that of another. */
struct scratch {
    char root[32]; /* "" until it is needed */
    unsigned count;
};
/* Binds a socket to a name as if it were the only one. An abstract name is bound as it is. 0 or -errno. */
int scratch_bind(struct scratch *scratch, int fd, const struct unix_name *name, struct unix_place *ret_place);
void scratch_end(struct scratch *scratch);

/* Binds a socket to a name so that its file is then place->file, in place of a dead one. 0 or -errno. */
int place_bind(int fd, const struct unix_name *name, const char *file);
/* Connects, or sets the address for sendto(2). 0 or -errno. */
int place_address(const struct unix_place *place, struct sockaddr_un *ret_address, socklen_t *ret_length);

#endif
