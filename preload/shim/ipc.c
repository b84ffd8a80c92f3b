/* SPDX-License-Identifier: MIT */
/* System V objects: who uses a set of semaphores or a queue of messages the kernel does not tell, nor what SEM_UNDO has
 * added up. Wrappers (wrap/ipc.c) keep both here, in memory that every image carries. No locks: a handler may call
 * semop(), too. Island: no libc. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "../../core/floor/arch/x86_64/semaphore_call.h"
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

enum { RECENT = 64 };

/* An entry is one word, and so is always whole; 0: free. Two threads may enter the same thing twice, which does no
 * harm: adjustments are added up by whoever reads them. */
static struct {
    uint64_t objects[AGENT_MAX_IPC];
    uint32_t count;          /* more than AGENT_MAX_IPC: some were lost */
    uint64_t recent[RECENT]; /* sort and id of those that were seen last */
    uint64_t undo[AGENT_MAX_UNDO];
} books;
static uint32_t undo_count NEAR_THE_SHIM;

static uint64_t object_word(enum agent_ipc_sort sort, int id, int created)
{
    union {
        struct agent_ipc object;
        uint64_t word;
    } entry = { .object = { .id = id, .sort = (uint16_t)sort, .created = (uint16_t)created } };
    return entry.word;
}

static uint64_t *find(enum agent_ipc_sort sort, int id)
{
    const uint64_t known = object_word(sort, id, 0), created = object_word(sort, id, 1);

    for (uint32_t i = 0; i < books.count && i < AGENT_MAX_IPC; i++)
        if (books.objects[i] == known || books.objects[i] == created)
            return &books.objects[i];
    return NULL;
}

static void add(uint64_t word)
{
    uint32_t at;

    for (at = 0; at < books.count && at < AGENT_MAX_IPC; at++) {
        uint64_t none = 0;
        if (__atomic_compare_exchange_n(&books.objects[at], &none, word, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return;
    }
    at = __atomic_fetch_add(&books.count, 1, __ATOMIC_SEQ_CST);
    if (at < AGENT_MAX_IPC)
        __atomic_store_n(&books.objects[at], word, __ATOMIC_SEQ_CST);
}

void ipc_note(enum agent_ipc_sort sort, int id, int created)
{
    uint64_t word = object_word(sort, id, 0), *recent = &books.recent[(uint32_t)id % RECENT];

    if (*recent == word && !created)
        return;
    if (created || !find(sort, id))
        add(object_word(sort, id, created));
    *recent = word;
}

void ipc_forget(enum agent_ipc_sort sort, int id)
{
    uint64_t *object;

    books.recent[(uint32_t)id % RECENT] = 0;
    while ((object = find(sort, id)))
        __atomic_store_n(object, 0, __ATOMIC_SEQ_CST);
}

/* From here to BOOKS_END a semaphore has been changed and the books have not: a thread that is found there is let go on
 * for a moment. All is in one piece of code, which calls nothing. */
#define IN_BOOKS __attribute__((section("books_text"), noinline, used))
extern const char __start_books_text[], __stop_books_text[];

union undo_entry {
    struct agent_undo undo;
    uint64_t word;
};

/* The adjustment is what the kernel keeps: the negated sum of what was done (semop(2)). */
static inline __attribute__((always_inline)) int add_undo(uint32_t at, int id, uint16_t number, int operation)
{
    union undo_entry old = { .word = __atomic_load_n(&books.undo[at], __ATOMIC_SEQ_CST) }, new;

    do {
        if (old.undo.adjustment && (old.undo.id != id || old.undo.number != number))
            return 0;
        new = (union undo_entry){ .undo = { id, number, (int16_t)(old.undo.adjustment - operation) } };
    } while (!__atomic_compare_exchange_n(&books.undo[at], &old.word, new.word, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return 1;
}

static inline __attribute__((always_inline)) int has_undo(uint32_t at, int id, uint16_t number)
{
    union undo_entry entry = { .word = books.undo[at] };
    return entry.undo.adjustment && entry.undo.id == id && entry.undo.number == number;
}

IN_BOOKS long ipc_operated_well(int id, const struct sembuf *operations, unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        uint16_t number = operations[i].sem_num;
        uint32_t at, used = undo_count < AGENT_MAX_UNDO ? undo_count : AGENT_MAX_UNDO;
        if (!(operations[i].sem_flg & SEM_UNDO) || !operations[i].sem_op)
            continue;
        for (at = 0; at < used && !has_undo(at, id, number); at++)
            ;
        if (at < used && add_undo(at, id, number, operations[i].sem_op))
            continue;
        for (at = 0; at < used && !add_undo(at, id, number, operations[i].sem_op); at++)
            ;
        while (at == used) {
            uint32_t next = __atomic_fetch_add(&undo_count, 1, __ATOMIC_SEQ_CST);
            if (next >= AGENT_MAX_UNDO || add_undo(next, id, number, operations[i].sem_op))
                break;
        }
    }
    return 0;
}

/* SETVAL, SETALL and IPC_RMID end what was to be undone. */
IN_BOOKS long ipc_controlled_well(int id, int number, int command)
{
    for (uint32_t at = 0; at < undo_count && at < AGENT_MAX_UNDO; at++) {
        union undo_entry old = { .word = __atomic_load_n(&books.undo[at], __ATOMIC_SEQ_CST) };
        while (old.undo.id == id && (command != SETVAL || old.undo.number == number) &&
               !__atomic_compare_exchange_n(&books.undo[at], &old.word, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            ;
    }
    return 0;
}

long ipc_operate(int id, struct sembuf *operations, unsigned long count, const struct timespec *time)
{
    ipc_note(IPC_SORT_SEMAPHORES, id, 0);
    return semaphore_operate(id, operations, count, time);
}

long ipc_control(int id, int number, int command, uint64_t argument)
{
    long got = semaphore_control(id, number, command, argument);

    if (!got && command == IPC_RMID)
        ipc_forget(IPC_SORT_SEMAPHORES, id);
    return got;
}

int ipc_is_adding(const ucontext_t *frame)
{
    uint64_t place = (uint64_t)frame->uc_mcontext.gregs[REG_RIP];

    if (place >= (uint64_t)semaphore_called && place < (uint64_t)semaphore_call_end)
        return !frame->uc_mcontext.gregs[REG_RAX];
    return place >= (uint64_t)__start_books_text && place < (uint64_t)__stop_books_text;
}

void ipc_child_enters(void)
{
    for (uint32_t i = 0; i < undo_count && i < AGENT_MAX_UNDO; i++)
        books.undo[i] = 0;
    if (undo_count)
        undo_count = 0;
}

void ipc_describe(struct agent_page *page)
{
    page->ipc_count = books.count;
    page->undo_count = undo_count;
}

void ipc_hand_over(struct agent_page *page)
{
    for (uint32_t i = 0; i < books.count && i < AGENT_MAX_IPC; i++)
        __builtin_memcpy(&page->ipc[i], &books.objects[i], sizeof page->ipc[i]);
    for (uint32_t i = 0; i < undo_count && i < AGENT_MAX_UNDO; i++)
        __builtin_memcpy(&page->undo[i], &books.undo[i], sizeof page->undo[i]);
}

/* ---- segments ---- */

static int uses_segments(void)
{
    for (uint32_t i = 0; i < books.count && i < AGENT_MAX_IPC; i++)
        if ((uint16_t)(books.objects[i] >> 32) == IPC_SORT_MEMORY)
            return 1;
    return 0;
}

/* Those that are kept from a twin just now. */
static struct {
    struct agent_range ranges[AGENT_MAX_RANGES];
    uint32_t count;
} hidden;

static uint64_t hexadecimal(const char **at)
{
    uint64_t number = 0;

    for (;; ++*at) {
        char c = **at;
        if (c >= '0' && c <= '9')
            number = number << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            number = number << 4 | (uint64_t)(c - 'a' + 10);
        else
            return number;
    }
}

static int holds(const char *line, const char *text)
{
    for (; *line; line++)
        if (text_starts(line, text))
            return 1;
    return 0;
}

/* A line of smaps (proc(5)). `range`: of the segment whose lines follow; end 0: they are of something else. What the
 * program itself keeps from its children stays so. */
static void take_line(const char *line, struct agent_range *range)
{
    if (text_starts(line, "VmFlags:") && range->end && !holds(line, " dc") && hidden.count < AGENT_MAX_RANGES) {
        if (!sys_madvise((void *)range->start, range->end - range->start, MADV_DONTFORK))
            hidden.ranges[hidden.count++] = *range;
    } else if ((*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f')) {
        int is_segment = holds(line, " /SYSV");
        range->start = hexadecimal(&line);
        line += *line == '-';
        range->end = is_segment ? hexadecimal(&line) : 0;
    }
}

static void hide_all(int fd)
{
    static char text[2 * PAGE_BYTES];
    struct agent_range range = { 0 };
    size_t length = 0;
    long got;

    while ((got = sys_read(fd, text + length, sizeof text - 1 - length)) > 0) {
        char *line = text, *end;
        text[length += (size_t)got] = 0;
        for (end = line; *end; end++) {
            if (*end != '\n')
                continue;
            *end = 0;
            take_line(line, &range);
            line = end + 1;
        }
        length = (size_t)(end - line);
        if (length == sizeof text - 1)
            length = 0; /* longer than any that counts */
        __builtin_memmove(text, line, length);
    }
}

void ipc_hide_segments(void)
{
    long fd = uses_segments() ? sys_openat(AT_FDCWD, "/proc/self/smaps", O_RDONLY | O_CLOEXEC, 0) : -1;

    hidden.count = 0;
    if (fd < 0)
        return;
    hide_all((int)fd);
    sys_close((int)fd);
}

void ipc_show_segments(void)
{
    for (uint32_t i = 0; i < hidden.count; i++)
        sys_madvise((void *)hidden.ranges[i].start, hidden.ranges[i].end - hidden.ranges[i].start, MADV_DOFORK);
}
