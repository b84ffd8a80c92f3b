/* SPDX-License-Identifier: MIT */
/* Small strings without libc, for the islands. All lengths are in bytes; every result ends in NUL. */
#ifndef STASIS_TEXT_H
#define STASIS_TEXT_H

#include <stddef.h>
#include <stdint.h>

size_t text_length(const char *text);
int text_equal(const char *a, const char *b);
/* 1 when text starts with prefix. */
int text_starts(const char *text, const char *prefix);

/* Where `part` first stands in text, or NULL. */
const char *text_find(const char *text, const char *part);
/* What is behind the last slash of a path. */
const char *text_file_name(const char *path);
/* Appends to to[size] at offset `at`, cuts at the end of `to`; returns the new offset (size - 1 at most). */
size_t text_add(char *to, size_t size, size_t at, const char *text);
size_t text_add_number(char *to, size_t size, size_t at, uint64_t number);
size_t text_add_hex(char *to, size_t size, size_t at, uint64_t number);
/* "WHAT, error N" and the end of a line; `error` as system calls give it, negative. */
size_t text_add_error(char *to, size_t size, size_t at, const char *what, long error);

/* Reads decimal digits; *text moves behind them. UINT64_MAX when the number is larger than that. */
uint64_t text_number(const char **text);

/* Writes 16 bytes as 8-4-4-4-12 hex digits, and back. text_to_uuid: 0, or -1 when it is not one. */
void text_from_uuid(const uint8_t uuid[16], char text[37]);
int text_to_uuid(const char *text, uint8_t uuid[16]);
/* Random bytes become a UUID by it: RFC 9562, version 4, variant 1. */
void text_mark_uuid(uint8_t uuid[16]);

/* The value of `name` in an environment block ("NAME=value" strings, NULL at the end), or NULL. */
const char *text_environment(char *const *environment, const char *name);

/* Takes the files of that name out of a list of paths as LD_PRELOAD is one, where it stands. */
void text_leave_out(char *paths, const char *name);

/* 1 when the comma-separated `list` (may be NULL) holds `word`. */
int text_list_holds(const char *list, const char *word);

#endif
