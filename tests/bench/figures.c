/* SPDX-License-Identifier: MIT */
/* What run.py compares with. Each prints one number, a time it has taken itself, so that its own start is not in it:
 *
 *   figures fork MB                    ms of fork() in a process that holds MB of random bytes; the child's end is not in it
 *   figures read FILE                  ms to read FILE into fresh memory
 *   figures forks COUNT                ms of one fork of each process of a tree, one after the other, added up
 *   figures tree COUNT                 the same tree, which stands until it is killed; prints 0 once it does
 *   figures spawn COUNT SHIM|- FILE    us for one start and end of FILE, SHIM preloaded into it
 *   figures fork-exec|malloc|read-bytes|threads COUNT    ns for one pass of such a loop
 */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void must(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

static void *fresh(size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED, "mmap");
    return memory;
}

static void reap(pid_t child)
{
    int status;
    must(child > 0 && waitpid(child, &status, 0) == child && !status, "child");
}

/* xorshift64: what the bytes are does not matter, only that no page is like another. */
static void fill(uint64_t *words, size_t length)
{
    uint64_t x = 88172645463325252ULL;

    for (size_t i = 0; i < length / 8; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        words[i] = x;
    }
}

static double time_fork(const char *megabytes)
{
    size_t length = strtoul(megabytes, NULL, 10) << 20;
    double begin, end;
    pid_t child;

    fill(fresh(length), length);
    begin = now();
    child = fork();
    if (!child)
        _exit(0);
    end = now();
    reap(child);
    return (end - begin) * 1e3;
}

static double time_read(const char *path)
{
    int fd = open(path, O_RDONLY);
    struct stat status;
    double begin = now();

    must(fd >= 0 && !fstat(fd, &status), path);
    char *memory = fresh((size_t)status.st_size);
    for (off_t done = 0; done < status.st_size;) {
        ssize_t got = read(fd, memory + done, (size_t)(status.st_size - done));
        must(got > 0, "read");
        done += got;
    }
    return (now() - begin) * 1e3;
}

/* In memory that all have: the processes of a tree, each with its turn. */
static struct tree {
    sem_t *turns, *stand;
    double *elapsed;
    int count;
} tree;

static void die_with_parent(void)
{
    must(!prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
}

static void stand(int number);

static void take(sem_t *semaphore)
{
    while (sem_wait(semaphore))
        ;
}

/* The first thirty one below the other, the others four to a parent. */
static void make_children(int number)
{
    enum { DEEP = 30, WIDE = 4 };

    for (int child = number + 1; child < tree.count; child++) {
        if (number != (child <= DEEP ? child - 1 : child / WIDE))
            continue;
        pid_t pid = fork();
        must(pid >= 0, "fork");
        if (!pid)
            stand(child);
    }
}

/* Forks when it is its turn, and lets the next one do so. The child stays. */
static void take_turn(int number)
{
    take(&tree.turns[number]);
    double begin = now();
    pid_t child = fork();
    if (!child) {
        die_with_parent();
        pause();
    }
    tree.elapsed[number] = now() - begin;
    must(child > 0, "fork");
    sem_post(&tree.turns[number + 1]);
}

static void stand(int number)
{
    die_with_parent();
    make_children(number);
    sem_post(tree.stand);
    take_turn(number);
    for (;;)
        pause();
}

static void make_tree(const char *count)
{
    tree.count = atoi(count);
    size_t turns = (size_t)tree.count + 2;
    tree.turns = mmap(NULL, turns * (sizeof *tree.turns + sizeof *tree.elapsed), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(tree.turns != MAP_FAILED, "mmap");
    tree.stand = &tree.turns[tree.count + 1];
    tree.elapsed = (double *)(tree.turns + turns);
    for (size_t i = 0; i < turns; i++)
        must(!sem_init(&tree.turns[i], 1, 0), "sem_init");
    make_children(0);
    for (int i = 1; i < tree.count; i++)
        take(tree.stand);
}

static double time_forks(const char *count)
{
    double sum = 0;

    make_tree(count);
    sem_post(&tree.turns[0]);
    take_turn(0);
    take(&tree.turns[tree.count]);
    for (int i = 0; i < tree.count; i++)
        sum += tree.elapsed[i];
    return sum * 1e3;
}

static void __attribute__((noreturn)) stand_for_ever(const char *count)
{
    make_tree(count);
    puts("0");
    fflush(stdout);
    for (;;)
        pause();
}

static double time_spawn(const char *count, const char *shim, const char *file)
{
    char *arguments[] = { (char *)file, NULL };
    long passes = atol(count);
    pid_t child;

    /* as many bytes of environment with and without */
    must(!setenv(*shim == '-' ? "NO_PRELOAD" : "LD_PRELOAD", shim, 1), "environment");
    double begin = now();
    for (long i = 0; i < passes; i++) {
        must(!posix_spawn(&child, file, NULL, NULL, arguments, environ), file);
        reap(child);
    }
    return (now() - begin) / (double)passes * 1e6;
}

static void loop_fork_exec(long passes)
{
    while (passes--) {
        pid_t child = fork();
        if (!child) {
            execl("/bin/true", "true", NULL);
            _exit(127);
        }
        reap(child);
    }
}

static void loop_malloc(long passes)
{
    enum { HELD = 64 };
    void *held[HELD] = { NULL };

    for (long i = 0; i < passes; i++) {
        void **slot = &held[i * 7 % HELD];
        free(*slot);
        *slot = malloc((size_t)(i * 37 % 1000 + 1));
        *(volatile char *)*slot = 1;
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
}

static void loop_read_bytes(long passes)
{
    int fd = open("/dev/zero", O_RDONLY);
    char byte;

    while (passes--)
        must(read(fd, &byte, 1) == 1, "/dev/zero");
    close(fd);
}

static void *nothing(void *argument)
{
    return argument;
}

static void loop_threads(long passes)
{
    pthread_t thread;

    while (passes--)
        must(!pthread_create(&thread, NULL, nothing, NULL) && !pthread_join(thread, NULL), "thread");
}

static double time_loop(const char *name, const char *count)
{
    static const struct {
        const char *name;
        void (*run)(long passes);
    } loops[] = { { "fork-exec", loop_fork_exec },
                  { "malloc", loop_malloc },
                  { "read-bytes", loop_read_bytes },
                  { "threads", loop_threads } };
    long passes = atol(count);

    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        if (strcmp(name, loops[i].name))
            continue;
        loops[i].run(passes / 10 + 1); /* warm */
        double begin = now();
        loops[i].run(passes);
        return (now() - begin) / (double)passes * 1e9;
    }
    fprintf(stderr, "figures: no such measurement: %s\n", name);
    exit(2);
}

int main(int count, char **arguments)
{
    const char *name = count > 2 ? arguments[1] : "";
    double figure;

    if (!strcmp(name, "fork"))
        figure = time_fork(arguments[2]);
    else if (!strcmp(name, "read"))
        figure = time_read(arguments[2]);
    else if (!strcmp(name, "forks"))
        figure = time_forks(arguments[2]);
    else if (!strcmp(name, "tree"))
        stand_for_ever(arguments[2]);
    else if (!strcmp(name, "spawn") && count > 4)
        figure = time_spawn(arguments[2], arguments[3], arguments[4]);
    else
        figure = time_loop(name, count > 2 ? arguments[2] : "0");
    printf("%.4f\n", figure);
    return 0;
}
