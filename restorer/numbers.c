/* SPDX-License-Identifier: MIT */
#include "numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/floor/syscalls.h"

enum {
    RESERVED = 300,     /* kernel/pid.c: once the turn has been there, lower numbers are not given out again */
    NEAR = 4,
    BURST = 4096,
    ROUNDS = 8,
    STACK_BYTES = 8192,
    SILENT_SECONDS = 2,
};

/* A place that nothing can be written to: no process has memory there (sysctl vm.mmap_min_addr). */
#define NOWHERE ((void *)8)

/* ---- what speaks against it ---- */

static pid_t highest(void)
{
    FILE *file = fopen("/proc/sys/kernel/pid_max", "re");
    int most = 32768;

    if (file) {
        (void)!fscanf(file, "%d", &most);
        fclose(file);
    }
    return most - 1;
}

const char *numbers_obstacle(pid_t number, char *text, size_t size)
{
    char name[17] = "", path[64];
    FILE *file;

    if (number > highest()) {
        snprintf(text, size, "%d is above what sysctl kernel.pid_max allows; set that above %d", number, number);
        return text;
    }
    if (number < RESERVED && number <= getpid()) {
        snprintf(text, size, "%d is below %d, and such numbers are given out once only", number, RESERVED);
        return text;
    }
    if (number == getpid()) {
        snprintf(text, size, "%d is this command's own now; give it again", number);
        return text;
    }
    if (!kill(-number, 0) || errno == EPERM) {
        snprintf(text, size, "%d is that of a process group, others of which live; end those", number);
        return text;
    }
    /* Of threads, too, and whoever they belong to. */
    if (sched_getscheduler(number) >= 0) {
        snprintf(path, sizeof path, "/proc/%d/comm", number);
        file = fopen(path, "re");
        if (file) {
            (void)!fscanf(file, "%16[^\n]", name);
            fclose(file);
        }
        snprintf(text, size, "%d belongs to another one (%s) at the moment; end it, or wait for its end", number, *name ? name : "of another user");
        return text;
    }
    return NULL;
}

/* ---- coming round ---- */

/* Takes a number and gives it back: the kernel finds out last of all that it cannot say where the process is to be found. So
 * there never is one. */
static int pass_over(void)
{
    long error = syscall(SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_PIDFD, NULL, NOWHERE, NULL, NULL);

    return error < 0 && errno != EFAULT ? -errno : 0;
}

static int do_nothing(void *context)
{
    (void)context;
    return 0;
}

/* The number that is given out now. */
static pid_t probe(void)
{
    static char stack[STACK_BYTES] __attribute__((aligned(16)));
    pid_t pid = clone(do_nothing, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_FILES, NULL);

    if (pid < 0)
        return -errno;
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        ;
    return pid;
}

/* Where the turn is. */
struct turn {
    pid_t last;
    time_t since; /* 0: the person who waits has been told */
};

static time_t seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* A round takes some 10 microseconds for each number there is. To a person only: a file may be the program's, and is not cut to its size yet. */
static void say_if_long(struct turn *turn, pid_t number)
{
    if (!turn->since || seconds() - turn->since < SILENT_SECONDS || !isatty(STDERR_FILENO))
        return;
    turn->since = 0;
    fprintf(stderr, "stasis: restart: waiting until the kernel comes round to the number %d; there are %d (kernel.pid_max)\n", number,
            highest() + 1);
}

/* How near is near: who is near makes what he wants, and looks at its number. What is in use is passed over, and may be many in a row:
 * so whoever has missed a number begins earlier. */
static pid_t nearness(int missed)
{
    return NEAR << 2 * (missed < 5 ? missed : 5);
}

static int is_near(const struct turn *turn, pid_t number, int missed)
{
    return turn->last < number && number - turn->last <= nearness(missed);
}

/* Has the turn, which goes up and begins again from below, come by a number or to it? */
static int has_passed(pid_t before, pid_t last, pid_t number)
{
    return before <= last ? before < number && number <= last : before < number || number <= last;
}

/* Half of the way at once. */
static int advance(pid_t ahead)
{
    int error = 0;

    for (pid_t i = 0; !error && i < ahead / 2 && i < BURST; i++)
        error = pass_over();
    return error;
}

/* Until the turn is near the number, or has passed it. A probe takes a number itself, so there is none where it is near already. */
static int come_near(struct turn *turn, pid_t number, int missed)
{
    const pid_t most = highest();
    int error = 0;

    while (!error && !is_near(turn, number, missed)) {
        pid_t before = turn->last, last = probe();
        if (last < 0)
            return last;
        turn->last = last;
        if (has_passed(before, last, number))
            return number < RESERVED ? -EEXIST : 0;
        say_if_long(turn, number);
        if (!is_near(turn, number, missed))
            error = advance(last < number ? number - last - nearness(missed) : most - last + 2);
    }
    return error;
}

static int turnstile = -1;

void numbers_begin(const char *directory)
{
    turnstile = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (turnstile >= 0 && flock(turnstile, LOCK_EX) && errno == EINTR)
        ;
}

void numbers_end(void)
{
    if (turnstile < 0)
        return;
    flock(turnstile, LOCK_UN);
    close(turnstile);
    turnstile = -1;
}

pid_t numbers_fork_beside(const pid_t *wanted, uint32_t count)
{
    for (;;) {
        pid_t pid = fork(), own = pid ? pid : getpid();
        uint32_t i = 0;
        while (i < count && wanted[i] != own)
            i++;
        if (pid < 0 || i == count)
            return pid < 0 ? -errno : pid;
        if (!pid)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

pid_t numbers_fork(pid_t number)
{
    struct turn turn = { .last = getpid(), .since = seconds() };

    for (int missed = 0; missed <= ROUNDS;) {
        int error = come_near(&turn, number, missed);
        if (error)
            return error;
        if (!is_near(&turn, number, missed)) {
            missed++;
            continue;
        }
        pid_t before = turn.last, pid = fork();
        if (!pid && getpid() != number)
            _exit(0);
        if (pid <= 0 || pid == number)
            return pid < 0 ? -errno : pid;
        waitpid(pid, NULL, 0);
        turn.last = pid;
        missed += has_passed(before, pid, number);
    }
    return -EEXIST;
}

/* ---- threads ---- */

static struct held {
    pid_t number;
    int missed; /* so often */
    int is_there;
} *held;
static uint32_t held_count, wanted; /* futex: 1 when they may go */
static struct last_plan *destination;

static __attribute__((noreturn)) void go(uint32_t index)
{
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%1\n\t"
                     "ud2"
                     :
                     : "r"(destination->stacks + (index + 1) * LAST_STACK_BYTES), "r"(destination->arena_start), "D"(destination), "S"((uint64_t)index)
                     : "memory");
    __builtin_unreachable();
}

/* Index of the first that is not below a number. */
static uint32_t place_of(pid_t number)
{
    uint32_t from = 0, to = held_count;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (held[middle].number < number)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static struct held *find(pid_t number)
{
    uint32_t place = place_of(number);
    return place < held_count && held[place].number == number ? &held[place] : NULL;
}

/* A thread that is to wait here. It has the main thread's TLS: so no function of libc. */
static int hold(void *context)
{
    const pid_t own = (pid_t)sys_gettid();
    const struct held *is = find(own);
    uint32_t hint = (uint32_t)(is - held) + 1; /* most images have them in this order, behind the main one */

    (void)context;
    if (!is)
        return 0;
    while (!__atomic_load_n(&wanted, __ATOMIC_SEQ_CST))
        sys_futex(&wanted, FUTEX_WAIT_PRIVATE, 0, NULL);
    go((uint32_t)(threads_find(destination, (uint32_t)own, &hint) - destination->threads));
}

struct stack {
    uint32_t is_used; /* futex: the kernel writes 0 when the thread has ended */
    char room[STACK_BYTES - 16] __attribute__((aligned(16)));
};

/* The number of a new thread, which is still there if that is wanted. -errno. */
static pid_t make_holder(struct stack *stack)
{
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
    pid_t number;

    stack->is_used = 1;
    number = clone(hold, stack + 1, flags, NULL, NULL, NULL, &stack->is_used);
    if (number < 0)
        return -errno;
    while (!find(number) && __atomic_load_n(&stack->is_used, __ATOMIC_SEQ_CST))
        sys_futex(&stack->is_used, FUTEX_WAIT, 1, NULL);
    return number;
}

/* The next that the turn will come to, of those that are not there. */
static struct held *next_after(pid_t last)
{
    uint32_t place = place_of(last + 1);

    for (uint32_t i = 0; i < held_count; i++, place++)
        if (!held[place % held_count].is_there)
            return &held[place % held_count];
    return NULL;
}

/* Makes one. `*stack` is for a thread; taken, it is NULL. -EEXIST: too often in vain. */
static int hold_next(struct turn *turn, struct held *next, struct stack **stack)
{
    int error = come_near(turn, next->number, next->missed), is_passed = !is_near(turn, next->number, next->missed);

    if (!error && !is_passed) {
        pid_t before = turn->last, number = make_holder(*stack);
        if (number < 0)
            return number;
        turn->last = number;
        struct held *got = find(number);
        if (got) {
            got->is_there = 1;
            *stack = NULL;
        }
        is_passed = !next->is_there && has_passed(before, number, next->number);
    }
    next->missed += is_passed;
    return error ? error : next->missed > ROUNDS ? -EEXIST : 0;
}

static int by_number(const void *a, const void *b)
{
    return ((const struct held *)a)->number - ((const struct held *)b)->number;
}

int numbers_hold(const pid_t *numbers, uint32_t count, pid_t *ret_failed)
{
    struct turn turn = { .last = getpid(), .since = seconds() };
    struct stack *stack = NULL;
    struct held *next;
    int error = 0;

    held = calloc(count + 1, sizeof *held);
    if (!held)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        held[i].number = numbers[i];
    held_count = count;
    qsort(held, count, sizeof *held, by_number);
    while (!error && (next = next_after(turn.last))) {
        if (!stack && (stack = mmap(NULL, sizeof *stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
            return -errno;
        *ret_failed = next->number;
        error = hold_next(&turn, next, &stack);
    }
    return error;
}

void numbers_let_go(struct last_plan *plan)
{
    destination = plan;
    plan->held = held_count;
    __atomic_store_n(&wanted, 1, __ATOMIC_SEQ_CST);
    sys_futex(&wanted, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}
