/* SPDX-License-Identifier: MIT */
/* traits WHAT SECONDS: threads that each have something of their own: scheduling, personality, memory policy, rights. Each looks
 * at it at every tick. */
#include "guest.h"

#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>

struct attributes { /* struct sched_attr of linux/sched/types.h */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};
enum { RESET_ON_FORK = 1, DEADLINE = 6, IO_BEST_EFFORT = 2 << 13, IO_IDLE = 3 << 13, IO_REAL_TIME = 1 << 13 };

static int set_policy(uint32_t policy, uint64_t flags, int nice, uint32_t priority, uint64_t runtime)
{
    struct attributes wanted = { .size = sizeof wanted, .policy = policy, .flags = flags, .nice = nice, .priority = priority,
                                 .runtime = runtime };
    if (policy == DEADLINE)
        wanted.deadline = wanted.period = 10 * runtime;
    return !syscall(SYS_sched_setattr, 0, &wanted, 0);
}

static int has_policy(uint32_t policy, uint64_t flags, int nice, uint32_t priority, uint64_t runtime)
{
    struct attributes is;

    return !syscall(SYS_sched_getattr, 0, &is, sizeof is, 0) && is.policy == policy && (is.flags & 7) == flags && is.nice == nice &&
           is.priority == priority && (!runtime || is.runtime == runtime);
}

static int set_io(int priority)
{
    return !syscall(SYS_ioprio_set, 1, 0, priority);
}

static int has_io(int priority)
{
    return syscall(SYS_ioprio_get, 1, 0) == priority;
}

/* ---- scheduling that anybody may set ---- */

static int make_batch(void) { return set_policy(SCHED_BATCH, 0, 3, 0, 0) && set_io(IO_BEST_EFFORT | 6); }
static int is_batch(void) { return has_policy(SCHED_BATCH, 0, 3, 0, 0) && has_io(IO_BEST_EFFORT | 6); }
static int make_idle(void) { return set_policy(SCHED_IDLE, 0, 0, 0, 0) && set_io(IO_IDLE); }
static int is_idle(void) { return has_policy(SCHED_IDLE, 0, 0, 0, 0) && has_io(IO_IDLE); }
static int make_reset(void) { return set_policy(SCHED_OTHER, RESET_ON_FORK, 7, 0, 0); }
static int is_reset(void) { return has_policy(SCHED_OTHER, RESET_ON_FORK, 7, 0, 0); }

/* From Linux 6.12 on the ordinary policy has a slice. */
static uint64_t slice;
static int make_slice(void)
{
    struct attributes is;

    if (!set_policy(SCHED_OTHER, 0, 1, 0, 20000000) || syscall(SYS_sched_getattr, 0, &is, sizeof is, 0))
        return 0;
    slice = is.runtime;
    return 1;
}
static int has_slice(void) { return has_policy(SCHED_OTHER, 0, 1, 0, slice); }

static int bind_to_last(void)
{
    cpu_set_t own, last;
    int cpu = CPU_SETSIZE - 1;

    sched_getaffinity(0, sizeof own, &own);
    while (cpu > 0 && !CPU_ISSET(cpu, &own))
        cpu--;
    CPU_ZERO(&last);
    CPU_SET(cpu, &last);
    return !sched_setaffinity(0, sizeof last, &last);
}

static int is_bound(void)
{
    cpu_set_t own;

    return !sched_getaffinity(0, sizeof own, &own) && CPU_COUNT(&own) == 1;
}

/* ---- and that takes rights ---- */

static int make_fifo(void) { return set_policy(SCHED_FIFO, RESET_ON_FORK, 0, 7, 0) && set_io(IO_REAL_TIME | 3); }
static int is_fifo(void) { return has_policy(SCHED_FIFO, RESET_ON_FORK, 0, 7, 0) && has_io(IO_REAL_TIME | 3); }
static int make_round(void) { return set_policy(SCHED_RR, 0, 0, 2, 0); }
static int is_round(void) { return has_policy(SCHED_RR, 0, 0, 2, 0); }
static int make_deadline(void) { return set_policy(DEADLINE, 0, 0, 0, 500000); }
static int is_deadline(void) { return has_policy(DEADLINE, 0, 0, 0, 500000); }

/* ---- personality ---- */

static int make_personality(void) { return personality(ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS) != -1; }
static int is_personality(void) { return personality(~0U) == (ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS); }
static int make_old(void) { return personality(UNAME26) != -1; }
static int is_old(void)
{
    struct utsname name;

    return !uname(&name) && !strncmp(name.release, "2.6.", 4);
}
static int make_executable(void) { return personality(READ_IMPLIES_EXEC) != -1; }
static int is_executable(void) /* memory that is mapped for reading can be run: 0xc3 is `ret` */
{
    uint8_t *code = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *code = 0xc3;
    ((void (*)(void))code)();
    return !munmap(code, GUEST_PAGE) && personality(~0U) == READ_IMPLIES_EXEC;
}

/* ---- what prctl sets ---- */

static __thread sigjmp_buf back;
static void on_fault(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

static int make_blind(void)
{
    signal(SIGSEGV, on_fault);
    return !prctl(PR_SET_TSC, PR_TSC_SIGSEGV) && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_PDEATHSIG, SIGWINCH);
}

static int is_blind(void) /* reading the time stamp counter is a fault */
{
    int death = 0;

    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_PDEATHSIG, &death) || death != SIGWINCH)
        return 0;
    if (sigsetjmp(back, 1))
        return 1;
    __builtin_ia32_rdtsc();
    return 0;
}

static int speculation[2];
static int make_careful(void)
{
    for (int i = 0; i < 2; i++) {
        if (prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0) & PR_SPEC_PRCTL)
            prctl(PR_SET_SPECULATION_CTRL, i, PR_SPEC_DISABLE, 0, 0);
        speculation[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
    }
    return !prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
}

static int is_careful(void)
{
    return prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0) == speculation[0] &&
           prctl(PR_GET_SPECULATION_CTRL, 1, 0, 0, 0) == speculation[1] && prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY;
}

static int is_plain(void)
{
    int tsc = 0, death = 0;

    return !prctl(PR_GET_TSC, &tsc) && tsc == PR_TSC_ENABLE && !prctl(PR_GET_PDEATHSIG, &death) && !death &&
           !prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) && prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_DEFAULT;
}

static int number_in(const char *path, int base)
{
    char text[64] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    close(fd);
    return got <= 0 ? -1 : (int)strtol(text, NULL, base);
}

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), failed = fd < 0 || write(fd, text, strlen(text)) < 0;

    close(fd);
    return !failed;
}

static int make_victim(void) { return write_text("/proc/self/oom_score_adj", "321") && write_text("/proc/self/coredump_filter", "0x12"); }
static int is_victim(void) { return number_in("/proc/self/oom_score_adj", 10) == 321 && number_in("/proc/self/coredump_filter", 16) == 0x12; }
static int make_spared(void) { return write_text("/proc/self/oom_score_adj", "-321"); }
static int is_spared(void) { return number_in("/proc/self/oom_score_adj", 10) == -321; }

/* ---- memory policies ---- */

enum { RANGE = 16 * GUEST_PAGE };
static uint8_t *ranges[3];

static int set_memory(int mode, unsigned long nodes) { return !syscall(SYS_set_mempolicy, mode, &nodes, 64); }
static int has_memory(int mode, unsigned long nodes, void *address)
{
    unsigned long is[16] = { 0 };
    int policy = -1;

    return !syscall(SYS_get_mempolicy, &policy, is, 1024, address, address ? MPOL_F_ADDR : 0) && policy == mode && is[0] == nodes;
}

static int make_interleaved(void)
{
    static const int modes[] = { MPOL_BIND, MPOL_PREFERRED | MPOL_F_STATIC_NODES, MPOL_INTERLEAVE };
    unsigned long node = 1;

    for (int i = 0; i < 3; i++) {
        int sharing = i == 2 ? MAP_SHARED : MAP_PRIVATE;
        ranges[i] = mmap(NULL, 3 * RANGE, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
        memset(ranges[i], 'a' + i, 3 * RANGE);
        if (syscall(SYS_mbind, ranges[i] + RANGE, RANGE, modes[i], &node, 64, 0))
            return 0;
    }
    return set_memory(MPOL_INTERLEAVE, 1);
}

static int is_interleaved(void)
{
    for (int i = 0; i < 3; i++)
        if (ranges[i][RANGE + 5] != 'a' + i || !has_memory(MPOL_DEFAULT, 0, ranges[i]) ||
            !has_memory(MPOL_DEFAULT, 0, ranges[i] + 2 * RANGE))
            return 0;
    return has_memory(MPOL_INTERLEAVE, 1, NULL) && has_memory(MPOL_BIND, 1, ranges[0] + RANGE) &&
           has_memory(MPOL_PREFERRED | MPOL_F_STATIC_NODES, 1, ranges[1] + 2 * RANGE - 1) &&
           has_memory(MPOL_INTERLEAVE, 1, ranges[2] + RANGE);
}

static int make_local(void) { return set_memory(MPOL_LOCAL, 0); }
static int is_local(void) { return has_memory(MPOL_LOCAL, 0, NULL); }
static int is_without(void) { return has_memory(MPOL_DEFAULT, 0, NULL); }

static int make_relative(void)
{
    unsigned long node = 1;

    ranges[0] = mmap(NULL, RANGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return !syscall(SYS_mbind, ranges[0], RANGE, MPOL_BIND | MPOL_F_RELATIVE_NODES, &node, 64, 0);
}

static int set_far(void)
{
    return set_memory(MPOL_PREFERRED | MPOL_F_STATIC_NODES, 1UL << 0);
}

/* ---- rights ---- */

static int change_capabilities(uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    for (int i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){ (uint32_t)(permitted >> 32 * i), (uint32_t)(permitted >> 32 * i),
                                                   (uint32_t)(inheritable >> 32 * i) };
    return !syscall(SYS_capset, &header, data);
}

static int has_capabilities(uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    return !syscall(SYS_capget, &header, data) && data[0].permitted == (uint32_t)permitted && data[0].effective == (uint32_t)permitted &&
           data[0].inheritable == (uint32_t)inheritable && data[1].permitted == (uint32_t)(permitted >> 32);
}

enum { FEW = 1 << CAP_NET_RAW | 1 << CAP_SETPCAP | 1 << CAP_CHOWN, ONE = 1 << CAP_NET_RAW };
enum { BITS = SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE };

static int make_ambient(void)
{
    return change_capabilities(FEW, ONE) && !prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) &&
           !prctl(PR_SET_SECUREBITS, BITS, 0, 0, 0) && change_capabilities(ONE, ONE);
}

static int is_ambient(void)
{
    return has_capabilities(ONE, ONE) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0) == 1 &&
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 0 && prctl(PR_GET_SECUREBITS) == BITS;
}

static int make_powerless(void) { return change_capabilities(0, 0); }
static int is_powerless(void) { return has_capabilities(0, 0); }
static int is_powerful(void) { return prctl(PR_GET_SECUREBITS) == 0 && !has_capabilities(ONE, ONE) && !has_capabilities(0, 0); }
static int make_flusher(void) { return !prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }
static int is_flusher(void) { return prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1; }

static int make_keyring(void) { return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1) > 0; }
static int make_other_user(void) { return !syscall(SYS_setresuid, -1, 65534, -1); }
static int make_filtered(void)
{
    struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    struct sock_fprog program = { 1, code };

    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int nothing(void) { return 1; }

/* ---- who does what ---- */

struct part {
    int (*make)(void);
    int (*works)(void);
};

static const struct thing {
    const char *name;
    struct part parts[4]; /* the main thread's first */
} things[] = {
    { "ordinary", { { make_batch, is_batch }, { make_idle, is_idle }, { make_reset, is_reset }, { make_slice, has_slice } } },
    { "nothing", { { nothing, nothing } } },
    { "bound-elsewhere", { { nothing, nothing }, { bind_to_last, nothing } } },
    { "bound", { { nothing, nothing }, { bind_to_last, is_bound } } },
    { "bound-main", { { bind_to_last, is_bound } } },
    { "real-time", { { make_fifo, is_fifo }, { make_round, is_round }, { make_deadline, is_deadline } } },
    { "personality", { { make_personality, is_personality }, { make_old, is_old }, { make_executable, is_executable } } },
    { "prctl", { { nothing, is_plain }, { make_blind, is_blind }, { make_careful, is_careful }, { make_victim, is_victim } } },
    { "blind", { { make_blind, is_blind } } },
    { "spared", { { make_spared, is_spared } } },
    { "memory", { { make_interleaved, is_interleaved }, { make_local, is_local } } },
    { "memory-thread", { { nothing, is_without }, { set_far, nothing } } },
    { "relative", { { make_relative, nothing } } },
    { "rights", { { nothing, is_powerful }, { make_ambient, is_ambient }, { make_powerless, is_powerless } } },
    { "flusher", { { nothing, nothing }, { make_flusher, is_flusher } } },
    { "keyring", { { nothing, nothing }, { make_keyring, nothing } } },
    { "filter", { { nothing, nothing }, { make_filtered, nothing } } },
    { "other-user", { { nothing, nothing }, { make_other_user, nothing } } },
};
enum { THINGS = sizeof things / sizeof things[0], PARTS = 4 };

static const struct thing *thing;
static pthread_barrier_t made;
static volatile int over;

static void make(const struct part *part)
{
    if (!part->make()) {
        printf("CANNOT %s %d: %s\n", thing->name, (int)(part - thing->parts), strerror(errno));
        fflush(stdout);
        _exit(3);
    }
}

static void look(const struct part *part)
{
    if (!part->works())
        bad("%s: part %d is not as it was", thing->name, (int)(part - thing->parts));
}

static void *run(void *argument)
{
    const struct part *part = argument;

    make(part);
    pthread_barrier_wait(&made);
    while (!over) {
        look(part);
        usleep(10000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 2, 2);
    pthread_t threads[PARTS];
    unsigned count = 1;

    for (int i = 0; argc > 1 && i < THINGS; i++)
        if (!strcmp(things[i].name, argv[1]))
            thing = &things[i];
    if (!thing)
        return 2;
    while (count < PARTS && thing->parts[count].make)
        count++;
    pthread_barrier_init(&made, NULL, count);
    for (unsigned i = 1; i < count; i++)
        pthread_create(&threads[i], NULL, run, (void *)&thing->parts[i]);
    make(&thing->parts[0]);
    pthread_barrier_wait(&made);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        look(&thing->parts[0]);
        tick_sleep();
    }
    over = 1;
    for (unsigned i = 1; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("OK traits %s\n", thing->name);
    return 0;
}
