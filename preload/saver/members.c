/* SPDX-License-Identifier: MIT */
/* Who belongs to the step: the living pages of the run's directory that are of our PID namespace, united with the children that
 * the kernel knows of, to a fixed point. A child without a page is asked for one, or waited for while it is being born. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../../core/registry/preloadable.h"
#include "../../core/registry/registry.h"
#include "saver.h"

enum {
    BIRTH_MILLISECONDS = 1000,  /* a child may take to come up before it counts as a stranger */
    CALM_MILLISECONDS = 10000,  /* while the program runs, on a busy machine */
    HASTE_MILLISECONDS = 100,   /* while it stands: a stranger is one at once */
    ORPHAN_MILLISECONDS = 2000,
    ASK_AGAIN_MILLISECONDS = 20, /* it may have been in fork, where nobody answers */
    LOCK_POLL_MILLISECONDS = 5,
    RETURN_POLL_MILLISECONDS = 20,
};

#define MILLISECONDS(count) ((count) * INT64_C(1000000))

static int is_ours_alone(const struct stat *status, mode_t type, mode_t mode)
{
    return (status->st_mode & S_IFMT) == type && status->st_uid == geteuid() && (status->st_mode & 07777) == mode;
}

/* One saver at a time for a run. One that was asked for by a signal joins the one that runs, and ends. */
static int lock_run(struct step *step)
{
    struct stat status;

    step->lock = open(step->request->directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (step->lock < 0 || fstat(step->lock, &status))
        return fail(step, EXIT_NO_IMAGE, "no program under stasis is registered in %s: %s", step->request->directory,
                    strerror(errno));
    if (!is_ours_alone(&status, S_IFDIR, 0700))
        return fail(step, EXIT_NOT_ALLOWED, "%s is not this user's alone; it will not be used", step->request->directory);
    while (flock(step->lock, LOCK_EX | LOCK_NB)) {
        if (step->request->requester && !step->request->call)
            exit(0);
        if (now_nanoseconds() > step->request->deadline)
            return fail(step, EXIT_RUN_AGAIN, "given up: another checkpoint of this program is still running");
        poll(NULL, 0, LOCK_POLL_MILLISECONDS);
    }
    return 0;
}

/* ---- the list ---- */

static struct process *find(const struct step *step, int pid)
{
    struct process *process = step->processes;

    while (process && process->pid != pid)
        process = process->next;
    return process;
}

struct process *members_parent(const struct process *process)
{
    uint64_t fields[STAT_FIELDS];

    return proc_stat(process->pid, fields) ? NULL : find(process->step, (int)fields[STAT_PARENT]);
}

static struct process *add(struct step *step, int pid)
{
    struct process *process = calloc(1, sizeof *process), **end = &step->processes;

    if (!process)
        return NULL;
    while (*end)
        end = &(*end)->next;
    *process = (struct process){ .step = step, .pid = pid, .twin = -1, .pageless_since = now_nanoseconds() };
    return *end = process;
}

static void unmap_page(struct process *process)
{
    if (!process->page)
        return;
    stop_forget(process);
    munmap(process->page, AGENT_PAGE_BYTES);
    close(process->page_descriptor);
    process->page = NULL;
    process->stopped = process->is_parked = 0;
    process->pageless_since = now_nanoseconds();
}

/* It has ended. */
static void drop(struct process *process)
{
    struct process **at = &process->step->processes;

    while (*at != process)
        at = &(*at)->next;
    *at = process->next;
    unmap_page(process);
    free(process);
}

/* ---- pages ---- */

/* Maps a page when it is sound, of our namespace, and lives. */
static struct agent_page *open_page(struct step *step, const char *name, int *ret_descriptor, struct stat *status)
{
    struct agent_page *page = NULL;
    int fd = openat(step->lock, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return NULL;
    if (!fstat(fd, status) && is_ours_alone(status, S_IFREG, 0600) && status->st_size == (off_t)AGENT_PAGE_BYTES &&
        flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK)
        page = mmap(NULL, AGENT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!page || page == MAP_FAILED) {
        close(fd);
        return NULL;
    }
    if (page->magic != AGENT_MAGIC || page->bytes != sizeof *page || page->role != ROLE_TASK ||
        page_pid_namespace(page, page->pid_namespace ? 0 : page_holder(status)) != step->request->pid_namespace) {
        munmap(page, AGENT_PAGE_BYTES);
        close(fd);
        return NULL;
    }
    *ret_descriptor = fd;
    return page;
}

static int is_known_page(const struct step *step, ino_t inode)
{
    const struct process *process = step->processes;

    while (process && !(process->page && process->page_inode == inode))
        process = process->next;
    return process != NULL;
}

/* A process that has two has made the other one again, since somebody had deleted its file. */
static int take_page(struct step *step, const char *name)
{
    struct stat status;
    int fd;
    struct agent_page *page = open_page(step, name, &fd, &status);
    struct process *process = page ? find(step, (int)page->pid) : NULL;

    if (page && !process)
        process = add(step, (int)page->pid);
    if (page && (!process || process->stopped)) {
        munmap(page, AGENT_PAGE_BYTES);
        close(fd);
        page = NULL;
    }
    if (!page)
        return 0;
    unmap_page(process);
    process->page = page;
    process->page_descriptor = fd;
    process->page_device = (uint64_t)major(status.st_dev) << 32 | minor(status.st_dev);
    process->page_inode = status.st_ino;
    memcpy(page->socket, step->socket, sizeof page->socket);
    if (page->attempt != step->attempt)
        page->attempts++;
    page->attempt = step->attempt;
    return 1;
}

static int take_pages(struct step *step)
{
    int fd = openat(step->lock, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), news = 0;
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.' && !is_known_page(step, entry->d_ino))
            news |= take_page(step, entry->d_name);
    if (directory)
        closedir(directory);
    return news;
}

/* The page's lock is gone with its mapping: the program has ended, or has become another by exec. */
int members_page_is_dead(const struct process *process)
{
    int dead = process->page && !flock(process->page_descriptor, LOCK_SH | LOCK_NB);
    if (dead)
        flock(process->page_descriptor, LOCK_UN);
    return dead;
}

int members_any_is_dead(const struct step *step)
{
    const struct process *process = step->processes;

    while (process && !members_page_is_dead(process))
        process = process->next;
    return process != NULL;
}

/* ---- children ---- */

/* Twins and stubs, also of an earlier checkpoint, have the stop signal as their exit signal. One that has ended is a matter of
 * its parent's record. */
static int is_member(const struct step *step, int pid)
{
    uint64_t fields[STAT_FIELDS];

    if (pid == getpid() || (step->request->requester && pid == step->request->starter))
        return 0; /* we, and the stub between the program and us, which ends about now */
    return !proc_stat(pid, fields) && fields[STAT_EXIT_SIGNAL] != STOP_SIGNAL && fields[STAT_STATE] != 'Z' && fields[STAT_STATE] != 'X';
}

/* A child that is left out: its environment names its parent, as `stasis outside` started it. */
static int is_outside(int pid)
{
    uint64_t fields[STAT_FIELDS];
    char *parent = proc_variable(pid, ENV_OUTSIDE);
    int is = parent && !proc_stat(pid, fields) && (uint64_t)atoi(parent) == fields[STAT_PARENT];

    free(parent);
    return is;
}

struct look {
    struct step *step;
    int news;
};

static void add_child(void *context, int pid)
{
    struct look *look = context;

    if (pid > 0 && !find(look->step, pid) && is_member(look->step, pid) && !is_outside(pid))
        look->news |= add(look->step, pid) != NULL;
}

static const char *name_of(int pid, char name[32])
{
    char *text = proc_read(pid, "comm", NULL);

    snprintf(name, 32, "%.*s", text ? (int)strcspn(text, "\n") : 1, text ? text : "?");
    free(text);
    return name;
}

/* A program that does not become one of ours: why not. */
static int fail_stranger(struct step *step, int pid)
{
    char path[64], file[MAX_PATH], name[32];
    struct refusal refusal;

    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    refusal = preloadable_check(path, file);
    return fail(step, EXIT_REFUSED, "no checkpoint: %s: the program has a child process, %d (%s), that %s", refusal.name ? refusal.name : "R-CHILD",
                pid, name_of(pid, name), refusal.name ? refusal.reason : "does not run under stasis, or does not answer");
}

static int is_stranger(int pid)
{
    char path[64], file[MAX_PATH];

    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return summon_look(pid, 0) == SUMMON_STRANGER || preloadable_check(path, file).name;
}

/* Another saver, of the same program as we are: seen while it was a child of the stub that started it, it may wait for us now. */
static int is_saver(int pid)
{
    char path[64];
    struct stat its, ours;

    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return !stat(path, &its) && !stat("/proc/self/exe", &ours) && its.st_ino == ours.st_ino && its.st_dev == ours.st_dev;
}

/* A process without a page: 0, and it is waited for, or was dropped. */
static int look_at_pageless(struct process *process, int *ret_pending)
{
    struct step *step = process->step;
    int64_t now = now_nanoseconds(), patience = process->pageless_since;
    int may_ask = now - process->asked_at > MILLISECONDS(ASK_AGAIN_MILLISECONDS);

    if (proc_has_ended(process->pid) || is_saver(process->pid) || is_outside(process->pid)) {
        drop(process);
        return 0;
    }
    if (proc_state(process->pid) == 'T' && !is_stranger(process->pid)) { /* cannot answer yet */
        *ret_pending += step->stopped_at != 0;
        if (step->stopped_at)
            jobs_wake_pageless(process);
        return 0;
    }
    ++*ret_pending;
    if (may_ask)
        process->asked_at = now;
    summon_look(process->pid, may_ask);
    if (step->stopped_at)
        patience += MILLISECONDS(HASTE_MILLISECONDS);
    else
        patience = step->request->deadline < INT64_MAX ? step->request->deadline : patience + MILLISECONDS(BIRTH_MILLISECONDS);
    return now > patience && is_stranger(process->pid) ? fail_stranger(step, process->pid) : 0;
}

int members_look(struct step *step, int *ret_pending, int *ret_news)
{
    struct look look = { .step = step };
    int status = 0;

    *ret_pending = 0;
    *ret_news = take_pages(step);
    for (struct process *process = step->processes; process; process = process->next)
        if (members_page_is_dead(process)) {
            unmap_page(process);
            *ret_news = 1;
        }
    for (struct process *process = step->processes; process; process = process->next)
        if (!process->is_parked || !process->page->is_alone)
            proc_children(process->pid, add_child, &look);
    *ret_news |= look.news;
    for (struct process *process = step->processes, *next; process && !status; process = next) {
        next = process->next;
        if (!process->page)
            status = look_at_pageless(process, ret_pending);
    }
    return status;
}

/* ---- orphans ---- */

static struct born *list_processes(void)
{
    struct born *born = calloc(1, sizeof *born);
    DIR *processes = opendir("/proc");
    struct dirent *entry;

    while (born && processes && (entry = readdir(processes))) {
        int pid = atoi(entry->d_name), *more;
        if (pid <= 0)
            continue;
        more = reallocarray(born->pids, born->count + 1, sizeof *more);
        if (!more)
            break;
        born->pids = more;
        born->pids[born->count++] = pid;
    }
    if (processes)
        closedir(processes);
    if (born)
        born_sort(born);
    return born;
}

static void forget_born(struct step *step)
{
    if (step->born)
        free(step->born->pids);
    free(step->born);
    step->born = NULL;
}

static int may_be_orphan(struct step *step, int pid)
{
    char name[32];

    return !born_has(step->born, pid) && !find(step, pid) &&
           pid_namespace_of(pid) == step->request->pid_namespace && strcmp(name_of(pid, name), TWIN_NAME) &&
           summon_look(pid, 0) == SUMMON_SILENT;
}

/* A child of a child that has ended since the stop began. */
int members_find_orphans(struct step *step, int *ret_pending, int *ret_news)
{
    struct born *now = list_processes();

    if (!now || !step->born)
        return fail(step, EXIT_SYSTEM, "no checkpoint: out of memory");
    for (size_t i = 0; i < now->count; i++)
        if (may_be_orphan(step, now->pids[i]))
            summon(now->pids[i], ORPHAN_MILLISECONDS);
    forget_born(step);
    step->born = now;
    return members_look(step, ret_pending, ret_news);
}

/* ---- the whole ---- */

static void forget(struct step *step)
{
    while (step->processes)
        drop(step->processes);
    forget_born(step);
    if (step->lock >= 0)
        close(step->lock);
    step->lock = -1;
}

static int oldest_pageless(const struct step *step)
{
    int64_t then = now_nanoseconds() - MILLISECONDS(BIRTH_MILLISECONDS);

    for (const struct process *process = step->processes; process; process = process->next)
        if (!process->page && process->pageless_since < then)
            return process->pid;
    return 0;
}

/* Until all that are not just being born have their pages; some may be born all the time. */
static int look_until_calm(struct step *step)
{
    int64_t begin = now_nanoseconds();
    int status, pending, news, old;

    for (;;) {
        status = members_look(step, &pending, &news);
        old = oldest_pageless(step);
        int is_long = now_nanoseconds() - begin > MILLISECONDS(BIRTH_MILLISECONDS);
        if (status || (!news && !pending) || (is_long && !old))
            return status;
        if (now_nanoseconds() > step->request->deadline)
            return stop_given_up(step);
        if (old && now_nanoseconds() - begin > MILLISECONDS(CALM_MILLISECONDS) && step->request->deadline == INT64_MAX)
            return fail_stranger(step, old);
        poll(NULL, 0, 1);
    }
}

/* Without a page it cannot be asked for anything; then the step's first one; else the oldest whose parent is none of ours. */
static int comes_before(const struct step *step, const struct process *process, const struct process *other)
{
    uint64_t one[STAT_FIELDS], two[STAT_FIELDS];
    int ours = process->page != NULL, theirs = other->page != NULL;

    if (ours != theirs || !ours)
        return ours > theirs;
    if (process->page->first != other->page->first)
        return process->page->first > other->page->first;
    proc_stat(process->pid, one);
    proc_stat(other->pid, two);
    ours = !find(step, (int)one[STAT_PARENT]);
    theirs = !find(step, (int)two[STAT_PARENT]);
    if (ours != theirs)
        return ours > theirs;
    return one[STAT_START] < two[STAT_START];
}

void members_sort(struct step *step)
{
    struct process *first = step->processes, **at = &step->processes;
    uint32_t index = 0;

    for (struct process *process = first->next; process; process = process->next)
        if (comes_before(step, process, first))
            first = process;
    while (*at != first)
        at = &(*at)->next;
    *at = first->next;
    first->next = step->processes;
    step->processes = first;
    for (struct process *process = first; process; process = process->next) {
        process->saving.first = &first->saving;
        process->saving.next = process->next ? &process->next->saving : NULL;
        process->saving.index = index++;
    }
}

static void note_restorer(void *context, int child)
{
    *(int *)context |= proc_is_named(child, RESTORER_NAME);
}

/* A restart whose program is not back yet. */
static int is_coming_back(void)
{
    int is = 0;

    if (proc_is_named(1, KEEPER_NAME))
        proc_children(1, note_restorer, &is);
    return is;
}

/* A program that is just now in exec has no page for a moment, and perhaps no directory: it is waited for. */
int members_find(struct step *step)
{
    int64_t patience = now_nanoseconds() + MILLISECONDS(BIRTH_MILLISECONDS);
    int status;

    do {
        step->message[0] = 0;
        step->stopped_at = 0;
        forget(step);
        step->born = list_processes(); /* those are asked now, who comes later is found by not being among them */
        summon_all(BIRTH_MILLISECONDS); /* an orphan of ours is found by nothing else */
        status = lock_run(step);
        if (!status)
            status = look_until_calm(step);
        if (!status && step->processes) {
            members_sort(step);
            if (step->processes->page)
                return 0;
        }
        if (status && status != EXIT_NO_IMAGE)
            return status;
        while (is_coming_back()) {
            if (now_nanoseconds() > step->request->deadline)
                return fail(step, EXIT_RUN_AGAIN, "given up: the restart has not brought the program back in time");
            poll(NULL, 0, RETURN_POLL_MILLISECONDS);
            patience = now_nanoseconds() + MILLISECONDS(BIRTH_MILLISECONDS);
        }
        poll(NULL, 0, LOCK_POLL_MILLISECONDS);
    } while (now_nanoseconds() < patience);
    return fail(step, EXIT_NO_IMAGE, "no living program under stasis is registered in %s", step->request->directory);
}
