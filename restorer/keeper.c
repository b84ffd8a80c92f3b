/* SPDX-License-Identifier: MIT */
/* PID 1 of the bubble: furnishes it, makes the task, reaps, tells the porter how the task fares. Without a bubble it is a process
 * like any other, to which orphans come, and ends the others itself.
 *
 * It lives with all signals blocked, and of the porter's descriptors keeps one socket: whoever waits for the end of a
 * pipe waits for the program only. It dies with the porter (and the kernel kills what is inside), until the porter has
 * said that the rest shall live. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bubble_private.h"
#include "numbers.h"
#include "../core/floor/names.h"
#include "../core/kinds/kind.h"

static int task_descriptor = -1;
static pid_t keeper;
static int is_on_host; /* there is no bubble */
static pid_t porter;   /* then, as long as we may not outlive it; else 0 */

int *bubble_descriptor(void)
{
    return &task_descriptor;
}

pid_t bubble_keeper(void)
{
    return keeper;
}

void bubble_started(void)
{
    if (task_descriptor < 0)
        return;
    (void)!write(task_descriptor, "", 1);
    close(task_descriptor);
    task_descriptor = -1;
}

static void tell(int link, enum report_kind kind, int value, int more)
{
    struct report report = {kind, value, more};
    send(link, &report, sizeof report, MSG_NOSIGNAL);
}

/* REPORT_TASK: the kernel translates both PID and handle for the porter (unix(7); a foreign PID needs CAP_SYS_ADMIN in
 * the PID namespace's user namespace, which the keeper has). */
static int introduce(const struct bubble_plan *plan, int link, pid_t task, int handle)
{
    struct report report = {.kind = REPORT_TASK, .value = plan->is_on_host ? task : 0};
    struct ucred who = {plan->is_on_host ? getpid() : task, geteuid(), getegid()}; /* another only with that right */
    char control[CMSG_SPACE(sizeof who) + CMSG_SPACE(sizeof handle)] __attribute__((aligned(8))) = {0};
    struct iovec piece = {&report, sizeof report};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *item = CMSG_FIRSTHDR(&message);

    *item = (struct cmsghdr){CMSG_LEN(sizeof who), SOL_SOCKET, SCM_CREDENTIALS};
    memcpy(CMSG_DATA(item), &who, sizeof who);
    item = CMSG_NXTHDR(&message, item);
    *item = (struct cmsghdr){CMSG_LEN(sizeof handle), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(item), &handle, sizeof handle);
    return sendmsg(link, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* As high as the limit allows, but not so high that the kernel's table of descriptors grows large. */
static int highest(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur > 1024)
        limit.rlim_cur = 1024;
    return limit.rlim_cur > 8 ? (int)limit.rlim_cur - 8 : 3;
}

_Noreturn static void become_task(const struct bubble_plan *plan, int task_link)
{
    char go;

    keeper = getppid();
    if (plan->own_session)
        setsid();
    else if (plan->own_group)
        setpgid(0, 0);
    task_descriptor = bubble_lift(task_link, highest());
    /* Not before the porter stands and the terminal is ours. */
    if (read(task_descriptor, &go, 1) != 1)
        _exit(EXIT_INTERNAL);
    relay_take();
    _exit(plan->task(plan->context));
}

/* Dies with the porter. A porter that died before prctl has closed its end of the link by then. */
static void bind_life(int link)
{
    struct pollfd end = {.fd = link, .events = POLLIN};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (poll(&end, 1, 0) && end.revents & POLLHUP)
        _exit(EXIT_INTERNAL);
}

/* All descriptors but the link; standard ones lead nowhere. Nor does it hold a directory busy. */
static void let_go(int link)
{
    if (link > 0)
        syscall(SYS_close_range, 0, link - 1, 0);
    syscall(SYS_close_range, link + 1, ~0u, 0);
    for (int standard = 0; standard < 3; standard++)
        (void)!open("/dev/null", O_RDWR);
    (void)!chdir("/");
}

/* As fork(2), with the PID of the plan. *ret_failed is the step that has, when that is -errno. */
static pid_t clone_task(const struct bubble_plan *plan, enum bubble_step *ret_failed, int *ret_handle)
{
    int errors[STEP_COUNT] = {0};
    pid_t task;

    if (plan->is_on_host) {
        *ret_failed = STEP_NUMBER;
        numbers_begin(plan->registry);
        task = numbers_fork(plan->pid);
        if (task > 0 && (*ret_handle = (int)syscall(SYS_pidfd_open, task, 0)) < 0)
            task = -errno;
        return task;
    }
    *ret_failed = bubble_furnish(plan, errors, 0);
    if (*ret_failed < STEP_COUNT)
        return errors[*ret_failed];
    *ret_failed = STEP_TASK;
    return bubble_clone_task(plan, ret_handle);
}

static pid_t make_task(const struct bubble_plan *plan, int link, int task_link)
{
    enum bubble_step failed;
    int handle = -1;
    pid_t task = clone_task(plan, &failed, &handle);

    if (!task) {
        close(link);
        become_task(plan, task_link);
    }
    if (task < 0) {
        tell(link, REPORT_FAILED, failed, task);
        _exit(EXIT_INTERNAL);
    }
    if (plan->own_group && !plan->own_session)
        setpgid(task, task); /* before the porter gives that group the terminal */
    if (introduce(plan, link, task, handle))
        _exit(EXIT_INTERNAL);
    return task;
}

static void end_child(void *context, int child)
{
    (void)context;
    kill(child, SIGKILL);
}

/* The kernel does it with a bubble. Each death may give us the children of the dead. */
_Noreturn static void take_down(void)
{
    do
        proc_children(getpid(), end_child, NULL);
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR);
    _exit(EXIT_INTERNAL);
}

/* waitpid(-1). The end of the porter is a SIGCHLD, too. */
static pid_t await_child(int *status, int flags)
{
    pid_t child = -1;
    sigset_t news;

    sigemptyset(&news);
    sigaddset(&news, SIGCHLD);
    while (porter && !(child = waitpid(-1, status, flags | WNOHANG))) {
        sigwaitinfo(&news, NULL);
        if (getppid() != porter)
            take_down();
    }
    return porter ? child : waitpid(-1, status, flags);
}

static int is_child(int pid)
{
    uint64_t fields[STAT_FIELDS];
    return !proc_stat(pid, fields) && fields[STAT_PARENT] == (uint64_t)getpid();
}

static int is_saver(const char *process)
{
    char path[32], name[16] = "";
    FILE *file;

    snprintf(path, sizeof path, "/proc/%.16s/comm", process);
    if (is_on_host && !is_child(atoi(process)))
        return 0; /* it goes on without us */
    file = fopen(path, "re");
    if (!file)
        return 0;
    (void)!fscanf(file, "%15s", name);
    fclose(file);
    return !strcmp(name, SAVER_NAME);
}

enum { SAVER_LOOKS = 1000, SAVER_LOOK_MILLISECONDS = 10 };

/* A saver that a command has sent in is no child of ours, and the kernel would kill it with us before it has said that
 * its image is safe. It ends soon after the program. */
static void await_savers(void)
{
    int inside = 1;

    for (int looks = 0; inside && looks < SAVER_LOOKS; looks++) {
        DIR *processes = opendir("/proc");
        struct dirent *entry;
        inside = 0;
        while (processes && !inside && (entry = readdir(processes)))
            inside = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_saver(entry->d_name);
        if (processes)
            closedir(processes);
        if (inside)
            poll(NULL, 0, SAVER_LOOK_MILLISECONDS);
    }
}

/* The task has ended. Returns when there are others, and the porter has let go of them. */
static void end_task(int link, int status)
{
    pid_t other;
    ssize_t got;
    char byte;

    while ((other = waitpid(-1, NULL, WNOHANG | __WALL)) > 0)
        ;
    if (other)
        await_savers();
    tell(link, REPORT_STATUS, status, !other);
    if (other)
        _exit(0);
    /* A porter that is killed before it has answered takes all with it; one that has answered ends. */
    while ((got = recv(link, &byte, 1, 0)) < 0 && errno == EINTR)
        ;
    if (got != 1 && is_on_host)
        take_down();
    if (got != 1)
        _exit(EXIT_INTERNAL);
    prctl(PR_SET_PDEATHSIG, 0);
    porter = 0;
    tell(link, REPORT_DETACHED, 0, 0);
    close(link);
}

_Noreturn static void reap(pid_t task, int link)
{
    int status;

    for (;;) {
        pid_t child = await_child(&status, __WALL | (task ? WUNTRACED | WCONTINUED : 0));
        if (child < 0 && errno == ECHILD) {
            await_savers();
            _exit(0);
        }
        if (child < 0 || child != task)
            continue;
        if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
            tell(link, REPORT_STATUS, status, 0);
        } else {
            end_task(link, status);
            task = 0;
        }
    }
}

/* With children of its own it may not just be killed with the porter. */
static void stand_alone(int link)
{
    struct pollfd end = {.fd = link, .events = POLLIN};

    porter = getppid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGCHLD);
    if (poll(&end, 1, 0) && end.revents & POLLHUP)
        take_down();
}

_Noreturn void keeper_run(const struct bubble_plan *plan, int link, int task_link)
{
    is_on_host = plan->is_on_host;
    bind_life(link);
    pid_t task = make_task(plan, link, task_link);
    if (is_on_host)
        stand_alone(link);
    let_go(link);
    prctl(PR_SET_NAME, KEEPER_NAME);
    reap(task, link);
}
