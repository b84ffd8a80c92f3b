/* SPDX-License-Identifier: MIT */
/* The last stage. It runs in the arena with nothing but the plan: no libc, no TLS, no old memory. It only moves and
 * maps; what it moves was verified before. Steps are numbered because their order is law.
 *
 * On entry: the first thread, all signals blocked, no rseq registered, descriptors as they are to be but for the
 * executable's; and each of the others, if they were made before. It leaves: the process of the image, every thread at its context in the shim. */
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/mempolicy.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "../core/floor/arch/x86_64/context.h"
#include "../core/floor/syscalls.h"
#include "../core/floor/text.h"
#include "../core/kinds/mapping_flags.h"
#include "../core/kinds/last_plan.h"

#define ADDRESS_END UINT64_C(0x7ffffffff000)

enum { LAST_PATIENCE_SECONDS = 60 };

__attribute__((noreturn, section(".text.entry"), used)) void last_stage(struct last_plan *plan, uint64_t index);

static struct last_together *together; /* with the others; NULL: not yet */

static __attribute__((noreturn)) void die(const char *what, long error)
{
    char line[160];
    size_t at = text_add(line, sizeof line, 0, "stasis: restart failed in its last stage: ");
    sys_write(2, line, text_add_error(line, sizeof line, at, what, error));
    if (together) {
        __atomic_store_n(&together->failed, EXIT_INTERNAL, __ATOMIC_SEQ_CST);
        sys_futex(&together->standing, FUTEX_WAKE, INT_MAX, NULL);
    }
    sys_exit_group(EXIT_INTERNAL);
}

static void must(long result, const char *what)
{
    if (result < 0 && result > -4096)
        die(what, result);
}

static void move(uint64_t from, uint64_t old_length, uint64_t length, uint64_t to, const char *what)
{
    long got = SYS_CALL(mremap, from, old_length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to, 0);
    if (got != (long)to)
        die(what, got);
}

/* 1. The kernel's own parts aside; they cannot be made again. */
static void park_vdso(const struct last_plan *plan)
{
    uint64_t at = plan->vdso_parking;
    for (int i = 0; i < LAST_VDSO_PARTS && plan->vdso_now[i].start; i++) {
        uint64_t length = plan->vdso_now[i].end - plan->vdso_now[i].start;
        move(plan->vdso_now[i].start, length, length, at, "vdso aside");
        at += length;
    }
}

static void unmap(uint64_t start, uint64_t end)
{
    if (start < end)
        must(sys_munmap((void *)start, end - start), "unmap");
}

/* 2. Everything else away, but for the arena and the staging area. */
static void unmap_rest(const struct last_plan *plan)
{
    struct last_range keep[2] = { { plan->arena_start, plan->arena_start + plan->arena_length }, plan->staging };
    int lower = keep[0].start > keep[1].start;

    unmap(0, keep[lower].start);
    unmap(keep[lower].end, keep[!lower].start);
    unmap(keep[!lower].end, ADDRESS_END);
}

/* Locked memory is filled by that; without rights it cannot be, and is locked all the same: so only a refusal counts. */
static void lock(const struct last_operation *operation)
{
    long error = operation->advice_flags & MAPPING_LOCKED_ON_FAULT
                     ? SYS_CALL(mlock2, operation->to, operation->length, 1 /* MLOCK_ONFAULT */, 0, 0, 0)
                     : SYS_CALL(mlock, operation->to, operation->length, 0, 0, 0, 0);
    if (error == -EPERM)
        die("lock memory", error);
}

static void finish(const struct last_operation *operation)
{
    if (operation->name)
        sys_prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, operation->to, operation->length, operation->name);
    if (operation->advice_flags & MAPPING_LOCKED)
        lock(operation);
}

/* Without droppable memory, such a mapping is one of zeros that are wiped on fork. */
static void map_fresh(const struct last_operation *operation)
{
    int flags = (int)operation->map_flags | MAP_FIXED_NOREPLACE, protection = (int)operation->protection;
    void *got = sys_mmap((void *)operation->to, operation->length, protection, flags, -1, 0);

    if ((long)got == -EINVAL && operation->advice_flags & MAPPING_DROPPABLE)
        got = sys_mmap((void *)operation->to, operation->length, protection,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != (void *)operation->to)
        die("map memory", (long)got);
}

static void advise(const struct last_operation *operation)
{
    for (int i = 0; i < MAPPING_ADVICES; i++)
        if (operation->advice_flags & mapping_advices[i].flag)
            sys_madvise((void *)operation->to, operation->length, mapping_advices[i].advice);
}

/* 3. The image's mappings to their places. */
static void do_operation(const struct last_operation *operation)
{
    switch (operation->kind) {
    case LAST_MOVE:
        move(operation->from, operation->length, operation->length, operation->to, "move memory");
        finish(operation);
        return;
    case LAST_FILL:
        memcpy((void *)operation->to, (const void *)operation->from, operation->length);
        return;
    case LAST_DISCARD:
        sys_madvise((void *)operation->to, operation->length, MADV_DONTNEED);
        return;
    case LAST_PROTECT:
        must(SYS_CALL(mprotect, operation->to, operation->length, operation->protection, 0, 0, 0), "protect");
        return;
    case LAST_KEY:
        must(SYS_CALL(pkey_mprotect, operation->to, operation->length, operation->protection, operation->map_flags, 0, 0), "key");
        return;
    case LAST_GUARD:
        must(sys_madvise((void *)operation->to, operation->length, MAPPING_ADVICE_GUARD_INSTALL), "guard page");
        return;
    case LAST_SEAL:
        must(sys_call6(SYS_MSEAL, (long)operation->to, (long)operation->length, 0, 0, 0, 0), "seal");
        return;
    default:
        map_fresh(operation);
    }
    advise(operation);
    finish(operation);
}

/* 4. vdso back, where the program knows it to be. */
static void place_vdso(const struct last_plan *plan)
{
    uint64_t at = plan->vdso_parking;
    for (int i = 0; i < LAST_VDSO_PARTS && plan->vdso_then[i].start; i++) {
        uint64_t length = plan->vdso_then[i].end - plan->vdso_then[i].start;
        move(at, length, length, plan->vdso_then[i].start, "vdso back");
        at += length;
    }
}

/* 5. What belongs to the process as a whole. */
static void set_process(struct last_plan *plan)
{
    int executable = (int)plan->mm.exe_fd;

    if (plan->is_on_host)
        plan->mm.exe_fd = ~0U;
    must(sys_prctl(PR_SET_MM, PR_SET_MM_MAP, (uint64_t)&plan->mm, sizeof plan->mm, 0), "PR_SET_MM_MAP");
    sys_close(executable);
    if (plan->lock_future)
        must(SYS_CALL(mlockall, plan->lock_future, 0, 0, 0, 0, 0), "lock memory to come");
    if (plan->thp_disabled) /* from 6.18 on there are flags beside the 1 */
        sys_prctl(PR_SET_THP_DISABLE, 1, plan->thp_disabled & ~1U, 0, 0);
    if (plan->merges)
        sys_prctl(67 /* PR_SET_MEMORY_MERGE, 6.4 */, 1, 0, 0, 0);
    for (uint32_t command = 1; command; command <<= 1) /* while there is one thread: it is slow with more */
        if (plan->barriers & command)
            SYS_CALL(membarrier, command, 0, 0, 0, 0, 0);
    for (int i = 0; i < AGENT_SIGNALS; i++)
        if (i + 1 != SIGKILL && i + 1 != SIGSTOP)
            must(sys_rt_sigaction(i + 1, &plan->actions[i], NULL), "signal action");
    *(struct restart_note *)plan->note_address = plan->note;
}

/* 6. The other threads; each starts in thread_enter on a stack of the arena. A TID may still belong to a helper
 * thread of the hosted stage for a moment. */
static __attribute__((noreturn, noinline, used)) void thread_enter(struct last_plan *plan, uint64_t index);

static void make_thread(struct last_plan *plan, uint64_t index)
{
    const struct agent_thread *thread = &plan->threads[index].thread;
    uint32_t tid = thread->tid;
    struct clone_args arguments = {
        .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                 CLONE_CHILD_CLEARTID,
        .child_tid = thread->clear_child_tid,
        .stack = plan->stacks + index * LAST_STACK_BYTES,
        .stack_size = LAST_STACK_BYTES,
        .tls = thread->fs_base,
        .set_tid = (uint64_t)&tid,
        .set_tid_size = 1,
    };
    long result;

    for (int tries = 0; tries < 100000; tries++) {
        register struct last_plan *first __asm__("r12") = plan;
        register uint64_t second __asm__("r13") = index;
        __asm__ volatile("syscall\n\t"
                         "test %%rax, %%rax\n\t"
                         "jnz 1f\n\t"
                         "xor %%ebp, %%ebp\n\t"
                         "mov %%r12, %%rdi\n\t"
                         "mov %%r13, %%rsi\n\t"
                         "call thread_enter\n\t"
                         "ud2\n"
                         "1:"
                         : "=a"(result)
                         : "a"(SYS_clone3), "D"(&arguments), "S"(sizeof arguments), "r"(first), "r"(second)
                         : "rcx", "r11", "memory");
        if (result != -EEXIST)
            break;
        SYS_CALL(sched_yield, 0, 0, 0, 0, 0, 0);
    }
    must(result, "thread");
}

/* What could not be set here the check has said. The personality goes last: READ_IMPLIES_EXEC changes how memory is mapped. */
static void set_traits(const struct agent_traits *traits)
{
    if (traits->no_new_privileges)
        sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    sys_prctl(PR_SET_PDEATHSIG, traits->parent_death, 0, 0, 0);
    for (int i = 0; i < AGENT_SPECULATIONS; i++)
        if (traits->speculation[i] & PR_SPEC_PRCTL && traits->speculation[i] & ~(uint32_t)(PR_SPEC_PRCTL | PR_SPEC_ENABLE))
            sys_prctl(PR_SET_SPECULATION_CTRL, i, traits->speculation[i] & ~(uint32_t)PR_SPEC_PRCTL, 0, 0);
    if (traits->io_flusher)
        sys_prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    sys_prctl(PR_MCE_KILL, PR_MCE_KILL_SET, traits->machine_check, 0, 0);
    SYS_CALL(set_mempolicy, traits->memory_policy, traits->memory_policy ? traits->nodes : 0, sizeof traits->nodes * 8 + 1, 0, 0, 0);
    if (traits->tsc == PR_TSC_SIGSEGV)
        must(sys_prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0), "PR_SET_TSC");
    if (traits->cpuid == 1)
        must(SYS_CALL(arch_prctl, ARCH_SET_CPUID, 0, 0, 0, 0, 0), "ARCH_SET_CPUID");
    must(SYS_CALL(personality, traits->personality, 0, 0, 0, 0, 0), "personality");
}

/* Before the niceness, which it sets, too: to what the restart has, as another may be forbidden. */
static void set_policy(const struct last_thread *last)
{
    long error = last->scheduling.size ? SYS_CALL(sched_setattr, 0, &last->scheduling, 0, 0, 0, 0) : 0;

    if (last->scheduling_must)
        must(error, "scheduling policy");
}

/* 7. What every thread sets for itself, up to the capabilities that let it come so far. */
static void set_thread(const struct last_plan *plan, const struct last_thread *last)
{
    const struct agent_thread *thread = &last->thread;

    if (thread->rseq)
        must(SYS_CALL(rseq, thread->rseq, thread->rseq_length, 0, thread->rseq_signature, 0, 0), "rseq");
    if (thread->robust_list)
        must(SYS_CALL(set_robust_list, thread->robust_list, thread->robust_length, 0, 0, 0, 0), "robust list");
    if (thread->gs_base)
        must(SYS_CALL(arch_prctl, ARCH_SET_GS, thread->gs_base, 0, 0, 0, 0), "GS base");
    sys_prctl(PR_SET_NAME, (uint64_t)last->name, 0, 0, 0);
    sys_prctl(PR_SET_TIMERSLACK, thread->timer_slack, 0, 0, 0);
    set_policy(last);
    SYS_CALL(setpriority, 0 /* PRIO_PROCESS: this thread */, 0, last->nice, 0, 0, 0);
    if (last->io_priority)
        SYS_CALL(ioprio_set, 1 /* IOPRIO_WHO_PROCESS: a thread */, 0, last->io_priority, 0, 0, 0);
    SYS_CALL(sched_setaffinity, 0, sizeof last->affinity, last->affinity, 0, 0, 0); /* CPUs that are not here are left out */
    if (last->has_traits)
        set_traits(&last->traits);
    else if (plan->no_new_privileges)
        sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Memory that lies elsewhere is moved: it was filled before its policy was known. */
static void set_memory_policies(const struct last_plan *plan)
{
    for (uint32_t i = 0; i < plan->memory_policy_count; i++) {
        const struct last_memory_policy *range = &plan->memory_policies[i];
        SYS_CALL(mbind, range->start, range->end - range->start, range->policy, range->nodes, sizeof range->nodes * 8 + 1, MPOL_MF_MOVE);
    }
}

static void set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    for (int i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){ .effective = (uint32_t)(effective >> 32 * i),
                                                   .permitted = (uint32_t)(permitted >> 32 * i),
                                                   .inheritable = (uint32_t)(inheritable >> 32 * i) };
    must(SYS_CALL(capset, &header, data, 0, 0, 0, 0), "capabilities");
}

/* Ambient ones and secure bits are set while there is the right to: ambient ones must be inheritable before, and what is
 * inheritable within the bounding set when it is set. */
static void set_ambient(const struct agent_traits *traits)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { 0 };
    uint64_t permitted;

    SYS_CALL(capget, &header, data, 0, 0, 0, 0);
    permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
    set_capabilities(permitted, permitted, traits->capabilities[2]);
    for (int i = 0; i < 64; i++)
        if (traits->capabilities[3] >> i & 1)
            must(sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (uint64_t)i, 0, 0), "ambient capability");
    if (sys_prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != traits->secure_bits)
        must(sys_prctl(PR_SET_SECUREBITS, traits->secure_bits, 0, 0, 0), "secure bits");
}

static void drop_capabilities(const struct last_plan *plan, const struct last_thread *last)
{
    const uint64_t *then = last->has_traits ? last->traits.capabilities : plan->capabilities;

    if (last->has_traits)
        set_ambient(&last->traits);
    for (int capability = 0; sys_prctl(PR_CAPBSET_READ, (uint64_t)capability, 0, 0, 0) >= 0; capability++)
        if (!(plan->capabilities[3] >> capability & 1))
            sys_prctl(PR_CAPBSET_DROP, (uint64_t)capability, 0, 0, 0);
    set_capabilities(then[0], then[1], then[2]);
}

/* When all threads are there: one of them may be meant. Signals wait until they have their masks again. */
static void set_owners(const struct last_plan *plan)
{
    for (uint32_t i = 0; i < plan->owner_count; i++) {
        const struct last_owner *owner = &plan->owners[i];
        int32_t who[2] = { owner->type, owner->pid }; /* struct f_owner_ex */
        if (owner->pid)
            must(SYS_CALL(fcntl, owner->number, F_SETOWN_EX, who, 0, 0, 0), "owner of a descriptor");
        if (owner->signal)
            must(SYS_CALL(fcntl, owner->number, F_SETSIG, owner->signal, 0, 0, 0), "signal of a descriptor");
        if (owner->asynchronous)
            must(SYS_CALL(fcntl, owner->number, F_SETFL, SYS_CALL(fcntl, owner->number, F_GETFL, 0, 0, 0, 0) | O_ASYNC, 0, 0, 0), "O_ASYNC");
    }
}

/* All processes: one that is killed on its way here would be waited for in vain. */
static void await_processes(struct last_together *all)
{
    struct timespec patience = { .tv_sec = LAST_PATIENCE_SECONDS };
    uint32_t standing;

    while ((standing = __atomic_load_n(&all->standing, __ATOMIC_SEQ_CST)) < all->processes) {
        if (__atomic_load_n(&all->failed, __ATOMIC_SEQ_CST))
            sys_exit_group((int)all->failed);
        if (sys_futex(&all->standing, FUTEX_WAIT, standing, &patience) == -ETIMEDOUT &&
            __atomic_load_n(&all->standing, __ATOMIC_SEQ_CST) == standing)
            die("another process does not come", -ETIMEDOUT);
    }
}

/* 8. A barrier: nobody runs the program's code while another thread of it is missing, or another process: a TID that one of them
 * still has to get could be given to a new one. */
static __attribute__((noreturn)) void go(struct last_plan *plan, const struct last_thread *last)
{
    uint32_t ready = __atomic_add_fetch(&plan->ready, 1, __ATOMIC_SEQ_CST);

    sys_futex(&plan->ready, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
    while (ready < plan->thread_count) {
        sys_futex(&plan->ready, FUTEX_WAIT_PRIVATE, ready, NULL);
        ready = __atomic_load_n(&plan->ready, __ATOMIC_SEQ_CST);
    }
    if (last == &plan->threads[0]) {
        set_owners(plan);
        __atomic_add_fetch(&plan->together->standing, 1, __ATOMIC_SEQ_CST);
        sys_futex(&plan->together->standing, FUTEX_WAKE, INT_MAX, NULL);
    }
    await_processes(plan->together);
    drop_capabilities(plan, last);
    context_jump((const struct context *)last->thread.context);
}

static void thread_enter(struct last_plan *plan, uint64_t index)
{
    set_thread(plan, &plan->threads[index]);
    go(plan, &plan->threads[index]);
}

/* 6. again, of a thread that was made before. Until all are here, some still stand in what is to be unmapped. */
static __attribute__((noreturn)) void held_enter(struct last_plan *plan, uint64_t index)
{
    const struct agent_thread *thread = &plan->threads[index].thread;

    __atomic_add_fetch(&plan->come, 1, __ATOMIC_SEQ_CST);
    sys_futex(&plan->come, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
    while (!__atomic_load_n(&plan->placed, __ATOMIC_SEQ_CST))
        sys_futex(&plan->placed, FUTEX_WAIT_PRIVATE, 0, NULL);
    must(SYS_CALL(set_tid_address, thread->clear_child_tid, 0, 0, 0, 0, 0), "TID address");
    must(SYS_CALL(arch_prctl, ARCH_SET_FS, thread->fs_base, 0, 0, 0, 0), "FS base");
    thread_enter(plan, index);
    __builtin_unreachable();
}

static void await_held(struct last_plan *plan)
{
    uint32_t come;

    while ((come = __atomic_load_n(&plan->come, __ATOMIC_SEQ_CST)) < plan->held)
        sys_futex(&plan->come, FUTEX_WAIT_PRIVATE, come, NULL);
}

static void let_held_go(struct last_plan *plan)
{
    __atomic_store_n(&plan->placed, 1, __ATOMIC_SEQ_CST);
    sys_futex(&plan->placed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}

void last_stage(struct last_plan *plan, uint64_t index)
{
    const struct last_thread *first = &plan->threads[0];
    const uint64_t all = ~UINT64_C(0);

    if (index)
        held_enter(plan, index);
    await_held(plan);
    together = plan->together;
    sys_rt_sigprocmask(SIG_BLOCK, &all, NULL); /* libc leaves those out that it has for itself */
    park_vdso(plan);
    unmap_rest(plan);
    for (uint32_t i = 0; i < plan->operation_count; i++)
        do_operation(&plan->operations[i]);
    unmap(plan->staging.start, plan->staging.end);
    place_vdso(plan);
    set_memory_policies(plan);
    set_process(plan);
    must(SYS_CALL(set_tid_address, first->thread.clear_child_tid, 0, 0, 0, 0, 0), "TID address");
    must(SYS_CALL(arch_prctl, ARCH_SET_FS, first->thread.fs_base, 0, 0, 0, 0), "FS base");
    for (uint32_t i = 1; i < plan->thread_count && !plan->held; i++)
        make_thread(plan, i);
    let_held_go(plan);
    set_thread(plan, first);
    sys_prctl(PR_SET_CHILD_SUBREAPER, plan->subreaper, 0, 0, 0);
    if (!first->has_traits) {
        sys_prctl(PR_SET_KEEPCAPS, plan->keep_capabilities, 0, 0, 0);
        sys_prctl(PR_SET_PDEATHSIG, plan->parent_death, 0, 0, 0);
    }
    if (plan->no_exec_gain)
        must(sys_prctl(65 /* PR_SET_MDWE, 6.3 */, plan->no_exec_gain, 0, 0, 0), "PR_SET_MDWE");
    sys_prctl(PR_SET_DUMPABLE, plan->dumpable == 1, 0, 0, 0); /* 2 is the kernel's to set: the next stricter one */
    go(plan, first);
}
