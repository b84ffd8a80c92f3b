/* SPDX-License-Identifier: MIT */
/* ids SECONDS: what goes by PIDs and TIDs. Mutexes that are held all the time by threads that are asked whether they hold them, signals to
 * a thread and to itself with their sender, a child that knows its parent, /proc/PID, owners of descriptors. */
#include "guest.h"

#include <pthread.h>
#include <sys/wait.h>

static const struct sort {
    const char *name;
    int type, robust, protocol;
} sorts[] = {
    { .name = "recursive", .type = PTHREAD_MUTEX_RECURSIVE },
    { .name = "errorcheck", .type = PTHREAD_MUTEX_ERRORCHECK },
    { .name = "robust recursive", .type = PTHREAD_MUTEX_RECURSIVE, .robust = 1 },
    { .name = "robust errorcheck", .type = PTHREAD_MUTEX_ERRORCHECK, .robust = 1 },
    { .name = "PI recursive", .type = PTHREAD_MUTEX_RECURSIVE, .protocol = PTHREAD_PRIO_INHERIT },
    { .name = "PI errorcheck", .type = PTHREAD_MUTEX_ERRORCHECK, .protocol = PTHREAD_PRIO_INHERIT },
};
enum { SORTS = sizeof sorts / sizeof sorts[0] };

static pthread_mutex_t of_main[SORTS], of_other[SORTS];
static pthread_t other;
static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static long asked, answered;
static int over;
static volatile sig_atomic_t came[2], from[2];

static void make(pthread_mutex_t *mutex, const struct sort *sort)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, sort->type);
    pthread_mutexattr_setrobust(&attributes, sort->robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
    pthread_mutexattr_setprotocol(&attributes, sort->protocol);
    if (pthread_mutex_init(mutex, &attributes) || pthread_mutex_lock(mutex))
        bad("%s mutex cannot be held", sort->name);
}

static void make_all(pthread_mutex_t *mutexes)
{
    for (int i = 0; i < SORTS; i++)
        make(&mutexes[i], &sorts[i]);
}

static void look(pthread_mutex_t *mine, pthread_mutex_t *others)
{
    for (int i = 0; i < SORTS; i++) {
        int again = pthread_mutex_lock(&mine[i]), theirs = pthread_mutex_trylock(&others[i]);
        if (again != (sorts[i].type == PTHREAD_MUTEX_ERRORCHECK ? EDEADLK : 0) || (!again && pthread_mutex_unlock(&mine[i])))
            bad("%s: its owner is told %d", sorts[i].name, again);
        if (theirs != EBUSY)
            bad("%s: another is told %d", sorts[i].name, theirs);
    }
}

static void unlock_all(pthread_mutex_t *mutexes)
{
    for (int i = 0; i < SORTS; i++)
        if (pthread_mutex_unlock(&mutexes[i]))
            bad("%s: its owner cannot let go", sorts[i].name);
}

static void note(int signal, siginfo_t *info, void *frame)
{
    int is_other = pthread_equal(pthread_self(), other);

    (void)frame;
    (void)signal;
    from[is_other] = info->si_pid;
    came[is_other]++;
}

static void *answer(void *argument)
{
    pid_t tid = kernel_tid();

    (void)argument;
    make_all(of_other);
    pthread_mutex_lock(&plain);
    do {
        answered = asked;
        pthread_cond_broadcast(&turn);
        while (answered == asked && !over)
            pthread_cond_wait(&turn, &plain);
        if (kernel_tid() != tid || gettid() != tid)
            bad("another TID");
        look(of_other, of_main);
    } while (!over);
    pthread_mutex_unlock(&plain);
    unlock_all(of_other);
    return NULL;
}

static void ask(void)
{
    pthread_mutex_lock(&plain);
    asked++;
    pthread_cond_broadcast(&turn);
    while (answered != asked)
        pthread_cond_wait(&turn, &plain);
    pthread_mutex_unlock(&plain);
}

static void signal_both(pid_t pid)
{
    int before[2] = { came[0], came[1] };

    if (pthread_kill(other, SIGUSR1) || pthread_kill(pthread_self(), SIGUSR1))
        bad("no signal can be sent");
    while (came[1] == before[1])
        sched_yield();
    if (came[0] != before[0] + 1 || from[0] != pid || from[1] != pid)
        bad("signals from %d and %d", from[0], from[1]);
}

static void have_child(pid_t pid)
{
    pid_t child = fork(), ended;
    int status;

    if (!child)
        _exit(getppid() == pid && getpid() != pid && !kill(pid, 0) ? 7 : 1);
    while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        ;
    if (child < 0 || ended != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        bad("a child ended with %#x", status);
}

static void look_in_proc(pid_t pid)
{
    char text[16] = "";

    if (readlink("/proc/self", text, sizeof text - 1) < 0 || atoi(text) != pid)
        bad("/proc/self is %s", text);
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 1);
    struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART };
    pid_t pid = getpid(), tid = kernel_tid();
    int ends[2];

    sigaction(SIGUSR1, &action, NULL);
    make_all(of_main);
    if (pipe(ends) || fcntl(ends[0], F_SETOWN, pid) || pthread_create(&other, NULL, answer, NULL))
        bad("no thread");
    ask();
    ready();
    for (long i = 0; i < ticks; i++) {
        tick_sleep();
        if (getpid() != pid || kernel_tid() != tid || fcntl(ends[0], F_GETOWN) != pid)
            bad("other ids");
        look(of_main, of_other);
        ask();
        signal_both(pid);
        look_in_proc(pid);
        if (i % 16 == 0)
            have_child(pid);
    }
    pthread_mutex_lock(&plain);
    over = 1;
    pthread_cond_broadcast(&turn);
    pthread_mutex_unlock(&plain);
    if (pthread_join(other, NULL))
        bad("no end of the thread");
    unlock_all(of_main);
    printf("OK ids\n");
    return 0;
}
