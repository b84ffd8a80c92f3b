/* SPDX-License-Identifier: MIT */
/* The readers' side of the registry of agent_page.h: who lives, and what the dead left. Every directory and page is
 * opened without following links, and looked at through its descriptor: /dev/shm is everybody's. */
#include "registry.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "../floor/agent_page.h"
#include "../floor/text.h"

/* A page younger than this may be one that its maker has not yet locked or filled. */
enum { SWEEP_AGE_SECONDS = 5 };

/* A line of /proc/locks: who holds the flock of a file; pid is translated into our PID namespace by the kernel. */
struct lock {
    dev_t device;
    ino_t inode;
    pid_t pid;
};

struct walk {
    uid_t owner;
    char directory[64];  /* REGISTRY_ROOT<uid> */
    int user_descriptor; /* of it */
    const char *run;     /* name of the run's directory in it */
    int run_descriptor;
    struct lock *locks;
    size_t lock_count;
    struct program *programs;
    size_t count;
    int error;
};

/* Opens a directory of the registry that belongs to owner and to nobody else, or gives -1. */
static int open_directory(int parent, const char *name, uid_t owner)
{
    struct stat status;
    int descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (descriptor >= 0 && (fstat(descriptor, &status) || status.st_uid != owner || (status.st_mode & 07777) != 0700)) {
        close(descriptor);
        descriptor = -1;
    }
    return descriptor;
}

/* Opens a page that belongs to owner and to nobody else, or gives -1. O_NONBLOCK: it might be a pipe. */
static int open_page(int run, const char *name, uid_t owner, struct stat *ret_status)
{
    int descriptor = openat(run, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (descriptor >= 0 && (fstat(descriptor, ret_status) || !S_ISREG(ret_status->st_mode) || ret_status->st_uid != owner
                            || (ret_status->st_mode & 07777) != 0600)) {
        close(descriptor);
        descriptor = -1;
    }
    return descriptor;
}

/* The lock is held through the mapping, so a program loses it when it ends. */
static int is_live(int descriptor)
{
    return flock(descriptor, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

/* Reads the page without its thread table, which is most of it and of no use here. 0 or -EBADMSG. */
static int read_page(int descriptor, struct agent_page *page)
{
    const size_t wanted = offsetof(struct agent_page, threads);

    return pread(descriptor, page, wanted, 0) == (ssize_t)wanted && page->magic == AGENT_MAGIC ? 0 : -EBADMSG;
}

/* Calls each(walk, name) for what is in the directory of the descriptor, which is closed. */
static void for_each_name(int descriptor, void (*each)(struct walk *, const char *), struct walk *walk)
{
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    struct dirent *entry;

    if (!directory) {
        if (descriptor >= 0)
            close(descriptor);
        return;
    }
    while ((entry = readdir(directory)))
        if (entry->d_name[0] != '.')
            each(walk, entry->d_name);
    closedir(directory);
}

/* Calls each_run(walk, name) for what is in the registry of one user. */
static void for_each_run(struct walk *walk, void (*each_run)(struct walk *, const char *), uid_t owner)
{
    walk->owner = owner;
    snprintf(walk->directory, sizeof walk->directory, "%s%u", REGISTRY_ROOT, owner);
    walk->user_descriptor = open_directory(AT_FDCWD, walk->directory, owner);
    for_each_name(walk->user_descriptor, each_run, walk);
}

/* Opens a run's directory for for_each_name, or gives -1. */
static int open_run(struct walk *walk, const char *name)
{
    uint8_t uuid[UUID_BYTES];

    walk->run = name;
    walk->run_descriptor = -1;
    if (text_length(name) == UUID_TEXT - 1 && !text_to_uuid(name, uuid))
        walk->run_descriptor = open_directory(walk->user_descriptor, name, walk->owner);
    return walk->run_descriptor;
}

/* ---- who lives ---- */

static void read_locks(struct walk *walk)
{
    FILE *file = fopen("/proc/locks", "re");
    char line[256], kind[16];
    unsigned major_number, minor_number;
    unsigned long inode;
    int pid;

    while (file && fgets(line, sizeof line, file)) {
        struct lock *locks;
        /* "1: FLOCK  ADVISORY  WRITE 707 00:19:1234 0 EOF"; readers are others who, like us, only try. */
        if (sscanf(line, "%*d: FLOCK %*s %15s %d %x:%x:%lu", kind, &pid, &major_number, &minor_number, &inode) != 5
            || strcmp(kind, "WRITE"))
            continue;
        locks = reallocarray(walk->locks, walk->lock_count + 1, sizeof *locks);
        if (!locks) {
            walk->error = -ENOMEM;
            break;
        }
        walk->locks = locks;
        locks[walk->lock_count++] = (struct lock){ makedev(major_number, minor_number), inode, pid };
    }
    if (file)
        fclose(file);
}

ino_t pid_namespace_of(pid_t pid)
{
    char path[64];
    struct stat status;

    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    return pid > 0 && !stat(path, &status) ? status.st_ino : 0;
}

ino_t own_pid_namespace(void)
{
    struct stat status;

    return stat("/proc/self/ns/pid", &status) ? 0 : status.st_ino;
}

static pid_t holder(const struct walk *walk, const struct stat *page)
{
    for (size_t i = 0; i < walk->lock_count; i++)
        if (walk->locks[i].inode == page->st_ino && walk->locks[i].device == page->st_dev)
            return walk->locks[i].pid;
    return 0;
}

pid_t page_holder(const struct stat *status)
{
    struct walk walk = { 0 };
    pid_t pid;

    read_locks(&walk);
    pid = holder(&walk, status);
    free(walk.locks);
    return pid;
}

/* Whose PID is the same for itself and for us lives in our namespace, also when it may not be looked at. */
ino_t page_pid_namespace(const struct agent_page *page, pid_t holder)
{
    ino_t namespace = page->pid_namespace ? page->pid_namespace : pid_namespace_of(holder);

    return namespace || holder != (pid_t)page->pid ? namespace : own_pid_namespace();
}

static struct program describe(const struct walk *walk, const struct agent_page *page, const struct stat *status)
{
    struct program program = { .owner = walk->owner, .role = page->role, .first = page->first, .bytes = page->bytes,
                               .task = page->place.task, .task_count = page->place.tasks };

    snprintf(program.run_directory, sizeof program.run_directory, "%s/%s", walk->directory, walk->run);
    snprintf(program.name, sizeof program.name, "%.*s.%.*s", MAX_ID - 1, page->job, MAX_ID - 1, page->step);
    snprintf(program.as_slurm, sizeof program.as_slurm, "%.*s", (int)sizeof program.as_slurm - 1, page->as_slurm);
    program.pid = holder(walk, status);
    program.tasks = page_pid_namespace(page, program.pid);
    if (page->role == ROLE_PORTER) {
        /* A porter of another PID namespace knows its keeper by a number that means nothing here. */
        program.keeper = program.tasks == own_pid_namespace() ? (pid_t)page->porter_target : 0;
        program.tasks = pid_namespace_of(program.keeper);
    }
    return program;
}

static void add_program(struct walk *walk, struct program program)
{
    struct program *programs = reallocarray(walk->programs, walk->count + 1, sizeof *programs);

    if (!programs) {
        walk->error = -ENOMEM;
        return;
    }
    programs[walk->count++] = program;
    walk->programs = programs;
}

static void look_at_page(struct walk *walk, const char *name)
{
    static struct agent_page page; /* too large for a stack */
    struct stat status;
    int descriptor = open_page(walk->run_descriptor, name, walk->owner, &status);

    if (descriptor < 0)
        return;
    if (!read_page(descriptor, &page) && is_live(descriptor))
        add_program(walk, describe(walk, &page, &status));
    close(descriptor);
}

static void look_at_run(struct walk *walk, const char *name)
{
    for_each_name(open_run(walk, name), look_at_page, walk);
}

/* For root: every user's registry. */
static void look_at_user(struct walk *walk, const char *name)
{
    const char *root = strrchr(REGISTRY_ROOT, '/') + 1;
    const char *digits = name + strlen(root);
    uint64_t owner;

    if (!text_starts(name, root) || !isdigit((unsigned char)*digits))
        return;
    owner = text_number(&digits);
    if (!*digits && owner < UINT32_MAX)
        for_each_run(walk, look_at_run, (uid_t)owner);
}

int programs_find(struct program **ret_programs, size_t *ret_count)
{
    struct walk walk = { 0 };

    read_locks(&walk);
    if (geteuid())
        for_each_run(&walk, look_at_run, geteuid());
    else
        for_each_name(open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC), look_at_user, &walk);
    free(walk.locks);
    if (walk.error) {
        free(walk.programs);
        return walk.error;
    }
    *ret_programs = walk.programs;
    *ret_count = walk.count;
    return 0;
}

/* ---- what the dead left ---- */

static int is_old(const struct timespec *changed)
{
    return time(NULL) - changed->tv_sec > SWEEP_AGE_SECONDS;
}

/* A page gets its magic when it is locked and filled; one without is being made, or its maker died over it. */
static int is_finished(int page)
{
    uint64_t magic;
    return pread(page, &magic, sizeof magic, offsetof(struct agent_page, magic)) == sizeof magic && magic == AGENT_MAGIC;
}

static void sweep_page(struct walk *walk, const char *name)
{
    struct stat status;
    int page = open_page(walk->run_descriptor, name, walk->owner, &status);

    if (page < 0)
        return;
    if ((is_finished(page) || is_old(&status.st_ctim)) && !flock(page, LOCK_EX | LOCK_NB))
        unlinkat(walk->run_descriptor, name, 0);
    close(page);
}

/* Directories go while somebody may be about to use them: whoever makes a page makes them again then. */
static void sweep_run(struct walk *walk, const char *name)
{
    for_each_name(open_run(walk, name), sweep_page, walk);
    unlinkat(walk->user_descriptor, name, AT_REMOVEDIR); /* fails, as it should, while a page is in it */
}

void registry_sweep(void)
{
    struct walk walk = { 0 };

    snprintf(walk.directory, sizeof walk.directory, "%s%u", REGISTRY_ROOT, geteuid());
    for_each_run(&walk, sweep_run, geteuid());
    rmdir(walk.directory);
}
