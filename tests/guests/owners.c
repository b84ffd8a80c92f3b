/* SPDX-License-Identifier: MIT */
/* owners WHAT SECONDS: descriptors that announce by a signal that they are ready; each time to the one that owns them. */
#include "guest.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

static int kept[3]; /* a file, a memfd and a directory, which are always ready and yet keep what was set */
static int pairs[2][2]; /* a pipe that the second thread owns, with a signal of its own; sockets that the process owns: SIGIO */
static volatile int seen[2], wrong, over;
static pid_t second;
static pthread_barrier_t begun;

static void on_signal(int number, siginfo_t *info, void *frame)
{
    int own = number == SIGRTMIN + 5;

    (void)frame;
    if (own && (kernel_tid() != second || info->si_fd != pairs[0][0]))
        wrong = 1;
    seen[!own]++;
}

static void *run(void *argument)
{
    second = kernel_tid();
    pthread_barrier_wait(&begun);
    while (!over)
        usleep(1000);
    return argument;
}

static void set(void)
{
    struct f_owner_ex owner = { F_OWNER_TID, second };

    if (fcntl(pairs[0][0], F_SETOWN_EX, &owner) || fcntl(pairs[0][0], F_SETSIG, SIGRTMIN + 5) ||
        fcntl(pairs[0][0], F_SETFL, O_ASYNC | O_NONBLOCK) || fcntl(pairs[1][0], F_SETOWN, getpid()) ||
        fcntl(pairs[1][0], F_SETFL, O_ASYNC))
        bad("fcntl: %s", strerror(errno));
}

/* The process, the second thread; and nobody, but a signal. */
static void set_kept(void)
{
    struct f_owner_ex owner = { F_OWNER_TID, second };

    if ((kept[0] = open("owners.data", O_RDWR | O_CREAT, 0600)) < 0 || (kept[1] = memfd_create("owners", 0)) < 0 ||
        (kept[2] = open(".", O_RDONLY | O_DIRECTORY)) < 0)
        bad("open: %s", strerror(errno));
    if (fcntl(kept[0], F_SETOWN, getpid()) || fcntl(kept[0], F_SETSIG, SIGRTMIN + 6) || fcntl(kept[1], F_SETOWN_EX, &owner) ||
        fcntl(kept[2], F_SETSIG, SIGRTMIN + 7))
        bad("fcntl: %s", strerror(errno));
}

static void look_at_kept(void)
{
    struct f_owner_ex owner;

    if (fcntl(kept[0], F_GETOWN) != getpid() || fcntl(kept[0], F_GETSIG) != SIGRTMIN + 6)
        bad("the file has owner %d, signal %d", fcntl(kept[0], F_GETOWN), fcntl(kept[0], F_GETSIG));
    if (fcntl(kept[1], F_GETOWN_EX, &owner) || owner.type != F_OWNER_TID || owner.pid != second || fcntl(kept[1], F_GETSIG))
        bad("the memfd has owner %d, signal %d", owner.pid, fcntl(kept[1], F_GETSIG));
    if (fcntl(kept[2], F_GETOWN) || fcntl(kept[2], F_GETSIG) != SIGRTMIN + 7)
        bad("the directory has owner %d, signal %d", fcntl(kept[2], F_GETOWN), fcntl(kept[2], F_GETSIG));
}

static void look(void)
{
    struct f_owner_ex owner;
    char byte;

    if (fcntl(pairs[0][0], F_GETOWN_EX, &owner) || owner.type != F_OWNER_TID || owner.pid != second ||
        fcntl(pairs[0][0], F_GETSIG) != SIGRTMIN + 5 || !(fcntl(pairs[0][0], F_GETFL) & O_ASYNC))
        bad("the pipe has owner %d, signal %d", owner.pid, fcntl(pairs[0][0], F_GETSIG));
    if (fcntl(pairs[1][0], F_GETOWN) != getpid() || fcntl(pairs[1][0], F_GETSIG) || !(fcntl(pairs[1][0], F_GETFL) & O_ASYNC) ||
        fcntl(pairs[1][1], F_GETOWN) || fcntl(pairs[0][1], F_GETOWN) || fcntl(pairs[0][1], F_GETFL) & O_ASYNC)
        bad("the socket has owner %d", fcntl(pairs[1][0], F_GETOWN));
    for (int i = 0; i < 2; i++) {
        int before = seen[i];
        if (write(pairs[i][1], "x", 1) != 1)
            bad("write: %s", strerror(errno));
        for (int wait = 0; seen[i] == before; wait++) {
            if (wait == 30000)
                bad("signal %d does not come", i);
            usleep(1000);
        }
        if (read(pairs[i][0], &byte, 1) != 1 || byte != 'x')
            bad("read: %s", strerror(errno));
    }
    if (wrong)
        bad("a signal came to somebody else, or of another descriptor");
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    long ticks = ticks_wanted(argc, argv, 2, 1);
    pthread_t thread;

    if (pipe(pairs[0]) || socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[1]))
        bad("pipe: %s", strerror(errno));
    sigaction(SIGRTMIN + 5, &action, NULL);
    sigaction(SIGIO, &action, NULL);
    pthread_barrier_init(&begun, NULL, 2);
    pthread_create(&thread, NULL, run, NULL);
    pthread_barrier_wait(&begun);
    set();
    set_kept();
    if (argc > 1 && !strcmp(argv[1], "outside"))
        fcntl(pairs[1][0], F_SETOWN, getppid());
    if (argc > 1 && !strcmp(argv[1], "directory") && fcntl(open(".", O_RDONLY | O_DIRECTORY), F_NOTIFY, DN_CREATE | DN_MULTISHOT))
        bad("F_NOTIFY: %s", strerror(errno));
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        if (argc < 2 || !strcmp(argv[1], "inside")) {
            look();
            look_at_kept();
        }
        tick_sleep();
    }
    over = 1;
    pthread_join(thread, NULL);
    printf("OK owners\n");
    return 0;
}
