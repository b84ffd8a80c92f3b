/* SPDX-License-Identifier: MIT */
#include "checksum.h"

#include <errno.h>
#include <xxhash.h>

uint64_t checksum_of(const void *bytes, size_t length)
{
    return XXH3_64bits(bytes, length);
}

int checksum_parts(const struct iovec *parts, size_t count, uint64_t *ret)
{
    if (count == 1) {
        *ret = checksum_of(parts[0].iov_base, parts[0].iov_len);
        return 0;
    }
    /* Not on the stack: the layout of the state is no part of the shared library's interface. */
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return -ENOMEM;
    XXH3_64bits_reset(state);
    for (size_t i = 0; i < count; i++)
        XXH3_64bits_update(state, parts[i].iov_base, parts[i].iov_len);
    *ret = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return 0;
}
