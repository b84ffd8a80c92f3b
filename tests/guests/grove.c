/* SPDX-License-Identifier: MIT */
/* grove COUNT SECONDS: a tree of so many processes, the first thirty one below the other, the others four to a parent. All wait for the end of a
 * pipe that the first one holds. Then each must be the child of whom it was, and waits for its own children, each of which ends with a
 * status of its own. */
#include "guest.h"

#include <sys/wait.h>

enum { DEEP = 30, WIDE = 4 };

struct tree {
    pid_t pid, parent;
    int well; /* it has ended as it should */
};

static struct tree *trees;
static int count, down[2], up[2];
static volatile int *is_time; /* else the first process was killed */

static int parent_of(int number)
{
    return number <= DEEP ? number - 1 : number / WIDE;
}

static int status_of(int number)
{
    return number % 127 + 1;
}

static void await_end_of_pipe(void)
{
    char byte;

    while (read(down[0], &byte, 1) < 0)
        if (errno != EINTR)
            bad("read: %s", strerror(errno));
}

static void check_place(int number)
{
    if (getpid() != trees[number].pid || getppid() != trees[number].parent)
        bad("process %d is %d, a child of %d; it was %d, of %d", number, (int)getpid(), (int)getppid(), (int)trees[number].pid,
            (int)trees[number].parent);
}

static void await_children(int number)
{
    int status;

    for (int child = number + 1; child < count; child++)
        if (parent_of(child) == number &&
            (waitpid(trees[child].pid, &status, 0) != trees[child].pid || status != status_of(child) << 8))
            bad("process %d, a child of %d, ended with %x", child, number, status);
    if (waitpid(-1, &status, 0) != -1 || errno != ECHILD)
        bad("process %d has a child that nobody made", number);
    trees[number].well = 1;
}

static void __attribute__((noreturn)) stand(int number);

/* Those of its children's are made by them. */
static void plant(int number)
{
    for (int child = number + 1; child < count; child++) {
        pid_t pid = parent_of(child) == number ? fork() : 1;
        if (pid < 0)
            bad("fork: %s", strerror(errno));
        if (!pid)
            stand(child);
    }
}

static void stand(int number)
{
    close(down[1]);
    trees[number].pid = getpid();
    trees[number].parent = getppid();
    plant(number);
    if (write(up[1], "", 1) != 1)
        bad("write: %s", strerror(errno));
    await_end_of_pipe();
    if (!*is_time)
        _exit(1);
    check_place(number);
    await_children(number);
    _exit(status_of(number));
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 2, 1);
    char byte;

    count = argc > 1 ? atoi(argv[1]) : 10;
    trees = (struct tree *)map_of(-1, (size_t)count * sizeof *trees, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 0);
    is_time = (int *)map_of(-1, sizeof *is_time, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 0);
    if (pipe(down) || pipe(up))
        bad("pipe: %s", strerror(errno));
    trees[0] = (struct tree){ .pid = getpid(), .parent = getppid() };
    plant(0);
    for (int i = 1; i < count;)
        i += read(up[0], &byte, 1) == 1;
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    *is_time = 1;
    close(down[1]);
    await_children(0);
    for (int i = 0; i < count; i++)
        if (!trees[i].well)
            bad("process %d has not come to its end", i);
    printf("OK grove\n");
    return 0;
}
