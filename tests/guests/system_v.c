/* SPDX-License-Identifier: MIT */
/* system_v SECONDS: shared memory, semaphores and messages of System V, looked at and used at every tick. Numbers and
 * keys are not to change. Threads wait for a semaphore and for a message all the time. */
#include "guest.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

enum { SIZE = 5 * GUEST_PAGE + 9, SEMAPHORES = 7 };

union argument {
    int value;
    struct semid_ds *status;
    unsigned short *values;
};

static struct {
    int keyed, locked, removed, unattached, readable, partial;
    char *one, *two, *gone, *reading, *part;
} memory;
static int set, queue, answers, large_queue, full;
static key_t key;
static volatile int ending;

static void must_be(int right, const char *what)
{
    if (!right)
        bad("%s: %s", what, strerror(errno));
}

static int made(int id, const char *what)
{
    must_be(id >= 0, what);
    return id;
}

static char *attach(int id, const void *address, int flags)
{
    char *got = shmat(id, address, flags);

    must_be(got != (char *)-1, "shmat");
    return got;
}

static void begin_memory(void)
{
    memory.keyed = made(shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0640), "shmget");
    memory.one = attach(memory.keyed, NULL, 0);
    memory.two = attach(memory.keyed, NULL, 0);
    strcpy(memory.one + 3 * GUEST_PAGE, "keyed");
    memory.locked = shmctl(memory.keyed, SHM_LOCK, NULL) ? 0 : SHM_LOCKED; /* as far as RLIMIT_MEMLOCK allows */
    memory.removed = made(shmget(IPC_PRIVATE, GUEST_PAGE, IPC_CREAT | 0600), "shmget");
    memory.gone = attach(memory.removed, NULL, 0);
    strcpy(memory.gone, "removed");
    must_be(!shmctl(memory.removed, IPC_RMID, NULL), "IPC_RMID");
    memory.unattached = made(shmget(IPC_PRIVATE, 3 * GUEST_PAGE, IPC_CREAT | 0600), "shmget");
    memory.readable = made(shmget(IPC_PRIVATE, GUEST_PAGE, IPC_CREAT | 0600), "shmget");
    strcpy(attach(memory.readable, NULL, 0), "reading");
    memory.reading = attach(memory.readable, NULL, SHM_RDONLY);
    memory.partial = made(shmget(IPC_PRIVATE, 4 * GUEST_PAGE, IPC_CREAT | 0600), "shmget");
    memory.part =
        attach(memory.partial, mmap(NULL, 4 * GUEST_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SHM_REMAP);
    strcpy(memory.part, "lost here");
    strcpy(memory.part + 2 * GUEST_PAGE, "third page");
    must_be(!munmap(memory.part, GUEST_PAGE), "munmap"); /* but not in the segment */
}

static int operate(int number, int operation, int flags)
{
    struct sembuf one = { (unsigned short)number, (short)operation, (short)flags };
    return semop(set, &one, 1);
}

static int value_of(int number)
{
    return semctl(set, number, GETVAL);
}

static void begin_semaphores(void)
{
    set = made(semget(key, SEMAPHORES, IPC_CREAT | 0600), "semget");
    must_be(semctl(set, 1, SETVAL, (union argument){ .value = 32767 }) >= 0, "SETVAL");
    must_be(!operate(2, 5, 0) && !operate(2, -2, SEM_UNDO) && !operate(3, 4, SEM_UNDO) && !operate(4, 3, SEM_UNDO) &&
                !operate(4, -3, SEM_UNDO),
            "semop");
}

struct message {
    long type;
    char text[3000];
};

static void put(int id, long type, size_t length, long seed)
{
    struct message message = { .type = type };

    memset(message.text, (int)('a' + seed % 26), length);
    must_be(!msgsnd(id, &message, length, 0), "msgsnd");
}

/* The first of that type must be this. */
static void get(int id, long wanted, long type, size_t length, long seed)
{
    struct message message;
    ssize_t got = msgrcv(id, &message, sizeof message.text, wanted, 0);

    if (got != (ssize_t)length || message.type != type || (length && message.text[length - 1] != 'a' + seed % 26))
        bad("message %ld: type %ld, %zd bytes", wanted, message.type, got);
}

static void begin_messages(void)
{
    struct msqid_ds status;

    queue = made(msgget(key, IPC_CREAT | 0600), "msgget");
    answers = made(msgget(IPC_PRIVATE, 0600), "msgget");
    large_queue = made(msgget(IPC_PRIVATE, 0600), "msgget");
    must_be(!msgctl(large_queue, IPC_STAT, &status), "IPC_STAT");
    status.msg_qbytes = 5000;
    must_be(!msgctl(large_queue, IPC_SET, &status), "IPC_SET");
    put(large_queue, 7, 0, 0);
    put(large_queue, 3, 3000, 1);
    put(large_queue, 7, 10, 2);
    put(queue, 5, 5, 0);
    full = made(msgget(IPC_PRIVATE, 0600), "msgget");
    must_be(!msgctl(full, IPC_STAT, &status), "IPC_STAT");
    status.msg_qbytes = 450;
    must_be(!msgctl(full, IPC_SET, &status), "IPC_SET");
}

static void *wait_for_semaphore(void *none)
{
    while (!ending) {
        must_be(!operate(5, -1, 0), "a thread that waits for a semaphore");
        must_be(!operate(6, 1, 0), "a thread that waits for a semaphore");
    }
    return none;
}

static void *wait_for_message(void *none)
{
    struct message message;

    while (!ending) {
        must_be(msgrcv(queue, &message, sizeof message.text, 9, 0) == 9, "a thread that waits for a message");
        must_be(!msgsnd(answers, &message, 9, 0), "a thread that waits for a message");
    }
    return none;
}

/* Never early, and never EINTR. */
static void *wait_in_vain(void *none)
{
    struct timespec time = { 0, 60000000 };
    struct sembuf one = { 0, -1, 0 };

    while (!ending) {
        double begin = seconds_now();
        must_be(semtimedop(set, &one, 1, &time) == -1 && errno == EAGAIN && seconds_now() - begin >= 0.06,
                "a thread that waits in vain");
    }
    return none;
}

static void *wait_for_room(void *none)
{
    struct message message = { .type = 1 };

    while (!ending)
        must_be(!msgsnd(full, &message, 100, 0), "a thread that waits for room");
    return none;
}

static void look_at_memory(long tick)
{
    struct shmid_ds status;
    char *now;

    must_be(shmget(key, 0, 0) == memory.keyed && !shmctl(memory.keyed, IPC_STAT, &status), "a segment's key");
    must_be(status.shm_nattch == 2 && status.shm_segsz == SIZE && (status.shm_perm.mode & (0777 | SHM_LOCKED)) == (unsigned)(0640 | memory.locked),
            "a segment's status");
    must_be(!strcmp(memory.one + 3 * GUEST_PAGE, "keyed") && *(long *)memory.two == tick, "a segment");
    (*(long *)memory.one)++;
    must_be(!strcmp(memory.gone, "removed") && !shmctl(memory.removed, IPC_STAT, &status) && status.shm_nattch == 1 &&
                status.shm_perm.mode & SHM_DEST,
            "a segment that is removed");
    must_be(!strcmp(memory.reading, "reading") && mprotect(memory.reading, GUEST_PAGE, PROT_READ | PROT_WRITE) == -1,
            "a segment for reading");
    now = attach(memory.unattached, NULL, 0);
    must_be(*(long *)(now + GUEST_PAGE) == tick, "a segment that is not attached");
    (*(long *)(now + GUEST_PAGE))++;
    must_be(!shmdt(now), "shmdt");
    now = attach(memory.partial, NULL, SHM_RDONLY);
    must_be(!strcmp(now, "lost here") && !strcmp(now + 2 * GUEST_PAGE, "third page") &&
                !strcmp(memory.part + 2 * GUEST_PAGE, "third page"),
            "a segment in part");
    must_be(!shmdt(now), "shmdt");
}

static void look_at_semaphores(long tick)
{
    struct semid_ds status;

    must_be(semget(key, SEMAPHORES, 0) == set && !semctl(set, 0, IPC_STAT, (union argument){ .status = &status }) &&
                status.sem_otime > 0,
            "a set's key");
    must_be(value_of(0) == 0 && !semctl(set, 0, GETPID) && value_of(1) == 32767 && value_of(2) == 3 && value_of(4) == 0,
            "values");
    must_be(semctl(set, 2, GETPID) == getpid() && value_of(3) == 4 + (int)(tick & 1), "the last to change one");
    must_be(!operate(3, tick & 1 ? -1 : 1, SEM_UNDO), "semop");
    must_be(!operate(5, 1, 0) && !operate(6, -1, 0), "a waiting thread");
}

static void look_at_messages(long tick)
{
    struct msqid_ds status;
    struct message message;

    must_be(msgget(key, 0) == queue && !msgctl(large_queue, IPC_STAT, &status) && status.msg_qbytes == 5000 &&
                status.msg_qnum == 3,
            "a queue's status");
    get(large_queue, -5, 3, 3000, 1);
    get(large_queue, 0, 7, 0, 0);
    get(large_queue, 7, 7, 10, 2);
    put(large_queue, 7, 0, 0);
    put(large_queue, 3, 3000, 1);
    put(large_queue, 7, 10, 2);
    get(queue, 5, 5, 5, tick);
    put(queue, 5, 5, tick + 1);
    put(queue, 9, 9, tick);
    get(answers, 0, 9, 9, tick);
    for (int i = 0; i < 3; i++)
        must_be(msgrcv(full, &message, sizeof message.text, 0, 0) == 100, "a full queue");
}

/* The process leaves what it would have to undo when it ends: unshare(2). */
static void check_undo(void)
{
    must_be(value_of(2) == 3 && value_of(3) == 4 && !unshare(CLONE_SYSVSEM), "unshare");
    if (value_of(2) != 5 || value_of(3) != 0 || value_of(4) != 0)
        bad("undone: %d %d %d", value_of(2), value_of(3), value_of(4));
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 1);
    struct message rest;
    struct shmid_ds status;
    void *(*const waits[])(void *) = { wait_for_semaphore, wait_for_message, wait_in_vain, wait_for_room };
    pthread_t threads[4];

    key = 0x6e000000 + (int)getpid();
    begin_memory();
    begin_semaphores();
    begin_messages();
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, waits[i], NULL))
            bad("threads");
    ready();
    for (long tick = 0; tick < ticks || tick & 1 || is_held(); tick++) {
        look_at_memory(tick);
        look_at_semaphores(tick);
        look_at_messages(tick);
        tick_sleep();
    }
    ending = 1;
    must_be(!operate(5, 1, 0), "semop");
    put(queue, 9, 9, 0);
    while (pthread_tryjoin_np(threads[3], NULL))
        msgrcv(full, &rest, sizeof rest.text, 0, IPC_NOWAIT);
    for (int i = 0; i < 3; i++)
        if (pthread_join(threads[i], NULL))
            bad("join");
    check_undo();
    must_be(!shmdt(memory.one) && !shmdt(memory.two) && !shmdt(memory.gone) && !shmdt(memory.reading), "shmdt of what has come back");
    must_be(!shmctl(memory.keyed, IPC_STAT, &status) && !status.shm_nattch && shmctl(memory.removed, IPC_STAT, &status) == -1,
            "attachments at the end");
    must_be(!shmctl(memory.keyed, IPC_RMID, NULL) && !shmctl(memory.unattached, IPC_RMID, NULL) &&
                !shmctl(memory.readable, IPC_RMID, NULL) && !shmctl(memory.partial, IPC_RMID, NULL),
            "IPC_RMID");
    must_be(!msgctl(queue, IPC_RMID, NULL) && !msgctl(answers, IPC_RMID, NULL) &&
                !msgctl(large_queue, IPC_RMID, NULL) && !msgctl(full, IPC_RMID, NULL),
            "IPC_RMID");
    must_be(!semctl(set, 0, IPC_RMID), "IPC_RMID");
    puts("OK system_v");
    return 0;
}
