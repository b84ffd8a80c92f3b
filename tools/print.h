/* SPDX-License-Identifier: MIT */
/* Numbers, moments and text from images, for people. */
#ifndef STASIS_PRINT_H
#define STASIS_PRINT_H

#include <stddef.h>
#include <stdint.h>

enum { SIZE_TEXT = 16, TIME_TEXT = 32 };

/* "0B", "1023B", "1.5K", "20G": powers of 1024. Returns text. */
const char *print_size(uint64_t bytes, char text[SIZE_TEXT]);

/* Local time, ISO 8601 to the second; with_zone: and its distance from UTC. Returns text. */
const char *print_time(uint64_t seconds, int with_zone, char text[TIME_TEXT]);

/* Copies a field of an image (NUL-padded, not to be trusted) with control characters, which a terminal would obey,
 * as '?'. Cut to fit to[size]. Returns to. */
const char *print_clean(char *to, size_t size, const char *field, size_t field_size);

#endif
