/* SPDX-License-Identifier: MIT */
/* Groups that a socket has joined. */
#ifndef STASIS_MULTICAST_H
#define STASIS_MULTICAST_H

#include "inet.h"

/* Adds a record for each group that the socket has joined, and counts them. 0 or -errno. */
int multicast_save(int handle, struct buffer *to, uint32_t *ret_count);
int multicast_pass(struct reader *reader, uint32_t count);        /* over so many records; the reader's error */
int multicast_join(struct reader reader, uint32_t count, int fd); /* 0 or -errno */
void multicast_check(struct restoring *restoring, struct reader reader, uint32_t count, int number);

#endif
