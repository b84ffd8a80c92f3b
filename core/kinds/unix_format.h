/* SPDX-License-Identifier: MIT */
/* Unix sockets in the image, and what the files of the kind share. */
#ifndef STASIS_UNIX_FORMAT_H
#define STASIS_UNIX_FORMAT_H

#include <stdint.h>
#include <sys/un.h>

#include "kind.h"

struct unix_record {
    struct descriptor_record descriptor;
    uint64_t socket; /* the inode: which descriptors are of the same socket */
    uint32_t whole;  /* 1: all that follows is there; only in the first record of a socket */
    uint32_t reserved;
};

enum unix_state { UNIX_FREE = 1, UNIX_LISTENS, UNIX_CONNECTED };

/* What a connected socket is connected to. */
enum unix_end {
    END_NONE,
    END_INSIDE,  /* a socket of the program */
    END_WAITING, /* a listening socket of the program that has not accepted it */
    END_CLOSED,  /* nobody any more */
    END_OUTSIDE, /* a socket of another program, which will be nobody any more */
};

struct unix_state_record {
    uint64_t other; /* END_INSIDE, END_WAITING: the inode of that one */
    uint32_t type;  /* SOCK_ */
    uint32_t state, end;
    uint32_t shutdown; /* 1: no more is received, 2: no more is sent */
    uint32_t backlog;  /* of a listening socket */
    uint32_t reset;    /* 1: the next call gives ECONNRESET */
    int32_t pid;       /* SO_PEERCRED: who made the other end; of a listening socket, who listens; 0: nobody is named */
    int32_t holder;    /* pid of the process whose descriptor this is */
    uint32_t file_mode;
    uint32_t message_count;
    uint32_t waiting_count; /* of a listening socket: connections that it has not accepted */
    uint32_t unread;       /* SIOCOUTQ: memory of all that it has sent and nobody has read */
    /* name, name of the other end: a u32 length and the bytes of sun_path; the path of its file, as text; options, late
     * options; waiting_count inodes of 8 bytes, in order; messages */
};

/* Of a stream: all bytes, or those of one sender. Its bytes follow, behind the name of the sender as above. */
struct unix_message_record {
    uint32_t length;
    int32_t pid; /* of the sender, for SO_PASSCRED; 0: not kept */
};

/* An address. The first byte of an abstract one is 0; without a name the length is 0. */
struct unix_name {
    uint32_t length;
    char bytes[sizeof((struct sockaddr_un *)NULL)->sun_path];
};

static inline int unix_name_is_path(const struct unix_name *name)
{
    return name->length && name->bytes[0];
}

/* unix_peek.c: the bytes in flight, taken out of nothing. Adds messages to `to`. 0 or -errno. is_ended: no more will
 * come. */
int unix_peek(struct saving *saving, const struct descriptor *descriptor, int handle, int type, int is_ended,
              struct buffer *to, uint32_t *ret_count);

/* Can it be reached from everywhere? A relative path is of a working directory that nobody knows any more. */
static inline int unix_name_is_for_all(const struct unix_name *name)
{
    return name->length && (!name->bytes[0] || name->bytes[0] == '/');
}

/* A record, taken apart. */
struct unix_socket {
    struct unix_socket *next;
    struct unix_record record;
    struct unix_state_record state;
    struct unix_name name, other_name;
    char *file; /* "" when it has none; where it is now */
    struct reader options, messages;
    const uint8_t *waiting;
    /* While it is made: */
    int fd;                    /* -1: not yet */
    int other_end;             /* of a connection that leads nowhere, until all is in it; -1: none */
    struct unix_socket *other; /* of END_INSIDE and END_WAITING */
    char *place;               /* the file it has been bound to, wherever that is; NULL: none */
    int is_connected, is_pair;
};
/* unix_image.c. 0 or -EBADMSG, -ENOMEM. Of a record that has not all, only `record` is filled in. */
int unix_parse(const struct restoring *restoring, struct reader *reader, struct unix_socket *ret_socket);
int unix_next_message(struct reader *messages, struct unix_message_record *ret_message, struct unix_name *ret_sender,
                      const void **ret_bytes);
int unix_check(struct restoring *restoring, struct reader *reader);
void unix_show(struct reader *reader, FILE *out);

/* unix_make.c */
int unix_make(struct restoring *restoring, struct reader *reader);
int unix_open(struct restoring *restoring, struct reader *reader);

#endif
