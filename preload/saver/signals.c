/* SPDX-License-Identifier: MIT */
/* What only the program can tell of its timers and of the signals that wait for it: which there are is read here, and then
 * it is asked. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "saver.h"

/* Memory of the page that is not always there: now it can be refused. */
static int make_room(struct process *process, size_t from, size_t length)
{
    if (fallocate(process->page_descriptor, 0, (off_t)from, (off_t)length))
        return fail(process->step, EXIT_SYSTEM, "no checkpoint: no room in /dev/shm to describe timers and signals: %s", strerror(errno));
    return 0;
}

/* Only the program itself may open the list when it is not dumpable. */
static int read_timers(struct process *process, char **ret_text)
{
    int handle, error;

    *ret_text = proc_read(process->saving.pid, "timers", NULL);
    if (*ret_text)
        return 0;
    if (errno == ENOENT)
        return refuse(&process->saving, "R-TIMER", "this kernel does not tell which timers there are");
    error = meeting_order(process, ORDER_TIMERS, &handle, 1);
    if (error)
        return error;
    *ret_text = read_all(handle, NULL);
    error = -errno;
    close(handle);
    return *ret_text ? 0 : error;
}

int signals_list_timers(struct process *process)
{
    static struct agent_timer timers[AGENT_MAX_TIMERS];
    uint32_t count;
    char *text;
    int error = read_timers(process, &text), status;

    if (!error)
        error = timers_list(&process->saving, text, timers, &count);
    free(text);
    if (error)
        return fail_with(process, error, "the program's timers cannot be read");
    process->is_described = process->page->is_alone && process->saving.thread_count == 1 && count == process->page->timer_count;
    if (process->is_described)
        return 0;
    if (count > AGENT_FEW_TIMERS && (status = make_room(process, offsetof(struct agent_page, timers), count * sizeof *timers)))
        return status;
    memcpy(process->page->timers, timers, count * sizeof *timers);
    process->page->timer_count = count;
    return 0;
}

static uint64_t mask_of(const char *status, const char *key)
{
    const char *text = status_field(status, key);
    return text ? strtoull(text, NULL, 16) : 0;
}

/* Room for all that this user has waiting anywhere, and for some that may come. To be taken out and put back again, they must
 * find room in the kernel's queue, too. */
static int make_waiting_room(struct process *process, const char *status)
{
    const char *queue = status_field(status, "SigQ");
    uint64_t used = 0, most = 0;

    if (!queue || sscanf(queue, "%" SCNu64 "/%" SCNu64, &used, &most) != 2 || used > AGENT_MAX_WAITING - AGENT_MAX_WAITING / 8)
        return fail_with(process, refuse(&process->saving, "R-PENDING-SIGNAL", "%" PRIu64 " signals and timers of this user are waiting",
                                      used), "signals");
    process->page->waiting_room = (uint32_t)used + AGENT_MAX_WAITING / 8;
    return make_room(process, offsetof(struct agent_page, waiting), process->page->waiting_room * sizeof *process->page->waiting);
}

static int ask_thread(struct process *process, uint32_t tid, const char *status)
{
    int error;

    if (!process->page->waiting_room && (error = make_waiting_room(process, status)))
        return error;
    process->page->waiting_tid = tid;
    error = stop_order(process, ORDER_WAITING);
    if (error == -E2BIG)
        error = refuse(&process->saving, "R-PENDING-SIGNAL", "signals come faster than they can be counted");
    return error ? fail_with(process, error, "the signals that wait") : 0;
}

/* 1 when signals wait for a thread, or, for the main one, for the process. Those that are ours the thread knows. */
static int has_waiting(const struct process *process, uint32_t tid, const char *status)
{
    uint64_t waits = mask_of(status, "SigPnd");

    if (tid == process->page->pid)
        waits |= mask_of(status, "ShdPnd");
    return !!(waits & ~(UINT64_C(1) << (STOP_SIGNAL - 1)));
}

static char *read_status(const struct process *process, uint32_t tid)
{
    char path[64];

    snprintf(path, sizeof path, "task/%u/status", tid);
    return proc_read(process->saving.pid, path, NULL);
}

/* The status of each thread; of the main one it is kept. */
int signals_look(struct process *process)
{
    const struct agent_page *page = process->page;
    int status = 0;

    process->saving.status = proc_read(process->saving.pid, "status", NULL);
    process->signals_wait = 0;
    for (uint32_t i = 0; !status && i < process->saving.thread_count; i++) {
        uint32_t tid = page->threads[i].tid;
        char *of_thread = tid == page->pid ? NULL : read_status(process, tid);
        const char *text = tid == page->pid ? process->saving.status : of_thread;
        if (!text)
            status = fail_with(process, -errno, "the signals that wait");
        else
            process->signals_wait |= has_waiting(process, tid, text);
        free(of_thread);
    }
    return status;
}

int signals_collect(struct process *process)
{
    const struct agent_page *page = process->page;
    int status = 0;

    process->page->waiting_count = process->page->waiting_room = 0;
    for (uint32_t i = 0; process->signals_wait && !status && i < process->saving.thread_count; i++) {
        uint32_t tid = page->threads[i].tid;
        char *text = read_status(process, tid);
        if (!text)
            status = fail_with(process, -errno, "the signals that wait");
        else if (has_waiting(process, tid, text))
            status = ask_thread(process, tid, text);
        free(text);
    }
    process->saving.waiting_count = page->waiting_count;
    return status;
}
