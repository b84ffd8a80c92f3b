/* SPDX-License-Identifier: MIT */
/* The raw system call, x86-64 (syscall(2), psABI A.2.1). Returns the value, or -errno. Uses no libc. */
#ifndef STASIS_ARCH_SYSCALL_H
#define STASIS_ARCH_SYSCALL_H

static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#endif
