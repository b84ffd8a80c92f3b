/* SPDX-License-Identifier: MIT */
/* hide SECONDS [FILE]: looks every millisecond for anything that the program itself did not make: descriptors, threads,
 * children, signals, mappings, EINTR, a clock that goes back. Its helpers' only trace may be one entry in
 * /proc/self/task/<tid>/children while it lives, and one mapping in /dev/shm that it did not make. The longest time that a
 * look and a millisecond's sleep took, in ms, is written to FILE. */
#include "guest.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { STOP = 63, THREADS = 3, LOOKS_PER_SECOND = 1000, MAX_CHILDREN = 1, MAX_DESCRIPTORS = 512, CHILDREN_EVERY = 20 };

enum { MAX_MAPS = 1 << 16, MAPS_EVERY = 7 };

static volatile sig_atomic_t child_signals;
static volatile int stop;

static void on_child(int number)
{
    (void)number;
    child_signals++;
}

/* A directory of processes or threads has two links more than it has of them: no descriptor is needed to count. */
static int count_threads(void)
{
    struct stat status;

    if (stat("/proc/self/task", &status))
        bad("/proc/self/task: %s", strerror(errno));
    return (int)status.st_nlink - 2;
}

static int count_descriptors(void)
{
    int count = 0;

    for (int descriptor = 0; descriptor < MAX_DESCRIPTORS; descriptor++)
        count += fcntl(descriptor, F_GETFD) >= 0;
    return count;
}

/* How many children the kernel shows for all threads together. */
static int children(void)
{
    DIR *list = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;

    if (!list)
        bad("/proc/self/task: %s", strerror(errno));
    while ((entry = readdir(list))) {
        char path[300], text[4096];
        int descriptor;
        ssize_t length;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", entry->d_name);
        descriptor = open(path, O_RDONLY | O_CLOEXEC);
        length = descriptor < 0 ? 0 : read(descriptor, text, sizeof text);
        for (ssize_t i = 0; i < length; i++)
            count += text[i] == ' ';
        if (descriptor >= 0)
            close(descriptor);
    }
    closedir(list);
    return count;
}

static void look_for_children(void)
{
    siginfo_t info = { .si_pid = 0 };
    pid_t child;

    if ((child = waitpid(-1, NULL, WNOHANG)) != -1 || errno != ECHILD)
        bad("waitpid gives %d", (int)child);
    if ((child = waitpid(-1, NULL, WNOHANG | __WALL)) > 0)
        bad("waitpid with __WALL gives a process");
    if ((child = waitpid(-1, NULL, WNOHANG | __WCLONE)) > 0)
        bad("waitpid with __WCLONE gives a process");
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) == 0 && info.si_pid != 0)
        bad("waitid with __WALL gives a process");
    if (child_signals)
        bad("SIGCHLD came");
}

static void look_for_signals(void)
{
    struct sigaction action;
    sigset_t old, set;

    if (sigaction(SIGUSR2, NULL, &action) || action.sa_handler != SIG_DFL)
        bad("SIGUSR2 has a handler");
    if (sigaction(STOP, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
        bad("signal %d has a handler", STOP);
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    if (sigprocmask(SIG_BLOCK, &set, &old) || sigismember(&old, STOP) || sigismember(&old, SIGUSR2))
        bad("a signal is blocked that nobody blocked");
    if (pthread_sigmask(SIG_SETMASK, &old, &set) || !sigismember(&set, SIGWINCH) || sigismember(&set, STOP))
        bad("the mask is not what was set");
    if (sigpending(&set) || sigismember(&set, STOP) || sigismember(&set, SIGUSR2))
        bad("a signal waits that nobody sent");
}

/* Mappings, without the allocator, and without the heap's, stack's and the one page's: all the others are as they were. */
static uint64_t mappings(void)
{
    static char text[MAX_MAPS];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), pages = 0;
    ssize_t length = 0, got;
    uint64_t hash = 1;

    while ((got = read(fd, text + length, sizeof text - 1 - (size_t)length)) > 0)
        length += got;
    close(fd);
    text[length] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strstr(line, " /dev/shm/")) {
            pages++;
            continue;
        }
        if (strstr(line, "[heap]") || strstr(line, "[stack]"))
            continue;
        for (const char *at = line; *at; at++)
            hash = mix(hash + (unsigned char)*at);
    }
    if (pages > 1)
        bad("%d mappings in /dev/shm", pages);
    return hash;
}

static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID };
enum { CLOCKS = sizeof clocks / sizeof clocks[0] };

/* No clock may go back, nor one of real time ahead of another: what is a pause to one is one to all. */
static double look_at_clocks(void)
{
    static double last[CLOCKS];
    double ahead[CLOCKS];

    for (int i = 0; i < CLOCKS; i++) {
        double now = seconds_of(clocks[i]);
        ahead[i] = last[i] > 0 ? now - last[i] : 0;
        if (ahead[i] < 0 && i != CLOCKS - 1)
            bad("clock %d went back by %.6f s", (int)clocks[i], -ahead[i]);
        last[i] = now;
    }
    return ahead[0];
}

static void *other_thread(void *argument)
{
    while (!stop) {
        look_for_signals();
        tick_sleep();
    }
    return argument;
}

static void write_longest(const char *path, double longest)
{
    FILE *file = path ? fopen(path, "w") : NULL;

    if (path && (!file || fprintf(file, "%.0f\n", longest * 1000) < 0 || fclose(file)))
        bad("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
    long looks = (long)((argc > 1 ? atof(argv[1]) : 5) * LOOKS_PER_SECOND);
    struct sigaction action = { .sa_handler = on_child };
    struct timespec pause = { 0, 1000000000L / LOOKS_PER_SECOND };
    pthread_t threads[THREADS];
    int descriptors;
    uint64_t maps;
    double longest = 0, took;

    sigaction(SIGCHLD, &action, NULL);
    for (long id = 0; id < THREADS; id++)
        if (pthread_create(&threads[id], NULL, other_thread, NULL))
            bad("pthread_create");
    descriptors = count_descriptors();
    if (count_threads() != THREADS + 1)
        bad("%d threads at the start", count_threads());
    mappings(); /* stdio and the like have theirs from here on */
    maps = mappings();
    ready();
    for (long look = 0; look < looks || is_held(); look++) {
        int found = count_descriptors();
        if (found != descriptors)
            bad("%d descriptors instead of %d", found, descriptors);
        if ((found = count_threads()) != THREADS + 1)
            bad("%d threads instead of %d", found, THREADS + 1);
        /* a look that needs a descriptor: now and then, for it may be in the way of an image */
        if (look % CHILDREN_EVERY == 0 && (found = children()) > MAX_CHILDREN)
            bad("%d children", found);
        if (look % MAPS_EVERY == 0 && mappings() != maps)
            bad("the mappings are not what they were");
        look_for_children();
        look_for_signals();
        if ((took = look_at_clocks()) > longest)
            longest = took;
        if (nanosleep(&pause, NULL))
            bad("nanosleep: %s", strerror(errno));
    }
    write_longest(argc > 2 ? argv[2] : NULL, longest);
    stop = 1;
    for (long id = 0; id < THREADS; id++)
        pthread_join(threads[id], NULL);
    printf("OK hide\n");
    return 0;
}
