/* SPDX-License-Identifier: MIT */
/* The porter: outside the bubble, stands for the task to whoever waits. Signals, job control, how it ends, and the page
 * by which `stasis checkpoint PORTER_PID` finds the bubble.
 *
 * It lives with all signals blocked and reads them from a signalfd. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/registry/registry.h"
#include "bubble_private.h"
#include "../core/floor/agent_page.h"
#include "../core/floor/names.h"
#include "../core/floor/text.h"

enum { CLAIM_TRIES = 3 };

struct porter {
    const struct bubble_plan *plan;
    pid_t keeper, task;  /* as seen here; task 0: not yet */
    int link, task_link; /* descriptors, -1: closed */
    int handle;          /* pidfd of the task */
    int signals;
    int terminal;        /* the controlling one, when the task has a group of its own in our session; else -1 */
    int own_group;
    enum { STANDING, ENDED, LOST, FAILED } state;
    int status;          /* ENDED, LOST: of waitpid(); FAILED: exit status */
    int others;          /* ENDED: 1 when others live on inside */
};

/* ---- the page ---- */

/* Ours, and nobody else can write there: descriptor, or -errno. */
static int own_directory(const char *path)
{
    struct stat is;

    if (mkdir(path, 0700) && errno != EEXIST)
        return -errno;
    int directory = open(path, O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC);
    if (directory < 0)
        return -errno;
    if (!fstat(directory, &is) && is.st_uid == geteuid() && !(is.st_mode & 077))
        return bubble_lift(directory, LIFTED);
    close(directory);
    return -EPERM;
}

static int make_directories(const struct bubble_plan *plan)
{
    const char *paths[] = {plan->registry, plan->run_directory};

    for (int i = 0; i < 2; i++) {
        int directory = paths[i] ? own_directory(paths[i]) : -1;
        if (paths[i] && directory < 0)
            return directory;
        if (directory >= 0)
            close(directory);
    }
    return 0;
}

static void name_page(char name[33])
{
    unsigned char random[16];

    if (getrandom(random, sizeof random, 0) != sizeof random)
        memset(random, 0, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        sprintf(name + 2 * i, "%02x", random[i]);
}

/* The page from before the bubble is made on: nobody takes away a directory in which something is, and the bubble shows it inside. Until
 * it is filled in it is one that is being made; its lock keeps it. */
static struct {
    int file, directory;
    char name[33];
} claimed = { .file = -1, .directory = -1 };

static int claim_page(void)
{
    char self[64];

    claimed.file = openat(claimed.directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (claimed.file < 0)
        return -errno;
    claimed.file = bubble_lift(claimed.file, LIFTED);
    if (fchmod(claimed.file, 0600) || ftruncate(claimed.file, AGENT_PAGE_BYTES) || flock(claimed.file, LOCK_EX))
        return -errno;
    name_page(claimed.name);
    snprintf(self, sizeof self, "/proc/self/fd/%d", claimed.file);
    if (linkat(AT_FDCWD, self, claimed.directory, claimed.name, AT_SYMLINK_FOLLOW)) {
        claimed.name[0] = 0;
        return -errno;
    }
    return 0;
}

void porter_let_go(void)
{
    if (claimed.file >= 0)
        close(claimed.file);
    if (claimed.directory >= 0)
        close(claimed.directory);
    claimed.file = claimed.directory = -1;
}

int porter_claim(const struct bubble_plan *plan)
{
    for (int tries = 0, error;; tries++) { /* somebody's sweep may take the empty directory away in between */
        error = make_directories(plan);
        if (!error && plan->run_directory) {
            claimed.directory = own_directory(plan->run_directory);
            error = claimed.directory < 0 ? claimed.directory : claim_page();
        }
        if (error)
            porter_let_go();
        if (error != -ENOENT || tries == CLAIM_TRIES)
            return error;
    }
}

void porter_give_back(void)
{
    if (claimed.name[0])
        unlinkat(claimed.directory, claimed.name, 0);
    porter_let_go();
    registry_sweep(); /* what was killed left its page */
}

/* The magic comes last, when all else is true. */
static int fill_page(const struct bubble_plan *plan, pid_t keeper)
{
    const char *job = getenv(ENV_SLURM_JOB), *slurm_step = getenv(ENV_SLURM_STEP), *step = slurm_step ? slurm_step : getenv(ENV_STEP);
    struct stat namespace;
    struct agent_page *page;

    if (claimed.file < 0)
        return 0;
    page = mmap(NULL, AGENT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, claimed.file, 0);
    if (page == MAP_FAILED)
        return -errno;
    page->bytes = sizeof *page;
    page->role = ROLE_PORTER;
    page->pid = (uint32_t)getpid();
    page->porter_target = (uint32_t)keeper;
    text_add(page->job, sizeof page->job, 0, plan->job);
    text_add(page->step, sizeof page->step, 0, plan->step);
    if (job && step)
        snprintf(page->as_slurm, sizeof page->as_slurm, "%.*s.%.*s", MAX_ID - 1, job, MAX_ID - 1, step);
    if (!stat("/proc/self/ns/pid", &namespace))
        page->pid_namespace = namespace.st_ino;
    __atomic_store_n(&page->magic, AGENT_MAGIC, __ATOMIC_SEQ_CST);
    munmap(page, AGENT_PAGE_BYTES);
    return 0;
}

/* ---- the terminal ---- */

static void open_terminal(struct porter *p)
{
    if (!p->own_group || p->plan->own_session)
        return;
    p->terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (p->terminal >= 0)
        p->terminal = bubble_lift(p->terminal, LIFTED);
}

/* To the task's group, if it is ours to give: 1 when given. */
static int give_terminal(const struct porter *p)
{
    return p->terminal >= 0 && tcgetpgrp(p->terminal) == getpgrp() && !tcsetpgrp(p->terminal, p->task);
}

/* Back from the task's group, or from one of its children's that is no more: 1 when taken. SIGTTOU is blocked: the
 * kernel lets us. */
static int take_terminal(const struct porter *p)
{
    pid_t front = p->terminal >= 0 ? tcgetpgrp(p->terminal) : -1;

    if (front <= 0 || front == getpgrp() || (front != p->task && (!kill(-front, 0) || errno != ESRCH)))
        return 0;
    return !tcsetpgrp(p->terminal, getpgrp());
}

/* ---- signals ---- */

enum addressee { NOBODY, THE_TASK, ITS_GROUP };

/* What the terminal sends reaches a task in our group without us; one in its own group, only while it has the
 * terminal, and then we do not get it. A hangup goes to the session's leader alone. */
static enum addressee addressee(const struct porter *p, const struct signalfd_siginfo *got)
{
    const uint64_t terminal = SIGNAL_BIT(SIGINT) | SIGNAL_BIT(SIGQUIT) | SIGNAL_BIT(SIGTSTP) | SIGNAL_BIT(SIGWINCH) |
                              SIGNAL_BIT(SIGHUP) | SIGNAL_BIT(SIGCONT);
    const uint64_t hangup = SIGNAL_BIT(SIGHUP) | SIGNAL_BIT(SIGCONT);
    uint64_t bit = SIGNAL_BIT(got->ssi_signo);

    if (got->ssi_signo == SIGCHLD)
        return NOBODY;
    if (got->ssi_code <= 0) {
        if (got->ssi_pid == (uint32_t)getpid()) /* our own SIGPIPE */
            return NOBODY;
        return got->ssi_signo == SIGCONT && p->own_group ? ITS_GROUP : THE_TASK;
    }
    if (got->ssi_code != SI_KERNEL || !(bit & terminal))
        return NOBODY;
    if (relay_is_on() && got->ssi_signo == SIGWINCH)
        return NOBODY; /* its own terminal changes, too, and the kernel tells it */
    if (p->own_group)
        return ITS_GROUP;
    return bit & hangup && getsid(0) == getpid() ? THE_TASK : NOBODY;
}

/* By the handle: a PID could already be somebody else's. Only what was queued keeps its value; the rest the kernel
 * lets us send only as kill() does. */
static void send_task(const struct porter *p, const struct signalfd_siginfo *got)
{
    siginfo_t info = {.si_signo = (int)got->ssi_signo, .si_code = SI_QUEUE};
    int queued = got->ssi_code == SI_QUEUE || got->ssi_code == SI_MESGQ || got->ssi_code == SI_TIMER;

    info.si_pid = (pid_t)got->ssi_pid;
    info.si_uid = got->ssi_uid;
    info.si_value.sival_ptr = (void *)(uintptr_t)got->ssi_ptr;
    syscall(SYS_pidfd_send_signal, p->handle, got->ssi_signo, queued ? &info : NULL, 0);
}

static void send_group(const struct porter *p, int signal)
{
    if (!p->own_group || kill(-p->task, signal))
        syscall(SYS_pidfd_send_signal, p->handle, signal, NULL, 0);
}

static void forward(const struct porter *p)
{
    struct signalfd_siginfo got;

    while (read(p->signals, &got, sizeof got) == sizeof got) {
        if (got.ssi_signo == SIGCONT) {
            kill(p->keeper, SIGCONT); /* a SIGSTOP to all of our group stopped it as well */
            give_terminal(p);
            relay_come_back();
        } else if (got.ssi_signo == SIGWINCH)
            relay_resize();
        enum addressee to = addressee(p, &got);
        if (to == ITS_GROUP)
            send_group(p, (int)got.ssi_signo);
        else if (to == THE_TASK)
            send_task(p, &got);
    }
}

/* ---- job control ---- */

static int news(const struct porter *p)
{
    struct pollfd link = {.fd = p->link, .events = POLLIN};
    return poll(&link, 1, 0) > 0;
}

static int continuing(void)
{
    uint64_t pending = 0;
    syscall(SYS_rt_sigpending, &pending, sizeof pending);
    return !!(pending & SIGNAL_BIT(SIGCONT));
}

/* Stops as the task did, unless that is out of date; `group`: with all our group, as the terminal would have done.
 * While we are stopped, a report wakes us by SIGCONT (F_SETSIG): the task may be continued or killed without us. The
 * order lets none slip by: a SIGCONT, ours or the shell's, takes back a stop signal that is still pending. 0: the
 * kernel would not stop us, for our group is orphaned. */
static int stop_self(const struct porter *p, int signal, int group)
{
    fcntl(p->link, F_SETFL, O_NONBLOCK | O_ASYNC);
    if (signal != SIGSTOP)
        kill(group ? 0 : getpid(), signal);
    int old = news(p);
    if (old && group)
        kill(0, SIGCONT);
    else if (!old && signal == SIGSTOP)
        kill(getpid(), signal);
    else if (!old)
        bubble_mask(ALL_SIGNALS & ~SIGNAL_BIT(signal)); /* stopped here */
    bubble_mask(ALL_SIGNALS);
    if (signal != SIGSTOP) {
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL); /* a leftover is dropped */
        bubble_default(signal);
    }
    fcntl(p->link, F_SETFL, O_NONBLOCK);
    return old || news(p) || continuing();
}

static void task_stopped(const struct porter *p, int signal)
{
    int wants_terminal = signal == SIGTTIN || signal == SIGTTOU;

    /* A job put in front while it ran: shells send it no SIGCONT. */
    if (wants_terminal && give_terminal(p)) {
        send_group(p, SIGCONT);
        return;
    }
    int was_in_front = take_terminal(p);
    relay_leave_terminal();
    int group = p->terminal >= 0 && (wants_terminal || (was_in_front && signal == SIGTSTP));
    if (stop_self(p, signal, group))
        return; /* the SIGCONT is forwarded like any signal */
    /* Nobody is there to continue it. As the kernel does to a stopped group that becomes an orphan. */
    if (wants_terminal)
        send_group(p, SIGHUP);
    give_terminal(p);
    send_group(p, SIGCONT);
}

/* ---- reports ---- */

static void take_item(struct porter *p, const struct report *report, struct cmsghdr *item)
{
    struct ucred who;

    if (item->cmsg_level != SOL_SOCKET || report->kind != REPORT_TASK)
        return;
    if (item->cmsg_type == SCM_CREDENTIALS) {
        memcpy(&who, CMSG_DATA(item), sizeof who);
        p->task = who.pid;
    } else if (item->cmsg_type == SCM_RIGHTS) {
        memcpy(&p->handle, CMSG_DATA(item), sizeof p->handle);
        p->handle = bubble_lift(p->handle, LIFTED);
    }
}

/* 1: a report; 0: none now; -1: the keeper is gone. */
static int receive(struct porter *p, struct report *ret_report)
{
    char control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec piece = {ret_report, sizeof *ret_report};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(p->link, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got != sizeof *ret_report)
        return -1;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item))
        take_item(p, ret_report, item);
    return 1;
}

static void fail(struct porter *p, int status)
{
    p->state = FAILED;
    p->status = status;
}

/* The task waits: page and terminal first, then go. */
static void meet_task(struct porter *p, const struct report *report)
{
    int error = fill_page(p->plan, p->keeper);

    if (report->value)
        p->task = report->value;
    if (error) {
        fprintf(stderr, "stasis: cannot map a file in %s: %s\n",
                p->plan->run_directory, strerror(-error));
        fail(p, EXIT_CANNOT_CREATE);
        return;
    }
    open_terminal(p);
    give_terminal(p);
    send(p->task_link, "", 1, MSG_NOSIGNAL);
}

static void lose_keeper(struct porter *p)
{
    while (waitpid(p->keeper, &p->status, 0) < 0 && errno == EINTR)
        ;
    p->state = LOST;
    if (p->plan->is_on_host && p->handle >= 0)
        syscall(SYS_pidfd_send_signal, p->handle, SIGKILL, NULL, 0); /* no bubble, in which the kernel would have done it */
    if (WIFSIGNALED(p->status))
        fprintf(stderr, "stasis: process %d, which keeps the program's namespaces, was killed by signal %d (%s), and "
                "the program with it. Restart again from the image\n", p->keeper, WTERMSIG(p->status),
                strsignal(WTERMSIG(p->status)));
    else
        fprintf(stderr, "stasis: process %d, which keeps the program's namespaces, ended unasked, and the program with "
                "it. Please report this; restart again from the image\n", p->keeper);
}

static void take_status(struct porter *p, const struct report *report)
{
    int status = report->value;

    if (WIFSTOPPED(status)) {
        task_stopped(p, WSTOPSIG(status));
    } else if (WIFCONTINUED(status)) {
        give_terminal(p);
    } else {
        p->state = ENDED;
        p->status = status;
        p->others = report->more;
    }
}

static void take_reports(struct porter *p)
{
    struct report report;
    int got = 1;

    while (p->state == STANDING && (got = receive(p, &report)) > 0) {
        if (report.kind == REPORT_FAILED)
            fail(p, bubble_complain((enum bubble_step)report.value, report.more));
        else if (report.kind == REPORT_TASK)
            meet_task(p, &report);
        else if (report.kind == REPORT_STATUS)
            take_status(p, &report);
    }
    if (got < 0)
        lose_keeper(p);
}

/* ---- the task started ---- */

/* What we inherited is not close-on-exec, what we opened is. Held longer by us, it would delay the end of a pipe that
 * the program has closed. stderr stays: we may have to say something. */
static void let_go(void)
{
    DIR *own = opendir("/proc/self/fd");

    for (struct dirent *entry = own ? readdir(own) : NULL; entry; entry = readdir(own)) {
        int descriptor = atoi(entry->d_name);
        if (descriptor > 2 && !(fcntl(descriptor, F_GETFD) & FD_CLOEXEC))
            close(descriptor);
    }
    if (own)
        closedir(own);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    null = bubble_lift(null, LIFTED);
    dup2(null, 0);
    dup2(null, 1);
    close(null);
}

static void hear_task(struct porter *p)
{
    char byte;
    ssize_t got = recv(p->task_link, &byte, 1, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    close(p->task_link);
    p->task_link = -1;
    if (got != 1)
        return; /* it failed, and says so itself */
    if (p->plan->started)
        p->plan->started(p->plan->context);
    let_go();
}

/* ---- the whole ---- */

static void wait_once(struct porter *p)
{
    struct pollfd ready[3 + RELAY_POLLS] = {
        {.fd = p->task_link, .events = POLLIN},
        {.fd = p->link, .events = POLLIN},
        {.fd = p->handle >= 0 ? p->signals : -1, .events = POLLIN}, /* nobody to send them to yet */
    };
    int patience = relay_poll(ready + 3), looks = p->plan->look && p->handle >= 0;

    if (looks)
        p->plan->look(p->plan->context);
    if (looks && (patience < 0 || patience > p->plan->look_milliseconds))
        patience = p->plan->look_milliseconds;
    if (poll(ready, 3 + RELAY_POLLS, patience) <= 0)
        return;
    relay_carry(ready + 3);
    if (ready[0].revents)
        hear_task(p);
    if (ready[2].revents)
        forward(p);
    if (ready[1].revents)
        take_reports(p);
}

/* The keeper stays while others live inside: it must know first that our end is not theirs. */
static void part(struct porter *p)
{
    struct report report;

    if (p->others && send(p->link, "", 1, MSG_NOSIGNAL) == 1) {
        while (receive(p, &report) == 0)
            poll(&(struct pollfd){.fd = p->link, .events = POLLIN}, 1, -1);
        return;
    }
    while (waitpid(p->keeper, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Takes down a bubble that failed before the task ran. */
static int give_up(struct porter *p)
{
    kill(p->keeper, SIGKILL);
    while (waitpid(p->keeper, NULL, 0) < 0 && errno == EINTR)
        ;
    const int ours[] = {p->link, p->task_link, p->handle, p->signals, p->terminal};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (ours[i] >= 0)
            close(ours[i]);
    return p->status;
}

static int set_up(struct porter *p)
{
    const uint64_t all = ALL_SIGNALS;

    p->signals = (int)syscall(SYS_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (p->signals < 0)
        return -errno;
    p->signals = bubble_lift(p->signals, LIFTED);
    if (setsockopt(p->link, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) ||
        fcntl(p->link, F_SETFL, O_NONBLOCK) || fcntl(p->link, F_SETOWN, getpid()) ||
        fcntl(p->link, F_SETSIG, SIGCONT))
        return -errno;
    return 0;
}

int porter_run(const struct bubble_plan *plan, pid_t keeper, int link, int task_link)
{
    struct porter p = {.plan = plan, .keeper = keeper, .link = link, .task_link = task_link, .handle = -1,
        .signals = -1, .terminal = -1,
        .own_group = plan->own_group || plan->own_session};
    int error = set_up(&p);

    relay_let_go();
    if (error) {
        fprintf(stderr, "stasis: cannot watch over the program: %s. Raise ulimit -n\n", strerror(-error));
        fail(&p, EXIT_SYSTEM);
    }
    while (p.state == STANDING)
        wait_once(&p);
    relay_end();
    take_terminal(&p);
    if (p.state == ENDED)
        part(&p);
    if (p.state == ENDED && !p.others && !p.status && plan->succeeded)
        plan->succeeded(plan->context);
    plan->over(plan->context, p.state == FAILED ? p.status : WIFEXITED(p.status) ? WEXITSTATUS(p.status) : EXIT_SYSTEM);
    porter_give_back();
    if (p.state == FAILED)
        return give_up(&p);
    if (p.state == LOST && !WIFSIGNALED(p.status))
        _exit(EXIT_INTERNAL);
    bubble_mirror(p.status);
}
