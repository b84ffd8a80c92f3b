/* SPDX-License-Identifier: MIT */
#include "plan.h"

#include <errno.h>
#include <linux/rseq.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "numbers.h"
#include "last_blob.h" /* made by the build: the last stage as bytes */

enum { FIRST_STACK = 65536, VDSO_ROOM = 64 * PAGE_BYTES, RSEQ_LENGTH = 32 };

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static uint32_t count(const struct restoring *restoring, uint16_t tag, uint32_t (*count_of)(const struct reader *record))
{
    struct reader record;

    return image_find_record(restoring->image, tag, restoring->index, &record) ? 0 : count_of(&record);
}

/* Parts of the arena, from its start: code, plan, operations, threads, timers, waiting signals, memory policies, owners, children to be stopped, stacks, room for the vdso,
 * what all processes share. */
int plan_make(struct restoring *restoring, struct last_together *together)
{
    uint32_t threads = count(restoring, TAG_THREADS, threads_count), operations = memory_operation_count(restoring);
    uint64_t code = round_up(sizeof last_blob), plan = round_up(sizeof(struct last_plan));
    uint64_t operation_bytes = round_up(operations * sizeof(struct last_operation));
    uint64_t thread_bytes = round_up(threads * sizeof(struct last_thread));
    uint32_t timers = count(restoring, TAG_TIMERS, timers_count), waiting = count(restoring, TAG_WAITING_SIGNALS, waiting_count);
    uint64_t timer_bytes = round_up(timers * sizeof(struct agent_timer));
    uint64_t waiting_bytes = round_up(waiting * sizeof(struct agent_waiting));
    uint32_t policies = count(restoring, TAG_TRAITS, traits_policy_count);
    uint64_t policy_bytes = round_up(policies * sizeof(struct last_memory_policy));
    uint32_t owners = count(restoring, TAG_OWNERS, owners_count);
    uint64_t owner_bytes = round_up(owners * sizeof(struct last_owner));
    uint32_t jobs = count(restoring, TAG_JOBS, jobs_count);
    uint64_t job_bytes = round_up(jobs * sizeof(struct agent_job));
    uint64_t stack_bytes = FIRST_STACK + (uint64_t)threads * LAST_STACK_BYTES;
    uint64_t length = code + plan + operation_bytes + thread_bytes + timer_bytes + waiting_bytes + policy_bytes + owner_bytes + job_bytes + stack_bytes + VDSO_ROOM +
                      PAGE_BYTES;
    uint64_t start = memory_hole(restoring, length), at = start;
    struct last_plan *made;

    if (!threads || !start)
        return threads ? -ENOMEM : -EBADMSG;
    if (mmap((void *)start, length, PROT_READ | PROT_WRITE | PROT_EXEC,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
        return -errno;
    memcpy((void *)start, last_blob, sizeof last_blob);
    made = (struct last_plan *)(at += code);
    made->arena_start = made->note.arena_start = start;
    made->arena_length = made->note.arena_length = length;
    made->operations = (struct last_operation *)(at += plan);
    made->threads = (struct last_thread *)(at += operation_bytes);
    made->thread_count = threads;
    made->note.timers = at += thread_bytes;
    made->note.timer_count = timers;
    made->note.waiting = at += timer_bytes;
    made->note.waiting_count = waiting;
    made->memory_policies = (struct last_memory_policy *)(at += waiting_bytes);
    made->memory_policy_count = policies;
    made->owners = (struct last_owner *)(at += policy_bytes);
    made->owner_count = owners;
    made->note.jobs = at += owner_bytes;
    made->note.job_count = jobs;
    made->stacks = at += job_bytes;
    made->vdso_parking = at + stack_bytes;
    made->together = (struct last_together *)(at + stack_bytes + VDSO_ROOM);
    restoring->plan = made;
    /* old size 0: a second mapping of shared memory, mremap(2) */
    return mremap(together, 0, PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, made->together) == MAP_FAILED ? -errno : 0;
}

int plan_jump(struct restoring *restoring)
{
    struct last_plan *plan = restoring->plan;
    int executable = restoring->highest + 1;
    uint64_t stack = plan->vdso_parking - 64;

    /* the executable's descriptor just above the program's; all that is ours behind it goes */
    if (restoring->executable != executable && dup2(restoring->executable, executable) < 0)
        return EXIT_SYSTEM;
    plan->mm.exe_fd = (uint32_t)executable;
    close_range((unsigned)executable + 1, (unsigned)restoring->own_end - 1, 0);
    if (locks_take_again(restoring)) /* a stream of the command's may have been a file that the program has locked */
        return EXIT_SYSTEM;
    plan->is_on_host = (uint32_t)restoring->is_on_host;
    numbers_let_go(plan);
    /* left registered, the kernel would kill us once its page is gone (rseq(2)) */
    syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, RSEQ_LENGTH, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%1\n\t"
                     "ud2"
                     :
                     : "r"(stack), "r"(plan->arena_start), "D"(plan), "S"(0L)
                     : "memory");
    __builtin_unreachable();
}
