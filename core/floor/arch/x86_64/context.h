/* SPDX-License-Identifier: MIT */
/* Where a thread stands inside our own code, and how it gets back there in another life. */
#ifndef STASIS_CONTEXT_H
#define STASIS_CONTEXT_H

#include <stdint.h>

struct context { /* what a function must keep over a call (psABI 3.2.1), and the return address */
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
};

/* Returns 0; returns 1 again when context_jump goes there. Its caller must not have returned by then. */
int context_save(struct context *context) __attribute__((returns_twice));
__attribute__((noreturn)) void context_jump(const struct context *context);

/* For rt_sigaction's sa_restorer: calls rt_sigreturn. */
void context_signal_return(void);

#endif
