/* SPDX-License-Identifier: MIT */
/* The rest of a call that a stop has cut short: see resume.c, which sets the registers of the interrupted frame so that it
 * returns to one of these. In: all as behind the program's `syscall`, but rcx has the address of that, and r11 the bytes
 * done; both are lost in a system call anyway (psABI A.2.1). Out, behind the program's `syscall`: rax has the sum.
 * A frame is made below the red zone, so that the same may happen again inside. */
        .macro  REST_OF name, number
        .globl  rest_of_\name
        .hidden rest_of_\name
        .type   rest_of_\name, @function
rest_of_\name:
        .cfi_startproc simple
        .cfi_def_cfa rsp, 0
        .cfi_register rip, rcx
        lea     -160(%rsp), %rsp
        .cfi_def_cfa_offset 160
        mov     %rcx, (%rsp)
        .cfi_offset rip, -160
        mov     %rsi, 8(%rsp)
        mov     %rdx, 16(%rsp)
        mov     %r11, 24(%rsp)
        add     %r11, %rsi
        sub     %r11, %rdx
        mov     $\number, %eax          /* resume.c looks for it here */
        syscall
        xor     %ecx, %ecx
        test    %rax, %rax
        cmovs   %rcx, %rax              /* what is done counts, not that it could not go on */
        add     24(%rsp), %rax
        mov     16(%rsp), %rdx
        mov     8(%rsp), %rsi
        mov     (%rsp), %rcx
        .cfi_register rip, rcx
        lea     160(%rsp), %rsp
        .cfi_def_cfa_offset 0
        jmp     *%rcx
        .cfi_endproc
        .size   rest_of_\name, . - rest_of_\name
        .endm

        .text
        nop                             /* unwinders look one byte before a return address */
        REST_OF read, 0
        REST_OF write, 1
        REST_OF sendto, 44
        REST_OF recvfrom, 45

        .section .note.GNU-stack, "", @progbits
