/* SPDX-License-Identifier: MIT */
/* semtimedop(2) and semctl(2) for calls that must be entered in the books (preload/shim/ipc.c): it can be told from the place where a thread
 * stands whether the call has been made, and the entry not yet. */
#ifndef STASIS_ARCH_SEMAPHORE_CALL_H
#define STASIS_ARCH_SEMAPHORE_CALL_H

#include <sys/sem.h>
#include <time.h>

#pragma GCC visibility push(hidden)

/* -errno */
long semaphore_operate(int id, const struct sembuf *operations, unsigned long count, const struct timespec *time);
long semaphore_control(int id, int number, int command, unsigned long argument);

/* A thread that stands between these two with a result of 0 has made the call, and it is not in the books; or it is about to make it. */
extern const char semaphore_called[], semaphore_call_end[];

/* What is called then, with the arguments of the call. Must be there. */
long ipc_operated_well(int id, const struct sembuf *operations, unsigned long count);
long ipc_controlled_well(int id, int number, int command);

#pragma GCC visibility pop

#endif
