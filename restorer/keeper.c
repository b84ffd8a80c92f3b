/* SPDX-License-Identifier: MIT */
/* PID 1 of the bubble: furnishes it, makes the task, reaps, tells the porter how the task fares.
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
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bubble_private.h"
#include "../core/floor/names.h"

static int task_descriptor = -1;

int *bubble_descriptor(void)
{
    return &task_descriptor;
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
static int introduce(int link, pid_t task, int handle)
{
    struct report report = {.kind = REPORT_TASK};
    struct ucred who = {task, geteuid(), getegid()};
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

static pid_t make_task(const struct bubble_plan *plan, int link, int task_link)
{
    int errors[STEP_COUNT] = {0}, handle = -1;
    enum bubble_step failed = bubble_furnish(plan, errors, 0);
    pid_t task = -1;

    if (failed == STEP_COUNT) {
        task = bubble_clone_task(plan, &handle);
        if (!task) {
            close(link);
            become_task(plan, task_link);
        }
        errors[failed = STEP_TASK] = task;
    }
    if (task < 0) {
        tell(link, REPORT_FAILED, failed, errors[failed]);
        _exit(EXIT_INTERNAL);
    }
    if (plan->own_group && !plan->own_session)
        setpgid(task, task); /* before the porter gives that group the terminal */
    if (introduce(link, task, handle))
        _exit(EXIT_INTERNAL);
    return task;
}

static int is_saver(const char *process)
{
    char path[32], name[16] = "";
    FILE *file;

    snprintf(path, sizeof path, "/proc/%.16s/comm", process);
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
    if (got != 1)
        _exit(EXIT_INTERNAL);
    prctl(PR_SET_PDEATHSIG, 0);
    tell(link, REPORT_DETACHED, 0, 0);
    close(link);
}

_Noreturn static void reap(pid_t task, int link)
{
    int status;

    for (;;) {
        pid_t child = waitpid(-1, &status, __WALL | (task ? WUNTRACED | WCONTINUED : 0));
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

_Noreturn void keeper_run(const struct bubble_plan *plan, int link, int task_link)
{
    bind_life(link);
    pid_t task = make_task(plan, link, task_link);
    let_go(link);
    prctl(PR_SET_NAME, KEEPER_NAME);
    reap(task, link);
}
