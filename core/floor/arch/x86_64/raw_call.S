/* SPDX-License-Identifier: MIT */
/* syscall(2) as libc has it, but that the number is kept in the word below the stack pointer (the red zone, psABI 3.2.2,
 * which signal frames leave alone): nothing else has it when the call is interrupted. Calls in raw_call_timed go by
 * way of raw_call_with_time; for all others there is no frame, so that a child which clone() gives another stack
 * returns as it would from libc's. The seventh argument's word may be the caller's own: it is read, never written. */
#include "raw_call.h"

        .text
        .globl  syscall
        .type   syscall, @function
syscall:
        .cfi_startproc
        mov     raw_call_other(%rip), %rax
        test    %rax, %rax
        jnz     2f
        cmp     $RAW_CALL_TIMED - 1, %rdi
        ja      raw_call
        lea     raw_call_timed(%rip), %rax
        cmpb    $0, (%rax, %rdi)
        je      raw_call
        push    8(%rsp)
        .cfi_adjust_cfa_offset 8
        call    raw_call_with_time
        pop     %rcx
        .cfi_adjust_cfa_offset -8
        ret
2:      jmp     *%rax
        .cfi_endproc
        .size   syscall, . - syscall

        .globl  raw_call
        .hidden raw_call
        .globl  raw_call_end
        .hidden raw_call_end
        .hidden raw_call_with_time
        .hidden raw_call_timed
        .hidden raw_call_other
        .type   raw_call, @function
raw_call:
        .cfi_startproc
        mov     %rdi, -8(%rsp)
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        mov     %r8, %r10
        mov     %r9, %r8
        mov     8(%rsp), %r9
        syscall
raw_call_end:
        cmp     $-4095, %rax
        jae     1f
        ret
1:      neg     %eax
        push    %rax
        .cfi_adjust_cfa_offset 8
        call    __errno_location@PLT
        pop     %rcx
        .cfi_adjust_cfa_offset -8
        mov     %ecx, (%rax)
        mov     $-1, %rax
        ret
        .cfi_endproc
        .size   raw_call, . - raw_call

        .section .note.GNU-stack, "", @progbits
