/* SPDX-License-Identifier: MIT */
/* Processes that job control has stopped. They are woken for the stop, parents first, and stopped again behind it, children first: a
 * parent that stands in the shim's handler sees to it that its program notices nothing (preload/shim/jobs.c). */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "saver.h"

enum { HALT_LOOKS = 1000 };

/* Should we die, it stops again by itself. Not before it has this stop's order: it may still be on its way out of the one before. */
void jobs_note(struct process *process)
{
    const struct saving *saving = &process->saving;

    if (process->page && process->stopped)
        __atomic_store_n(&process->page->job_stop,
                         process->was_job_stopped ? (uint32_t)saving->job_stop | (saving->job_parent ? JOB_HAS_PARENT : 0) : 0, __ATOMIC_SEQ_CST);
}

int jobs_wake(struct process *process)
{
    struct process *parent;
    int signal = 0;

    process->waits_for_parent = 0;
    if (process->was_job_stopped || proc_state(process->pid) != 'T')
        return 0;
    parent = members_parent(process);
    if (parent && !parent->is_parked) {
        process->waits_for_parent = 1;
        return -EAGAIN;
    }
    process->was_job_stopped = 1;
    process->saving.job_stop = SIGSTOP;
    process->saving.job_parent = parent ? parent->pid : 0;
    jobs_note(process);
    if (parent) {
        parent->page->argument = (uint32_t)process->pid;
        signal = stop_order(parent, ORDER_WAKE_CHILD);
    } else
        kill(process->pid, SIGCONT);
    if (signal > 0)
        process->saving.job_stop = signal;
    process->saving.job_is_reported = signal <= 0;
    jobs_note(process);
    return 0;
}

/* It makes its page on its way, and waits in the handler for the stop: so it does not come to run the program's code. */
void jobs_wake_pageless(struct process *process)
{
    struct process *parent = members_parent(process);

    if (process->was_job_stopped || (parent && !parent->is_parked))
        return;
    stop_send_to_all(process->pid, VALUE_HOLD);
    process->is_open = 1;
    jobs_wake(process);
}

/* What is not told yet would be lost: it comes back with a stop that nobody sees. */
void jobs_find_going_on(struct step *step)
{
    uint32_t any = 0;

    for (struct process *process = step->processes; process; process = process->next)
        any |= process->page->child_goes_on;
    for (struct process *process = step->processes; process && any; process = process->next) {
        struct process *parent = process->was_job_stopped ? NULL : members_parent(process);
        if (!parent || !parent->page->child_goes_on)
            continue;
        parent->page->argument = (uint32_t)process->pid;
        if (stop_order(parent, ORDER_ASK_CHILD) > 0) {
            process->saving.goes_on = 1;
            process->saving.job_parent = parent->pid;
        }
    }
}

static void halt(struct process *process, struct process *parent)
{
    const struct saving *saving = &process->saving;

    process->page->argument = (uint32_t)saving->job_stop | (parent ? JOB_HAS_PARENT : 0);
    stop_order_give(process, ORDER_HALT);
    if (parent) {
        parent->page->argument = (uint32_t)process->pid | (saving->job_is_reported ? JOB_REPORTED : 0);
        stop_order(parent, ORDER_STOP_CHILD);
    }
    for (int looks = 0; !parent && proc_state(process->pid) != 'T' && looks < HALT_LOOKS; looks++)
        poll(NULL, 0, 1);
}

static void rest(struct process *process)
{
    struct process *parent = process->saving.job_parent ? members_parent(process) : NULL;

    process->was_job_stopped = 0;
    jobs_note(process);
    if (process->is_parked && !members_page_is_dead(process) && (parent ? parent->is_parked : !process->saving.job_parent))
        halt(process, parent);
    else
        kill(process->pid, SIGSTOP); /* it finds its order when somebody lets it go on */
}

static int has_woken_child(const struct process *process)
{
    for (const struct process *other = process->step->processes; other; other = other->next)
        if (other->was_job_stopped && other->saving.job_parent == process->pid)
            return 1;
    return 0;
}

void jobs_rest(struct step *step)
{
    for (int any = 1; any;) {
        any = 0;
        for (struct process *process = step->processes; process; process = process->next)
            if (process->was_job_stopped && !has_woken_child(process)) {
                rest(process);
                any = 1;
            }
    }
}
