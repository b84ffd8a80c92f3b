/* SPDX-License-Identifier: MIT */
#include "tasks.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../core/floor/roll.h"
#include "../core/image/tasks.h"
#include "../core/kinds/kind.h"

extern char **environ;

enum { PATIENCE_SECONDS = 300 /* without anybody having come */, LOOK_MILLISECONDS = 10 };

/* This task; tasks 0: there is but one. */
static struct {
    struct task_place place;
    char parts[MAX_PATH];
} own;

/* One task speaks for all where all see the same, and whom it concerns. */
static int is_speaker(const struct task_place *place, uint32_t of_task)
{
    return !place->task || place->task == of_task;
}

static int refuse_count(const char *image, uint32_t count, const struct task_place *place)
{
    if (place->tasks && place->task)
        return EXIT_NO_IMAGE;
    if (place->tasks)
        fprintf(stderr, "stasis: cannot restart: %s is of a step of %u task%s, and this one has %u; nothing was changed. Start it with "
                "srun --ntasks=%u\n", image, count, count == 1 ? "" : "s", place->tasks, count);
    else
        fprintf(stderr, "stasis: cannot restart: %s is of a Slurm step of %u tasks: start it with srun --ntasks=%u --restart-dir=%s\n", image, count,
                count, image);
    return EXIT_NO_IMAGE;
}

/* From here on the roll is there, until all have ended. */
static int open_roll(void)
{
    int roll = roll_open(own.parts, own.place.roll, own.place.tasks);

    if (roll < 0)
        fprintf(stderr, "stasis: cannot restart: in %s the tasks of the step cannot agree: %s\n", own.parts, strerror(-roll));
    else
        close(roll);
    return roll < 0 ? EXIT_CANNOT_CREATE : 0;
}

/* For those who will take images, in whatever directory, and for those who wait for it now. */
_Noreturn static void end_again(struct image *index, const struct task_record *task)
{
    char parts[MAX_PATH];
    const char *home = tasks_home(index);

    if (home)
        roll_directory(parts, home, index->header.job, index->header.step);
    if (home && strcmp(parts, own.parts))
        roll_note_end(parts, &own.place, task->run, (int)task->status);
    roll_note_end(own.parts, &own.place, task->run, (int)task->status);
    exit((int)task->status);
}

static int take_part(struct image *index, const struct task_record *task, char image[MAX_PATH])
{
    if (task->state == PART_ENDED)
        end_again(index, task);
    int length = snprintf(image, MAX_PATH, "%s/%s", own.parts, task->name);
    return length < 0 || length >= MAX_PATH ? EXIT_NO_IMAGE : open_roll();
}

static int choose_part(struct image *index, char image[MAX_PATH], int is_found)
{
    const struct task_record *tasks;
    struct task_place place;
    struct tasks_found found = { 0 };
    uint32_t count = 1;
    int error = tasks_read(index, &tasks, &count);

    roll_place(environ, &place);
    if (error == -ENOENT)
        return is_found && place.tasks > 1 ? refuse_count(image, 1, &place) : 0;
    if (!error && (place.tasks != count || place.task >= count))
        return refuse_count(image, count, &place);
    if (!error)
        error = tasks_check(index, image, 0, &found); /* all parts: so all tasks come to the same answer */
    if (error) {
        if (is_speaker(&place, found.bad))
            fprintf(stderr, "stasis: cannot restart from %s; nothing was changed: %s\n", image, index->reason);
        return image_exit_status(error);
    }
    tasks_directory(index, image, own.parts);
    own.place = place;
    return take_part(index, &tasks[place.task], image);
}

int tasks_choose(char image[MAX_PATH], int is_found, uint64_t *ret_roll)
{
    struct image index;
    int status = 0;

    if (image_open(&index, image))
        return 0; /* whoever opens it as a program's says why not */
    status = choose_part(&index, image, is_found);
    image_close(&index);
    *ret_roll = own.place.roll;
    return status;
}

/* ---- all, or none ---- */

static int64_t wall_clock(void)
{
    return clock_now(CLOCK_REALTIME);
}

static int all_are(int roll, uint32_t state)
{
    struct roll_entry entry;

    for (uint32_t i = 0; i < own.place.tasks; i++)
        if (roll_read_entry(roll, i, &entry) || !(entry.has_ended || (entry.state >= state && entry.state <= TASK_WIRED)))
            return 0;
    return 1;
}

static void fail(struct roll_head *head, int status)
{
    head->phase = ROLL_FAILED;
    head->failed_task = own.place.task;
    head->status = (uint32_t)status;
}

/* With the lock: this task has come so far. */
static int arrive(int roll, uint32_t state, struct roll_head *head)
{
    struct roll_entry mine;
    int error = roll_read(roll, head);

    if (!error)
        error = roll_read_entry(roll, own.place.task, &mine);
    if (error || head->phase == ROLL_FAILED)
        return error;
    mine.state = state;
    error = roll_write_entry(roll, own.place.task, &mine);
    if (head->phase == ROLL_REST)
        head->phase = ROLL_RETURN;
    head->moved = wall_clock();
    return error ? error : roll_write(roll, head);
}

/* Where images are taken, programs run: then it was decided for all. */
static int is_decided(const struct roll_head *head, enum roll_phase next)
{
    return head->attempt || head->phase >= next || head->phase == ROLL_FAILED;
}

static int has_failed(const struct roll_head *head)
{
    return !head->attempt && head->phase == ROLL_FAILED;
}

/* With the lock. A task that ends at once, as it had ended, does not say so to anybody who waits: so each looks. */
static int look(int roll, uint32_t state, enum roll_phase next, struct roll_head *head)
{
    int error = roll_read(roll, head);

    if (error || is_decided(head, next))
        return error;
    if (all_are(roll, state))
        head->phase = next;
    else if (wall_clock() > head->moved + PATIENCE_SECONDS * INT64_C(1000000000))
        fail(head, EXIT_SYSTEM);
    else
        return 0;
    return roll_write(roll, head);
}

static int meet(uint32_t state, enum roll_phase next, struct roll_head *head)
{
    int roll = roll_open(own.parts, own.place.roll, 0), error = roll < 0 ? roll : roll_lock(roll);

    if (!error)
        error = arrive(roll, state, head);
    while (!error && !(error = look(roll, state, next, head)) && !is_decided(head, next)) {
        roll_unlock(roll);
        poll(NULL, 0, LOOK_MILLISECONDS);
        error = roll_lock(roll);
    }
    if (roll >= 0)
        close(roll);
    return error;
}

static int meet_or_say(uint32_t state, enum roll_phase next, int out)
{
    struct roll_head head = { 0 };
    int error = own.place.tasks ? meet(state, next, &head) : 0;

    if (error)
        dprintf(out, "stasis: cannot restart: in %s the tasks of the step cannot agree: %s\n", own.parts, strerror(-error));
    else if (has_failed(&head) && !own.place.task)
        dprintf(out, "stasis: cannot restart: another task of the step could not come back%s\n",
                next == ROLL_WIRE ? "; nothing was changed" : "");
    return error ? EXIT_SYSTEM : has_failed(&head) ? (int)head.status : 0;
}

int tasks_meet(int out)
{
    return meet_or_say(TASK_BACK, ROLL_WIRE, out);
}

int tasks_meet_again(int out)
{
    return meet_or_say(TASK_WIRED, ROLL_RETURNED, out);
}

void tasks_give_up(int status)
{
    struct roll_head head;
    int roll = own.place.tasks ? roll_open(own.parts, own.place.roll, 0) : -1;

    if (roll < 0)
        return;
    if (!roll_lock(roll) && !roll_read(roll, &head) && (head.phase == ROLL_REST || head.phase == ROLL_RETURN || head.phase == ROLL_WIRE)) {
        fail(&head, status);
        roll_write(roll, &head);
    }
    close(roll);
}
