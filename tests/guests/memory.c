/* SPDX-License-Identifier: MIT */
/* memory SECONDS: every sort of private and anonymous memory, checked at every tick. */
#include "guest.h"

#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

enum { AREA_PAGES = 512, SPARSE_PAGES = 262144, SPARSE_STEP = 16384, WORDS = GUEST_PAGE / 8, STACK_BYTES = 6 << 20 };

struct area {
    const char *name;
    uint64_t *words;
    size_t pages;
    size_t step;          /* only each step-th page is used */
    uint32_t generation[AREA_PAGES];
    uint64_t seed;
};

static uint64_t in_data[4 * WORDS] = { 1, 2, 3 }; /* .data: a private mapping of the program's file */
static uint64_t in_bss[4 * WORDS];
static const uint64_t in_rodata[4] = { 11, 22, 33, 44 };
static sigjmp_buf fault_return;

static void *must_map(size_t length, int protection, int flags)
{
    void *memory = mmap(NULL, length, protection, flags, -1, 0);

    if (memory == MAP_FAILED)
        bad("mmap of %zu: %s", length, strerror(errno));
    return memory;
}

static uint64_t word_of(const struct area *area, size_t slot, size_t word)
{
    return mix(area->seed + slot * WORDS + word + ((uint64_t)area->generation[slot] << 40));
}

static void fill(struct area *area, size_t slot)
{
    uint64_t *page = area->words + slot * area->step * WORDS;

    area->generation[slot]++;
    for (size_t word = 0; word < WORDS; word++)
        page[word] = word_of(area, slot, word);
}

static void check(const struct area *area, size_t slot)
{
    const uint64_t *page = area->words + slot * area->step * WORDS;

    for (size_t word = 0; word < WORDS; word++)
        if (page[word] != word_of(area, slot, word))
            bad("%s: page %zu word %zu", area->name, slot, word);
}

static void make(struct area *area, const char *name, size_t pages, size_t step, int flags)
{
    area->name = name;
    area->pages = pages / step;
    area->step = step;
    area->seed = mix((uint64_t)(uintptr_t)name[0] + pages);
    area->words = must_map(pages * GUEST_PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS);
    for (size_t slot = 0; slot < area->pages; slot++)
        fill(area, slot);
}

static void exercise(struct area *area, uint64_t tick)
{
    for (int i = 0; i < 16; i++) {
        size_t slot = mix(tick * 16 + (uint64_t)i) % area->pages;
        check(area, slot);
        fill(area, slot);
    }
}

static void check_all(const struct area *area)
{
    for (size_t slot = 0; slot < area->pages; slot++)
        check(area, slot);
}

static void on_fault(int number)
{
    (void)number;
    siglongjmp(fault_return, 1);
}

/* 1 when reading (or writing) there is forbidden. */
static int forbidden(volatile char *address, int write)
{
    if (sigsetjmp(fault_return, 1))
        return 1;
    if (write)
        *address = 1;
    else
        (void)*address;
    return 0;
}

static void check_protection(char *guarded, char *readonly)
{
    if (!forbidden(guarded + GUEST_PAGE, 0) || !forbidden(guarded + GUEST_PAGE, 1))
        bad("guard page can be touched");
    if (guarded[0] != 'g' || guarded[2 * GUEST_PAGE] != 'G')
        bad("neighbours of the guard page");
    if (!forbidden(readonly, 1) || readonly[5] != 'r')
        bad("read-only page");
}

/* Grows the break by a page now and then and looks at all that was put there. */
static void check_break(uint64_t tick)
{
    static uint64_t *start;
    static size_t pages;
    uint64_t *now;

    if (!start)
        start = sbrk(0);
    if (tick % 8 == 0) {
        now = sbrk(GUEST_PAGE);
        if (now != start + pages * WORDS)
            bad("the break moved: page %zu", pages);
        for (size_t word = 0; word < WORDS; word++)
            now[word] = mix(pages * WORDS + word);
        pages++;
    }
    for (size_t word = 0; word < pages * WORDS; word++)
        if (start[word] != mix(word))
            bad("heap word %zu", word);
}

/* Goes `bytes` deep, so that the stack must grow after a restart as well. */
static int __attribute__((noinline)) descend(long bytes)
{
    volatile char here[4000];

    for (size_t i = 0; i < sizeof here; i += 500)
        here[i] = (char)bytes;
    if (bytes > 0 && descend(bytes - 4096) != 1)
        return 0;
    for (size_t i = 0; i < sizeof here; i += 500)
        if (here[i] != (char)bytes)
            return 0;
    return 1;
}

/* Dropped pages and grown mappings must read as zeros, not as something from an image. */
static void check_zeros(uint64_t tick)
{
    static char *dropped;
    char *grown;

    if (!dropped)
        dropped = must_map(4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    else
        for (int i = 0; i < 4; i++)
            if (dropped[i * GUEST_PAGE] != (char)((tick - 1) | 1))
                bad("page to be dropped, %d", i);
    if (madvise(dropped, 4 * GUEST_PAGE, MADV_DONTNEED))
        bad("MADV_DONTNEED: %s", strerror(errno));
    for (int i = 0; i < 4 * GUEST_PAGE; i++)
        if (dropped[i])
            bad("byte %d after MADV_DONTNEED", i);
    if (tick % 16 == 15) {
        grown = must_map(GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        grown = mremap(grown, GUEST_PAGE, 16 * GUEST_PAGE, MREMAP_MAYMOVE);
        if (grown == MAP_FAILED)
            bad("mremap: %s", strerror(errno));
        for (int i = 0; i < 16 * GUEST_PAGE; i++)
            if (grown[i])
                bad("byte %d of a grown mapping", i);
        munmap(grown, 16 * GUEST_PAGE);
    }
    for (int i = 0; i < 4; i++)
        dropped[i * GUEST_PAGE] = (char)(tick | 1);
}

/* Code made at run time: mov eax, 1234; ret */
static int (*make_code(void))(void)
{
    static const unsigned char code[] = { 0xb8, 0xd2, 0x04, 0, 0, 0xc3 };
    void *page = must_map(GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

    memcpy(page, code, sizeof code);
    if (mprotect(page, GUEST_PAGE, PROT_READ | PROT_EXEC))
        bad("mprotect: %s", strerror(errno));
    return (int (*)(void))(uintptr_t)page;
}

/* What the kernel keeps beside the memory itself: the program's file, its arguments, its auxiliary vector. */
static uint64_t identity(void)
{
    static const char *const names[] = { "/proc/self/exe", NULL };
    static const char *const files[] = { "/proc/self/cmdline", "/proc/self/comm", "/proc/self/environ", NULL };
    uint64_t hash = getauxval(AT_PHDR) ^ getauxval(AT_ENTRY);
    char text[8192];
    ssize_t length;

    for (int i = 0; names[i]; i++) {
        length = readlink(names[i], text, sizeof text);
        for (ssize_t k = 0; k < length; k++)
            hash = mix(hash + (unsigned char)text[k]);
    }
    for (int i = 0; files[i]; i++) {
        int descriptor = open(files[i], O_RDONLY | O_CLOEXEC);
        length = read(descriptor, text, sizeof text);
        if (descriptor < 0 || length <= 0)
            bad("%s: %s", files[i], strerror(errno));
        for (ssize_t k = 0; k < length; k++)
            hash = mix(hash + (unsigned char)text[k]);
        close(descriptor);
    }
    return hash;
}

static void check_static(uint64_t tick)
{
    for (size_t word = 3; word < 4 * WORDS; word++)
        if ((tick && in_data[word] != mix(word + tick - 1)) || (tick && in_bss[word] != mix(word * 3 + tick - 1)))
            bad("static data, word %zu", word);
    for (size_t word = 3; word < 4 * WORDS; word++) {
        in_data[word] = mix(word + tick);
        in_bss[word] = mix(word * 3 + tick);
    }
    if (in_data[0] != 1 || in_data[2] != 3 || in_rodata[3] != 44)
        bad("initialised data");
}

int main(int argc, char **argv)
{
    static struct area areas[6];
    long ticks = ticks_wanted(argc, argv, 1, 5);
    struct sigaction action = { .sa_handler = on_fault };
    char *guarded, *readonly;
    int (*code)(void) = make_code();
    uint64_t who;

    sigaction(SIGSEGV, &action, NULL);
    check_break(0);
    make(&areas[0], "private", AREA_PAGES, 1, MAP_PRIVATE);
    make(&areas[1], "shared", AREA_PAGES, 1, MAP_SHARED);
    make(&areas[2], "noreserve", SPARSE_PAGES, SPARSE_STEP, MAP_PRIVATE | MAP_NORESERVE);
    make(&areas[3], "dontfork", 64, 1, MAP_PRIVATE);
    make(&areas[4], "wipeonfork", 64, 1, MAP_PRIVATE);
    make(&areas[5], "populated", 64, 1, MAP_PRIVATE | MAP_POPULATE);
    if (madvise(areas[3].words, 64 * GUEST_PAGE, MADV_DONTFORK) ||
        madvise(areas[4].words, 64 * GUEST_PAGE, MADV_WIPEONFORK))
        bad("madvise: %s", strerror(errno));
    guarded = must_map(3 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guarded[0] = 'g';
    guarded[2 * GUEST_PAGE] = 'G';
    mprotect(guarded + GUEST_PAGE, GUEST_PAGE, PROT_NONE);
    readonly = must_map(GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    readonly[5] = 'r';
    mprotect(readonly, GUEST_PAGE, PROT_READ);
    who = identity();
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        for (int i = 0; i < 6; i++)
            exercise(&areas[i], (uint64_t)tick);
        check_break((uint64_t)tick);
        check_zeros((uint64_t)tick);
        check_static((uint64_t)tick);
        check_protection(guarded, readonly);
        if (!descend(STACK_BYTES / ticks * tick))
            bad("stack");
        if (code() != 1234)
            bad("code made at run time");
        if (identity() != who)
            bad("program file, arguments or environment of the process changed");
        tick_sleep();
    }
    for (int i = 0; i < 6; i++)
        check_all(&areas[i]);
    printf("OK memory %ld %016llx\n", ticks, (unsigned long long)areas[0].words[0]);
    return 0;
}
