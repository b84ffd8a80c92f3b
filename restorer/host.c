/* SPDX-License-Identifier: MIT */
#include "host.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "numbers.h"

/* Of the image's main thread first. NULL: no memory. */
static pid_t *list_numbers(const struct restoring *task, uint32_t *ret_count)
{
    struct reader threads;
    pid_t *numbers = NULL;

    *ret_count = 0;
    if (!image_find_record(task->image, TAG_THREADS, task->index, &threads))
        numbers = calloc(threads_count(&threads) + 1, sizeof *numbers);
    if (!numbers)
        return NULL;
    numbers[0] = task->pid;
    *ret_count = 1 + threads_others(task, numbers + 1);
    return numbers;
}

static void check_numbers(const struct bubble_plan *plan, struct restoring *obstacles)
{
    char text[160];
    const char *obstacle = NULL;

    for (uint32_t i = 0; i < plan->number_count && !obstacle; i++)
        obstacle = numbers_obstacle(plan->numbers[i], text, sizeof text);
    if (obstacle)
        missing(obstacles, "R-PID-TAKEN: without namespaces the program needs the PIDs and TIDs that it had, and %s", obstacle);
}

/* Seconds that a clock of the program's has gone on; less than 0: it would go back. */
static int64_t gone_on(clockid_t clock, const int64_t then[2])
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec - then[0] - (now.tv_nsec < then[1]);
}

static void check_clocks(const struct restoring *task, struct restoring *obstacles)
{
    int64_t seconds = gone_on(CLOCK_MONOTONIC, task->monotonic), other = gone_on(CLOCK_BOOTTIME, task->boottime);

    if (seconds < 0 || other < 0)
        missing(obstacles, "R-TIME-NAMESPACE: without namespaces the program's monotonic clock would go back by %" PRId64 " s; "
                "restart on a machine that has been up for longer", -(seconds < other ? seconds : other));
}

static const char *needs(const struct tree *tree)
{
    const struct restoring *task = tree->processes;

    if (tree->count > 1)
        return "several processes";
    if (task->ended_count)
        return "children that have ended";
    return task->has_terminal_pairs ? "terminals of its own" : task->bubble_for;
}

int host_check(struct tree *tree, struct bubble_plan *plan, struct restoring *obstacles)
{
    struct restoring found = { 0 }, *task = tree->processes;
    const char *need = needs(tree);
    int is_free;

    if (need)
        missing(&found, "R-USER-NAMESPACE: without namespaces only a program of one process can come back that holds nothing which is seen by "
                "others, too, and this one has %s", need);
    plan->numbers = list_numbers(task, &plan->number_count);
    check_numbers(plan, &found);
    check_clocks(task, &found);
    is_free = task->is_on_host = !found.missing.length;
    if (task->policy.strict)
        host_say(task);
    buffer_add(&obstacles->missing, found.missing.bytes, found.missing.length);
    buffer_free(&found.missing);
    return is_free;
}

void host_say(struct restoring *task)
{
    if (task->is_on_host)
        adapted(task, "R-USER-NAMESPACE", "no namespaces can be had here, so the program runs among the host's processes: its PIDs are its own, "
                "but its monotonic clocks have gone on by %" PRId64 " s, and /proc/%d/exe is %s",
                gone_on(CLOCK_MONOTONIC, task->monotonic), task->pid, RESTORER_NAME);
}

int host_hold_threads(struct restoring *own)
{
    char text[160];
    uint32_t count;
    pid_t *numbers = own->is_on_host ? list_numbers(own, &count) : NULL, failed = 0;
    int error = !own->is_on_host ? 0 : numbers ? numbers_hold(numbers + 1, count - 1, &failed) : -ENOMEM;
    const char *obstacle = error == -EEXIST ? numbers_obstacle(failed, text, sizeof text) : strerror(-error);

    free(numbers);
    numbers_end();
    if (error)
        fprintf(stderr, "stasis: restart: R-PID-TAKEN: a thread of the program cannot have its TID %d: %s. Nothing was changed; restart again\n", failed,
                obstacle ? obstacle : "others were always quicker");
    return !error ? 0 : error == -EEXIST ? EXIT_REFUSED : EXIT_SYSTEM;
}
