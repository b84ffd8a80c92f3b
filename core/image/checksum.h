/* SPDX-License-Identifier: MIT */
/* XXH3-64 (libxxhash), the checksum of everything in an image. */
#ifndef STASIS_CHECKSUM_H
#define STASIS_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

uint64_t checksum_of(const void *bytes, size_t length);

/* Of all the parts, as if they stood one behind the other. 0 or -ENOMEM. */
int checksum_parts(const struct iovec *parts, size_t count, uint64_t *ret);

#endif
