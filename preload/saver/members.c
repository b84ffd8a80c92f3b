/* SPDX-License-Identifier: MIT */
/* Who belongs to the step: the living pages of the run's directory that are of our PID namespace, and, to a fixed point,
 * the children the kernel knows of. For now a step is one process, and a child is refused by name. */
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

#include "../../core/registry/registry.h"
#include "saver.h"

enum { BIRTH_MILLISECONDS = 1000, LOCK_POLL_MILLISECONDS = 5 };

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
        if (step->request->requester)
            exit(0);
        if (now_nanoseconds() > step->request->deadline)
            return fail(step, EXIT_RUN_AGAIN, "given up: another checkpoint of this program is still running");
        poll(NULL, 0, LOCK_POLL_MILLISECONDS);
    }
    return 0;
}

/* Maps a page when it is sound, of our namespace, and lives. */
static struct agent_page *open_page(struct step *step, const char *name, int *ret_descriptor)
{
    struct agent_page *page = NULL;
    struct stat status;
    int fd = openat(step->lock, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return NULL;
    if (!fstat(fd, &status) && is_ours_alone(&status, S_IFREG, 0600) && status.st_size == (off_t)AGENT_PAGE_BYTES &&
        flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK)
        page = mmap(NULL, AGENT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!page || page == MAP_FAILED) {
        close(fd);
        return NULL;
    }
    if (page->magic != AGENT_MAGIC || page->bytes != sizeof *page || page->role != ROLE_TASK ||
        page_pid_namespace(page, page_holder(&status)) != step->request->pid_namespace) {
        munmap(page, AGENT_PAGE_BYTES);
        close(fd);
        return NULL;
    }
    *ret_descriptor = fd;
    step->page_device = (uint64_t)major(status.st_dev) << 32 | minor(status.st_dev);
    step->page_inode = status.st_ino;
    return page;
}

void members_forget(struct step *step)
{
    if (step->page) {
        munmap(step->page, AGENT_PAGE_BYTES);
        close(step->page_descriptor);
    }
    if (step->lock >= 0)
        close(step->lock);
    step->page = NULL;
    step->lock = -1;
}

enum { EXIT_SIGNAL_FIELD = 38 };

/* A numeric field of /proc/PID/stat, numbered as in proc(5); UINT64_MAX when there is no such process. */
static uint64_t stat_field(int pid, int wanted)
{
    char *stat = proc_read(pid, "stat", NULL), *at = stat ? strrchr(stat, ')') : NULL;
    uint64_t value = UINT64_MAX;
    int field = 2;

    for (; at && *at && field < wanted; at++)
        field += *at == ' ';
    if (at && *at)
        value = strtoull(at, NULL, 10);
    free(stat);
    return value;
}

/* Looks once, with the lock. Returns the number of pages; from now on these programs do not exec before they are stopped. */
static int look(struct step *step)
{
    int found = 0, fd;
    DIR *directory;
    struct dirent *entry;

    fd = openat(step->lock, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    directory = fd < 0 ? NULL : fdopendir(fd);
    while (directory && (entry = readdir(directory))) {
        struct agent_page *page = entry->d_name[0] == '.' ? NULL : open_page(step, entry->d_name, &step->page_descriptor);
        if (!page)
            continue;
        found++;
        __atomic_store_n(&page->wanted, 1, __ATOMIC_SEQ_CST);
        step->page = page;
    }
    if (directory)
        closedir(directory);
    return found;
}

/* A program that is just now in exec has no page for a moment, and perhaps no directory: it is waited for. So is a child
 * that is being born or about to end. */
int members_find(struct step *step)
{
    int64_t patience = now_nanoseconds() + BIRTH_MILLISECONDS * INT64_C(1000000);
    int status, found;

    for (;;) {
        step->message[0] = 0;
        members_forget(step);
        status = lock_run(step); /* before anybody is asked: whoever makes a page now stays until it is stopped */
        if (status && status != EXIT_NO_IMAGE)
            return status;
        summon_all(BIRTH_MILLISECONDS); /* an orphan of ours is found by nothing else */
        found = status ? 0 : look(step);
        if (found == 1)
            return 0;
        if (now_nanoseconds() > patience)
            break;
        poll(NULL, 0, LOCK_POLL_MILLISECONDS);
    }
    if (found > 1)
        return fail(step, EXIT_REFUSED, "no checkpoint: R-CHILD: the step has %d processes; only one is supported yet", found);
    return fail(step, EXIT_NO_IMAGE, "no living program under stasis is registered in %s", step->request->directory);
}

/* The page's lock is gone with its mapping: the program has ended, or has become another by exec. */
int members_page_is_dead(const struct step *step)
{
    int dead = step->page && !flock(step->page_descriptor, LOCK_SH | LOCK_NB);
    if (dead)
        flock(step->page_descriptor, LOCK_UN);
    return dead;
}

/* Twins and stubs, also of an earlier checkpoint, have the stop signal as their exit signal. */
static int is_helper(int pid)
{
    return stat_field(pid, EXIT_SIGNAL_FIELD) == STOP_SIGNAL;
}

/* A child of any thread (/proc/PID/task/TID/children, proc(5)) that is no helper; 0: none. */
static int first_child(int pid)
{
    char path[64];
    DIR *tasks;
    struct dirent *task;
    int child = 0;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    tasks = opendir(path);
    while (tasks && !child && (task = readdir(tasks))) {
        snprintf(path, sizeof path, "task/%.16s/children", task->d_name);
        char *text = task->d_name[0] == '.' ? NULL : proc_read(pid, path, NULL);
        for (char *at = text; at && *at && !child; at += strspn(at, " \n")) {
            int is = (int)strtol(at, &at, 10);
            child = is_helper(is) ? 0 : is;
        }
        free(text);
    }
    if (tasks)
        closedir(tasks);
    return child;
}

/* One that is being born or about to end is waited for, as long as the program runs. */
int members_check_children(struct step *step)
{
    int64_t patience = now_nanoseconds() + BIRTH_MILLISECONDS * INT64_C(1000000);
    int pid = (int)step->page->pid, child;

    while ((child = first_child(pid)) && !step->stopped && now_nanoseconds() < patience)
        poll(NULL, 0, 1);
    if (!child)
        return 0;
    char *name = proc_read(child, "comm", NULL);
    int status = fail(step, EXIT_REFUSED, "no checkpoint: R-CHILD: the program has a child process, %d (%.*s); only single "
                      "processes are supported yet", child, name ? (int)strcspn(name, "\n") : 1, name ? name : "?");
    free(name);
    return status;
}
