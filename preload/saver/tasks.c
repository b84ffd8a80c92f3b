/* SPDX-License-Identifier: MIT */
/* A step of several tasks: each has a saver of its own, started by its own interval or signal, or by `stasis checkpoint`. They meet in
 * the roll (core/floor/roll.h): nobody stops a program before the savers of all tasks are there, nobody looks at one before all stand, or lets it go
 * before all have looked (files that they all write to have then one size in all parts), and the last whose part is safe writes the index that names them all. Whatever goes wrong for one goes wrong for all. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../core/floor/text.h"
#include "../../core/image/tasks.h"
#include "saver.h"

enum { GATHER_SECONDS = 10, SHORTEST_LOOK = 1, LONGEST_LOOK = 50 /* milliseconds */ };

#define SECONDS(count) ((count) * INT64_C(1000000000))

/* This saver's place in the attempt. */
static struct {
    int roll;                  /* the file; 0: not open */
    struct task_place place;
    uint64_t attempt;          /* 0: in none */
    int part_is_there;
    char images[MAX_PATH];     /* a directory that was asked for; "": where the step's others are */
    char parts[MAX_PATH], part[MAX_PART_NAME];
    char index[2 * MAX_ID + 16];
} own;

int tasks_are_several(const struct step *step)
{
    return step->processes->page->place.tasks > 1;
}

const char *tasks_parts(void)
{
    return own.parts;
}

const char *tasks_part(void)
{
    return own.part;
}

static int fail_roll(struct step *step, int error)
{
    int has_no_locks = error == -ENOLCK || error == -ENOSYS || error == -EOPNOTSUPP || error == -EINVAL;

    return fail(step, EXIT_CANNOT_CREATE, "no checkpoint: in %s the tasks of the step cannot agree: %s; the last good image stays", own.parts,
                has_no_locks ? "its file system has no locks (mount option flock or the like)" : strerror(-error));
}

/* ---- who is where; with the lock of the head ---- */

static int is_in(const struct roll_entry *entry, const struct roll_head *head, uint32_t state)
{
    return entry->attempt == head->attempt && (entry->state == state || entry->state == TASK_ENDED);
}

/* While they gather: a saver that was ended there is away again. */
static int is_here(const struct roll_entry *entry, const struct roll_head *head, uint32_t task)
{
    return entry->has_ended || (is_in(entry, head, TASK_HERE) && (task == own.place.task || roll_has_pulse(own.roll, task)));
}

/* Lists up to some tasks that are not in `state` (TASK_HERE: not there) to text; how many there are, or -errno. With `is_dead` only
 * those whose savers are gone. */
static int list_missing(const struct roll_head *head, uint32_t state, int is_dead, char *text, size_t size)
{
    enum { LISTED = 8 };
    struct roll_entry entry;
    size_t at = text_add(text, size, 0, "");
    int count = 0;

    for (uint32_t i = 0; i < head->tasks; i++) {
        int error = roll_read_entry(own.roll, i, &entry);
        if (error)
            return error;
        if (state == TASK_HERE ? is_here(&entry, head, i) : is_in(&entry, head, state))
            continue;
        if (is_dead && (i == own.place.task || roll_has_pulse(own.roll, i)))
            continue;
        if (count++ < LISTED)
            at = text_add_number(text, size, text_add(text, size, at, count > 1 ? ", " : ""), i);
    }
    if (count > LISTED)
        text_add(text, size, at, " and more");
    return count;
}

/* ---- changing it ---- */

/* Ends the attempt for all, if it has not come to its end meanwhile. With the lock. */
static void end_attempt(struct step *step, struct roll_head *head, enum roll_phase how, int status)
{
    if (head->attempt != own.attempt || head->phase < ROLL_GATHER || head->phase > ROLL_WRITE)
        return;
    head->phase = how;
    head->failed_task = own.place.task;
    head->status = (uint32_t)status;
    text_add(head->message, sizeof head->message, 0, step->message);
    roll_write(own.roll, head);
}

/* What the end of an attempt means for us. */
static int outcome(struct step *step, const struct roll_head *head)
{
    if (head->done == own.attempt)
        return 0;
    if (head->attempt != own.attempt || head->phase == ROLL_AGAIN)
        return -EAGAIN;
    step->is_said = head->failed_task != own.place.task;
    return fail(step, (int)head->status, "%s", *head->message ? head->message : "no checkpoint: another task of the step has failed");
}

/* Whoever is not there has ended without a word, or has just begun: the first time nobody is told who did not ask himself. */
static int give_up_gathering(struct step *step, struct roll_head *head, const char *missing)
{
    step->is_said = step->request->requester && !head->missed;
    head->missed++;
    return fail(step, EXIT_REFUSED, "no checkpoint: R-TASK-ABSENT: of the %u tasks of the step these are not there: %s; see the page of that name "
                "in the documentation", head->tasks, missing);
}

static int give_up(struct step *step, struct roll_head *head, uint32_t state, const char *missing, int is_dead)
{
    if (is_dead)
        return fail(step, EXIT_SYSTEM, "no checkpoint: the saver of task %s was ended; the last good image stays", missing);
    if (now_nanoseconds() > step->request->deadline)
        return fail(step, EXIT_RUN_AGAIN, "given up: of the tasks of the step these were not ready in time: %s; the last good image stays", missing);
    return state == TASK_HERE ? give_up_gathering(step, head, missing)
                              : fail(step, EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: these tasks do not hold still: %s", missing);
}

/* One look, with the lock. 1: go on waiting. */
static int look(struct step *step, struct roll_head *head, enum roll_phase phase, uint32_t state, int is_late)
{
    char missing[128];
    int is_dead, status = EXIT_SYSTEM;

    if (head->attempt != own.attempt || head->phase != phase)
        return 0;
    if (members_any_is_dead(step) && phase == ROLL_GATHER) {
        end_attempt(step, head, ROLL_AGAIN, 0);
        return 0;
    }
    is_dead = phase != ROLL_GATHER && list_missing(head, state, 1, missing, sizeof missing) > 0;
    if (is_late && phase == ROLL_GATHER && !list_missing(head, state, 1, missing, sizeof missing))
        is_late = 0; /* somebody waits for each of them */
    if (!is_dead && !is_late && now_nanoseconds() <= step->request->deadline)
        return 1;
    if (is_dead || list_missing(head, state, 0, missing, sizeof missing) > 0)
        status = give_up(step, head, state, missing, is_dead);
    end_attempt(step, head, ROLL_FAILED, status);
    return 0;
}

/* Waits until the attempt is no longer in this phase. `patience` in nanoseconds, 0: any. Fills head. -errno. */
static int await(struct step *step, enum roll_phase phase, uint32_t state, int64_t patience, struct roll_head *head)
{
    int64_t end = now_nanoseconds() + patience;

    for (int pause = SHORTEST_LOOK;; pause = pause * 2 < LONGEST_LOOK ? pause * 2 : LONGEST_LOOK) {
        int error = roll_lock(own.roll), goes_on, is_late = patience && now_nanoseconds() > end;
        if (error)
            return error;
        error = roll_read(own.roll, head);
        goes_on = !error && look(step, head, phase, state, is_late);
        roll_unlock(own.roll);
        if (is_late)
            end = now_nanoseconds() + patience; /* when it goes on all the same */
        if (error || !goes_on)
            return error;
        poll(NULL, 0, phase == ROLL_STOP || phase == ROLL_LOOK ? SHORTEST_LOOK : pause);
    }
}

/* ---- gathering ---- */

static int begin(struct roll_head *head)
{
    if (getrandom(&head->attempt, sizeof head->attempt, 0) != sizeof head->attempt)
        return -errno;
    head->attempt |= 1;
    head->phase = ROLL_GATHER;
    head->generation = 0;
    head->message[0] = 0;
    return roll_write_images(own.roll, own.place.tasks, "");
}

/* The generation of the index in the directory, if our last part is in it: after exec the page knows of none. */
static uint64_t index_generation(const struct agent_page *page, const char *path)
{
    const struct task_record *tasks;
    struct image index;
    uint32_t count;
    uint64_t generation = 0;
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0)
        return 0;
    if (!image_open_at(&index, directory, own.index)) {
        if (!tasks_read(&index, &tasks, &count) && page->place.task < count &&
            !memcmp(tasks[page->place.task].run, page->run, UUID_BYTES))
            generation = index.header.generation;
        image_close(&index);
    }
    close(directory);
    return generation;
}

/* All are there: who has ended is now known for this attempt, whoever ends later. */
static int close_gathering(struct roll_head *head)
{
    struct roll_entry entry;
    int error = 0;

    for (uint32_t i = 0; i < head->tasks && !error; i++) {
        error = roll_read_entry(own.roll, i, &entry);
        if (error || is_in(&entry, head, TASK_HERE))
            continue;
        entry.attempt = head->attempt;
        entry.state = TASK_ENDED;
        error = roll_write_entry(own.roll, i, &entry);
    }
    head->generation++;
    head->missed = 0;
    head->phase = ROLL_STOP;
    return error;
}

static uint64_t last_generation(const struct step *step)
{
    const struct agent_page *page = step->processes->page;
    uint64_t last = index_generation(page, page->directory), there = *own.images ? index_generation(page, own.images) : 0;

    last = there > last ? there : last;
    return page->generation > last ? page->generation : last;
}

/* While they gather, one of them may bring a directory along. -EBUSY: it was another already. */
static int bring_directory(const struct step *step)
{
    const char *wanted = step->request->images;
    int error = roll_read_images(own.roll, own.place.tasks, own.images);

    if (error || !wanted || !strcmp(own.images, wanted))
        return error;
    if (*own.images)
        return -EBUSY;
    text_add(own.images, sizeof own.images, 0, wanted);
    return roll_write_images(own.roll, own.place.tasks, wanted);
}

static int enter(struct step *step, struct roll_head *head)
{
    const struct agent_page *page = step->processes->page;
    uint64_t last;
    struct roll_entry mine;
    char missing[8];
    int error = roll_read(own.roll, head), count;

    if (!error)
        error = roll_read_entry(own.roll, own.place.task, &mine);
    if (error)
        return error;
    if (mine.has_ended)
        return -ESRCH;
    if (head->phase != ROLL_GATHER && (error = begin(head)))
        return error;
    if ((error = bring_directory(step)))
        return error;
    last = last_generation(step);
    if (last > head->generation)
        head->generation = last;
    memcpy(mine.run, page->run, sizeof mine.run);
    mine.attempt = own.attempt = head->attempt;
    mine.state = TASK_HERE;
    error = roll_write_entry(own.roll, own.place.task, &mine);
    count = error ? error : list_missing(head, TASK_HERE, 0, missing, sizeof missing);
    if (!count)
        error = close_gathering(head);
    return count < 0 ? count : error ? error : roll_write(own.roll, head);
}

/* The saver before us may just be ending. */
static int take_pulse(void)
{
    enum { TRIES = 100, MILLISECONDS = 10 };
    int error = roll_take_pulse(own.roll, own.place.task);

    for (int tries = 0; error == -EAGAIN && tries < TRIES; tries++) {
        poll(NULL, 0, MILLISECONDS);
        error = roll_take_pulse(own.roll, own.place.task);
    }
    return error;
}

static int open_roll(struct step *step)
{
    const struct agent_page *page = step->processes->page;
    int error;

    if (own.roll)
        return 0;
    own.place = page->place;
    roll_directory(own.parts, page->directory, page->job, page->step);
    error = image_name(own.index, sizeof own.index, page->job, page->step);
    if (!error)
        error = own.roll = roll_open(own.parts, own.place.roll, own.place.tasks);
    if (error < 0) {
        own.roll = 0;
        return fail_roll(step, error);
    }
    error = take_pulse();
    if (error == -EAGAIN)
        return fail(step, EXIT_REFUSED, "no checkpoint: task %u of the step is two programs; only one can be in its image", own.place.task);
    return error ? fail_roll(step, error) : 0;
}

/* All are there, and none can bring another directory any more. */
static int settle_directory(struct step *step)
{
    const struct agent_page *page = step->processes->page;
    int error = roll_read_images(own.roll, own.place.tasks, own.images);

    if (error)
        return fail_roll(step, error);
    roll_directory(own.parts, *own.images ? own.images : page->directory, page->job, page->step);
    if (*own.images && mkdir(own.parts, 0700) && errno != EEXIST)
        return fail(step, EXIT_CANNOT_CREATE, "no checkpoint: an image cannot be made in %s: %s; the last good image stays", own.images, strerror(errno));
    return 0;
}

int tasks_join(struct step *step)
{
    struct roll_head head;
    int status = open_roll(step), error;

    if (status)
        return status;
    error = roll_lock(own.roll);
    if (!error) {
        error = enter(step, &head);
        roll_unlock(own.roll);
    }
    if (error == -ESRCH) {
        step->is_said = 1; /* what a task has left running is no reason to complain at each tick */
        return fail(step, EXIT_NO_IMAGE, "no checkpoint: task %u of the step has ended", own.place.task);
    }
    if (error == -EBUSY)
        return fail(step, EXIT_RUN_AGAIN, "no checkpoint: an image of the step is just going to %s; ask again", own.images);
    if (!error)
        error = await(step, ROLL_GATHER, TASK_HERE, SECONDS(GATHER_SECONDS), &head);
    if (error)
        return fail_roll(step, error);
    if (head.attempt != own.attempt || head.phase != ROLL_STOP)
        return outcome(step, &head);
    step->generation = head.generation - 1;
    tasks_part_name(own.part, own.place.task, own.attempt);
    return settle_directory(step);
}

int tasks_refuse(struct step *step, int status)
{
    if (!tasks_are_several(step))
        return status;
    tasks_join(step); /* whatever comes of it: the message is there */
    step->is_said = 0;
    tasks_leave(step, status, 0);
    return status;
}

void tasks_keep_place(struct step *step)
{
    if (tasks_are_several(step))
        open_roll(step);
}

void tasks_give_place(void)
{
    if (own.roll)
        close(own.roll);
    own.roll = 0;
}

/* ---- standing, and the index ---- */

static int read_records(const struct roll_head *head, struct task_record *records, uint32_t *ret_processes)
{
    struct roll_entry entry;
    int error = 0;

    *ret_processes = 0;
    for (uint32_t i = 0; i < head->tasks && !error; i++) {
        struct task_record *record = &records[i];
        error = roll_read_entry(own.roll, i, &entry);
        memcpy(record->run, entry.run, sizeof record->run);
        record->state = entry.state == TASK_WRITTEN ? PART_WRITTEN : PART_ENDED;
        if (record->state == PART_ENDED) {
            record->status = entry.status;
            continue;
        }
        record->generation = head->generation;
        record->bytes = entry.bytes;
        record->checksum = entry.checksum;
        record->processes = entry.processes;
        *ret_processes += entry.processes;
        tasks_part_name(record->name, i, head->attempt);
    }
    return error;
}

int tasks_follow_another(const struct step *step)
{
    return *own.images && !step->request->images;
}

static const char *images_directory(const struct step *step)
{
    return *own.images ? own.images : step->processes->page->directory;
}

/* With the lock. A directory that somebody names may be another one on each node: -EXDEV. */
static int find_parts(const struct roll_head *head)
{
    char name[MAX_PART_NAME];
    struct roll_entry entry;
    struct stat status;
    int parts = open(own.parts, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = parts < 0 ? -errno : 0;

    for (uint32_t i = 0; i < head->tasks && !error; i++) {
        error = roll_read_entry(own.roll, i, &entry);
        tasks_part_name(name, i, head->attempt);
        if (!error && entry.state == TASK_WRITTEN && fstatat(parts, name, &status, AT_SYMLINK_NOFOLLOW))
            error = errno == ENOENT ? -EXDEV : -errno;
    }
    if (parts >= 0)
        close(parts);
    return error;
}

/* The index belongs to the run of task 0, and is for the rest like a part. */
static int write_index(struct step *step, const struct roll_head *head, const struct file_header *like, struct image_writer *index)
{
    struct task_record *records = calloc(head->tasks, sizeof *records);
    int error = records ? image_writer_open(index, images_directory(step), own.index) : -ENOMEM;

    if (!error) {
        index->header = *like;
        error = read_records(head, records, &index->header.process_count);
        memcpy(index->header.run, records[0].run, UUID_BYTES);
    }
    if (!error)
        error = tasks_write(index, records, head->tasks, step->processes->page->directory);
    if (!error)
        error = image_write_end(index);
    free(records);
    return error;
}

/* One at a time in a directory of parts: another start of this very step may be under way (a restart of an older image). */
static int lock_commit(void)
{
    char path[MAX_PATH];
    int file, error;

    text_add(path, sizeof path, text_add(path, sizeof path, 0, own.parts), "/" PARTS_LOCK);
    file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return -errno;
    error = roll_lock(file);
    if (error)
        close(file);
    return error ? error : file;
}

static int commit(struct step *step, const struct roll_head *head, const struct file_header *like)
{
    struct image_writer index = { 0 };
    char path[MAX_PATH];
    int lock = lock_commit(), error = lock < 0 ? lock : write_index(step, head, like, &index);

    if (!error)
        error = tasks_commit(&index, own.index, step->processes->page->keep, path);
    image_writer_close(&index);
    if (lock >= 0)
        close(lock);
    return error;
}

static enum roll_phase phase_of(uint32_t state)
{
    return state == TASK_STOPPED ? ROLL_STOP : state == TASK_TAKEN ? ROLL_LOOK : ROLL_WRITE;
}

/* Notes that we have come so far; the last one begins the next phase. With the lock. */
static int arrive(struct step *step, uint32_t state, const struct file_header *part, struct roll_head *head)
{
    struct roll_entry mine;
    char missing[8];
    int error = roll_read(own.roll, head), count;

    if (error || head->attempt != own.attempt || head->phase != phase_of(state))
        return error;
    error = roll_read_entry(own.roll, own.place.task, &mine);
    if (error)
        return error;
    mine.state = state;
    if (part) {
        mine.generation = part->generation;
        mine.bytes = part->file_size;
        mine.checksum = part->checksum;
        mine.processes = part->process_count;
    }
    error = roll_write_entry(own.roll, own.place.task, &mine);
    count = error ? error : list_missing(head, state, 0, missing, sizeof missing);
    if (count)
        return count < 0 ? count : 0;
    if (part && ((*own.images && (error = find_parts(head))) || (error = commit(step, head, part))))
        return error;
    head->phase = phase_of(state) + 1;
    if (part)
        head->done = head->attempt;
    return roll_write(own.roll, head);
}

/* Arrives, and waits for the others. */
static int meet(struct step *step, uint32_t state, const struct file_header *part, struct roll_head *head)
{
    int error = roll_lock(own.roll);

    if (error)
        return error;
    error = arrive(step, state, part, head);
    roll_unlock(own.roll);
    return error ? error
                 : await(step, phase_of(state), state, part ? 0 : SECONDS(2 * STOP_DEADLINE_SECONDS), head);
}

static int stand(struct step *step, uint32_t state)
{
    struct roll_head head;
    int error = meet(step, state, NULL, &head);

    if (error)
        return fail_roll(step, error);
    return head.attempt == own.attempt && head.phase == phase_of(state) + 1 ? 0 : outcome(step, &head);
}

int tasks_stopped(struct step *step)
{
    return stand(step, TASK_STOPPED);
}

int tasks_taken(struct step *step)
{
    return stand(step, TASK_TAKEN);
}

int tasks_written(struct step *step, const struct image_writer *writer, char *ret_path)
{
    struct roll_head head;
    int error;

    own.part_is_there = 1;
    error = meet(step, TASK_WRITTEN, &writer->header, &head);
    if (error)
        return fail(step, EXIT_CANNOT_WRITE, "no checkpoint: the image that names the tasks' parts cannot be written in %s: %s; the last good image "
                    "stays", images_directory(step), error == -EXDEV ? "it is not the same directory on all nodes" : strerror(-error));
    text_add(ret_path, MAX_PATH, 0, own.parts);
    ret_path[strlen(ret_path) - strlen(PARTS_SUFFIX)] = 0;
    return outcome(step, &head);
}

void tasks_leave(struct step *step, int status, int again)
{
    char path[MAX_PATH];
    struct roll_head head;

    if (!own.attempt || roll_lock(own.roll))
        return;
    if (!roll_read(own.roll, &head)) {
        end_attempt(step, &head, again ? ROLL_AGAIN : ROLL_FAILED, status);
        if (own.part_is_there && head.done != own.attempt) {
            text_add(path, sizeof path, text_add(path, sizeof path, text_add(path, sizeof path, 0, own.parts), "/"), own.part);
            unlink(path);
        }
        if (*own.images && !again)
            rmdir(own.parts); /* not while there are others */
    }
    roll_unlock(own.roll);
    own.attempt = 0;
    own.part_is_there = 0;
}
