/* SPDX-License-Identifier: MIT */
/* What a program says by preload/shim/stasis.h: it forbids checkpoints for a while, and asks for one itself. Whoever waits until it
 * allows them does not hold the run's lock meanwhile: for as long as that is held, exec waits in the program. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "saver.h"

enum { CALL_SECONDS = 5, LOOK_MILLISECONDS = 5 };

static int forbids(const struct process *process)
{
    return process->page && __atomic_load_n(&process->page->forbidden, __ATOMIC_SEQ_CST) && !members_page_is_dead(process);
}

static const struct process *one_that_forbids(const struct step *step)
{
    const struct process *process = step->processes;

    while (process && !forbids(process))
        process = process->next;
    return process;
}

static int change_owed(const struct process *process, uint32_t from, uint32_t to)
{
    int is_changed = __atomic_compare_exchange_n(&process->page->owed, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);

    stop_wake(&process->page->owed);
    return is_changed;
}

/* Nobody waits for it: each that forbids it asks for it as soon as it allows it, and finds the lock free. -EAGAIN: it has allowed it
 * meanwhile, and not seen that. */
static int leave_it_to_them(struct step *step)
{
    int is_unseen = 0;

    flock(step->lock, LOCK_UN);
    for (const struct process *process = step->processes; process; process = process->next)
        if (forbids(process) && !change_owed(process, OWED_NOTHING, OWED_BY_PROCESS))
            change_owed(process, OWED_AND_TAKEN, OWED_BY_PROCESS);
    step->is_said = 1;
    if (one_that_forbids(step))
        return EXIT_REFUSED;
    for (const struct process *process = step->processes; process; process = process->next)
        is_unseen |= process->page && change_owed(process, OWED_BY_PROCESS, OWED_NOTHING);
    step->is_said = !is_unseen;
    return is_unseen ? -EAGAIN : EXIT_REFUSED;
}

static int fail_forbidden(struct step *step, const struct process *process)
{
    return fail(step, EXIT_REFUSED, "no checkpoint: R-FORBIDDEN: process %u of the program forbids checkpoints for now; see the page of that "
                "name in the documentation, or wait with --max-wait", process->page->pid);
}

/* They stay for a while in the moment in which they allow it. Again and again: another saver may have been there first, and be done. */
static void ask_them(struct step *step)
{
    for (struct process *process = step->processes; process; process = process->next) {
        if (!forbids(process) || __atomic_load_n(&process->page->owed, __ATOMIC_SEQ_CST) == OWED_BY_SAVER)
            continue;
        process->page->owed_pid = (uint32_t)getpid();
        process->was_owed |= change_owed(process, OWED_BY_PROCESS, OWED_BY_SAVER);
        change_owed(process, OWED_NOTHING, OWED_BY_SAVER);
        change_owed(process, OWED_AND_TAKEN, OWED_BY_SAVER);
    }
}

/* What they owed before we came, or to one that nobody waits for, they still do. */
static void ask_no_more(const struct step *step)
{
    for (const struct process *process = step->processes; process && step->forbidden_since; process = process->next)
        if (process->page && process->page->owed_pid == (uint32_t)getpid())
            change_owed(process, OWED_BY_SAVER, step->request->is_owed || process->was_owed ? OWED_BY_PROCESS : OWED_NOTHING);
}

/* -EAGAIN when none forbids it any more. */
static int wait_for_them(struct step *step)
{
    int64_t end = step->request->deadline;
    const struct process *process;

    if (!step->forbidden_since)
        step->forbidden_since = now_nanoseconds();
    if (step->request->call)
        end = step->forbidden_since + CALL_SECONDS * INT64_C(1000000000);
    flock(step->lock, LOCK_UN);
    while ((process = one_that_forbids(step))) {
        ask_them(step);
        if (now_nanoseconds() > end)
            return step->request->call ? fail_forbidden(step, process)
                                       : fail(step, EXIT_RUN_AGAIN, "given up: process %u of the program forbids checkpoints still; the last good "
                                              "image stays", process->page->pid);
        poll(NULL, 0, LOOK_MILLISECONDS);
    }
    return -EAGAIN;
}

/* ---- the program that asks itself ---- */

static struct process *caller(const struct step *step)
{
    struct process *process = step->request->call ? step->processes : NULL;

    while (process && process->pid != step->request->requester)
        process = process->next;
    return process && process->page && process->page->call_number == step->request->call && !members_page_is_dead(process) ? process : NULL;
}

static void answer(struct process *process, uint32_t how)
{
    __atomic_store_n(&process->page->call, how, __ATOMIC_SEQ_CST);
    stop_wake(&process->page->call);
}

/* By another saver, which had the lock before us. */
static int has_been_seen_to(const struct step *step)
{
    const struct process *process = caller(step);
    return step->request->is_owed && (!process || process->page->call != CALL_OWED);
}

int forbids_await(struct step *step)
{
    const struct process *process = one_that_forbids(step);
    int status;

    step->is_said = has_been_seen_to(step);
    if (step->is_said)
        return EXIT_REFUSED;
    if (!process)
        return 0;
    if (step->request->requester && !step->request->call)
        return leave_it_to_them(step);
    if (!step->request->call && step->request->deadline == INT64_MAX)
        return tasks_refuse(step, fail_forbidden(step, process));
    if (!step->request->call)
        tasks_keep_place(step);
    status = wait_for_them(step);
    tasks_give_place(); /* a saver that the program has started may come first */
    return status;
}

int forbids_among_the_stopped(struct step *step)
{
    return one_that_forbids(step) ? -EAGAIN : 0;
}

/* Also for those that wait for another saver, which has no more to do then. */
void forbids_passed(struct step *step, int status)
{
    for (struct process *process = step->processes; process && status != -EAGAIN; process = process->next) {
        if (!process->stopped)
            continue;
        change_owed(process, OWED_BY_SAVER, status ? OWED_NOTHING : OWED_AND_TAKEN);
        if (!status && process->page->call == CALL_OWED)
            answer(process, CALL_PASSED);
    }
}

/* One that waited for the moment only has not waited for more. */
void forbids_answer(struct step *step, int status)
{
    struct process *process = caller(step);

    if (status)
        ask_no_more(step);
    if (!process || (step->request->is_owed && process->page->call == CALL_PASSED))
        return;
    step->is_answered = 1;
    process->page->call_status = (uint32_t)status;
    if (status)
        snprintf(process->page->message, sizeof process->page->message, "%s",
                 *step->message ? step->message : "no checkpoint: another task of the step has failed");
    answer(process, CALL_DONE);
}
