/* SPDX-License-Identifier: MIT */
/* wide WHAT SECONDS: address spaces out of the ordinary.
 *   room    64 TB without reserve, of which few pages are used; 64 TB that nobody may touch
 *   many    30000 mappings
 *   limit   as little address space as there is (RLIMIT_AS), and no room for another page
 *   locked  mlockall for all to come
 *   clock   threads that read clocks all the time, most of it inside the vDSO
 *   unseen, pool, watched, key   a guard page that no fork copies, a huge page, userfaultfd, a protection key
 * It says NONE and ends with 0 where the machine has no such thing. */
#include "guest.h"

#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

enum { TOUCHED = 4096, MANY = 30000, CLOCK_THREADS = 3 };
#define ROOM (UINT64_C(1) << 46)
#define STEP (ROOM / TOUCHED)

static char *room, *closed;
static char *many[MANY];
static uint64_t checksum;

static char *map(uint64_t length, int protection, int flags)
{
    char *memory = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    if (memory == MAP_FAILED)
        bad("mmap of %llu bytes: %s", (unsigned long long)length, strerror(errno));
    return memory;
}

static void room_make(void)
{
    room = map(ROOM, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    closed = map(ROOM / 4, PROT_NONE, 0);
    for (uint64_t i = 0; i < TOUCHED; i++)
        *(uint64_t *)(room + i * STEP + i % 512 * 8) = mix(i);
}

static void room_check(uint64_t tick)
{
    uint64_t i = tick * 7 % TOUCHED;

    for (uint64_t word = 0; word < 512; word++)
        if (((uint64_t *)(room + i * STEP))[word] != (word == i % 512 ? mix(i) : 0))
            bad("room: page %llu", (unsigned long long)i);
    if (tick == 0 || tick % 50)
        return;
    for (i = 0; i < TOUCHED; i++)
        if (*(uint64_t *)(room + i * STEP + i % 512 * 8) != mix(i))
            bad("room: page %llu", (unsigned long long)i);
    if (*(uint64_t *)(room + STEP / 2))
        bad("room: an untouched page");
    madvise(room + STEP / 2, GUEST_PAGE, MADV_DONTNEED);
    if (mprotect(closed + tick * GUEST_PAGE, GUEST_PAGE, PROT_READ | PROT_WRITE) || closed[tick * GUEST_PAGE])
        bad("room: memory that was closed");
    closed[tick * GUEST_PAGE] = 1;
}

/* Every other page has other rights, so that no two become one mapping. */
static void many_make(void)
{
    char *all = map((uint64_t)MANY * GUEST_PAGE, PROT_READ | PROT_WRITE, 0);

    for (int i = 0; i < MANY; i++) {
        many[i] = all + (uint64_t)i * GUEST_PAGE;
        *(int *)many[i] = i * 3 + 1;
        if (i % 2 && mprotect(many[i], GUEST_PAGE, PROT_READ))
            bad("mprotect: %s", strerror(errno));
    }
}

static void many_check(uint64_t tick)
{
    (void)tick;
    for (int i = 0; i < MANY; i++)
        if (*(int *)many[i] != i * 3 + 1)
            bad("many: page %d", i);
}

/* Bytes of address space that are in use. */
static uint64_t used(void)
{
    char text[64];
    int descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t got = read(descriptor, text, sizeof text - 1);

    close(descriptor);
    text[got > 0 ? got : 0] = 0;
    return strtoull(text, NULL, 10) * GUEST_PAGE;
}

static void limit_make(void)
{
    struct rlimit limit;

    memset(map(64 << 20, PROT_READ | PROT_WRITE, 0), 1, 64 << 20);
    limit.rlim_cur = limit.rlim_max = used();
    if (setrlimit(RLIMIT_AS, &limit))
        bad("RLIMIT_AS: %s", strerror(errno));
}

static void limit_check(uint64_t tick)
{
    (void)tick;
    if (mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        bad("limit: there is room");
}

static void locked_make(void)
{
    if (mlockall(MCL_FUTURE))
        printf("NONE %s\n", strerror(errno));
    else
        checksum = 1;
}

static void locked_check(uint64_t tick)
{
    unsigned char there = 0;
    char *page = map(GUEST_PAGE, PROT_READ | PROT_WRITE, 0);

    (void)tick;
    if (checksum && (mincore(page, GUEST_PAGE, &there) || !(there & 1) || !madvise(page, GUEST_PAGE, MADV_DONTNEED)))
        bad("locked: a new page is not locked");
    munmap(page, GUEST_PAGE);
}

static volatile int clocks_end;
static uint64_t clocks_read;

static void *read_clocks(void *context)
{
    struct timespec before = { 0 }, now;
    uint64_t count = 0;

    (void)context;
    while (!clocks_end) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec < before.tv_nsec))
            bad("clock: it went back");
        before = now;
        count++;
    }
    __atomic_add_fetch(&clocks_read, count, __ATOMIC_SEQ_CST);
    return NULL;
}

static pthread_t clock_threads[CLOCK_THREADS];

static void clock_make(void)
{
    for (int i = 0; i < CLOCK_THREADS; i++)
        if (pthread_create(&clock_threads[i], NULL, read_clocks, NULL))
            bad("thread");
}

static void clock_check(uint64_t tick)
{
    struct timespec raw, now, resolution;

    (void)tick;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &raw);
    if (clock_gettime(CLOCK_REALTIME, &now) || now.tv_sec < raw.tv_sec || now.tv_sec > raw.tv_sec + 60)
        bad("clock: CLOCK_REALTIME");
    if (labs(time(NULL) - now.tv_sec) > 60 || clock_getres(CLOCK_MONOTONIC, &resolution) || resolution.tv_nsec != 1)
        bad("clock: time, clock_getres");
    if (sched_getcpu() < 0)
        bad("clock: sched_getcpu");
}

/* Where the program knows the vDSO to be, and what stands at its entries: "jumps" after a restart under another. */
static void clock_end(void)
{
    const char *vdso = (const char *)getauxval(AT_SYSINFO_EHDR);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)vdso;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(vdso + header->e_shoff);
    int jumps = 0, functions = 0;

    clocks_end = 1;
    for (int i = 0; i < CLOCK_THREADS; i++)
        pthread_join(clock_threads[i], NULL);
    for (int i = 0; i < header->e_shnum; i++)
        for (size_t at = 0; sections[i].sh_type == SHT_DYNSYM && at < sections[i].sh_size; at += sizeof(Elf64_Sym)) {
            const Elf64_Sym *symbol = (const Elf64_Sym *)(vdso + sections[i].sh_offset + at);
            if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC)
                continue;
            functions++;
            jumps += !memcmp(vdso + symbol->st_value, "\xff\x25\0\0\0\0", 6);
        }
    printf("%s\n", !jumps ? "own" : jumps == functions ? "jumps" : "some jumps");
    if (!clocks_read)
        bad("clock: nobody read it");
}

static char *special;
static int watcher;

static void __attribute__((noreturn)) none(void)
{
    printf("NONE %s\n", strerror(errno));
    exit(0);
}

static void unseen_make(void)
{
    special = map(4 * GUEST_PAGE, PROT_READ | PROT_WRITE, 0);
    if (madvise(special, 4 * GUEST_PAGE, MADV_DONTFORK) || madvise(special + GUEST_PAGE, GUEST_PAGE, 102 /* MADV_GUARD_INSTALL */))
        none();
    *special = 1;
}

static void pool_make(void)
{
    special = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (special == MAP_FAILED)
        none();
    *special = 1;
}

static void watched_make(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register wanted = { .mode = UFFDIO_REGISTER_MODE_MISSING };

    special = map(4 * GUEST_PAGE, PROT_READ | PROT_WRITE, 0);
    *special = 1;
    wanted.range.start = (uintptr_t)special;
    wanted.range.len = 4 * GUEST_PAGE;
    watcher = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
    if (watcher < 0 || ioctl(watcher, UFFDIO_API, &api) || ioctl(watcher, UFFDIO_REGISTER, &wanted))
        none();
}

static int special_key;

static void key_make(void)
{
    special = map(GUEST_PAGE, PROT_READ | PROT_WRITE, 0);
    *special = 1;
    special_key = pkey_alloc(0, 0);
    if (special_key < 0 || pkey_mprotect(special, GUEST_PAGE, PROT_READ | PROT_WRITE, special_key) ||
        pkey_set(special_key, PKEY_DISABLE_ACCESS))
        none();
}

/* The kernel, too, may not read what a key keeps away. */
static void key_check(uint64_t tick)
{
    (void)tick;
    if (!access(special, F_OK) || errno != EFAULT)
        bad("the key keeps nothing away");
    if (pkey_set(special_key, 0) || *special != 1 || pkey_set(special_key, PKEY_DISABLE_ACCESS))
        bad("special memory");
}

/* Keys with a gap among them; what this thread may do by each stays in its registers. */
static int keys[4];

static void keys_make(void)
{
    for (int i = 0; i < 4; i++)
        if ((keys[i] = pkey_alloc(0, i == 3 ? PKEY_DISABLE_WRITE : i == 1 ? PKEY_DISABLE_ACCESS : 0)) < 0)
            none();
    if (keys[0] > 0)
        pkey_free(keys[2]);
}

static void keys_check(uint64_t tick)
{
    int again = pkey_alloc(0, 0);

    (void)tick;
    if (keys[0] < 0 || keys[3] < 0)
        return;
    if (again != keys[2] || pkey_free(again))
        bad("key %d is free, should be %d", again, keys[2]);
    if (pkey_get(keys[0]) || pkey_get(keys[1]) != PKEY_DISABLE_ACCESS || pkey_get(keys[3]) != PKEY_DISABLE_WRITE)
        bad("rights by keys: %d %d %d", pkey_get(keys[0]), pkey_get(keys[1]), pkey_get(keys[3]));
}

/* Keys of its own around the one that the kernel takes for memory that may only be executed, and such memory under a key
 * of its own. */
static char *run_only[2];
static int run_keys[2];

static char *map_code(void)
{
    char *code = map(GUEST_PAGE, PROT_READ | PROT_WRITE, 0);

    memcpy(code, "\xb8\x2a\0\0\0\xc3", 6); /* mov $42, %eax; ret */
    return code;
}

static void execute_make(void)
{
    run_only[0] = map_code();
    run_only[1] = map_code();
    run_keys[0] = pkey_alloc(0, 0);
    if (run_keys[0] < 0)
        none();
    if (mprotect(run_only[0], GUEST_PAGE, PROT_EXEC))
        bad("mprotect: %m");
    run_keys[1] = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (run_keys[1] < 0 || pkey_mprotect(run_only[1], GUEST_PAGE, PROT_EXEC, run_keys[1]))
        bad("pkey_mprotect: %m");
}

static void execute_check(uint64_t tick)
{
    int again;

    (void)tick;
    if (run_keys[1] != run_keys[0] + 2)
        bad("the kernel took no key");
    for (int i = 0; i < 2; i++)
        if (((int (*)(void))(uintptr_t)run_only[i])() != 42 || !access(run_only[i], F_OK) || errno != EFAULT)
            bad("memory %d is not only for execution", i);
    if (!pkey_free(run_keys[0] + 1) || pkey_mprotect(run_only[0], GUEST_PAGE, PROT_EXEC, run_keys[0] + 1) != -1)
        bad("the kernel's key is the program's");
    again = pkey_alloc(0, 0);
    if (again != run_keys[1] + 1 || pkey_free(again))
        bad("key %d is free, should be %d", again, run_keys[1] + 1);
}

static void special_check(uint64_t tick)
{
    (void)tick;
    if (*special != 1)
        bad("special memory");
}

static void nothing(void)
{
}

static const struct {
    const char *name;
    void (*make)(void);
    void (*check)(uint64_t tick);
    void (*end)(void);
} sorts[] = {
    { "room", room_make, room_check, nothing },       { "many", many_make, many_check, nothing },
    { "limit", limit_make, limit_check, nothing },    { "locked", locked_make, locked_check, nothing },
    { "clock", clock_make, clock_check, clock_end },  { "unseen", unseen_make, special_check, nothing },
    { "pool", pool_make, special_check, nothing },    { "watched", watched_make, special_check, nothing },
    { "key", key_make, key_check, nothing },      { "keys", keys_make, keys_check, nothing },
    { "execute", execute_make, execute_check, nothing },
};

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 2, 5);

    for (size_t i = 0; i < sizeof sorts / sizeof *sorts; i++) {
        if (argc < 2 || strcmp(argv[1], sorts[i].name))
            continue;
        sorts[i].make();
        fflush(stdout);
        ready();
        for (long tick = 0; tick < ticks; tick++) {
            sorts[i].check((uint64_t)tick);
            tick_sleep();
        }
        sorts[i].end();
        printf("OK %s %ld\n", sorts[i].name, ticks);
        return 0;
    }
    bad("wide WHAT SECONDS");
}
