/* SPDX-License-Identifier: MIT */
/* ipc_tree SECONDS: two processes with anonymous memory, a memfd, a segment, semaphores and messages between them. Each counts in all the
 * memory, in turns; the child has a semaphore to undo. */
#include "guest.h"

#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

static long *counters[3];
static int set, queue, segment;

static void must_be(int right, const char *what)
{
    if (!right)
        bad("process %ld, %s: %s", (long)getpid(), what, strerror(errno));
}

static void operate(int number, int operation, int flags)
{
    struct sembuf one = { (unsigned short)number, (short)operation, (short)flags };
    must_be(!semop(set, &one, 1), "semop");
}

static void count(long expected)
{
    for (int i = 0; i < 3; i++) {
        if (*counters[i] != expected)
            bad("process %ld: counter %d is %ld instead of %ld", (long)getpid(), i, *counters[i], expected);
        ++*counters[i];
    }
}

/* Returns when the parent has sent a message of type 2. */
static int child(void)
{
    long end;

    operate(2, 1, SEM_UNDO);
    for (long turn = 0;; turn++) {
        operate(0, -1, 0);
        if (msgrcv(queue, &end, 0, 2, IPC_NOWAIT) == 0)
            return 0;
        count(2 * turn + 1);
        must_be(semctl(set, 2, GETVAL) == 1, "the value that is to be undone");
        operate(1, 1, 0);
    }
}

int main(int argc, char **arguments)
{
    long ticks = ticks_wanted(argc, arguments, 1, 1), end = 2;
    int fd = memfd_create("shared", 0), status;
    pid_t pid;

    must_be(fd >= 0 && !ftruncate(fd, GUEST_PAGE), "memfd_create");
    counters[0] = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    counters[1] = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    segment = shmget(IPC_PRIVATE, GUEST_PAGE, 0600);
    counters[2] = shmat(segment, NULL, 0);
    must_be(counters[0] != MAP_FAILED && counters[1] != MAP_FAILED && counters[2] != (void *)-1, "memory");
    shmctl(segment, IPC_RMID, NULL);
    set = semget(IPC_PRIVATE, 3, 0600);
    queue = msgget(IPC_PRIVATE, 0600);
    pid = fork();
    if (!pid)
        _exit(child());
    must_be(set >= 0 && queue >= 0 && pid > 0, "objects");
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        count(2 * tick);
        operate(0, 1, 0);
        operate(1, -1, 0);
        tick_sleep();
    }
    must_be(!msgsnd(queue, &end, 0, 0), "msgsnd");
    operate(0, 1, 0);
    must_be(waitpid(pid, &status, 0) == pid && !status, "the child's end");
    must_be(semctl(set, 2, GETVAL) == 0, "what the child has undone");
    must_be(!semctl(set, 0, IPC_RMID) && !msgctl(queue, IPC_RMID, NULL), "IPC_RMID");
    puts("OK ipc_tree");
    return 0;
}
