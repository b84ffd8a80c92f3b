/* SPDX-License-Identifier: MIT */
/* The call, and with its arguments, which the kernel leaves as they are, straight on into the books when it went well. The
 * number stands before the `syscall`, as an interrupted call needs it (preload/shim/resume.c). */
#define CALL_SEMCTL     66
#define CALL_SEMTIMEDOP 220

        .text
        .globl  semaphore_operate, semaphore_control, semaphore_called, semaphore_call_end
        .hidden semaphore_operate, semaphore_control, semaphore_called, semaphore_call_end
        .hidden ipc_operated_well, ipc_controlled_well
        .type   semaphore_operate, @function
        .type   semaphore_control, @function

semaphore_control:
        .cfi_startproc
        mov     %rcx, %r10
        mov     $CALL_SEMCTL, %eax
        syscall
semaphore_called:
        test    %rax, %rax
        jz      ipc_controlled_well
        ret
        .cfi_endproc
        .size   semaphore_control, . - semaphore_control

semaphore_operate:
        .cfi_startproc
        mov     %rcx, %r10
        mov     $CALL_SEMTIMEDOP, %eax
        syscall
        test    %rax, %rax
        jz      ipc_operated_well
        ret
        .cfi_endproc
        .size   semaphore_operate, . - semaphore_operate
semaphore_call_end:

        .section .note.GNU-stack, "", @progbits
