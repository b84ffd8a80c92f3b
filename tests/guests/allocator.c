/* SPDX-License-Identifier: MIT */
/* allocator SECONDS: brings its own malloc, which notices when it is entered again while a thread is inside, and is inside
 * most of the time. Blocks keep what was written to them. */
#include "guest.h"

#include <pthread.h>

enum { ARENA = 8 << 20, SIZE = 256, BLOCKS = ARENA / SIZE, THREADS = 4 };

static char arena[ARENA] __attribute__((aligned(SIZE)));
static uint32_t used[BLOCKS]; /* how many blocks begin here; 0: free, or inside of another */
static uint32_t next;
static int lock;
static __thread int inside;

static void enter(void)
{
    if (inside++)
        bad("the allocator is entered while it is inside");
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void leave(void)
{
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    inside--;
}

/* Blocks of SIZE each; larger ones are never given back. */
static void *take_one(void)
{
    for (uint32_t tries = 0; tries < BLOCKS; tries++) {
        uint32_t at = next++ % BLOCKS;
        if (!used[at]) {
            used[at] = 1;
            return arena + (size_t)at * SIZE;
        }
    }
    return NULL;
}

void *malloc(size_t size)
{
    static size_t large_at;
    static char large[16 << 20] __attribute__((aligned(64)));
    void *got = NULL;

    enter();
    if (size <= SIZE) {
        got = take_one();
    } else if (large_at + size + 64 < sizeof large) {
        got = large + large_at;
        large_at += (size + 63) / 64 * 64;
    }
    leave();
    return got;
}

void free(void *block)
{
    char *at = block;

    if (at < arena || at >= arena + ARENA)
        return;
    enter();
    used[(at - arena) / SIZE] = 0;
    leave();
}

void *calloc(size_t count, size_t size)
{
    void *got = malloc(count * size);

    __asm__("" : "+r"(got)); /* or the compiler makes a call of calloc of it */
    return got ? memset(got, 0, count * size) : NULL;
}

void *realloc(void *block, size_t size)
{
    void *got = malloc(size);

    if (got && block)
        memcpy(got, block, size < SIZE ? size : SIZE);
    free(block);
    return got;
}

static volatile int stop;

static void *use(void *self)
{
    uint64_t *kept[64] = { NULL };

    for (uint64_t turn = 0; !stop; turn++) {
        uint64_t i = mix(turn) % 64;
        if (kept[i] && (kept[i][0] != i || kept[i][31] != (uint64_t)(uintptr_t)self))
            bad("a block is not what it was");
        free(kept[i]);
        kept[i] = malloc(SIZE);
        kept[i][0] = i;
        kept[i][31] = (uint64_t)(uintptr_t)self;
    }
    for (int i = 0; i < 64; i++)
        free(kept[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 1, 5);
    pthread_t threads[THREADS];

    for (intptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, use, (void *)(i + 1)))
            bad("pthread_create");
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("OK allocator\n");
    return 0;
}
