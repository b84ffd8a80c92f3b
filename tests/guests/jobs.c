/* SPDX-License-Identifier: MIT */
/* jobs SECONDS: children that job control has stopped. They stay where they are, and their parent is told of it as often as it should be:
 *
 *   told     stopped by SIGSTOP; its parent has waited for that
 *   untold   stopped by SIGTSTP; its parent has not
 *   below    the child of a child that runs, which has waited for it
 *   both     stopped, and has a stopped child itself
 *   again    goes on again, which its parent has not waited for
 *
 * Each counts as long as it runs. In the end all are let go on. */
#include "guest.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { TOLD, UNTOLD, BELOW, BOTH, BOTH_CHILD, BETWEEN, AGAIN, COUNT };

static struct shared {
    volatile unsigned long counted[COUNT];
    volatile int went_on[COUNT];      /* SIGCONT handlers that ran */
    volatile pid_t pids[COUNT];
    volatile int is_over;             /* BETWEEN is to end */
} *shared;
static int own;
static volatile sig_atomic_t news;    /* SIGCHLDs */

static void note_news(int number)
{
    (void)number;
    news++;
}

static void note_going_on(int number)
{
    (void)number;
    shared->went_on[own]++;
}

static void count_up(void)
{
    for (;;) {
        shared->counted[own]++;
        usleep(500);
    }
}

static pid_t begin(int which, void (*run)(void))
{
    pid_t child = fork();

    if (child < 0)
        bad("no child");
    if (child)
        return shared->pids[which] = child;
    own = which;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0); /* its group has a parent in another one: SIGTSTP stops it */
    signal(SIGCONT, note_going_on);
    signal(SIGCHLD, SIG_DFL);
    run();
    _exit(7);
}

/* Not before it counts, and then until wait(2) knows. */
static void stop(int which, int number)
{
    siginfo_t info;

    while (!shared->counted[which])
        usleep(1000);
    kill(shared->pids[which], number);
    while (waitid(P_PID, (id_t)shared->pids[which], &info, WSTOPPED | WNOWAIT) && errno == EINTR)
        ;
}

static void hear(int which)
{
    int status;

    if (waitpid(shared->pids[which], &status, WUNTRACED) != shared->pids[which] || !WIFSTOPPED(status))
        bad("child %d is not stopped", which);
}

static void be_both(void)
{
    begin(BOTH_CHILD, count_up);
    stop(BOTH_CHILD, SIGSTOP);
    hear(BOTH_CHILD);
    count_up();
}

/* Nothing new is told of it. */
static void expect_silence(int which)
{
    siginfo_t info = { 0 };

    if (waitid(P_PID, (id_t)shared->pids[which], &info, WSTOPPED | WCONTINUED | WEXITED | WNOHANG) || info.si_pid)
        bad("child %d: code %d, status %d", which, info.si_code, info.si_status);
}

static void be_between(void)
{
    struct sigaction action = { .sa_handler = note_news, .sa_flags = SA_RESTART };

    sigaction(SIGCHLD, &action, NULL);
    begin(BELOW, count_up);
    stop(BELOW, SIGSTOP);
    hear(BELOW);
    usleep(1000); /* its signal comes with that */
    for (int before = news; !shared->is_over; usleep(1000)) {
        shared->counted[own]++;
        expect_silence(BELOW);
        if (news != before)
            bad("the process between is told something");
    }
    kill(shared->pids[BELOW], SIGKILL);
    waitpid(shared->pids[BELOW], NULL, 0);
    _exit(0);
}

static void expect_rest(const unsigned long *counted, int before)
{
    siginfo_t info = { 0 };

    for (int which = TOLD; which <= BOTH_CHILD; which++)
        if (shared->counted[which] != counted[which] || shared->went_on[which])
            bad("child %d goes on", which);
    expect_silence(TOLD);
    expect_silence(BOTH);
    if (waitid(P_PID, (id_t)shared->pids[AGAIN], &info, WCONTINUED | WNOHANG | WNOWAIT) || info.si_code != CLD_CONTINUED)
        bad("again: nothing is said of it");
    if (shared->went_on[AGAIN] != 1)
        bad("again: it was let go on %d times", shared->went_on[AGAIN]);
    info.si_pid = 0;
    if (waitid(P_PID, (id_t)shared->pids[UNTOLD], &info, WCONTINUED | WNOHANG) || info.si_pid)
        bad("untold: it is said to go on");
    if (waitid(P_PID, (id_t)shared->pids[UNTOLD], &info, WSTOPPED | WNOHANG | WNOWAIT) || info.si_status != SIGTSTP)
        bad("untold: stopped by %d", info.si_status);
    if (news != before)
        bad("%d signals more", news - before);
}

/* It goes on where it was, is said to, and ends. */
static void let_go_on(int which, unsigned long counted)
{
    pid_t child = shared->pids[which];
    int status;

    kill(child, SIGCONT);
    if (waitpid(child, &status, WCONTINUED) != child || !WIFCONTINUED(status))
        bad("child %d does not go on", which);
    while (shared->counted[which] == counted || !shared->went_on[which])
        usleep(1000);
    if (shared->went_on[which] != 1)
        bad("child %d was let go on %d times", which, shared->went_on[which]);
    kill(child, SIGTERM);
    if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
        bad("child %d does not end", which);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = note_news, .sa_flags = SA_RESTART };
    unsigned long counted[COUNT];
    int before;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    begin(TOLD, count_up);
    begin(UNTOLD, count_up);
    begin(BOTH, be_both);
    begin(BETWEEN, be_between);
    begin(AGAIN, count_up);
    sigaction(SIGCHLD, &action, NULL);
    stop(TOLD, SIGSTOP);
    hear(TOLD);
    stop(BOTH, SIGSTOP);
    hear(BOTH);
    stop(UNTOLD, SIGTSTP);
    stop(AGAIN, SIGSTOP);
    hear(AGAIN);
    kill(shared->pids[AGAIN], SIGCONT);
    while (!shared->counted[BETWEEN] || !shared->went_on[AGAIN])
        usleep(1000);
    usleep(20000); /* signals on their way */
    before = news;
    memcpy(counted, (const void *)shared->counted, sizeof counted);
    ready();
    for (long tick = 0; tick < ticks_wanted(argc, argv, 1, 2); tick++, tick_sleep())
        expect_rest(counted, before);
    if (waitpid(shared->pids[AGAIN], &before, WCONTINUED) != shared->pids[AGAIN] || !WIFCONTINUED(before))
        bad("again: it is not said to go on");
    expect_silence(AGAIN);
    kill(shared->pids[AGAIN], SIGKILL);
    waitpid(shared->pids[AGAIN], NULL, 0);
    hear(UNTOLD);
    let_go_on(TOLD, counted[TOLD]);
    let_go_on(UNTOLD, counted[UNTOLD]);
    let_go_on(BOTH, counted[BOTH]);
    shared->is_over = 1;
    if (waitpid(shared->pids[BETWEEN], &before, 0) != shared->pids[BETWEEN] || before)
        bad("the process between ended with %x", before);
    printf("OK jobs\n");
    return 0;
}
