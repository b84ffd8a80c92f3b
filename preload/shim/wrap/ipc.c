/* SPDX-License-Identifier: MIT */
/* System V IPC: which objects the process uses, and which of them it has made; and what SEM_UNDO has added up. The books are in ipc.c. */
#include <errno.h>
#include <stdarg.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/shm.h>

#include "../../../core/floor/syscalls.h"
#include "wrap.h"

NEXT_OF(shmget);
NEXT_OF(semget);
NEXT_OF(msgget);

/* Whether an object is new is told by IPC_EXCL only; so that is tried first, and what is there already is asked for without making it. */
#define GET(sort, key, flags, call)                                             \
    ({                                                                          \
        const int wanted = flags, is_private = key == IPC_PRIVATE;              \
        int got, created;                                                       \
        do {                                                                    \
            flags = wanted | (wanted & IPC_CREAT ? IPC_EXCL : 0);               \
            created = is_private || wanted & IPC_CREAT;                         \
            got = call;                                                         \
            if (got >= 0 || errno != EEXIST || is_private || wanted & IPC_EXCL) \
                break;                                                          \
            flags = wanted & ~IPC_CREAT;                                        \
            created = 0;                                                        \
            got = call;                                                         \
        } while (got < 0 && errno == ENOENT && wanted & IPC_CREAT);             \
        if (got >= 0)                                                           \
            ipc_note(sort, got, created);                                       \
        got;                                                                    \
    })

EXPORTED int shmget(key_t key, size_t size, int flags)
{
    return GET(IPC_SORT_MEMORY, key, flags, NEXT(shmget)(key, size, flags));
}

EXPORTED int semget(key_t key, int count, int flags)
{
    return GET(IPC_SORT_SEMAPHORES, key, flags, NEXT(semget)(key, count, flags));
}

EXPORTED int msgget(key_t key, int flags)
{
    return GET(IPC_SORT_MESSAGES, key, flags, NEXT(msgget)(key, flags));
}

NEXT_OF(shmat);
NEXT_OF(msgsnd);
NEXT_OF(msgrcv);

EXPORTED void *shmat(int id, const void *address, int flags)
{
    ipc_note(IPC_SORT_MEMORY, id, 0);
    return NEXT(shmat)(id, address, flags);
}

EXPORTED int msgsnd(int id, const void *message, size_t length, int flags)
{
    ipc_note(IPC_SORT_MESSAGES, id, 0);
    return NEXT(msgsnd)(id, message, length, flags);
}

EXPORTED ssize_t msgrcv(int id, void *message, size_t length, long type, int flags)
{
    ipc_note(IPC_SORT_MESSAGES, id, 0);
    return NEXT(msgrcv)(id, message, length, type, flags);
}

static int result_of(long got)
{
    if (got < 0)
        errno = (int)-got;
    return got < 0 ? -1 : (int)got;
}

EXPORTED int semop(int id, struct sembuf *operations, size_t count)
{
    return result_of(ipc_operate(id, operations, count, NULL));
}

EXPORTED int semtimedop(int id, struct sembuf *operations, size_t count, const struct timespec *time)
{
    struct deadline deadline;
    long got;

    if (!time)
        return semop(id, operations, count);
    deadline_begin(&deadline, deadline_nanoseconds(time));
    got = ipc_operate(id, operations, count, time);
    deadline_end(&deadline);
    return result_of(got);
}

NEXT_OF(semctl);

EXPORTED int semctl(int id, int number, int command, ...)
{
    va_list arguments;
    unsigned long argument;

    va_start(arguments, command);
    argument = va_arg(arguments, unsigned long); /* a union, handed over like one */
    va_end(arguments);
    if (command == SETVAL || command == SETALL || command == IPC_RMID)
        return result_of(ipc_control(id, number, command, argument));
    return NEXT(semctl)(id, number, command, argument);
}

NEXT_OF(msgctl);

EXPORTED int msgctl(int id, int command, struct msqid_ds *status)
{
    int got = NEXT(msgctl)(id, command, status);

    if (!got && command == IPC_RMID)
        ipc_forget(IPC_SORT_MESSAGES, id);
    return got;
}
