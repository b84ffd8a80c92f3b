/* SPDX-License-Identifier: MIT */
/* awkward WHAT SECONDS: one of the things that programs do which are awkward for whoever wants to stop them just then. */
#include "guest.h"

#include <dlfcn.h>
#include <limits.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <setjmp.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <x86intrin.h>

enum { STOP = 63, STORM = 4, SPINNERS = 64, ALTERNATE_BYTES = 64 << 10 };

extern char **environ;
static volatile int stop;
static pthread_t threads[SPINNERS];
static volatile long turns[SPINNERS];

static void nothing(void)
{
}

static void start_threads(int count, void *(*run)(void *))
{
    for (intptr_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, run, (void *)i))
            bad("pthread_create: %s", strerror(errno));
}

/* Each of `count` threads must have gone on since the last tick, or do so now. */
static void all_go_on(int count)
{
    static long seen[SPINNERS];

    for (int i = 0; i < count; i++) {
        while (turns[i] == seen[i])
            tick_sleep();
        seen[i] = turns[i];
    }
}

/* ---- handlers: nested, on an alternate stack, left by longjmp, with a call inside ---- */

static sigjmp_buf out;
static volatile sig_atomic_t depth, deepest, jumps, nested;

static void on_second(int number)
{
    struct timespec time = { 0, 2000000 };

    (void)number;
    if (nanosleep(&time, NULL))
        bad("nanosleep in a handler: %s", strerror(errno));
    nested++;
}

static void on_first(int number)
{
    struct timespec time = { 0, 3000000 };

    if (++depth > deepest)
        deepest = depth;
    raise(SIGUSR2);
    if (nanosleep(&time, NULL))
        bad("nanosleep in a handler: %s", strerror(errno));
    depth--;
    if (number == SIGHUP) {
        jumps++;
        siglongjmp(out, 1);
    }
}

static void make_handlers(void)
{
    stack_t stack = { .ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES };
    struct sigaction first = { .sa_handler = on_first, .sa_flags = SA_ONSTACK };
    struct sigaction second = { .sa_handler = on_second, .sa_flags = SA_ONSTACK | SA_RESTART };

    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &first, NULL);
    sigaction(SIGHUP, &first, NULL);
    sigaction(SIGUSR2, &second, NULL);
}

/* The jump is out of a sleep, whose deadline must not be taken for that of another. */
static void use_handlers(void)
{
    static long tick;
    long before = nested, jumped = jumps;
    double start;

    tick++;
    if (!sigsetjmp(out, 1))
        raise(tick % 2 ? SIGUSR1 : SIGHUP);
    if (nested != before + 1 || jumps != jumped + !(tick % 2) || depth || deepest > 1)
        bad("handlers: nested %d, jumps %d, depth %d", (int)nested, (int)jumps, (int)depth);
    start = seconds_now();
    usleep(20000);
    if (seconds_now() - start < 0.019)
        bad("a sleep after a jump was over early");
}

/* ---- threads that come and go, at full speed; the allocator; the loader ---- */

static void *brief(void *argument)
{
    return argument;
}

static void *make_brief(void *self)
{
    while (!stop) {
        pthread_t thread;
        void *got;
        if (pthread_create(&thread, NULL, brief, self) || pthread_join(thread, &got) || got != self)
            bad("a brief thread");
        turns[(intptr_t)self]++;
    }
    return NULL;
}

static void start_brief(void)
{
    start_threads(STORM, make_brief);
}

static void *allocate(void *self)
{
    enum { BLOCKS = 200 };
    uint64_t *blocks[BLOCKS] = { NULL };

    for (uint64_t turn = 0; !stop; turn++) {
        uint64_t i = mix(turn) % BLOCKS, size = 2 + mix(turn * 7) % 5000;
        if (blocks[i] && (blocks[i][0] != i || blocks[i][1] != (uint64_t)(uintptr_t)blocks[i]))
            bad("a block of memory is not what it was");
        free(blocks[i]);
        blocks[i] = malloc(size * sizeof(uint64_t));
        blocks[i][0] = i;
        blocks[i][1] = (uint64_t)(uintptr_t)blocks[i];
        turns[(intptr_t)self]++;
    }
    return NULL;
}

static void start_allocating(void)
{
    start_threads(STORM, allocate);
}

static void *load(void *self)
{
    static const char *const libraries[] = { "libm.so.6", "libresolv.so.2", "libnss_files.so.2", "libBrokenLocale.so.1" };

    while (!stop) {
        void *handle = dlopen(libraries[(intptr_t)self % 4], RTLD_NOW);
        if (handle)
            dlclose(handle);
        turns[(intptr_t)self]++;
    }
    return NULL;
}

static void start_loading(void)
{
    start_threads(STORM, load);
}

static void go_on_storm(void)
{
    all_go_on(STORM);
}

static void *spin(void *self)
{
    while (!stop)
        turns[(intptr_t)self]++;
    return NULL;
}

static void start_spinning(void)
{
    start_threads(SPINNERS, spin);
}

static void go_on_spinning(void)
{
    static long tick;

    if (tick++ % 50 == 0) /* each of them gets a CPU only now and then */
        all_go_on(SPINNERS);
}

/* ---- descriptors ---- */

static char output[PATH_MAX];

static void open_output(void)
{
    if (open("/dev/null", O_RDONLY) != 0 || open(output, O_WRONLY | O_APPEND) != 1 || open("/dev/null", O_WRONLY) != 2)
        _exit(9);
}

static void close_all(void)
{
    if (!*output)
        readlink("/proc/self/fd/1", output, sizeof output - 1);
    for (int fd = 0; fd < 65535; fd++)
        close(fd);
    open_output();
    closefrom(0);
    open_output();
    syscall(SYS_close_range, 0, ~0U, 0);
    open_output();
}

static void use_up_descriptors(void)
{
    struct rlimit limit = { 40, 40 };

    if (setrlimit(RLIMIT_NOFILE, &limit))
        bad("RLIMIT_NOFILE");
    while (open("/dev/null", O_RDONLY) >= 0)
        ;
}

static void has_none_left(void)
{
    if (open("/dev/null", O_RDONLY) >= 0 || errno != EMFILE)
        bad("there is a descriptor left");
}

/* ---- limits ---- */

static uint64_t *shared; /* no twin has that: it is copied */

static void make_limits(void)
{
    struct rlimit small = { 4096, 4096 }, one = { 1, 1 };

    shared = mmap(NULL, 8 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (uint64_t i = 0; i < GUEST_PAGE; i++)
        shared[i] = mix(i);

    if (setrlimit(RLIMIT_FSIZE, &small) || setrlimit(RLIMIT_NPROC, &one) ||
        setrlimit(RLIMIT_AS, &(struct rlimit){ 64 << 20, 64 << 20 }))
        bad("setrlimit: %s", strerror(errno));
}

static void has_limits(void)
{
    struct rlimit limit;
    void *memory = mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory != MAP_FAILED || errno != ENOMEM)
        bad("RLIMIT_AS is not what it was");
    if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur != 4096)
        bad("RLIMIT_FSIZE is not what it was");
    for (uint64_t i = 0; i < GUEST_PAGE; i++)
        if (shared[i] != mix(i))
            bad("shared memory");
}

/* ---- signals all reset, all blocked ---- */

static void reset_signals(void)
{
    sigset_t all;

    for (int number = 1; number <= SIGRTMAX; number++)
        signal(number, number == SIGINT ? SIG_IGN : SIG_DFL);
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action = { .sa_handler = SIG_DFL };
        sigaction(number, &action, NULL);
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

static void signals_are_blocked(void)
{
    sigset_t now;

    if (sigprocmask(SIG_SETMASK, NULL, &now) || !sigismember(&now, SIGTERM) || !sigismember(&now, SIGRTMIN + 3))
        bad("the mask is not what was set");
}

/* Behind libc's back: the kernel's structure is handler, flags, restorer, mask. */
static void take_handler_away(void)
{
    static const uint64_t action[4];
    long result;
    register long size __asm__("r10") = 8;

    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_rt_sigaction), "D"((long)STOP), "S"(action), "d"(0L), "r"(size)
                     : "rcx", "r11", "memory");
    if (result)
        bad("rt_sigaction: %ld", result);
}

static void take_handler_when_told(void)
{
    if (!access("now", F_OK) && access("taken", F_OK)) {
        take_handler_away();
        mknod("taken", S_IFREG | 0644, 0);
    }
}

/* ---- system calls that may become signals ---- */

static volatile char selector;

/* All but those of libc's code. */
static void dispatch_calls(void)
{
    unsigned long start = 0, end = 0;
    char line[512], rights[8];
    FILE *maps = fopen("/proc/self/maps", "r");

    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "/libc.so") && sscanf(line, "%lx-%lx %7s", &start, &end, rights) == 3 && rights[2] == 'x')
            break;
    fclose(maps);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, start, end - start, &selector))
        bad("prctl: %s", strerror(errno));
    selector = SYSCALL_DISPATCH_FILTER_BLOCK;
    long pid = syscall(SYS_getpid); /* a SIGSYS would end us */
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    if (pid != getpid())
        bad("syscall() gives %ld", pid);
}

/* ---- a thread that blocks all, behind libc's back: the others must not stand still for it ---- */

static void *block_all(void *argument)
{
    uint64_t all = ~UINT64_C(0);
    long result;
    register long size __asm__("r10") = 8;

    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_rt_sigprocmask), "D"((long)SIG_SETMASK), "S"(&all), "d"(0L), "r"(size)
                     : "rcx", "r11", "memory");
    while (!stop)
        tick_sleep();
    return argument;
}

static void start_blocking(void)
{
    start_threads(1, block_all);
}

static void goes_on(void)
{
    static double last;
    double now = seconds_now();

    if (last && now - last > 7)
        bad("everything stood still for %.1f s", now - last);
    last = now;
}

/* ---- environment, arguments, title ---- */

static void overwrite_arguments(void)
{
    static char *own[] = { (char *)"A=1", (char *)"LD_PRELOAD=nothing", NULL };
    char **old = environ, *start = old[0];
    size_t length = 0;

    for (int i = 0; old[i]; i++)
        if (old[i] == start + length)
            length += strlen(old[i]) + 1;
    memset(start, 'x', length - 1); /* as setproctitle does */
    environ = own;
    clearenv();
    setenv("B", "2", 1);
}

static void has_own_environment(void)
{
    const char *value = getenv("B");

    if (!value || strcmp(value, "2") || getenv("A") || getenv("PATH"))
        bad("the environment is not what it was");
}

/* ---- small stacks, contexts, rounding ---- */

static ucontext_t main_context, other_context;
static volatile long switches;

/* As fesetround(FE_UPWARD), without libm. */
enum { UPWARD_X87 = 0x800, UPWARD_SSE = 0x4000 };

static void round_upward(void)
{
    uint16_t control;

    __asm__ volatile("fnstcw %0" : "=m"(control));
    control |= UPWARD_X87;
    __asm__ volatile("fldcw %0" : : "m"(control));
    _mm_setcsr(_mm_getcsr() | UPWARD_SSE);
}

static int is_rounded_upward(void)
{
    uint16_t control;

    __asm__ volatile("fnstcw %0" : "=m"(control));
    return control & UPWARD_X87 && _mm_getcsr() & UPWARD_SSE;
}

static void other_side(void)
{
    for (;;) {
        switches++;
        swapcontext(&other_context, &main_context);
    }
}

static void *on_small_stack(void *self)
{
    while (!stop) {
        turns[(intptr_t)self]++;
        usleep(500);
    }
    return NULL;
}

static void make_contexts(void)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
    for (intptr_t i = 0; i < STORM; i++)
        if (pthread_create(&threads[i], &attributes, on_small_stack, (void *)i))
            bad("pthread_create");
    getcontext(&other_context);
    other_context.uc_stack.ss_sp = mmap(NULL, 16 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    other_context.uc_stack.ss_size = 16 << 10;
    makecontext(&other_context, other_side, 0);
    round_upward();
}

static void use_contexts(void)
{
    uint64_t end = __rdtsc() + 2000000;

    for (long before; __rdtsc() < end && __rdtsc() > end - 4000000;) {
        before = switches;
        if (swapcontext(&main_context, &other_context) || switches != before + 1)
            bad("swapcontext");
        if (!is_rounded_upward())
            bad("the rounding mode is not what it was");
    }
    all_go_on(STORM);
}

/* ---- not dumpable; children; the main thread's end; the program's own end ---- */

static void make_undumpable(void)
{
    if (prctl(PR_SET_DUMPABLE, 0))
        bad("PR_SET_DUMPABLE");
}

static void is_undumpable(void)
{
    if (prctl(PR_GET_DUMPABLE))
        bad("it is dumpable");
}

static void have_children(void)
{
    char *arguments[] = { (char *)"true", NULL };
    int status;
    pid_t child;

    if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ) || waitpid(child, &status, 0) != child || status)
        bad("posix_spawn");
    child = vfork();
    if (child == 0)
        _exit(3);
    if (waitpid(child, &status, 0) != child || status != 3 << 8)
        bad("vfork: %x", status);
    child = fork();
    if (child == 0)
        execl("/bin/true", "true", (char *)NULL), _exit(4);
    if (waitpid(child, &status, 0) != child || status)
        bad("fork: %x", status);
    if (system("exit 5") != 5 << 8)
        bad("system");
}

static void crash(void)
{
    static long ticks;

    if (++ticks == 150)
        raise(SIGSEGV);
}

struct thing {
    const char *name;
    void (*make)(void), (*use)(void);
};

static const struct thing *chosen;
static long ticks;

/* Makes <GUEST_READY>.hold.made, without a descriptor. */
static void made(void)
{
    char name[sizeof guest_hold + 8];

    snprintf(name, sizeof name, "%s.made", guest_hold);
    if (*guest_hold && mknod(name, S_IFREG | 0644, 0))
        bad("%s: %s", name, strerror(errno));
}

static void *run(void *argument)
{
    for (long tick = 0; tick < ticks; tick++) {
        chosen->use();
        tick_sleep();
    }
    stop = 1;
    printf("OK awkward %s\n", chosen->name);
    exit(0);
    return argument;
}

/* The main thread ends; this one goes on as the program. */
static void leave_it_to_another(void)
{
    pthread_t other;

    if (pthread_create(&other, NULL, run, NULL))
        bad("pthread_create");
    made();
    pthread_exit(NULL);
}

static const struct thing things[] = {
    { "handlers", make_handlers, use_handlers },
    { "threads", start_brief, go_on_storm },
    { "malloc", start_allocating, go_on_storm },
    { "dlopen", start_loading, go_on_storm },
    { "spin", start_spinning, go_on_spinning },
    { "close", close_all, nothing },
    { "descriptors", use_up_descriptors, has_none_left },
    { "limits", make_limits, has_limits },
    { "reset", reset_signals, signals_are_blocked },
    { "environment", overwrite_arguments, has_own_environment },
    { "contexts", make_contexts, use_contexts },
    { "undumpable", make_undumpable, is_undumpable },
    { "children", nothing, have_children },
    { "taken", nothing, take_handler_when_told },
    { "dispatch", dispatch_calls, nothing },
    { "blocked", start_blocking, goes_on },
    { "crash", nothing, crash },
    { "alone", leave_it_to_another, nothing },
};

int main(int argc, char **argv)
{
    ticks = ticks_wanted(argc, argv, 2, 5);
    for (size_t i = 0; argc > 1 && i < sizeof things / sizeof *things; i++)
        if (!strcmp(argv[1], things[i].name))
            chosen = &things[i];
    if (!chosen)
        return 2;
    ready(); /* the test waits for made(), but there may be neither environment nor descriptor by then */
    chosen->make();
    made();
    run(NULL);
}
