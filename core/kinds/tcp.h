/* SPDX-License-Identifier: MIT */
/* TCP: what tcp.c and its helpers share. */
#ifndef STASIS_TCP_H
#define STASIS_TCP_H

#include <linux/tcp.h>

#include "inet.h"

/* include/net/tcp_states.h of the kernel; tcp_info has them. */
enum {
    STATE_ESTABLISHED = 1,
    STATE_SYN_SENT,
    STATE_SYN_RECEIVED,
    STATE_FIN_WAIT1,
    STATE_FIN_WAIT2,
    STATE_TIME_WAIT,
    STATE_CLOSE,
    STATE_CLOSE_WAIT,
    STATE_LAST_ACK,
    STATE_LISTEN,
    STATE_CLOSING,
    STATE_NEW_SYN_RECEIVED,
};

void tcp_look(int fd, struct tcp_info *ret_info);
int tcp_has_sent_fin(uint32_t state);
int tcp_has_got_fin(uint32_t state);

/* tcp_flow.c: brings all that `from` has sent into the receive queue of `to`, where it can be peeked; and its FIN. What
 * `from` has in its own queue nobody can read without a right. Options are as before afterwards. `from` -1: the other
 * end has no descriptor; then its FIN is waited for. 0, or -ETIMEDOUT. */
int tcp_settle(int from, int to);
int tcp_unread(int fd); /* bytes */

/* tcp_network.c: runs `work` in a network of our own, where each address can be ours and no port is taken. What sockets
 * it makes stay there for ever, whoever holds them. Its result, or -errno. */
int tcp_network_run(struct restoring *restoring, int (*work)(void *context), void *context);
int tcp_network_add(const struct inet_address *address); /* in it: makes an address our own. 0 or -errno */
int tcp_network_try(void);                               /* can there be one? 0 or -errno */

#endif
