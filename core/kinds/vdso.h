/* SPDX-License-Identifier: MIT */
/* The vDSO (vdso(7)) of another kernel: a program holds addresses inside of the old one for ever. */
#ifndef STASIS_VDSO_H
#define STASIS_VDSO_H

#include "kind.h"

/* Patches in `code`, a copy of `old`, a vDSO's bytes (an image's: not trusted), the entries to lead to those of the same
 * name in `now`, which lies at `now_base` when they are called; a function that `now` (NULL: there is none) lacks becomes the system
 * call it stands for. 0; -EBADMSG when either is no vDSO; -ENOTSUP and *ret_name when a function has no counterpart:
 * it points into `old`. */
int vdso_redirect(uint8_t *code, const uint8_t *old, uint64_t old_length, const uint8_t *now,
                  uint64_t now_length, uint64_t now_base, const char **ret_name);

/* Saver: a thread whose place, or that of a signal handler it is in, is inside the vDSO: its TID in *ret_tid, else 0. */
int vdso_find_inside(const struct saving *saving, const struct mapping *vdso, uint32_t *ret_tid);

#endif
