/* SPDX-License-Identifier: MIT */
/* Machine code that leads a call elsewhere, and where a signal frame keeps its place in the code. */
#ifndef STASIS_REDIRECT_H
#define STASIS_REDIRECT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ucontext.h>

enum {
    REDIRECT_STUB_BYTES = 20, /* at most */
    /* from the ucontext to the instruction pointer; and from the address of the signal's restorer on the stack, which
     * stands before the ucontext (arch/x86/include/asm/sigframe.h of the kernel) */
    FRAME_PLACE = offsetof(ucontext_t, uc_mcontext.gregs[REG_RIP]),
    FRAME_CONTEXT = 8,
};

/* jmp *0(%rip), and the address behind it: no register is used. */
static inline void redirect_jump(uint8_t *code, uint64_t to)
{
    static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 };

    memcpy(code, jump, sizeof jump);
    memcpy(code + sizeof jump, &to, sizeof to);
}

/* mov $number, %eax; syscall; ret: arguments of a function and of a system call differ in the fourth only. */
static inline size_t redirect_call(uint8_t *code, int32_t number)
{
    const uint8_t after[] = { 0x0f, 0x05, 0xc3 };

    code[0] = 0xb8;
    memcpy(code + 1, &number, sizeof number);
    memcpy(code + 5, after, sizeof after);
    return 5 + sizeof after;
}

/* mov $value, %eax; cltq; ret */
static inline void redirect_value(uint8_t *code, int32_t value)
{
    const uint8_t after[] = { 0x48, 0x98, 0xc3 };

    code[0] = 0xb8;
    memcpy(code + 1, &value, sizeof value);
    memcpy(code + 5, after, sizeof after);
}

/* The same call, unless the fifth argument is -1: then the value. cmp $-1, %r8; je to the second part */
static inline void redirect_call_unless(uint8_t *code, int32_t number, int32_t value)
{
    const uint8_t test[] = { 0x49, 0x83, 0xf8, 0xff, 0x74, 8 };

    memcpy(code, test, sizeof test);
    redirect_value(code + sizeof test + redirect_call(code + sizeof test, number), value);
}

#endif
