/* SPDX-License-Identifier: MIT */
        .text
        .globl  context_save
        .hidden context_save
        .type   context_save, @function
context_save:
        mov     %rbx, 0(%rdi)
        mov     %rbp, 8(%rdi)
        mov     %r12, 16(%rdi)
        mov     %r13, 24(%rdi)
        mov     %r14, 32(%rdi)
        mov     %r15, 40(%rdi)
        lea     8(%rsp), %rax           /* as it is after our return */
        mov     %rax, 48(%rdi)
        mov     (%rsp), %rax
        mov     %rax, 56(%rdi)
        xor     %eax, %eax
        ret
        .size   context_save, . - context_save

        .globl  context_jump
        .hidden context_jump
        .type   context_jump, @function
context_jump:
        mov     0(%rdi), %rbx
        mov     8(%rdi), %rbp
        mov     16(%rdi), %r12
        mov     24(%rdi), %r13
        mov     32(%rdi), %r14
        mov     40(%rdi), %r15
        mov     48(%rdi), %rsp
        mov     $1, %eax
        cld
        jmp     *56(%rdi)
        .size   context_jump, . - context_jump

        .globl  context_signal_return
        .hidden context_signal_return
        .type   context_signal_return, @function
        nop                             /* unwinders look one byte before a frame's return address */
context_signal_return:
        mov     $15, %rax               /* the exact bytes that gdb and libunwind know */
        syscall
        .size   context_signal_return, . - context_signal_return

        .section .note.GNU-stack, "", @progbits
