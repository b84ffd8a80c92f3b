/* SPDX-License-Identifier: MIT */
/* Writes <directory>/small-v1.ckpt, byte for byte the same each time. The one in this room was written by the first
 * version; it stays, and test_image reads it for ever: a later version of the format gets a file of its own. */
#include <stdio.h>
#include <string.h>

#include "sample.h"

int main(int count, char **arguments)
{
    int error;

    if (count != 2) {
        fprintf(stderr, "usage: make_small <directory>\n");
        return 64;
    }
    error = sample_write(arguments[1], "small-v1.ckpt", 0x5a, 1, 0);
    if (error)
        fprintf(stderr, "make_small: %s\n", strerror(-error));
    return error ? 74 : 0;
}
