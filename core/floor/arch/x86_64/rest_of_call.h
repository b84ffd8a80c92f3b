/* SPDX-License-Identifier: MIT */
/* rest_of_call.S: where a frame whose read, write, sendto or recvfrom was cut short returns to, to do the rest. */
#ifndef STASIS_ARCH_REST_OF_CALL_H
#define STASIS_ARCH_REST_OF_CALL_H

#pragma GCC visibility push(hidden)
extern const char rest_of_read[], rest_of_write[], rest_of_sendto[], rest_of_recvfrom[];
#pragma GCC visibility pop

#endif
