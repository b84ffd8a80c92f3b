/* SPDX-License-Identifier: MIT */
/* What the kinds of sockets share: options, and a socket's place among the descriptors. */
#ifndef STASIS_SOCKETS_H
#define STASIS_SOCKETS_H

#include "kind.h"

/* An option that getsockopt(2) tells and setsockopt(2) takes, in the same form. */
struct socket_option {
    int level, name;
    const char *word; /* as people write it */
};
/* Those of SOL_SOCKET; a NULL word at the end. A family has tables of its own beside it. */
extern const struct socket_option socket_options[];
/* The same, for what must wait until the bytes in flight are back. */
extern const struct socket_option socket_late_options[];

int is_socket(const struct descriptor *descriptor);
/* AF_INET and so on; -errno, also when it is no socket. */
int socket_family(const struct descriptor *descriptor);
const char *socket_words(const struct descriptor *descriptor); /* "a netlink socket" */
/* The first descriptor of a socket in the step, by its inode; NULL: no process of the step holds it. Quick, as there
 * may be twenty thousand. Only that one's record has all of the socket. */
const struct descriptor *socket_first(const struct saving *saving, uint64_t inode);
int is_first_of_socket(const struct saving *saving, const struct descriptor *descriptor);

/* Adds all options of a table that the socket has. What cannot be brought back is refused. 0 or -errno. */
int socket_options_save(struct saving *saving, const struct descriptor *descriptor, int handle,
                        const struct socket_option *table, struct buffer *to);
/* Sets, on a new socket, all recorded options that it does not have by itself: 0 or -errno, and *ret_word is then the
 * option. */
int socket_options_set(const struct socket_option *table, struct reader *reader, int fd, const char **ret_word);
/* The same on a socket that is thrown away: says with missing() what may not be set here. */
int socket_options_check(struct restoring *restoring, const struct socket_option *table, struct reader *reader,
                         int family, int type, int protocol, int number);

/* Passes over the options of a table, as check and set do. 0 or -EBADMSG. */
int socket_options_pass(const struct socket_option *table, struct reader *reader);

/* Gives a socket that `make` keeps the recorded number and flags; the socket stays where it is. 0 or -errno. */
int socket_place(const struct descriptor_record *record, int fd);

#endif
