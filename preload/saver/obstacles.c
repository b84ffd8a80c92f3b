/* SPDX-License-Identifier: MIT */
/* What keeps a thread from stopping: no handler of ours, or a mask. Looked at while the program still runs, and again when
 * a thread does not come: all others stand still meanwhile. */
#include <dirent.h>
#include <poll.h>
#include <stdlib.h>

#include "../../core/floor/text.h"
#include "saver.h"

enum {
    BEFORE_MILLISECONDS = 1000, /* the program runs; libc itself blocks all signals for a moment in pthread_create and fork */
    ASLEEP_MILLISECONDS = 500,  /* it stands still, and so does the thread */
    AWAKE_MILLISECONDS = 2000,  /* it stands still; the thread may be in such a moment, and wait for a CPU */
    LOOK_MILLISECONDS = 5,
};

static uint64_t mask_of(const char *status, const char *key)
{
    const char *text = status_field(status, key);
    return text ? strtoull(text, NULL, 16) : 0;
}

/* Does a thread block the stop signal, and libc's own, too (stop.c)? With `sent`, only if it waits there. */
static int is_blocked(const struct process *process, uint32_t tid, int sent, char *ret_state)
{
    const uint64_t stop = UINT64_C(1) << (STOP_SIGNAL - 1), libc = UINT64_C(1) << (LIBC_SIGNAL - 1);
    char name[64];
    snprintf(name, sizeof name, "task/%u/status", tid);
    char *status = proc_read((int)process->page->pid, name, NULL);
    const char *state = status ? status_field(status, "State") : NULL;
    int blocked = status && mask_of(status, "SigBlk") & stop && (!sent || mask_of(status, "SigPnd") & stop);
    int is_libcs = blocked && mask_of(status, "SigCgt") & libc && !(mask_of(status, "SigBlk") & libc);

    *ret_state = state ? *state : 'X';
    free(status);
    return blocked && !is_libcs && *ret_state != 'Z' && *ret_state != 'X';
}

/* io_uring's own threads are threads of the program, too ("iou-sqp-" and "iou-wrk-" and a number). */
static int is_of_io_uring(const struct process *process, uint32_t tid)
{
    char name[64];
    snprintf(name, sizeof name, "task/%u/comm", tid);
    char *comm = proc_read((int)process->page->pid, name, NULL);
    int is = comm && text_starts(comm, "iou-");

    free(comm);
    return is;
}

static int fail_blocked(struct process *process, uint32_t tid)
{
    if (is_of_io_uring(process, tid))
        return fail(process->step, EXIT_REFUSED, "no checkpoint: R-IO-URING: thread %u is the kernel's own, of an io_uring of the program", tid);
    return fail(process->step, EXIT_REFUSED, "no checkpoint: R-SIGNAL-BLOCKED: thread %u blocks signal %d and does not stop", tid,
                STOP_SIGNAL);
}

/* Until a thread has had the signal open once. One that is job-stopped will not come to do so. One that makes threads without
 * end blocks it most of the time, and awake; once the signal waits for it, it comes: that is not to be told from here. */
static int await_open(struct process *process, uint32_t tid, int64_t deadline)
{
    unsigned looks = 0, asleep = 0;
    char state;

    while (is_blocked(process, tid, 0, &state) && state != 'T') {
        looks++;
        asleep += state == 'S';
        if (now_nanoseconds() > process->step->request->deadline)
            return stop_given_up(process->step);
        if (now_nanoseconds() > deadline)
            return asleep > looks / 2 ? fail_blocked(process, tid) : 0;
        poll(NULL, 0, LOOK_MILLISECONDS);
    }
    return 0;
}

/* What a thread does when it parks, its filter may forbid, and kill it for. */
static int check_filter(struct process *process, uint32_t tid)
{
    char name[64];
    snprintf(name, sizeof name, "task/%u/status", tid);
    char *status = proc_read((int)process->page->pid, name, NULL);
    const char *mode = status ? status_field(status, "Seccomp") : NULL;
    int is_filtered = mode && *mode != '0';

    free(status);
    return is_filtered ? fail(process->step, EXIT_REFUSED, "no checkpoint: R-SECCOMP: thread %u runs under a seccomp filter", tid) : 0;
}

static uint64_t kilobytes(const char *status, const char *key)
{
    const char *text = status_field(status, key);
    return text ? strtoull(text, NULL, 10) * 1024 : 0;
}

int obstacles_before(struct process *process)
{
    int is_inside = !!__atomic_load_n(&process->page->inside, __ATOMIC_SEQ_CST); /* it is just leaving the stop before */
    int64_t deadline = now_nanoseconds() + (is_inside ? STOP_DEADLINE_SECONDS * 1000 : BEFORE_MILLISECONDS) * INT64_C(1000000);
    char *status = proc_read((int)process->page->pid, "status", NULL), path[64];
    int is_there = !!status, failed = 0;
    int has_handler = is_there && mask_of(status, "SigCgt") & UINT64_C(1) << (STOP_SIGNAL - 1);
    struct dirent *entry;
    DIR *tasks;

    if (is_there)
        process->memory = kilobytes(status, "RssAnon") + kilobytes(status, "RssShmem");
    free(status);
    if (!is_there)
        return fail(process->step, EXIT_NO_IMAGE, "no checkpoint: the program has ended");
    if (!has_handler) /* whoever sent the signal would end the program */
        return fail(process->step, EXIT_REFUSED, "no checkpoint: R-SIGNAL-TAKEN: the program has taken the handler of signal %d away",
                    STOP_SIGNAL);
    snprintf(path, sizeof path, "/proc/%u/task", process->page->pid);
    tasks = opendir(path);
    while (tasks && !failed && (entry = readdir(tasks)))
        if (entry->d_name[0] != '.') {
            uint32_t tid = (uint32_t)strtoul(entry->d_name, NULL, 10);
            failed = check_filter(process, tid);
            if (!failed)
                failed = await_open(process, tid, deadline);
        }
    if (tasks)
        closedir(tasks);
    return failed;
}

int obstacles_look(struct process *process, struct obstacle *obstacle, uint32_t tid)
{
    int64_t now = now_nanoseconds(), patience;
    char state;

    if (obstacle->tid != tid)
        *obstacle = (struct obstacle){ .tid = tid, .since = now };
    if (!is_blocked(process, tid, 1, &state)) {
        obstacle->tid = 0;
        return 0;
    }
    patience = (state == 'R' ? AWAKE_MILLISECONDS : ASLEEP_MILLISECONDS) * INT64_C(1000000);
    return now - obstacle->since > patience ? fail_blocked(process, tid) : 0;
}

int obstacles_fail(struct process *process, uint32_t tid)
{
    char state;

    if (is_blocked(process, tid, 0, &state))
        return fail_blocked(process, tid);
    if (state == 'T' || state == 't')
        return fail(process->step, EXIT_REFUSED, "no checkpoint: R-STOPPED: the program is stopped (SIGSTOP, Ctrl-Z or a debugger)");
    if (state == 'Z')
        return fail(process->step, EXIT_REFUSED, "no checkpoint: R-MAIN-THREAD: the main thread has ended while others run on");
    return fail(process->step, EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: thread %u did not stop (state %c)", tid, state);
}
