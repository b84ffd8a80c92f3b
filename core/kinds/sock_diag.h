/* SPDX-License-Identifier: MIT */
/* What the kernel tells of sockets to everybody: sock_diag(7). */
#ifndef STASIS_SOCK_DIAG_H
#define STASIS_SOCK_DIAG_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>

/* Sends a request for all sockets (NLM_F_DUMP), a struct that begins with a family (unix_diag_req, inet_diag_req_v2),
 * and hands each answer to `each`, which returns 0 or -errno. -ENOENT: this kernel cannot tell of that family. */
int sock_diag_dump(const void *request, size_t length, int (*each)(void *context, const struct nlmsghdr *message),
                   void *context);

/* The attribute of that type behind the `fixed` bytes of an answer: its bytes, *ret_length of them; NULL: there is
 * none. */
const void *sock_diag_attribute(const struct nlmsghdr *message, size_t fixed, unsigned short type, size_t *ret_length);

#endif
