/* SPDX-License-Identifier: MIT */
/* threads COUNT SECONDS: COUNT threads that each hold one sort of thing which belongs to a thread, and look whether it
 * is still what it was: registers, thread-local storage, mutexes, condition variables, signals, ids. */
#include "guest.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <sched.h>

#include "registers.h"

enum { MAX_THREADS = 1024 };

struct thread {
    pthread_t handle;
    long id;
    pid_t tid;
    sigset_t mask;
    volatile long turns;
    volatile sig_atomic_t signals;
    pthread_mutex_t recursive, checked, robust;
};

static struct thread threads[MAX_THREADS];
static __thread long own_id = -1;
static __thread uint64_t own_words[64] = { 7 };
static __thread struct thread *own;
static volatile int stop;

/* Ping-pong of main and the waiting threads. */
static pthread_mutex_t board = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t board_changed = PTHREAD_COND_INITIALIZER;
static long board_turn;

static void on_signal(int number)
{
    (void)number;
    if (own)
        own->signals++;
}

static void make_mutex(pthread_mutex_t *mutex, int type, int robust)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    if (robust)
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (pthread_mutex_init(mutex, &attributes))
        bad("mutex");
    pthread_mutexattr_destroy(&attributes);
}

static void lock_all(struct thread *self)
{
    make_mutex(&self->recursive, PTHREAD_MUTEX_RECURSIVE, 0);
    make_mutex(&self->checked, PTHREAD_MUTEX_ERRORCHECK, 0);
    make_mutex(&self->robust, PTHREAD_MUTEX_ERRORCHECK, 1);
    if (pthread_mutex_lock(&self->recursive) || pthread_mutex_lock(&self->checked) ||
        pthread_mutex_lock(&self->robust))
        bad("thread %ld: first locks", self->id);
}

/* The owner is compared with the id that libc has cached. */
static void check_locks(struct thread *self)
{
    if (pthread_mutex_lock(&self->recursive) || pthread_mutex_unlock(&self->recursive))
        bad("thread %ld: recursive mutex", self->id);
    if (pthread_mutex_lock(&self->checked) != EDEADLK || pthread_mutex_lock(&self->robust) != EDEADLK)
        bad("thread %ld: errorcheck mutex", self->id);
}

static void unlock_all(struct thread *self)
{
    if (pthread_mutex_unlock(&self->recursive) || pthread_mutex_unlock(&self->checked))
        bad("thread %ld: last unlocks", self->id);
    /* the robust one is kept: who comes next must learn that its owner died */
}

static void check_identity(struct thread *self)
{
    sigset_t mask;

    if (kernel_tid() != self->tid || gettid() != self->tid)
        bad("thread %ld: thread id", self->id);
    if (own_id != self->id || own_words[0] != 7 || own_words[63] != mix((uint64_t)self->id) || own != self)
        bad("thread %ld: thread-local storage", self->id);
    if (!pthread_equal(pthread_self(), self->handle))
        bad("thread %ld: pthread_self", self->id);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int number = 1; number < SIGRTMAX; number++)
        if (sigismember(&mask, number) != sigismember(&self->mask, number))
            bad("thread %ld: signal %d in its mask", self->id, number);
    check_rseq(self->id);
}

/* Each thread blocks other signals, SIGUSR1 never. */
static void own_mask(struct thread *self)
{
    static const int choice[] = { SIGUSR2, SIGHUP, SIGWINCH, SIGURG, SIGVTALRM, SIGPROF };

    sigemptyset(&self->mask);
    for (int i = 0; i < 6; i++)
        if (self->id >> i & 1)
            sigaddset(&self->mask, choice[i]);
    pthread_sigmask(SIG_SETMASK, &self->mask, NULL);
}

static void wait_for_board(struct thread *self, long *seen)
{
    pthread_mutex_lock(&board);
    while (board_turn == *seen && !stop)
        pthread_cond_wait(&board_changed, &board);
    *seen = board_turn;
    pthread_mutex_unlock(&board);
    (void)self;
}

static void *thread_main(void *argument)
{
    struct thread *self = argument;
    long seen = 0;

    own = self;
    own_id = self->id;
    own_words[63] = mix((uint64_t)self->id);
    self->handle = pthread_self();
    self->tid = kernel_tid();
    own_mask(self);
    lock_all(self);
    syscall(SYS_arch_prctl, ARCH_SET_GS, 0x10000UL + (unsigned long)self->id);
    for (self->turns = 1; !stop; self->turns++) {
        unsigned long gs = 0;
        switch (self->id % 4) {
        case 0: check_registers(self->id); break;
        case 1: wait_for_board(self, &seen); break;
        case 2: tick_sleep(); break;
        default: check_scalar_registers(self->id); tick_sleep();
        }
        check_locks(self);
        check_identity(self);
        syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
        if (gs != 0x10000UL + (unsigned long)self->id)
            bad("thread %ld: GS base", self->id);
    }
    unlock_all(self);
    return (void *)(uintptr_t)mix((uint64_t)self->id);
}

static void start_thread(long id)
{
    pthread_attr_t attributes;

    threads[id].id = id;
    threads[id].turns = 0;
    threads[id].signals = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    if (pthread_create(&threads[id].handle, &attributes, thread_main, &threads[id]))
        bad("pthread_create: %s", strerror(errno));
    pthread_attr_destroy(&attributes);
}

static void join_thread(long id)
{
    void *result;
    int error = pthread_join(threads[id].handle, &result);

    if (error || (uint64_t)(uintptr_t)result != mix((uint64_t)id))
        bad("thread %ld: join %s", id, strerror(error));
}

/* A thread that ends while it holds a robust mutex: the next owner is told. */
static void *die_with_lock(void *mutex)
{
    return pthread_mutex_lock(mutex) ? mutex : NULL;
}

static void check_new_thread(void)
{
    pthread_mutex_t mutex;
    pthread_t thread;
    void *result;

    make_mutex(&mutex, PTHREAD_MUTEX_NORMAL, 1);
    if (pthread_create(&thread, NULL, die_with_lock, &mutex) || pthread_join(thread, &result) || result)
        bad("a new thread");
    if (pthread_mutex_lock(&mutex) != EOWNERDEAD || pthread_mutex_consistent(&mutex) || pthread_mutex_unlock(&mutex))
        bad("robust mutex of a dead thread");
    pthread_mutex_destroy(&mutex);
}

static void signal_everybody(long count, long *sent)
{
    for (long id = 1; id < count; id++)
        if (pthread_kill(threads[id].handle, SIGUSR1))
            bad("pthread_kill of thread %ld", id);
    ++*sent;
    for (long id = 1; id < count; id++)
        for (int patience = 0; threads[id].signals < *sent; patience++) {
            if (patience > 6000)
                bad("thread %ld: %d of %ld signals", id, (int)threads[id].signals, *sent);
            tick_sleep();
        }
}

static void wait_until_all_run(long count)
{
    for (long id = 1; id < count; id++)
        while (!threads[id].turns)
            tick_sleep();
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 9, ticks = ticks_wanted(argc, argv, 2, 5), sent = 0;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    pid_t pid = getpid();

    if (count < 1 || count > MAX_THREADS)
        return 2;
    sigaction(SIGUSR1, &action, NULL);
    own_id = 0;
    for (long id = 1; id < count; id++)
        start_thread(id);
    wait_until_all_run(count);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        check_registers(0);
        if (getpid() != pid || kernel_tid() != pid || own_id != 0)
            bad("main thread: process id, thread id or thread-local storage");
        pthread_mutex_lock(&board);
        board_turn++;
        pthread_cond_broadcast(&board_changed);
        pthread_mutex_unlock(&board);
        if (tick % 25 == 0) {
            signal_everybody(count, &sent);
            check_new_thread();
        }
    }
    stop = 1;
    pthread_mutex_lock(&board);
    pthread_cond_broadcast(&board_changed);
    pthread_mutex_unlock(&board);
    for (long id = 1; id < count; id++) {
        join_thread(id);
        if (pthread_mutex_lock(&threads[id].robust) != EOWNERDEAD)
            bad("thread %ld: its robust mutex does not know that it died", id);
    }
    stop = 0; /* a second crew in the same stacks */
    for (long id = 1; id < count; id++)
        start_thread(id);
    wait_until_all_run(count);
    stop = 1;
    pthread_mutex_lock(&board);
    pthread_cond_broadcast(&board_changed);
    pthread_mutex_unlock(&board);
    for (long id = 1; id < count; id++)
        join_thread(id);
    printf("OK threads %ld\n", count);
    return 0;
}
