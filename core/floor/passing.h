/* SPDX-License-Identifier: MIT */
/* Descriptors on their way over a unix socket (unix(7)), in one message with one byte. Without libc. */
#ifndef STASIS_PASSING_H
#define STASIS_PASSING_H

#include <stddef.h>

/* AGENT_MAX_HANDLES at most. 0 or -errno. */
long passing_send(int socket, const int *descriptors, size_t count);
/* So many, close-on-exec; `flags` as recvmsg(2) has them. 0; -EPROTO: others came, or the other side is gone; -errno. */
long passing_receive(int socket, int *ret_descriptors, size_t count, int flags);

#endif
