/* SPDX-License-Identifier: MIT */
/* Children that share our memory, on a stack of their own; and who gets our orphans. Island: no libc. */
#include <linux/prctl.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

long stub_clone(uint8_t *stack, long flags, int32_t *place, void (*run)(void))
{
    register void (*function)(void) __asm__("r12") = run;
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    long result;

    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%%r12\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(stack + STUB_STACK_BYTES), "d"(place), "r"(r10), "r"(r8), "r"(function)
                     : "rcx", "r11", "memory");
    return result;
}

int stub_must_stay(const struct agent_page *page)
{
    int subreaper = 0;
    sys_prctl(PR_GET_CHILD_SUBREAPER, (uint64_t)&subreaper, 0, 0, 0);
    return subreaper || shim.pid == 1 || page->orphans_come_up;
}
