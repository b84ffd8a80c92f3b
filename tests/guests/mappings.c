/* SPDX-License-Identifier: MIT */
/* mappings SECONDS [SORT...]: mappings of many sorts (all of them, or those named), each checked at every tick for its
 * content, its rights and how it behaves. What this machine does not have is left out. */
#include "guest.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum {
    PAGES = 16,
    ADVICE_GUARD_INSTALL = 102,
    ADVICE_GUARD_REMOVE = 103,
    ADVICE_FREE = 8,
    ADVICE_COLD = 20,
    ADVICE_PAGEOUT = 21,
    CALL_MSEAL = 462,
    KIND_DROPPABLE = 8,
};

static sigjmp_buf fault_return;
static volatile sig_atomic_t fault_signal, fault_expected;
static const char *sort_name = "";

static void on_fault(int number)
{
    if (!fault_expected)
        bad("%s: signal %d", sort_name, number);
    fault_expected = 0;
    fault_signal = number;
    siglongjmp(fault_return, 1);
}

/* The signal that reading (or writing) there raises; 0: none. */
static int touch(volatile char *address, int write)
{
    fault_signal = 0;
    if (sigsetjmp(fault_return, 1))
        return fault_signal;
    fault_expected = 1;
    if (write)
        *address = *address;
    else
        (void)*address;
    fault_expected = 0;
    return 0;
}

static void must(int good, const char *what)
{
    if (!good)
        bad("%s: %s (%s)", sort_name, what, strerror(errno));
}

static char *map(size_t pages, int protection, int flags)
{
    char *memory = mmap(NULL, pages * GUEST_PAGE, protection, flags | MAP_ANONYMOUS, -1, 0);

    must(memory != MAP_FAILED, "mmap");
    return memory;
}

static void fill(char *memory, size_t pages, uint64_t seed)
{
    uint64_t *words = (uint64_t *)memory;

    for (size_t i = 0; i < pages * GUEST_PAGE / 8; i++)
        words[i] = mix(seed + i);
}

static void check(const char *memory, size_t pages, uint64_t seed, const char *what)
{
    const uint64_t *words = (const uint64_t *)memory;

    for (size_t i = 0; i < pages * GUEST_PAGE / 8; i++)
        if (words[i] != mix(seed + i))
            bad("%s: %s: word %zu of page %zu", sort_name, what, i % 512, i / 512);
}

static void check_zero(const char *memory, size_t bytes, const char *what)
{
    for (size_t i = 0; i < bytes; i++)
        if (memory[i])
            bad("%s: %s: byte %zu is not zero", sort_name, what, i);
}

/* 1 when the mapping at `address` has this word among its VmFlags. */
static int has_flag(const void *address, const char *flag)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[1024], wanted[8];
    unsigned long start, end;
    int inside = 0, found = 0;

    must(smaps != NULL, "smaps");
    snprintf(wanted, sizeof wanted, " %s ", flag);
    while (fgets(line, sizeof line, smaps)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = (unsigned long)address >= start && (unsigned long)address < end;
        else if (inside && !strncmp(line, "VmFlags:", 8))
            found = strstr(line, wanted) != NULL;
    }
    fclose(smaps);
    return found;
}

/* "rwxp" of the mapping at `address`, and its name, into rights[5] and name[256]. */
static void look_up(const void *address, char *rights, char *name)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[1024];
    unsigned long start, end;

    must(maps != NULL, "maps");
    rights[0] = name[0] = 0;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && (unsigned long)address >= start &&
            (unsigned long)address < end) {
            sscanf(line, "%*s %*s %*s %*s %*s %255[^\n]", name);
            fclose(maps);
            return;
        }
    fclose(maps);
    bad("%s: nothing is mapped at %p", sort_name, address);
}

static void check_rights(const void *address, const char *wanted)
{
    char rights[5], name[256];

    look_up(address, rights, name);
    if (strcmp(rights, wanted))
        bad("%s: rights are %s and were %s", sort_name, rights, wanted);
}

/* ---- private mappings of a file: page 0 clean, page 1 changed, 2 half behind the end, 3 and 4 wholly ---- */

static char file_name[] = "mapped-XXXXXX";
static char *file_memory, *file_reader;

static int file_make(void)
{
    static char bytes[5 * GUEST_PAGE / 2];
    int descriptor = mkstemp(file_name);

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)mix(i);
    must(descriptor >= 0 && write(descriptor, bytes, sizeof bytes) == sizeof bytes, file_name);
    file_memory = mmap(NULL, 5 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
    file_reader = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, descriptor, 0);
    must(file_memory != MAP_FAILED && file_reader != MAP_FAILED, "mmap of a file");
    close(descriptor);
    fill(file_memory + GUEST_PAGE, 1, 0);
    return 1;
}

static void file_check(uint64_t tick)
{
    for (int i = 0; i < GUEST_PAGE; i++)
        must(file_memory[i] == (char)mix((uint64_t)i) && file_reader[i] == (char)mix((uint64_t)i), "clean page");
    check(file_memory + GUEST_PAGE, 1, tick, "changed page");
    fill(file_memory + GUEST_PAGE, 1, tick + 1);
    for (int i = 2 * GUEST_PAGE; i < 5 * GUEST_PAGE / 2; i++)
        must(file_memory[i] == (char)mix((uint64_t)i), "last page");
    check_zero(file_memory + 5 * GUEST_PAGE / 2, GUEST_PAGE / 2, "behind the end");
    must(touch(file_memory + 3 * GUEST_PAGE, 0) == SIGBUS && touch(file_memory + 4 * GUEST_PAGE, 1) == SIGBUS,
         "no SIGBUS behind the end");
    must(touch(file_reader, 1) == SIGSEGV, "a read-only mapping can be written");
    check_rights(file_reader, "r--s");
}

/* It was opened for writing, so it may become writable; and is not while a checkpoint could see it. */
static void file_end(void)
{
    must(!mprotect(file_reader, GUEST_PAGE, PROT_READ | PROT_WRITE), "may not become writable any more");
    unlink(file_name);
}

/* ---- memory that nobody may touch, with content ---- */

static char *hidden;

static int hidden_make(void)
{
    hidden = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(hidden, PAGES, 7);
    return !mprotect(hidden, PAGES * GUEST_PAGE, PROT_NONE);
}

static void hidden_check(uint64_t tick)
{
    must(touch(hidden, 0) == SIGSEGV, "can be read");
    check_rights(hidden, "---p");
    must(!mprotect(hidden, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE), "mprotect");
    check(hidden, PAGES, 7 + tick, "content");
    fill(hidden, PAGES, 8 + tick);
    must(!mprotect(hidden, PAGES * GUEST_PAGE, PROT_NONE), "mprotect");
}

/* ---- lightweight guard pages ---- */

static char *guarded, *guarded_empty, *guarded_shared;

static int guard_make(void)
{
    guarded = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    guarded_empty = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    guarded_shared = map(PAGES, PROT_READ | PROT_WRITE, MAP_SHARED);
    fill(guarded, PAGES, 5);
    if (madvise(guarded + 2 * GUEST_PAGE, GUEST_PAGE, ADVICE_GUARD_INSTALL))
        return 0;
    must(!madvise(guarded + 8 * GUEST_PAGE, 3 * GUEST_PAGE, ADVICE_GUARD_INSTALL) &&
             !madvise(guarded_empty, PAGES * GUEST_PAGE, ADVICE_GUARD_INSTALL),
         "MADV_GUARD_INSTALL");
    if (madvise(guarded_shared + GUEST_PAGE, GUEST_PAGE, ADVICE_GUARD_INSTALL)) /* 6.15 */
        guarded_shared = NULL;
    return 1;
}

static int is_guard(int page)
{
    return page == 2 || (page >= 8 && page < 11);
}

static void guard_check(uint64_t tick)
{
    (void)tick;
    for (int page = 0; page < PAGES; page++) {
        must((touch(guarded + page * GUEST_PAGE, 0) == SIGSEGV) == is_guard(page), "guard page");
        if (!is_guard(page))
            for (int i = 0; i < 512; i++)
                must(((uint64_t *)guarded)[page * 512 + i] == mix(5 + (uint64_t)page * 512 + (uint64_t)i), "neighbour");
        must(touch(guarded_empty + page * GUEST_PAGE, 1) == SIGSEGV, "guard page of an empty mapping");
    }
    must(!guarded_shared || touch(guarded_shared + GUEST_PAGE, 0) == SIGSEGV, "guard page of shared memory");
    must(!madvise(guarded + 9 * GUEST_PAGE, GUEST_PAGE, ADVICE_GUARD_REMOVE), "MADV_GUARD_REMOVE");
    check_zero(guarded + 9 * GUEST_PAGE, GUEST_PAGE, "where a guard page was");
    must(!madvise(guarded + 9 * GUEST_PAGE, GUEST_PAGE, ADVICE_GUARD_INSTALL), "MADV_GUARD_INSTALL");
    check_rights(guarded, "rw-p");
}

/* ---- code made at run time: one page after W^X, one with all rights, one that may only be executed, and our own ---- */

static unsigned char *code_changing, *code_open, *code_hidden;

static void write_code(unsigned char *code, uint32_t value)
{
    code[0] = 0xb8; /* mov eax, value; ret */
    memcpy(code + 1, &value, 4);
    code[5] = 0xc3;
}

static uint32_t call(const unsigned char *code)
{
    return ((uint32_t(*)(void))(uintptr_t)code)();
}

static __attribute__((noinline, aligned(4096))) uint32_t own_code(void)
{
    uint32_t value;

    __asm__ volatile("movl $0x11223344, %0" : "=r"(value));
    return value;
}

/* The place of 0x11223344, or of what it was changed to, in own_code(). */
static unsigned char *own_value(uint32_t value)
{
    unsigned char *code = (unsigned char *)(uintptr_t)own_code;

    for (int i = 0; i < 64; i++)
        if (!memcmp(code + i, &value, 4))
            return code + i;
    bad("%s: own code has not %#x in it", sort_name, value);
}

static int code_make(void)
{
    code_changing = (unsigned char *)map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    code_open = (unsigned char *)map(1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
    code_hidden = (unsigned char *)map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    write_code(code_changing, 0);
    write_code(code_open, 0);
    write_code(code_hidden, 4711);
    must(!mprotect(code_changing, GUEST_PAGE, PROT_READ | PROT_EXEC) && !mprotect(code_hidden, GUEST_PAGE, PROT_EXEC),
         "mprotect");
    must(!mprotect((void *)((uintptr_t)own_code & ~4095UL), GUEST_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), "own code");
    memcpy(own_value(0x11223344), &(uint32_t){ 0 }, 4);
    return 1;
}

static void code_check(uint64_t tick)
{
    uint32_t now = (uint32_t)tick, next = now + 1;

    must(call(code_changing) == now && call(code_open) == now && call(code_hidden) == 4711, "code gives another value");
    must(own_code() == now, "own code gives another value");
    check_rights(code_changing, "r-xp");
    check_rights(code_open, "rwxp");
    check_rights(code_hidden, "--xp");
    must(touch((char *)code_changing, 1) == SIGSEGV, "code can be written");
    must(!mprotect(code_changing, GUEST_PAGE, PROT_READ | PROT_WRITE), "mprotect");
    write_code(code_changing, next);
    must(!mprotect(code_changing, GUEST_PAGE, PROT_READ | PROT_EXEC), "mprotect");
    write_code(code_open, next);
    for (unsigned char *code = (unsigned char *)(uintptr_t)own_code;; code++)
        if (!memcmp(code, &now, 4)) {
            memcpy(code, &next, 4);
            break;
        }
}

/* ---- a mapping that grows down ---- */

enum { GROW_ROOM = 2048 }; /* pages it will never have */
static char *grow_top;
static size_t grow_pages = 1;

static int grow_make(void)
{
    grow_top = mmap((void *)0x200000000000, GUEST_PAGE, PROT_READ | PROT_WRITE, /* where the kernel puts nothing */
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
    must(grow_top != MAP_FAILED, "MAP_GROWSDOWN");
    grow_top += GUEST_PAGE;
    fill(grow_top - GUEST_PAGE, 1, GROW_ROOM);
    return 1;
}

static void grow_check(uint64_t tick)
{
    char *lowest = grow_top - (grow_pages + 1) * GUEST_PAGE;

    must(has_flag(grow_top - 1, "gd"), "does not grow down any more");
    for (size_t page = 1; page <= grow_pages; page++)
        check(grow_top - page * GUEST_PAGE, 1, GROW_ROOM - page + 1, "content");
    if (tick % 4 || grow_pages == 200)
        return;
    check_zero(lowest, GUEST_PAGE, "grown page");
    fill(lowest, 1, GROW_ROOM - grow_pages);
    grow_pages++;
}

/* ---- places that the program has chosen ---- */

static char *low, *low_4g;

static int place_make(void)
{
    low = mmap((void *)0x30000, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    low_4g = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_32BIT | MAP_POPULATE);
    must(low == (char *)0x30000, "a low address");
    fill(low, PAGES, 0);
    fill(low_4g, PAGES, 0);
    return 1;
}

static void place_check(uint64_t tick)
{
    char *other = map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_32BIT);

    must((uintptr_t)low_4g < 1UL << 32 && (uintptr_t)other < 1UL << 32, "MAP_32BIT");
    munmap(other, GUEST_PAGE);
    check(low, PAGES, tick, "low memory");
    check(low_4g, PAGES, tick, "memory below 4 GB");
    fill(low, PAGES, tick + 1);
    fill(low_4g, PAGES, tick + 1);
}

/* ---- advice, each on a mapping of its own ---- */

static const struct {
    int advice;
    const char *flag;
} advices[] = {
    { MADV_HUGEPAGE, "hg" }, { MADV_NOHUGEPAGE, "nh" }, { MADV_DONTDUMP, "dd" }, { MADV_MERGEABLE, "mg" },
    { MADV_DONTFORK, "dc" }, { MADV_WIPEONFORK, "wf" }, { MADV_SEQUENTIAL, "sr" }, { MADV_RANDOM, "rr" },
};
enum { ADVICES = sizeof advices / sizeof *advices, HUGE_PAGES = 1024 };
static char *advised[2 * ADVICES];

static int advice_make(void)
{
    for (int i = 0; i < 2 * ADVICES; i++) { /* the second half without content */
        size_t pages = advices[i % ADVICES].advice == MADV_HUGEPAGE ? HUGE_PAGES : PAGES;
        map(1, PROT_NONE, MAP_PRIVATE); /* apart from one another */
        advised[i] = map(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        if (madvise(advised[i], pages * GUEST_PAGE, advices[i % ADVICES].advice))
            advised[i] = NULL;
        else if (i < ADVICES)
            fill(advised[i], pages, (uint64_t)i);
    }
    return 1;
}

static void advice_check(uint64_t tick)
{
    for (int i = 0; i < 2 * ADVICES; i++) {
        if (!advised[i])
            continue;
        if (tick % 8 == 0 && !has_flag(advised[i], advices[i % ADVICES].flag))
            bad("%s: flag %s is lost", sort_name, advices[i % ADVICES].flag);
        if (i < ADVICES)
            check(advised[i], PAGES, (uint64_t)i, advices[i].flag);
        if (i < ADVICES && advices[i].advice == MADV_HUGEPAGE && tick % 8 == 1)
            check(advised[i], HUGE_PAGES, (uint64_t)i, "huge page");
    }
}

/* ---- shared memory that no fork has, of a file that may be written ---- */

static char *not_forked;

static int not_forked_make(void)
{
    int fd = memfd_create("not forked", 0);

    must(fd >= 0 && !ftruncate(fd, PAGES * GUEST_PAGE), "memfd_create");
    not_forked = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(not_forked != MAP_FAILED && !close(fd) && !madvise(not_forked, PAGES * GUEST_PAGE, MADV_DONTFORK), "MADV_DONTFORK");
    fill(not_forked, PAGES, 0);
    return 1;
}

static void not_forked_check(uint64_t tick)
{
    check(not_forked, PAGES, tick, "shared memory that no fork has");
    if (tick % 8 == 0 && (!has_flag(not_forked, "dc") || !has_flag(not_forked, "mw")))
        bad("%s: a flag is lost", sort_name);
    fill(not_forked, PAGES, tick + 1);
}

/* ---- no transparent huge pages, for the whole process ---- */

static int thp_make(void)
{
    return !prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

static void thp_check(uint64_t tick)
{
    (void)tick;
    must(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1, "PR_SET_THP_DISABLE is lost");
}

/* ---- pages that may be merged, whatever is mapped later ---- */

static int merge_make(void)
{
    return !prctl(67 /* PR_SET_MEMORY_MERGE, 6.4 */, 1, 0, 0, 0);
}

static void merge_check(uint64_t tick)
{
    (void)tick;
    must(prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0) == 1, "PR_SET_MEMORY_MERGE is lost");
}

/* ---- barriers for which a process must have registered: membarrier(2) ---- */

enum { BARRIER = 8, BARRIER_FOR_CODE = 32, BARRIER_QUERY = 0 };

static int barrier_make(void)
{
    long known = syscall(SYS_membarrier, BARRIER_QUERY, 0, 0);

    return known > 0 && known & BARRIER_FOR_CODE && !syscall(SYS_membarrier, 2 * BARRIER, 0, 0);
}

static void barrier_check(uint64_t tick)
{
    must(tick % 16 || !syscall(SYS_membarrier, BARRIER, 0, 0), "the registration is lost");
    must(tick % 16 || syscall(SYS_membarrier, BARRIER_FOR_CODE, 0, 0) < 0, "there is a registration that nobody asked for");
}

/* ---- names ---- */

static char *named, *named_empty;

static int name_make(void)
{
    named = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    named_empty = map(PAGES, PROT_NONE, MAP_PRIVATE);
    fill(named, PAGES, 3);
    return !prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, PAGES * GUEST_PAGE, "a name") &&
           !prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named_empty, PAGES * GUEST_PAGE, "nothing");
}

static void name_check(uint64_t tick)
{
    char rights[5], name[256];

    (void)tick;
    look_up(named, rights, name);
    must(!strcmp(name, "[anon:a name]"), name);
    look_up(named_empty, rights, name);
    must(!strcmp(name, "[anon:nothing]"), name);
    check(named, PAGES, 3, "content");
}

/* ---- sealed memory ---- */

static char *sealed;

static int seal_make(void)
{
    sealed = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(sealed, PAGES, 0);
    madvise(sealed + 3 * GUEST_PAGE, GUEST_PAGE, ADVICE_GUARD_INSTALL);
    return !syscall(CALL_MSEAL, sealed, PAGES * GUEST_PAGE, 0);
}

static void seal_check(uint64_t tick)
{
    must(has_flag(sealed, "sl"), "not sealed any more");
    must(mprotect(sealed, PAGES * GUEST_PAGE, PROT_READ) == -1 && errno == EPERM, "sealed memory was changed");
    must(munmap(sealed, GUEST_PAGE) == -1 && errno == EPERM, "sealed memory was unmapped");
    check(sealed, 3, tick, "content");
    fill(sealed, 3, tick + 1);
}

/* ---- memory that the kernel may take at any time ---- */

static char *droppable, *freed, *cold;

static int drop_make(void)
{
    droppable = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, KIND_DROPPABLE | MAP_ANONYMOUS, -1, 0);
    freed = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    cold = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(cold, PAGES, 9);
    if (droppable != MAP_FAILED)
        fill(droppable, PAGES, 11);
    return 1;
}

/* Each page is as it was, or zeros; after a restart droppable memory is zeros, else two lives would share keys. */
static void drop_check(uint64_t tick)
{
    if (droppable != MAP_FAILED) {
        must(tick % 8 || has_flag(droppable, "dp"), "not droppable any more");
        for (int page = 0; page < PAGES; page++)
            must(((uint64_t *)droppable)[page * 512] == mix(11 + (uint64_t)page * 512) || !droppable[page * GUEST_PAGE],
                 "droppable memory");
    }
    for (int page = 0; tick && page < PAGES; page++)
        must(freed[page * GUEST_PAGE] == (char)(tick | 1) || !freed[page * GUEST_PAGE], "freed memory");
    memset(freed, (int)((tick + 1) | 1), PAGES * GUEST_PAGE);
    madvise(freed, PAGES * GUEST_PAGE, ADVICE_FREE);
    check(cold, PAGES, 9, "cold memory");
    madvise(cold, PAGES * GUEST_PAGE, tick & 1 ? ADVICE_COLD : ADVICE_PAGEOUT);
}

/* ---- mremap, and its zeros ---- */

static char *moved;
static size_t moved_pages = 4;

static int move_make(void)
{
    moved = map(moved_pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(moved, moved_pages, 0);
    return 1;
}

static void move_check(uint64_t tick)
{
    size_t pages = tick % 32 == 31 ? 4 : moved_pages + 3, kept = pages < moved_pages ? pages : moved_pages;

    check(moved, moved_pages, tick, "content");
    moved = mremap(moved, moved_pages * GUEST_PAGE, pages * GUEST_PAGE, MREMAP_MAYMOVE);
    must(moved != MAP_FAILED, "mremap");
    check(moved, kept, tick, "content after mremap");
    check_zero(moved + kept * GUEST_PAGE, (pages - kept) * GUEST_PAGE, "grown mapping");
    moved_pages = pages;
    fill(moved, moved_pages, tick + 1);
}

/* ---- the break, up and down ---- */

static char *break_start;
static size_t break_pages;

static int break_make(void)
{
    break_start = sbrk(0);
    return 1;
}

static void break_check(uint64_t tick)
{
    intptr_t step = tick % 5 == 4 ? -(intptr_t)break_pages / 2 : 3;
    char *old = sbrk(step * GUEST_PAGE);

    must(old == break_start + break_pages * GUEST_PAGE, "the break moved");
    if (step > 0) {
        check_zero(old, (size_t)step * GUEST_PAGE, "grown break");
        fill(old, (size_t)step, break_pages);
    }
    break_pages = (size_t)((intptr_t)break_pages + step);
    for (size_t page = 0; page + 3 <= break_pages && page < 3; page += 3)
        check(break_start, 3, 0, "content");
}

/* ---- an allocator of the program's own ---- */

enum { SLOTS = 64, SLOT_BYTES = 1 << 16 };
static struct slot {
    char *memory;
    size_t pages;
    uint64_t seed;
} slots[SLOTS];

static int allocator_make(void)
{
    return 1;
}

static void allocator_check(uint64_t tick)
{
    for (uint64_t i = 0; i < 8; i++) {
        struct slot *slot = &slots[mix(tick * 8 + i) % SLOTS];
        if (slot->memory) {
            check(slot->memory, slot->pages, slot->seed, "content");
            munmap(slot->memory, slot->pages * GUEST_PAGE);
        }
        slot->pages = 1 + mix(tick + i) % (SLOT_BYTES / GUEST_PAGE);
        slot->seed = mix(tick ^ i);
        slot->memory = map(slot->pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        fill(slot->memory, slot->pages, slot->seed);
    }
}

/* ---- rights that are rare, and the two mappings of /dev/zero ---- */

static char *writable, *zero_private, *zero_shared;

static int rare_make(void)
{
    int descriptor = open("/dev/zero", O_RDWR | O_CLOEXEC);

    writable = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    zero_private = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
    zero_shared = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    must(zero_private != MAP_FAILED && zero_shared != MAP_FAILED && !close(descriptor), "/dev/zero");
    fill(writable, PAGES, 1);
    fill(zero_private, PAGES / 2, 0);
    fill(zero_shared, PAGES / 2, 0);
    return !mprotect(writable, PAGES * GUEST_PAGE, PROT_WRITE);
}

static void rare_check(uint64_t tick)
{
    check_rights(writable, "-w-p");
    must(!mprotect(writable, PAGES * GUEST_PAGE, PROT_READ), "mprotect");
    check(writable, PAGES, 1, "memory that can only be written");
    must(!mprotect(writable, PAGES * GUEST_PAGE, PROT_WRITE), "mprotect");
    check(zero_private, PAGES / 2, tick, "private /dev/zero");
    check(zero_shared, PAGES / 2, tick, "shared /dev/zero");
    check_zero(zero_private + PAGES / 2 * GUEST_PAGE, PAGES / 2 * GUEST_PAGE, "private /dev/zero");
    check_zero(zero_shared + PAGES / 2 * GUEST_PAGE, PAGES / 2 * GUEST_PAGE, "shared /dev/zero");
    fill(zero_private, PAGES / 2, tick + 1);
    fill(zero_shared, PAGES / 2, tick + 1);
}

/* ---- memory that is shared with children, in two mappings of one object ---- */

static char *shared_one, *shared_other;

static int shared_make(void)
{
    shared_one = map(PAGES, PROT_READ | PROT_WRITE, MAP_SHARED);
    shared_other = mremap(shared_one, 0, PAGES * GUEST_PAGE, MREMAP_MAYMOVE);
    must(shared_other != MAP_FAILED, "mremap");
    fill(shared_one, PAGES, 0);
    return 1;
}

static void shared_check(uint64_t tick)
{
    check(shared_one, PAGES, tick, "one mapping");
    check(shared_other, PAGES, tick, "the other mapping");
    fill(tick & 1 ? shared_one : shared_other, PAGES, tick + 1);
}

/* ---- locked memory ---- */

static char *locked, *locked_later;

static int lock_make(void)
{
    locked = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    locked_later = map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    locked_later[5 * GUEST_PAGE] = 1;
    return !mlock(locked, PAGES * GUEST_PAGE) && !mlock2(locked_later, PAGES * GUEST_PAGE, MLOCK_ONFAULT);
}

static void lock_check(uint64_t tick)
{
    unsigned char there[PAGES];

    (void)tick;
    must(has_flag(locked, "lo") && !has_flag(locked, "lf") && has_flag(locked_later, "lf"), "not locked any more");
    must(!mincore(locked, PAGES * GUEST_PAGE, there), "mincore");
    for (int page = 0; page < PAGES; page++)
        must(there[page] & 1, "locked and not in memory");
    must(locked_later[5 * GUEST_PAGE] == 1, "content");
}

/* ---- the old way into the kernel ---- */

static long (*const vsyscall_time)(long *) = (long (*)(long *))0xffffffffff600400;

static int vsyscall_make(void)
{
    long now;

    if (sigsetjmp(fault_return, 1))
        return 0;
    fault_expected = 1;
    now = vsyscall_time(NULL);
    fault_expected = 0;
    return now > 0;
}

static void vsyscall_check(uint64_t tick)
{
    (void)tick;
    must(labs(vsyscall_time(NULL) - time(NULL)) < 5, "vsyscall");
}

/* ---- .bss, a large one ---- */

enum { BSS_PAGES = 32768, BSS_STEP = 1024 };
static char bss[BSS_PAGES * GUEST_PAGE] __attribute__((aligned(4096)));

static int bss_make(void)
{
    for (size_t page = 0; page < BSS_PAGES; page += BSS_STEP)
        fill(bss + page * GUEST_PAGE, 1, page);
    return 1;
}

static void bss_check(uint64_t tick)
{
    size_t page = tick * BSS_STEP % BSS_PAGES;

    check(bss + page * GUEST_PAGE, 1, page, "content");
    check_zero(bss + (page + 1) * GUEST_PAGE, GUEST_PAGE, "untouched page");
}

/* ---- threads with the smallest stack there is, and an alternate one for signals ---- */

enum { SMALL_THREADS = 3 };
static struct small {
    pthread_t thread;
    uint64_t count, signals;
    char *alternate;
} small[SMALL_THREADS];
static volatile int small_end;

static void on_small_signal(int number, siginfo_t *info, void *context)
{
    struct small *own = info->si_value.sival_ptr;
    volatile char here;

    (void)number, (void)context;
    if (&here < own->alternate || &here >= own->alternate + 65536)
        bad("stacks: the handler is not on the alternate stack");
    __atomic_add_fetch(&own->signals, 1, __ATOMIC_SEQ_CST);
}

static void *small_run(void *context)
{
    struct small *own = context;
    stack_t stack = { .ss_sp = own->alternate, .ss_size = 65536 };

    must(!sigaltstack(&stack, NULL), "sigaltstack");
    while (!small_end) {
        __atomic_add_fetch(&own->count, 1, __ATOMIC_SEQ_CST);
        tick_sleep();
    }
    return NULL;
}

static int small_make(void)
{
    struct sigaction action = { .sa_sigaction = on_small_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
    pthread_attr_t attributes;

    sigaction(SIGRTMIN + 3, &action, NULL);
    pthread_attr_init(&attributes);
    must(!pthread_attr_setstacksize(&attributes, 16384), "stack size");
    for (int i = 0; i < SMALL_THREADS; i++) {
        small[i].alternate = map(16, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        must(!pthread_create(&small[i].thread, &attributes, small_run, &small[i]), "thread");
    }
    return 1;
}

/* A signal is sent and waited for within a tick, so that none waits across the moment. */
static void small_check(uint64_t tick)
{
    struct small *one = &small[tick % SMALL_THREADS];
    uint64_t before = __atomic_load_n(&one->signals, __ATOMIC_SEQ_CST);

    if (tick % 16)
        return;
    must(!pthread_sigqueue(one->thread, SIGRTMIN + 3, (union sigval){ .sival_ptr = one }), "signal");
    while (__atomic_load_n(&one->signals, __ATOMIC_SEQ_CST) == before)
        sched_yield();
}

static void small_finish(void)
{
    small_end = 1;
    for (int i = 0; i < SMALL_THREADS; i++)
        must(!pthread_join(small[i].thread, NULL), "join");
}

static const struct sort {
    const char *name;
    int (*make)(void);             /* 0: this machine has no such thing */
    void (*check)(uint64_t tick);  /* tick counts up from 0 */
    void (*end)(void);
} sorts[] = {
    { "file", file_make, file_check, file_end },
    { "hidden", hidden_make, hidden_check, NULL },
    { "guard", guard_make, guard_check, NULL },
    { "code", code_make, code_check, NULL },
    { "growing", grow_make, grow_check, NULL },
    { "places", place_make, place_check, NULL },
    { "advice", advice_make, advice_check, NULL },
    { "names", name_make, name_check, NULL },
    { "sealed", seal_make, seal_check, NULL },
    { "dropped", drop_make, drop_check, NULL },
    { "moved", move_make, move_check, NULL },
    { "break", break_make, break_check, NULL },
    { "allocator", allocator_make, allocator_check, NULL },
    { "rare", rare_make, rare_check, NULL },
    { "shared", shared_make, shared_check, NULL },
    { "locked", lock_make, lock_check, NULL },
    { "vsyscall", vsyscall_make, vsyscall_check, NULL },
    { "bss", bss_make, bss_check, NULL },
    { "stacks", small_make, small_check, small_finish },
    { "merged", merge_make, merge_check, NULL },
    { "barriers", barrier_make, barrier_check, NULL },
    { "not-forked", not_forked_make, not_forked_check, NULL },
    { "thp", thp_make, thp_check, NULL }, /* last: the sort "advice" wants huge pages */
};
enum { SORTS = sizeof sorts / sizeof *sorts };

static int is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], name))
            return 1;
    return argc <= 2;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_fault };
    long ticks = ticks_wanted(argc, argv, 1, 5);
    int has[SORTS];

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    for (int i = 0; i < SORTS; i++) {
        sort_name = sorts[i].name;
        has[i] = is_wanted(sort_name, argc, argv) && sorts[i].make();
        if (is_wanted(sort_name, argc, argv) && !has[i])
            printf("NONE %s\n", sort_name);
    }
    fflush(stdout);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        for (int i = 0; i < SORTS; i++) {
            sort_name = sorts[i].name;
            if (has[i])
                sorts[i].check((uint64_t)tick);
        }
        tick_sleep();
    }
    for (int i = 0; i < SORTS; i++) {
        sort_name = sorts[i].name;
        if (has[i] && sorts[i].end)
            sorts[i].end();
    }
    printf("OK mappings %ld\n", ticks);
    return 0;
}
