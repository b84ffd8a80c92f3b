/* SPDX-License-Identifier: MIT */
/* stasis checkpoint: finds the run that a PID or JOB.STEP belongs to and becomes stasis-saver for it; inside its bubble,
 * when it has been restarted into one. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/floor/agent_page.h"
#include "../core/kinds/kind.h"
#include "commands.h"
#include "locate.h"
#include "slurm_moment.h"
#include "slurm_nodes.h"
#include "../core/registry/registry.h"

enum { CHECKPOINT_DIRECTORY, CHECKPOINT_MAX_WAIT, CHECKPOINT_STOP, CHECKPOINT_VERBOSE };
enum { MAX_SECONDS = 10 * 366 * 86400, EXIT_NONE_HERE = -1 /* becomes 0: there are some on other nodes, and all of them know */ };

static const struct choice choices[] = {
    [CHECKPOINT_DIRECTORY] = { "checkpoint-dir", "DIR", NULL, "put this image in DIR; default: where the program's others are" },
    [CHECKPOINT_MAX_WAIT] = { "max-wait", "SECONDS", NULL,
                              "give up after SECONDS, leaving the program as it was; default: no limit" },
    [CHECKPOINT_STOP] = { "stop", NULL, NULL, "end the program when its image is safe; whoever waits for it sees exit status 75" },
    [CHECKPOINT_VERBOSE] = { "verbose", NULL, NULL, "say on stderr how long the program stood still" },
    { 0 },
};

struct request {
    const char *target;
    const char *max_wait; /* NULL: no limit */
    const char *images;   /* a directory; NULL: the program's own */
    int stop, verbose;
    int meanwhile;        /* stasis-saver --meanwhile; -1: nothing happens meanwhile */
};

/* ---- which run ---- */

static int is_meant(const struct program *program, const char *target)
{
    uint32_t pid;

    if (!options_number(target, INT32_MAX, &pid))
        return pid && program->pid == (pid_t)pid;
    return !strcmp(program->name, target) || !strcmp(program->as_slurm, target);
}

/* The same run restarted twice is in two bubbles: only both together tell runs apart. */
static int same_run(const struct program *a, const struct program *b)
{
    return !strcmp(a->run_directory, b->run_directory) && a->tasks == b->tasks;
}

static int is_as_slurm(const struct program *programs, size_t count, const struct program *of, const char *target)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(programs[i].as_slurm, target) && (!of || same_run(&programs[i], of)))
            return 1;
    return 0;
}

/* In a later life of a job Slurm's number of a step may be the name of another step's images: the number goes before. */
static void forget_namesakes(struct program *programs, size_t count, const char *target)
{
    if (!is_as_slurm(programs, count, NULL, target))
        return;
    for (size_t i = 0; i < count; i++)
        if (!strcmp(programs[i].name, target) && !is_as_slurm(programs, count, &programs[i], target))
            *programs[i].name = 0;
}

/* Prints the PIDs that a person can name: of each run the porter, or else the first process. */
static void print_programs(const struct program *programs, size_t count, const char *target)
{
    for (size_t i = 0; i < count; i++) {
        const char *name = programs[i].name; /* a porter is called by its program's */
        int is_stood_for = 0;
        for (size_t j = 0; j < count; j++) {
            if (!same_run(&programs[i], &programs[j]))
                continue;
            is_stood_for |= programs[j].role == ROLE_PORTER;
            if (programs[i].role == ROLE_PORTER && programs[j].role == ROLE_TASK)
                name = programs[j].name;
        }
        if ((programs[i].role == ROLE_PORTER || (programs[i].first && !is_stood_for))
            && (!target || is_meant(&programs[i], target) || !strcmp(name, target)))
            fprintf(stderr, "  PID %d: %s\n", (int)programs[i].pid, name);
    }
}

/* Whose a living process is; 0: there is none. The owner of /proc/PID is root's once the process is ending. */
static int find_owner(uint32_t pid, uid_t *ret_owner)
{
    char *status = proc_read((int)pid, "status", NULL);
    const char *state = status_field(status, "State"), *ids = status_field(status, "Uid");
    int is_alive = state && ids && *state != 'Z' && *state != 'X';

    if (is_alive)
        *ret_owner = (uid_t)strtoul(strchr(ids, '\t') + 1, NULL, 10); /* the effective one, the second of four */
    free(status);
    return is_alive;
}

/* Says why there is no such program: gone, somebody else's, or never started with us. */
static int complain_none(const struct program *programs, size_t count, const char *target)
{
    uid_t owner;
    uint32_t pid;
    int is_pid = !options_number(target, INT32_MAX, &pid), is_alive = is_pid && find_owner(pid, &owner);

    if (is_alive && geteuid() && owner != geteuid())
        return complain(EXIT_NOT_ALLOWED, "process %s belongs to another user (uid %u); only that user or root can checkpoint it",
                        target, owner);
    if (is_alive)
        complain(0, "no program under stasis has PID %s: process %s was started without it; start it with 'stasis run'", target,
                 target);
    else
        complain(0, "no program under stasis %s %s; it has ended, or it never was", is_pid ? "has PID" : "is named", target);
    fprintf(stderr, count ? "Programs under stasis here:\n" : "No program of yours runs under stasis here.\n");
    print_programs(programs, count, NULL);
    return EXIT_NO_IMAGE;
}

/* A task, or the porter of one that was restarted, of a step of several. */
static const struct program *task_of(const struct program *programs, size_t count, const struct program *of)
{
    for (size_t i = 0; i < count; i++)
        if (programs[i].role == ROLE_TASK && programs[i].task_count > 1 && same_run(&programs[i], of))
            return &programs[i];
    return NULL;
}

static int same_step(const struct program *programs, size_t count, const struct program *a, const struct program *b)
{
    return a->owner == b->owner && !strcmp(a->name, b->name) && task_of(programs, count, a) && task_of(programs, count, b);
}

static int is_asked_for_script(void)
{
    const char *asked = getenv(ENV_ATTENDING);
    return asked && !strcmp(asked, BATCH_STEP);
}

/* 0 and the one run that is meant (or of a step of several tasks any of them), or an exit status. */
static int choose(const struct program *programs, size_t count, const char *target, const struct program **ret_chosen)
{
    const struct program *chosen = NULL;

    for (size_t i = 0; i < count; i++) {
        if (!is_meant(&programs[i], target))
            continue;
        if (chosen && !same_run(chosen, &programs[i]) && !same_step(programs, count, chosen, &programs[i])) {
            complain(0, "several programs are named %s; give the PID of one:", target);
            print_programs(programs, count, target);
            return EXIT_USAGE;
        }
        chosen = &programs[i];
    }
    if (!chosen && is_asked_for_script())
        return EXIT_NO_IMAGE; /* who asks knows what to do then */
    if (!chosen)
        return slurm_is_one_of_nodes() ? EXIT_NONE_HERE : complain_none(programs, count, target);
    if (chosen->bytes != sizeof(struct agent_page))
        return complain(EXIT_REFUSED, "%s runs under another version of Stasis; use the stasis it was started with", target);
    *ret_chosen = task_of(programs, count, chosen) ? task_of(programs, count, chosen) : chosen;
    return 0;
}

/* The process through which the bubble of a run is entered: the keeper, or without one a task (a container). */
static pid_t doorway(const struct program *programs, size_t count, const struct program *chosen)
{
    for (size_t i = 0; i < count; i++)
        if (programs[i].keeper && same_run(&programs[i], chosen))
            return programs[i].keeper;
    return chosen->role == ROLE_TASK ? chosen->pid : 0;
}

/* ---- as whom, and where ---- */

/* Root asks on behalf of the owner: the image must be the owner's, and names and paths in the page are what the owner
 * wrote there, nothing to follow with root's rights. */
static int become_owner(uid_t owner)
{
    const struct passwd *entry;

    if (geteuid() == owner)
        return 0;
    entry = getpwuid(owner);
    if (!entry)
        return complain(EXIT_NOT_ALLOWED, "uid %u is not in the user database; ask that user to take the checkpoint", owner);
    if (initgroups(entry->pw_name, entry->pw_gid) || setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid)
        || setresuid(owner, owner, owner))
        return complain(EXIT_NOT_ALLOWED, "cannot become %s, who owns the program: %m", entry->pw_name);
    return 0;
}

/* The namespaces of a process that are not ours already; those cannot be entered again without rights over them. */
static int other_namespaces(pid_t pid)
{
    static const struct {
        const char *name;
        int flag;
    } namespaces[] = {
        { "user", CLONE_NEWUSER }, { "mnt", CLONE_NEWNS }, { "pid", CLONE_NEWPID }, { "ipc", CLONE_NEWIPC }, { "time", CLONE_NEWTIME },
    };
    char theirs[64], ours[64];
    struct stat their_status, our_status;
    int flags = 0;

    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        snprintf(theirs, sizeof theirs, "/proc/%d/ns/%s", (int)pid, namespaces[i].name);
        snprintf(ours, sizeof ours, "/proc/self/ns/%s", namespaces[i].name);
        if (!stat(theirs, &their_status) && !stat(ours, &our_status) && their_status.st_ino != our_status.st_ino)
            flags |= namespaces[i].flag;
    }
    return flags;
}

/* Enters all at once, so that the rights the user namespace gives hold for the others. `tasks` is looked at again with the
 * handle open: the PID cannot have come to mean another process meanwhile. 0 or -errno. */
static int enter(pid_t pid, ino_t tasks)
{
    int handle = (int)syscall(SYS_pidfd_open, pid, 0);
    int error = 0;

    if (handle < 0)
        return -errno;
    if (pid_namespace_of(pid) != tasks)
        error = -ESRCH;
    else if (setns(handle, other_namespaces(pid)))
        error = -errno;
    close(handle);
    return error;
}

/* Savers that we wait for. SIGTERM is theirs: one that has its image safe takes no notice of it, and we have to end as it does. */
static pid_t *awaited;
static size_t awaited_count;

static void hand_on(int number)
{
    for (size_t i = 0; i < awaited_count; i++)
        if (awaited[i] > 0)
            kill(awaited[i], number);
}

static void await(pid_t *savers, size_t count)
{
    awaited = savers;
    awaited_count = count;
    signal(SIGTERM, hand_on);
}

/* Ends as the saver did. With the bubble it is killed: a restart has failed. */
static int mirror(pid_t child, pid_t door, ino_t tasks)
{
    int status;

    await(&child, 1);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return complain(EXIT_SYSTEM, "cannot wait for %s: %m", SAVER_NAME);
    await(NULL, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && pid_namespace_of(door) != tasks)
        return complain(EXIT_NO_IMAGE, "no checkpoint: the program has ended, or its restart has failed");
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SYSTEM;
}

/* setns lets only children into the PID namespace, so this one stays to wait. */
static int save_inside(pid_t door, ino_t tasks, char **argv)
{
    int error = door > 0 ? enter(door, tasks) : -ESRCH;
    pid_t child;

    if (error)
        return complain(error == -EPERM || error == -EACCES ? EXIT_NOT_ALLOWED : EXIT_NO_IMAGE,
                        "cannot enter the namespaces of the program: %s; take the checkpoint from inside them", strerror(-error));
    child = fork();
    if (child < 0)
        return complain(EXIT_SYSTEM, "cannot start %s: %m", SAVER_NAME);
    if (child)
        return mirror(child, door, tasks);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* who ends the command ends the checkpoint */
    _exit(locate_exec(SAVER_NAME, argv));
}

/* ---- the saver ---- */

static int save(const struct request *request, const struct program *chosen, pid_t door)
{
    char namespace[32], meanwhile[16];
    char *argv[16] = { NULL, "--directory", (char *)chosen->run_directory, "--pid-namespace", namespace };
    int count = 5, status;

    snprintf(namespace, sizeof namespace, "%ju", (uintmax_t)chosen->tasks);
    if (request->max_wait) {
        argv[count++] = "--max-wait";
        argv[count++] = (char *)request->max_wait;
    }
    if (request->images) {
        argv[count++] = "--images";
        argv[count++] = (char *)request->images;
    }
    if (request->meanwhile >= 0) {
        snprintf(meanwhile, sizeof meanwhile, "%d", request->meanwhile);
        argv[count++] = "--meanwhile";
        argv[count++] = meanwhile;
    }
    if (request->stop)
        argv[count++] = "--stop";
    if (request->verbose)
        argv[count++] = "--verbose";
    status = become_owner(chosen->owner);
    if (status)
        return status;
    return chosen->tasks == own_pid_namespace() ? locate_exec(SAVER_NAME, argv) : save_inside(door, chosen->tasks, argv);
}

/* In a process of its own. One of them says where the image is. */
static pid_t start_save(const struct request *request, const struct program *chosen, pid_t door, int is_silent)
{
    pid_t child = fork();
    int nowhere;

    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* who ends the command ends the checkpoint */
    nowhere = is_silent ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
    if (nowhere >= 0)
        dup2(nowhere, 1);
    _exit(save(request, chosen, door));
}

static int status_of(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return complain(EXIT_SYSTEM, "cannot wait for %s: %m", SAVER_NAME);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SYSTEM;
}

/* All tasks of its step that are on this node: their savers wait for one another, and for those on other nodes. */
static int save_tasks(const struct request *request, const struct program *programs, size_t count, const struct program *chosen)
{
    pid_t *children = calloc(count, sizeof *children);
    int status = 0;
    size_t started = 0;

    for (size_t i = 0; children && i < count; i++) {
        const struct program *program = &programs[i];
        size_t before = 0;
        if (program->role != ROLE_TASK || program->task_count < 2 || program->owner != chosen->owner || strcmp(program->name, chosen->name))
            continue;
        while (before < i && !(programs[before].role == ROLE_TASK && same_run(&programs[before], program)))
            before++;
        if (before == i)
            children[started] = start_save(request, program, doorway(programs, count, program), started), started++;
    }
    await(children, started);
    for (size_t i = 0; i < started; i++) {
        int one = children[i] < 0 ? complain(EXIT_SYSTEM, "cannot start %s", SAVER_NAME) : status_of(children[i]);
        status = status ? status : one;
        children[i] = 0; /* its number may be somebody else's by now */
    }
    await(NULL, 0);
    free(children);
    return started ? status : complain(EXIT_SYSTEM, "no memory");
}

/* ---- a batch job, with its steps ---- */

/* The script of one, and what of it is known. */
struct whole_job {
    char prefix[MAX_PATH], directory[MAX_PATH], job[MAX_ID], slurm_job[MAX_ID];
};

static int read_prefix(pid_t pid, char prefix[MAX_PATH])
{
    char *value = pid > 0 ? proc_variable(pid, ENV_SRUNS) : NULL;

    snprintf(prefix, MAX_PATH, "%s", value ? value : "");
    free(value);
    return *prefix == '/';
}

/* JOB of JOB.STEP */
static void copy_job(char job[MAX_ID], const char *name)
{
    snprintf(job, MAX_ID, "%.*s", (int)strcspn(name, "."), name);
}

static int is_whole_job(const struct request *request, const struct program *programs, size_t count, const struct program *chosen,
                        struct whole_job *ret_job)
{
    const char *dot = strrchr(chosen->name, '.');
    int is = 0;

    if (!dot || strcmp(dot + 1, BATCH_STEP))
        return 0;
    copy_job(ret_job->job, chosen->name);
    copy_job(ret_job->slurm_job, chosen->name);
    for (size_t i = 0; i < count; i++) {
        if (!same_run(&programs[i], chosen))
            continue;
        if (*programs[i].as_slurm)
            copy_job(ret_job->slurm_job, programs[i].as_slurm);
        is = is || (programs[i].role == ROLE_TASK && read_prefix(programs[i].pid, ret_job->prefix));
    }
    snprintf(ret_job->directory, sizeof ret_job->directory, "%s", request->images ? request->images : ret_job->prefix);
    if (is && !request->images)
        *strrchr(ret_job->directory, '/') = 0;
    return is;
}

/* Whether this very command is a descendant of it, and would have to stand still itself. */
static int is_part_of(const struct program *programs, size_t count, const struct program *chosen)
{
    uint64_t fields[STAT_FIELDS];

    for (pid_t pid = getpid(); pid > 1 && !proc_stat(pid, fields); pid = (pid_t)fields[STAT_PARENT])
        for (size_t i = 0; i < count; i++)
            if (programs[i].role == ROLE_TASK && programs[i].pid == pid && same_run(&programs[i], chosen))
                return 1;
    return 0;
}

static int complain_part(const char *target)
{
    return is_asked_for_script() ? EXIT_NO_IMAGE
                                 : complain(EXIT_REFUSED, "this command is part of %s itself, and cannot wait for its image: ask from elsewhere, or by a signal",
                                            target);
}

/* Does what is to happen while the saver waits for it. 0, or an exit status: it has come to nothing. */
static int serve_saver(int saver, const struct moment_wish *wish, const struct whole_job *job)
{
    struct moment moment = { .prefix = "" };
    int status = 0;
    char word;

    while (!status && read(saver, &word, 1) == 1) {
        status = word == MEANWHILE_STOPPED ? moment_gather(wish, &moment) : moment_write(&moment, job->directory, job->job);
        word = MEANWHILE_DONE;
        if (!status && write(saver, &word, 1) != 1)
            break;
    }
    shutdown(saver, SHUT_RDWR); /* who waits for it in another namespace holds this end, too */
    close(saver);
    moment_free(&moment);
    return status;
}

static int try_whole_job(struct request request, const struct program *chosen, pid_t door, const struct whole_job *job)
{
    struct moment_wish wish = { job->prefix, job->slurm_job, job->directory, request.max_wait, request.images != NULL };
    int ends[2], status, served;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return complain(EXIT_SYSTEM, "cannot make a socket: %m");
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    request.meanwhile = ends[1];
    pid_t child = start_save(&request, chosen, door, 0);
    close(ends[1]);
    await(&child, 1);
    served = serve_saver(ends[0], &wish, job);
    status = child < 0 ? complain(EXIT_SYSTEM, "cannot start %s", SAVER_NAME) : status_of(child);
    await(NULL, 0);
    return served ? served : status;
}

/* Behind `stream` is that file then. What was there, or -1. */
static int put_behind(int stream, int file)
{
    int kept = file < 0 ? -1 : fcntl(stream, F_DUPFD_CLOEXEC, 3);

    if (kept >= 0)
        dup2(file, stream);
    return kept;
}

static void put_back(int stream, int kept)
{
    if (kept < 0)
        return;
    dup2(kept, stream);
    close(kept);
}

static void copy_to_stdout(int file)
{
    char bytes[MAX_PATH];
    ssize_t got;

    lseek(file, 0, SEEK_SET);
    while ((got = read(file, bytes, sizeof bytes)) > 0 && write(1, bytes, (size_t)got) == got)
        continue;
}

/* Nobody is told why it has failed, nor which images there are then. */
static int try_silently(const struct request *request, const struct program *chosen, pid_t door, const struct whole_job *job)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC), said = memfd_create("said", MFD_CLOEXEC);
    int errors = put_behind(2, nowhere), output = put_behind(1, said);
    int status = try_whole_job(*request, chosen, door, job);

    put_back(1, output);
    put_back(2, errors);
    if (!status && output >= 0)
        copy_to_stdout(said);
    close(said);
    close(nowhere);
    return status;
}

/* Its steps begin and end by themselves: the moment for an image of all is between that. */
static int save_whole_job(const struct request *request, const struct program *chosen, pid_t door, const struct whole_job *job)
{
    enum { SILENT_TRIES = 3, PAUSE_MILLISECONDS = 1000 };
    int64_t end = request->max_wait ? clock_now(CLOCK_MONOTONIC) + strtoll(request->max_wait, NULL, 10) * 1000000000 : INT64_MAX;

    for (int i = 0; i < SILENT_TRIES && clock_now(CLOCK_MONOTONIC) < end; i++) {
        int status = try_silently(request, chosen, door, job);
        if (!status)
            return status;
        if (status != EXIT_RUN_AGAIN)
            break;
        poll(NULL, 0, PAUSE_MILLISECONDS);
    }
    return try_whole_job(*request, chosen, door, job);
}

/* ---- the command ---- */

static int is_any_meant(const struct program *programs, size_t count, const char *target)
{
    for (size_t i = 0; i < count; i++)
        if (is_meant(&programs[i], target))
            return 1;
    return 0;
}

static int is_first_meant(const struct program *programs, size_t count, const char *target)
{
    for (size_t i = 0; i < count; i++)
        if (programs[i].first && is_meant(&programs[i], target))
            return 1;
    return 0;
}

/* On a busy machine the one with that name may be among those that have not come yet; or only a child of it has, which may be gone
 * before the saver has begun. */
static int find_named(const char *target, int64_t milliseconds, struct program **programs, size_t *count)
{
    enum { ROUND_MILLISECONDS = 1000, ROUNDS_FOR_THE_FIRST = 4 };

    for (int round = 1;; milliseconds -= ROUND_MILLISECONDS, round++) {
        size_t silent = summon_all(ROUND_MILLISECONDS);
        int error = programs_find(programs, count);
        if (error || !silent || milliseconds <= ROUND_MILLISECONDS || is_first_meant(*programs, *count, target) ||
            (round >= ROUNDS_FOR_THE_FIRST && is_any_meant(*programs, *count, target)))
            return error;
        free(*programs);
    }
}

/* A `stasis restart` that has no page yet: it looks whether it can. */
static int is_restart(pid_t pid)
{
    static const char words[] = "restart"; /* behind the name of the command and its NUL */
    size_t length = 0, start;
    char *line = proc_is_named(pid, "stasis") ? proc_read(pid, "cmdline", &length) : NULL;

    start = line ? strlen(line) + 1 : 0;
    int is = (line && start + sizeof words <= length && !memcmp(line + start, words, sizeof words)) || proc_is_named(pid, RESTORER_NAME);
    free(line);
    return is;
}

/* One that executes others all the time has come, and may be gone again when we look. A restart is waited for to the end. */
static enum summoned find_process(const char *target, pid_t pid, int64_t milliseconds, int64_t end, struct program **programs,
                                  size_t *count, int *ret_error)
{
    enum { ROUNDS = 20, LOOK_MILLISECONDS = 20 };

    for (int round = 1;;) {
        enum summoned came = summon(pid, milliseconds);
        *ret_error = programs_find(programs, count);
        if (*ret_error || is_any_meant(*programs, *count, target) || (came == SUMMON_CAME && round++ == ROUNDS))
            return came;
        if (came != SUMMON_CAME && !is_restart(pid))
            return came;
        if (clock_now(CLOCK_MONOTONIC) > end)
            return SUMMON_SILENT;
        free(*programs);
        poll(NULL, 0, LOOK_MILLISECONDS);
    }
}

static enum summoned find_programs(const struct request *request, struct program **programs, size_t *count, int *ret_error)
{
    enum summoned came = SUMMON_CAME;
    int64_t patience = STOP_DEADLINE_SECONDS * INT64_C(1000), end = INT64_MAX;
    uint32_t pid = 0;

    if (request->max_wait)
        end = clock_now(CLOCK_MONOTONIC) + strtoll(request->max_wait, NULL, 10) * 1000000000;
    if (request->max_wait && strtoll(request->max_wait, NULL, 10) * 1000 < patience)
        patience = strtoll(request->max_wait, NULL, 10) * 1000;
    if (!options_number(request->target, INT32_MAX, &pid) && pid)
        came = find_process(request->target, (pid_t)pid, patience, end, programs, count, ret_error);
    else
        *ret_error = find_named(request->target, patience, programs, count);
    return came;
}

/* Of a process that a debugger holds, or that was stopped again at once: it cannot make its page. */
static int is_held(const char *target)
{
    uint32_t pid = 0;
    char *status = options_number(target, INT32_MAX, &pid) ? NULL : proc_read((int)pid, "status", NULL);
    const char *state = status ? status_field(status, "State") : NULL;
    int is = state && (*state == 't' || *state == 'T');

    free(status);
    return is;
}

static int complain_silent(const struct request *request)
{
    uint32_t pid = 0;
    int is_pid = !options_number(request->target, INT32_MAX, &pid);

    if (request->max_wait && is_pid && is_restart((pid_t)pid))
        return complain(EXIT_RUN_AGAIN, "given up: %s has not brought its program back within %s seconds", request->target,
                        request->max_wait);
    if (is_held(request->target))
        return complain(EXIT_REFUSED, "no checkpoint: R-STOPPED: process %s is stopped, by a debugger or again and again; see the "
                        "page of that name in the documentation", request->target);
    if (is_pid && summon_is_ignored((pid_t)pid))
        return complain(EXIT_REFUSED, "no checkpoint: R-SIGNAL-TAKEN: process %s ignores signal %d; see the page of that name in the "
                        "documentation", request->target, STOP_SIGNAL);
    if (request->max_wait && atoi(request->max_wait) < STOP_DEADLINE_SECONDS)
        return complain(EXIT_RUN_AGAIN, "given up: process %s has not answered within %s seconds", request->target, request->max_wait);
    return complain(EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: process %s does not answer: it blocks signal %d, or /dev/shm is "
                    "full or not writable; see the page of that name in the documentation", request->target, STOP_SIGNAL);
}

static int find_and_save(const struct request *request)
{
    const struct program *chosen = NULL;
    struct program *programs;
    struct whole_job job;
    size_t count;
    int status;
    enum summoned came = find_programs(request, &programs, &count, &status);

    if (status)
        return complain(EXIT_SYSTEM, "cannot read the registry of programs: %s", strerror(-status));
    if (came == SUMMON_SILENT) {
        free(programs);
        return complain_silent(request);
    }
    forget_namesakes(programs, count, request->target);
    status = choose(programs, count, request->target, &chosen);
    if (!status && chosen->task_count > 1)
        status = save_tasks(request, programs, count, chosen);
    else if (!status && is_whole_job(request, programs, count, chosen, &job))
        status = is_part_of(programs, count, chosen) ? complain_part(request->target) : save_whole_job(request, chosen, doorway(programs, count, chosen), &job);
    else if (!status)
        status = save(request, chosen, doorway(programs, count, chosen));
    free(programs);
    return status == EXIT_NONE_HERE ? 0 : status;
}

/* Absolute: the saver may look at it from inside a bubble. */
static int settle_images(const char *value, struct request *request)
{
    static char path[MAX_PATH];

    if (!realpath(value, path))
        return complain(EXIT_CANNOT_CREATE, "an image cannot be put in '%s': %m", value);
    request->images = path;
    return 0;
}

static int checkpoint(int argc, char **argv)
{
    struct request request = { .meanwhile = -1 };
    const char *value;
    uint32_t number;
    int status = 0;

    for (int option; !status && (option = options_next(&command_checkpoint, argc, argv, &value)) >= 0;) {
        if (option == CHECKPOINT_DIRECTORY)
            status = settle_images(value, &request);
        else if (option == CHECKPOINT_STOP)
            request.stop = 1;
        else if (option == CHECKPOINT_VERBOSE)
            request.verbose = 1;
        else if (options_number(value, MAX_SECONDS, &number))
            return complain_usage(&command_checkpoint, "--max-wait=%s: give a whole number of seconds", value);
        else
            request.max_wait = value;
    }
    if (status)
        return status;
    if (argc - optind != 1)
        return complain_usage(&command_checkpoint, "give one program: its PID or JOB.STEP");
    request.target = argv[optind];
    if (options_number(request.target, INT32_MAX, &number) && !strchr(request.target, '.'))
        return complain_usage(&command_checkpoint, "'%s' is neither a PID nor JOB.STEP", request.target);
    return find_and_save(&request);
}

const struct command command_checkpoint = {
    .name = "checkpoint",
    .operands = "TARGET",
    .summary = "Take an image of a running program",
    .notes = "TARGET is the PID of the program, or of the 'stasis restart' that stands for\n"
             "it, or JOB.STEP. Returns when the image is safely on disk, and prints its path.\n"
             "A program that a restart is still bringing back is waited for.",
    .choices = choices,
    .run = checkpoint,
};
