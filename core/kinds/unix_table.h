/* SPDX-License-Identifier: MIT */
/* What the kernel tells of all unix sockets, for the saver. */
#ifndef STASIS_UNIX_TABLE_H
#define STASIS_UNIX_TABLE_H

#include "unix_format.h"

struct unix_entry {
    uint64_t inode, peer; /* peer 0: one that was closed, or that nobody has accepted yet */
    uint8_t type;         /* SOCK_ */
    uint8_t state;        /* enum unix_diag_state */
    uint8_t shutdown;     /* as in unix_state_record */
    uint8_t has_peer, has_file;
    uint32_t file_inode, file_device; /* the device as the kernel has it: major << 20 | minor */
    uint32_t backlog;                 /* of a listening socket */
    struct unix_name name;
    uint32_t *waiting; /* inodes of the sockets whose connections a listening one has not accepted; 0: closed */
    uint32_t waiting_count;
};

enum unix_diag_state { DIAG_ESTABLISHED = 1, DIAG_CLOSE = 7, DIAG_LISTEN = 10 }; /* net/tcp_states.h */

/* 0 or -errno; -ENOENT: none in this network namespace. */
int unix_find(const struct saving *saving, uint64_t inode, const struct unix_entry **ret_entry);
/* The inode of the listening socket that has not accepted the connection of this one; 0: none. */
uint64_t unix_listener_of(const struct saving *saving, uint64_t inode);

#endif
