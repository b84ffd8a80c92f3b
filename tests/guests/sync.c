/* SPDX-License-Identifier: MIT */
/* sync SECONDS: every sort of lock and meeting point that threads of one process have, held and waited for all the time.
 * Each thing protects or counts something, which is compared at every turn and at the end. */
#include "guest.h"

#include <pthread.h>
#include <semaphore.h>

enum { PER_LOCK = 3, PARTIES = 4, SLOTS = 5, READERS = 3, HOLD_US = 3000 };

static volatile int stop;

static void pass_time(void)
{
    usleep(HOLD_US);
}

/* ---- mutexes: one holds it over a sleep, the others wait; two plain counters must stay equal ---- */

struct lock {
    const char *name;
    int type, protocol, robust;
    pthread_mutex_t mutex;
    volatile long first, second, turns[PER_LOCK];
};

static struct lock locks[] = {
    { .name = "normal", .type = PTHREAD_MUTEX_NORMAL },
    { .name = "recursive", .type = PTHREAD_MUTEX_RECURSIVE },
    { .name = "errorcheck", .type = PTHREAD_MUTEX_ERRORCHECK },
    { .name = "adaptive", .type = PTHREAD_MUTEX_ADAPTIVE_NP },
    { .name = "robust", .type = PTHREAD_MUTEX_NORMAL, .robust = 1 },
    { .name = "robust recursive", .type = PTHREAD_MUTEX_RECURSIVE, .robust = 1 },
    { .name = "priority inheritance", .type = PTHREAD_MUTEX_NORMAL, .protocol = PTHREAD_PRIO_INHERIT },
    { .name = "priority inheritance, errorcheck", .type = PTHREAD_MUTEX_ERRORCHECK, .protocol = PTHREAD_PRIO_INHERIT },
    { .name = "priority inheritance, recursive", .type = PTHREAD_MUTEX_RECURSIVE, .protocol = PTHREAD_PRIO_INHERIT },
    { .name = "priority inheritance, robust", .type = PTHREAD_MUTEX_NORMAL, .protocol = PTHREAD_PRIO_INHERIT, .robust = 1 },
};

enum { LOCKS = sizeof locks / sizeof locks[0] };

static void make_lock(struct lock *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    if (pthread_mutexattr_settype(&attributes, lock->type) || pthread_mutexattr_setprotocol(&attributes, lock->protocol) ||
        pthread_mutexattr_setrobust(&attributes, lock->robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED) ||
        pthread_mutex_init(&lock->mutex, &attributes))
        bad("%s mutex cannot be made", lock->name);
    pthread_mutexattr_destroy(&attributes);
}

static void while_held(struct lock *lock)
{
    if (lock->first != lock->second)
        bad("%s: two hold it", lock->name);
    lock->first++;
    if (lock->type == PTHREAD_MUTEX_RECURSIVE && (pthread_mutex_lock(&lock->mutex) || pthread_mutex_unlock(&lock->mutex)))
        bad("%s: its owner cannot take it again", lock->name);
    if (lock->type == PTHREAD_MUTEX_ERRORCHECK && pthread_mutex_lock(&lock->mutex) != EDEADLK)
        bad("%s: does not know its owner", lock->name);
    pass_time();
    lock->second++;
}

static void *use_lock(void *argument)
{
    struct lock *lock = &locks[(intptr_t)argument / PER_LOCK];
    int self = (int)((intptr_t)argument % PER_LOCK);

    while (!stop) {
        int error = pthread_mutex_lock(&lock->mutex);
        if (error)
            bad("%s: lock: %s", lock->name, strerror(error));
        while_held(lock);
        lock->turns[self]++;
        if ((error = pthread_mutex_unlock(&lock->mutex)))
            bad("%s: unlock: %s", lock->name, strerror(error));
        if (lock->type == PTHREAD_MUTEX_ERRORCHECK && pthread_mutex_unlock(&lock->mutex) != EPERM)
            bad("%s: whoever does not own it may unlock it", lock->name);
    }
    return NULL;
}

/* A robust mutex whose owners end without unlocking: the next is told, every time. */
static pthread_mutex_t orphaned;

static void *die_holding(void *argument)
{
    int error = pthread_mutex_lock(&orphaned);

    if (error == EOWNERDEAD)
        error = pthread_mutex_consistent(&orphaned);
    if (error)
        bad("orphaned mutex: %s", strerror(error));
    pass_time();
    return argument;
}

static void *make_orphans(void *argument)
{
    pthread_t owner;

    while (!stop) {
        if (pthread_create(&owner, NULL, die_holding, NULL))
            bad("pthread_create");
        pthread_join(owner, NULL);
        if (pthread_mutex_lock(&orphaned) != EOWNERDEAD || pthread_mutex_consistent(&orphaned) ||
            pthread_mutex_unlock(&orphaned))
            bad("robust mutex of a dead thread");
    }
    return argument;
}

/* ---- a queue with two condition variables ---- */

static pthread_mutex_t queue_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static long queue[SLOTS], produced, consumed, queue_sum;

static void *produce(void *argument)
{
    for (long next = 1; !stop; next++) {
        pthread_mutex_lock(&queue_mutex);
        while (produced - consumed == SLOTS)
            pthread_cond_wait(&not_full, &queue_mutex);
        queue[produced++ % SLOTS] = next;
        pthread_cond_signal(&not_empty);
        pthread_mutex_unlock(&queue_mutex);
        if (next % 3 == 0)
            pass_time();
    }
    pthread_mutex_lock(&queue_mutex);
    while (produced - consumed == SLOTS)
        pthread_cond_wait(&not_full, &queue_mutex);
    queue[produced++ % SLOTS] = 0;
    pthread_cond_signal(&not_empty);
    pthread_mutex_unlock(&queue_mutex);
    return argument;
}

static void *consume(void *argument)
{
    for (long expected = 1;; expected++) {
        long got;
        pthread_mutex_lock(&queue_mutex);
        while (produced == consumed)
            pthread_cond_wait(&not_empty, &queue_mutex);
        got = queue[consumed++ % SLOTS];
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&queue_mutex);
        if (!got)
            return argument;
        if (got != expected)
            bad("the queue gives %ld in place of %ld", got, expected);
        queue_sum += got;
        if (expected % 5 == 0)
            pass_time();
    }
}

/* ---- barrier, rwlock, semaphores, spin lock, a timed wait on a monotonic condition, once ---- */

static pthread_barrier_t barrier;
static volatile long rounds[PARTIES];
static volatile int last_round;

static void *meet(void *argument)
{
    intptr_t self = (intptr_t)argument;

    for (;;) {
        int got;
        rounds[self]++;
        if (self == 0 && stop)
            last_round = 1;
        got = pthread_barrier_wait(&barrier);
        if (got && got != PTHREAD_BARRIER_SERIAL_THREAD)
            bad("barrier: %s", strerror(got));
        for (int i = 0; i < PARTIES; i++)
            if (rounds[i] != rounds[self])
                bad("barrier: round %ld and %ld", rounds[i], rounds[self]);
        int is_last = last_round;
        pthread_barrier_wait(&barrier);
        if (is_last)
            return NULL;
        if (self == 1)
            pass_time();
    }
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static volatile long written[2];

static void *read_both(void *argument)
{
    while (!stop) {
        pthread_rwlock_rdlock(&rwlock);
        long first = written[0];
        pass_time();
        if (first != written[1])
            bad("rwlock: read while it was written");
        pthread_rwlock_unlock(&rwlock);
    }
    return argument;
}

static void *write_both(void *argument)
{
    while (!stop) {
        pthread_rwlock_wrlock(&rwlock);
        written[0]++;
        pass_time();
        written[1]++;
        pthread_rwlock_unlock(&rwlock);
        pass_time();
    }
    return argument;
}

static sem_t ping, pong;
static volatile long pings, pongs;

static void *play_ping(void *argument)
{
    while (!stop) {
        pings++;
        sem_post(&pong);
        while (sem_wait(&ping))
            bad("sem_wait: %s", strerror(errno));
        if (pings != pongs)
            bad("semaphores: %ld and %ld", pings, pongs);
    }
    pings = -1;
    sem_post(&pong);
    return argument;
}

static void *play_pong(void *argument)
{
    for (;;) {
        while (sem_wait(&pong))
            bad("sem_wait: %s", strerror(errno));
        if (pings < 0)
            return argument;
        pongs++;
        sem_post(&ping);
    }
}

static pthread_spinlock_t spin;
static volatile long spun[2];

static void *use_spin(void *argument)
{
    while (!stop) {
        pthread_spin_lock(&spin);
        if (spun[0]++ != spun[1]++)
            bad("spin lock: two hold it");
        pthread_spin_unlock(&spin);
        usleep(100);
    }
    return argument;
}

static void *(*const others[])(void *) = {
    make_orphans, produce, consume, write_both, play_ping, play_pong, use_spin, use_spin,
};

enum { OTHERS = sizeof others / sizeof others[0], THREADS = LOCKS * PER_LOCK + PARTIES + READERS + OTHERS };

static pthread_t threads[THREADS];
static int started;

static void start(void *(*run)(void *), intptr_t argument)
{
    if (pthread_create(&threads[started++], NULL, run, (void *)argument))
        bad("pthread_create: %s", strerror(errno));
}

static void start_all(void)
{
    struct lock dead = { .name = "orphaned", .type = PTHREAD_MUTEX_NORMAL, .robust = 1 };

    make_lock(&dead);
    orphaned = dead.mutex; /* nobody has used it yet */
    for (int i = 0; i < LOCKS; i++)
        make_lock(&locks[i]);
    pthread_barrier_init(&barrier, NULL, PARTIES);
    sem_init(&ping, 0, 0);
    sem_init(&pong, 0, 0);
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    for (intptr_t i = 0; i < LOCKS * PER_LOCK; i++)
        start(use_lock, i);
    for (intptr_t i = 0; i < PARTIES; i++)
        start(meet, i);
    for (int i = 0; i < READERS; i++)
        start(read_both, 0);
    for (int i = 0; i < OTHERS; i++)
        start(others[i], 0);
}

/* Everything goes on: also what nobody would miss. */
static long progress(long *ret_least)
{
    long sum = 0;

    *ret_least = rounds[0];
    for (int i = 0; i < LOCKS; i++) {
        if (locks[i].second < *ret_least)
            *ret_least = locks[i].second;
        sum += locks[i].second;
    }
    for (int i = 0; i < 2; i++)
        if (written[i] < *ret_least)
            *ret_least = written[i];
    if (pongs < *ret_least)
        *ret_least = pongs;
    return sum;
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 1, 5), least, before = 0;

    start_all();
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    for (progress(&before), least = before; least == before; progress(&least)) /* since now */
        tick_sleep();
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < LOCKS; i++)
        if (locks[i].first != locks[i].second || locks[i].first != locks[i].turns[0] + locks[i].turns[1] + locks[i].turns[2])
            bad("%s: %ld turns, %ld and %ld", locks[i].name, locks[i].turns[0] + locks[i].turns[1] + locks[i].turns[2],
                locks[i].first, locks[i].second);
    if (consumed != produced || written[0] != written[1])
        bad("queue or rwlock at the end");
    printf("OK sync\n");
    return 0;
}
