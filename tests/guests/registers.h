/* SPDX-License-Identifier: MIT */
/* Values held in registers alone while a loop runs: whoever stops the thread there must bring them all back. x86-64. */
#ifndef GUEST_REGISTERS_H
#define GUEST_REGISTERS_H

#include "guest.h"

#include <stddef.h>

enum { SPIN = 4000000 };

static inline void pattern(uint64_t *words, int count, long id)
{
    for (int i = 0; i < count; i++)
        words[i] = mix((uint64_t)id * 1000 + (uint64_t)i + 1);
}

static inline void compare_words(const uint64_t *got, const uint64_t *wanted, int count, const char *what, long id)
{
    for (int i = 0; i < count; i++)
        if (got[i] != wanted[i])
            bad("thread %ld: %s, word %d", id, what, i);
}

/* General registers, the x87 stack and control word, MXCSR. */
static inline void check_scalar_registers(long id)
{
    uint64_t in[6], out[6], spin = SPIN;
    uint16_t old_control, control = (uint16_t)(0x037f & ~0x0f00) | 0x0600, seen_control; /* 53 bits, round down */
    uint32_t old_mxcsr, mxcsr = 0x1f80 | 0x4000, seen_mxcsr;                             /* round up */
    double one = 0, pi = 0;

    control |= (uint16_t)((id & 1) << 8);
    pattern(in, 6, id);
    __asm__ volatile("fnstcw %0\n\tstmxcsr %1" : "=m"(old_control), "=m"(old_mxcsr));
    __asm__ volatile("fldcw %[control]\n\t"
                     "ldmxcsr %[mxcsr]\n\t"
                     "fldpi\n\t"
                     "fld1\n\t"
                     "movq 0(%[in]), %%r10\n\t"
                     "movq 8(%[in]), %%r11\n\t"
                     "movq 16(%[in]), %%r12\n\t"
                     "movq 24(%[in]), %%r13\n\t"
                     "movq 32(%[in]), %%r14\n\t"
                     "movq 40(%[in]), %%r15\n\t"
                     "1: dec %[spin]\n\t"
                     "jnz 1b\n\t"
                     "movq %%r10, 0(%[out])\n\t"
                     "movq %%r11, 8(%[out])\n\t"
                     "movq %%r12, 16(%[out])\n\t"
                     "movq %%r13, 24(%[out])\n\t"
                     "movq %%r14, 32(%[out])\n\t"
                     "movq %%r15, 40(%[out])\n\t"
                     "fstpl %[one]\n\t"
                     "fstpl %[pi]\n\t"
                     "stmxcsr %[seen_mxcsr]\n\t"
                     "fnstcw %[seen_control]"
                     : [spin] "+r"(spin), [one] "=m"(one), [pi] "=m"(pi), [seen_mxcsr] "=m"(seen_mxcsr),
                       [seen_control] "=m"(seen_control)
                     : [in] "r"(in), [out] "r"(out), [control] "m"(control), [mxcsr] "m"(mxcsr)
                     : "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory", "st", "st(1)");
    __asm__ volatile("fldcw %0\n\tldmxcsr %1" : : "m"(old_control), "m"(old_mxcsr));
    compare_words(out, in, 6, "general registers", id);
    if (one != 1 || pi < 3.14159265358979 || pi > 3.1415926535898)
        bad("thread %ld: x87 stack", id);
    if (seen_control != control || (seen_mxcsr & 0xffc0) != mxcsr)
        bad("thread %ld: x87 control word %x or MXCSR %x", id, seen_control, seen_mxcsr);
}

__attribute__((target("avx"))) static inline void check_avx(long id)
{
    uint64_t in[12], out[12], spin = SPIN;

    pattern(in, 12, id + 1);
    __asm__ volatile("vmovdqu 0(%[in]), %%ymm0\n\t"
                     "vmovdqu 32(%[in]), %%ymm7\n\t"
                     "vmovdqu 64(%[in]), %%ymm15\n\t"
                     "1: dec %[spin]\n\t"
                     "jnz 1b\n\t"
                     "vmovdqu %%ymm0, 0(%[out])\n\t"
                     "vmovdqu %%ymm7, 32(%[out])\n\t"
                     "vmovdqu %%ymm15, 64(%[out])\n\t"
                     "vzeroupper"
                     : [spin] "+r"(spin)
                     : [in] "r"(in), [out] "r"(out)
                     : "xmm0", "xmm7", "xmm15", "cc", "memory");
    compare_words(out, in, 12, "AVX registers", id);
}

__attribute__((target("avx512f"))) static inline void check_avx512(long id)
{
    uint64_t in[25], out[25], spin = SPIN;

    pattern(in, 25, id + 2);
    in[24] &= 0xffff;
    __asm__ volatile("vmovdqu64 0(%[in]), %%zmm1\n\t"
                     "vmovdqu64 64(%[in]), %%zmm16\n\t"
                     "vmovdqu64 128(%[in]), %%zmm31\n\t"
                     "movq 192(%[in]), %%rax\n\t"
                     "kmovw %%eax, %%k3\n\t"
                     "1: dec %[spin]\n\t"
                     "jnz 1b\n\t"
                     "kmovw %%k3, %%eax\n\t"
                     "movq %%rax, 192(%[out])\n\t"
                     "vmovdqu64 %%zmm1, 0(%[out])\n\t"
                     "vmovdqu64 %%zmm16, 64(%[out])\n\t"
                     "vmovdqu64 %%zmm31, 128(%[out])\n\t"
                     "vzeroupper"
                     : [spin] "+r"(spin)
                     : [in] "r"(in), [out] "r"(out)
                     : "rax", "xmm1", "xmm16", "xmm31", "k3", "cc", "memory");
    compare_words(out, in, 25, "AVX-512 registers", id);
}

/* All that this machine has, some milliseconds each. */
static inline void check_registers(long id)
{
    check_scalar_registers(id);
    if (__builtin_cpu_supports("avx"))
        check_avx(id);
    if (__builtin_cpu_supports("avx512f"))
        check_avx512(id);
}

/* The kernel writes the running CPU into the thread's restartable-sequence area, if libc registered one. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static inline void check_rseq(long id)
{
    volatile uint32_t *area;
    unsigned cpu = 0;

    if (!&__rseq_size || __rseq_size == 0)
        return;
    area = (volatile uint32_t *)((char *)__builtin_thread_pointer() + __rseq_offset);
    for (int i = 0; i < 1000; i++) { /* a thread may move between the two looks */
        syscall(SYS_getcpu, &cpu, NULL, NULL);
        if (area[1] == cpu)
            return;
    }
    bad("thread %ld: restartable sequences say CPU %d, not %u", id, (int)area[1], cpu);
}

#endif
