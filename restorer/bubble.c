/* SPDX-License-Identifier: MIT */
/* Making the bubble: the namespaces, what they are furnished with, and the check whether they can be had. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bubble_private.h"
#include "numbers.h"
#include "../core/floor/names.h"
#include "../core/floor/text.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

/* clang-format off */
static const struct refusal {
    const char *word; /* in ENV_TEST_FAIL; NULL: none */
    const char *name;
    const char *what;
    const char *remedy;
} refusals[STEP_COUNT] = {
    [STEP_SPACES] = {"userns", "R-USER-NAMESPACE", "the kernel refuses new user, PID, mount and IPC namespaces",
        "without them the program cannot have its PIDs back. Set sysctl user.max_user_namespaces (and max_pid_, "
        "max_mnt_, max_ipc_namespaces) above 0, kernel.unprivileged_userns_clone=1 where it exists, on Ubuntu give "
        "stasis-restorer an AppArmor profile with `userns,`, allow them in the container's seccomp filter; or restart "
        "as root"},
    [STEP_MAPS] = {NULL, "R-USER-NAMESPACE", "a user namespace can be made, but gives no rights",
        "its rights are needed for the program's PIDs. On Ubuntu give stasis-restorer an AppArmor profile with "
        "`userns,`, or set sysctl kernel.apparmor_restrict_unprivileged_userns=0; or restart as root"},
    [STEP_SLAVE] = {NULL, "R-USER-NAMESPACE", "the mounts cannot be made our own",
        "a fresh /proc needs that. Let AppArmor, SELinux or the container's seccomp filter allow mount() in user "
        "namespaces; or restart as root"},
    [STEP_PROC] = {"procmount", "R-PROC-MOUNT", "a fresh /proc cannot be mounted",
        "the program would find other processes under its PIDs. A container must not mask parts of /proc (docker: "
        "--security-opt systempaths=unconfined, podman: --security-opt unmask=ALL), and AppArmor or SELinux must allow "
        "the mount"},
    [STEP_SHM] = {"shm", "R-DEV-SHM", "a private /dev/shm cannot be made",
        "shared memory of the program would clash with that of others. /dev/shm must exist and be a directory, and "
        "AppArmor or SELinux must allow tmpfs there"},
    [STEP_PTS] = {"pts", "R-TERMINAL", "a private /dev/pts cannot be made",
        "the program's terminals would have other numbers. /dev/pts must exist and be a directory, and AppArmor or "
        "SELinux must allow devpts there"},
    [STEP_TIME] = {"timens", "R-TIME-NAMESPACE", "the kernel refuses a time namespace",
        "the program's monotonic clock would jump. Use Linux 5.6 or newer with CONFIG_TIME_NS=y, and set sysctl "
        "user.max_time_namespaces above 0"},
    [STEP_TASK] = {"clone3", "R-CLONE3", "the kernel refuses clone3 with set_tid",
        "the program cannot have its PID back. Use Linux 5.5 or newer, let the container's seccomp filter allow "
        "clone3, and set sysctl kernel.pid_max above the program's PID"},
    [STEP_NUMBER] = {NULL, "R-PID-TAKEN", "the program's PID cannot be had among the host's processes",
        "somebody else has it, as a process, a process group or a session. End that one, or restart elsewhere; allow user "
        "namespaces, in which all PIDs are free (R-USER-NAMESPACE)"},
};
/* clang-format on */

static const char pid_1_sentence[] =
    "R-PID-1: the program was PID 1 of its container; in the bubble that is the keeper's. Start the program under an "
    "init (docker run --init, tini), and take a new checkpoint";

/* Who made the bubble; read before, because inside all ids are 65534 until they are mapped. */
static struct {
    int user_namespace;
    uid_t user;
    gid_t group;
} maker;

static int has_sys_admin(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};

    return !syscall(SYS_capget, &header, data) && data[0].effective & 1u << CAP_SYS_ADMIN;
}

static int forced(enum bubble_step step)
{
    return refusals[step].word && text_list_holds(getenv(ENV_TEST_FAIL), refusals[step].word);
}

pid_t bubble_clone(uint64_t flags, pid_t pid, int exit_signal, int *ret_handle)
{
    struct clone_args args = {.flags = flags, .exit_signal = (uint64_t)exit_signal};
    void *tid = NULL;

    /* As glibc's fork does, whose word for the own TID this is. */
    if (!prctl(PR_GET_TID_ADDRESS, &tid) && tid) {
        args.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
        args.child_tid = (uintptr_t)tid;
    }
    if (pid) {
        args.set_tid = (uintptr_t)&pid;
        args.set_tid_size = 1;
    }
    if (ret_handle) {
        args.flags |= CLONE_PIDFD;
        args.pidfd = (uintptr_t)ret_handle;
    }
    long child = syscall(SYS_clone3, &args, sizeof args);
    return child < 0 ? -errno : (pid_t)child;
}

/* The keeper: as bubble_clone. A kernel or filter without clone3 is another obstacle than one without namespaces. */
static pid_t enter(enum bubble_step *ret_step)
{
    maker.user_namespace = !has_sys_admin();
    maker.user = geteuid();
    maker.group = getegid();
    *ret_step = STEP_SPACES;
    if (forced(STEP_SPACES))
        return -ENOSYS;
    uint64_t user = maker.user_namespace ? CLONE_NEWUSER : 0;
    pid_t keeper = bubble_clone(user | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC, 0, SIGCHLD, NULL);
    if (keeper == -ENOSYS)
        *ret_step = STEP_TASK;
    return keeper;
}

static int write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -errno;
    int result = write(file, text, strlen(text)) < 0 ? -errno : 0;
    close(file);
    return result;
}

/* user_namespaces(7): one line, the own effective id; the group's only after setgroups is denied. */
static int map_ids(const struct bubble_plan *plan)
{
    char line[64];
    (void)plan;

    if (!maker.user_namespace)
        return 0;
    snprintf(line, sizeof line, "%u %u 1\n", maker.user, maker.user);
    int error = write_file("/proc/self/uid_map", line);
    if (!error)
        error = write_file("/proc/self/setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1\n", maker.group, maker.group);
    return error ? error : write_file("/proc/self/gid_map", line);
}

static int make_slave(const struct bubble_plan *plan)
{
    (void)plan;
    return mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) ? -errno : 0;
}

static int mount_proc(const struct bubble_plan *plan)
{
    (void)plan;
    return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) ? -errno : 0;
}

/* As large as the one it hides. */
static int mount_shm(void)
{
    char options[64] = "mode=1777";
    struct statfs outer;

    if (statfs("/dev/shm", &outer))
        return -errno;
    if (outer.f_type == TMPFS_MAGIC && outer.f_blocks)
        snprintf(options, sizeof options, "mode=1777,size=%llu",
                 (unsigned long long)outer.f_blocks * (unsigned long long)outer.f_bsize);
    return mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, options) ? -errno : 0;
}

/* POSIX queues belong to the IPC namespace; where the host shows its own, show the bubble's. */
static void mount_mqueue(void)
{
    struct statfs outer;

    if (!statfs("/dev/mqueue", &outer) && outer.f_type == MQUEUE_MAGIC)
        mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static int furnish_shm(const struct bubble_plan *plan)
{
    char link[64];
    int registry = -1, error;

    /* 1. hold the registry: soon its path is hidden */
    if (plan->registry && text_starts(plan->registry, "/dev/shm/")) {
        registry = open(plan->registry, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (registry < 0)
            return -errno;
    }
    /* 2. hide the host's, and 3. bind the registry where it was */
    error = mount_shm();
    if (!error && registry >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", registry);
        if (mkdir(plan->registry, 0700) || mount(link, plan->registry, NULL, MS_BIND, NULL))
            error = -errno;
    }
    if (registry >= 0)
        close(registry);
    mount_mqueue();
    return error;
}

/* The command's own terminal, held before its name is hidden; -1: none. */
static int hold_terminal(void)
{
    const int places[] = { relay_slave(), 0, 1, 2 };
    char link[64], path[64] = "";

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", places[i]);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        if (text_starts(path, "/dev/pts/"))
            return open(path, O_PATH | O_CLOEXEC);
    }
    return -1;
}

/* /dev/ptmx makes terminals in the /dev/pts beside it (Documentation/filesystems/devpts.rst). The terminal of the program's user
 * can have no name there; where containers show theirs, ttyname(3) looks for it. */
static int mount_pts(const struct bubble_plan *plan)
{
    char link[64];
    int terminal, error;

    if (!plan->has_terminal_pairs)
        return 0;
    terminal = hold_terminal();
    error = mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0600") ? -errno : 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", terminal);
    if (!error && terminal >= 0)
        mount(link, "/dev/console", NULL, MS_BIND, NULL); /* where there is none, it stays without a name */
    if (terminal >= 0)
        close(terminal);
    return error;
}

/* time_namespaces(7): only children enter it, and the offsets are fixed once the first has. */
static int shift_time(const struct bubble_plan *plan)
{
    char lines[160];

    if (unshare(CLONE_NEWTIME))
        return -errno;
    snprintf(lines, sizeof lines, "monotonic %lld %lld\nboottime %lld %lld\n", (long long)plan->monotonic_offset[0],
             (long long)plan->monotonic_offset[1], (long long)plan->boottime_offset[0],
             (long long)plan->boottime_offset[1]);
    return write_file("/proc/self/timens_offsets", lines);
}

static int (*const furnishing[STEP_COUNT])(const struct bubble_plan *plan) = {
    [STEP_MAPS] = map_ids,      [STEP_SLAVE] = make_slave, [STEP_PROC] = mount_proc,
    [STEP_SHM] = furnish_shm,   [STEP_PTS] = mount_pts,    [STEP_TIME] = shift_time,
};

enum bubble_step bubble_furnish(const struct bubble_plan *plan, int errors[STEP_COUNT], int all)
{
    enum bubble_step first = STEP_COUNT;

    for (int step = STEP_MAPS; step <= STEP_TIME; step++) {
        errors[step] = forced(step) ? -ENOSYS : furnishing[step](plan);
        if (!errors[step])
            continue;
        if (first == STEP_COUNT)
            first = step;
        if (!all || step <= STEP_SLAVE) /* a mount while not a slave would show outside */
            break;
    }
    return first;
}

pid_t bubble_clone_task(const struct bubble_plan *plan, int *ret_handle)
{
    return forced(STEP_TASK) ? -ENOSYS : bubble_clone(0, plan->pid, SIGCHLD, ret_handle);
}

static void sentence(enum bubble_step step, int error, char *text, size_t size)
{
    const struct refusal *refusal = &refusals[step];
    snprintf(text, size, "%s: %s (%s): %s", refusal->name, refusal->what, strerror(-error), refusal->remedy);
}

int bubble_complain(enum bubble_step step, int error)
{
    char text[1024];

    if (error == -EAGAIN || error == -ENOMEM || error == -EMFILE || error == -ENFILE) {
        fprintf(stderr, "stasis: cannot make the namespaces or a process in them: %s. Raise ulimit -u and -n, or the "
                "cgroup's pids.max and memory, and restart again\n", strerror(-error));
        return EXIT_SYSTEM;
    }
    sentence(step, error, text, sizeof text);
    fprintf(stderr, "stasis: %s\n", text);
    return EXIT_REFUSED;
}

/* In the throw-away keeper: tries everything, writes the errors. Dies with the caller, and all with it. */
_Noreturn static void rehearse(const struct bubble_plan *plan, int answer)
{
    int errors[STEP_COUNT] = {0};
    enum bubble_step failed;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    failed = bubble_furnish(plan, errors, 1);
    if (failed > STEP_SLAVE) {
        pid_t task = bubble_clone_task(plan, NULL);
        if (!task)
            _exit(0);
        errors[STEP_TASK] = task < 0 ? task : 0;
        if (task > 0)
            waitpid(task, NULL, 0);
    }
    _exit(write(answer, errors, sizeof errors) != sizeof errors);
}

/* Fills errors[] from a bubble that was made and left: 0, or -errno when even that could not be tried. */
static int try_out(const struct bubble_plan *plan, int errors[STEP_COUNT])
{
    const size_t bytes = STEP_COUNT * sizeof *errors;
    enum bubble_step step;
    int answer[2];

    if (pipe2(answer, O_CLOEXEC))
        return -errno;
    pid_t keeper = enter(&step);
    if (!keeper)
        rehearse(plan, answer[1]);
    close(answer[1]);
    int result = 0;
    if (keeper < 0)
        errors[step] = keeper;
    else if (read(answer[0], errors, bytes) != (ssize_t)bytes)
        result = -EIO;
    close(answer[0]);
    if (keeper > 0)
        waitpid(keeper, NULL, 0);
    return result;
}

static int is_forbidden;

int bubble_is_forbidden(void)
{
    return is_forbidden;
}

int bubble_check(const struct bubble_plan *plan, void (*say)(void *context, const char *sentence), void *context)
{
    static const struct bubble_plan any = {.pid = 300};
    struct bubble_plan tried = plan ? *plan : any;
    int errors[STEP_COUNT] = {0}, obstacles = 0;
    char text[1024];

    if (tried.pid == 1) {
        say(context, pid_1_sentence);
        obstacles++;
        tried.pid = any.pid;
    }
    if (tried.registry && access(tried.registry, F_OK))
        tried.registry = NULL; /* bubble_run will make it */
    int error = try_out(&tried, errors);
    if (errors[STEP_SHM] == -ENOENT && tried.registry) { /* the last program in it may have ended meanwhile */
        tried.registry = NULL;
        memset(errors, 0, sizeof errors);
        error = try_out(&tried, errors);
    }
    if (error)
        errors[STEP_SPACES] = error;
    for (int step = 0; step < STEP_COUNT; step++) {
        if (!errors[step])
            continue;
        sentence(step, errors[step], text, sizeof text);
        say(context, text);
        obstacles++;
        is_forbidden |= (step <= STEP_SLAVE && errors[step] != -EAGAIN && errors[step] != -ENOMEM) ||
                        (step == STEP_TASK && errors[step] == -ENOSYS); /* as containers answer to all of clone3 */
    }
    return obstacles;
}

int bubble_lift(int descriptor, int lowest)
{
    int lifted = fcntl(descriptor, F_DUPFD_CLOEXEC, lowest);
    if (lifted < 0)
        return descriptor;
    close(descriptor);
    return lifted;
}

uint64_t bubble_mask(uint64_t mask)
{
    uint64_t before = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof mask);
    return before;
}

void bubble_default(int signal)
{
    static const uint64_t nothing[4]; /* the kernel's struct sigaction: SIG_DFL, no flags, empty mask */
    syscall(SYS_rt_sigaction, signal, nothing, NULL, sizeof(uint64_t));
}

void bubble_forget(int signal)
{
    static const uint64_t ignore[4] = {(uint64_t)1 /* SIG_IGN */};
    syscall(SYS_rt_sigaction, signal, ignore, NULL, sizeof(uint64_t));
    bubble_default(signal);
}

/* A core_pattern with a pipe ignores all limits but 1 (kernel/coredump.c); one who may not have that must not be dumpable. */
_Noreturn void bubble_mirror(int status)
{
    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    int signal = WTERMSIG(status);
    const uint64_t dumping = SIGNAL_BIT(SIGQUIT) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGABRT) | SIGNAL_BIT(SIGBUS) |
                             SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGXCPU) | SIGNAL_BIT(SIGXFSZ) | SIGNAL_BIT(SIGSYS);
    if (setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1}) && dumping & SIGNAL_BIT(signal)) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        prctl(PR_SET_DUMPABLE, 0);
    }
    bubble_default(signal);
    kill(getpid(), signal);
    bubble_mask(ALL_SIGNALS & ~SIGNAL_BIT(signal));
    _exit(128 + signal);
}

/* ret_link[0] is the porter's end. */
static int make_link(int ret_link[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_link))
        return -errno;
    ret_link[0] = bubble_lift(ret_link[0], LIFTED);
    ret_link[1] = bubble_lift(ret_link[1], LIFTED);
    return 0;
}

static int run(const struct bubble_plan *plan, int link[2], int task_link[2])
{
    enum bubble_step step = STEP_SPACES;
    int error = relay_prepare(plan);

    if (error)
        fprintf(stderr, "stasis: no terminal can be made for the program: %s. Raise sysctl kernel.pty.max, or ulimit -n\n",
                strerror(-error));
    pid_t keeper = error ? -1 : plan->is_on_host ? numbers_fork_beside(plan->numbers, plan->number_count) : enter(&step);
    if (!keeper) {
        close(link[0]);
        close(task_link[0]);
        porter_let_go();
        keeper_run(plan, link[1], task_link[1]);
    }
    close(link[1]);
    close(task_link[1]);
    if (keeper > 0)
        return porter_run(plan, keeper, link[0], task_link[0]);
    close(link[0]);
    close(task_link[0]);
    porter_give_back();
    return error ? EXIT_SYSTEM : bubble_complain(step, keeper);
}

static int prepare(const struct bubble_plan *plan, int link[2], int task_link[2])
{
    int error = porter_claim(plan);

    if (error) {
        fprintf(stderr, "stasis: cannot use the registry %s: %s. It must be a directory of yours with mode 0700, in tmpfs "
                "with room and inodes left; remove what is there\n", plan->run_directory ? plan->run_directory : plan->registry, strerror(-error));
        return EXIT_CANNOT_CREATE;
    }
    error = make_link(link);
    if (!error && (error = make_link(task_link)))
        close(link[0]), close(link[1]);
    if (error) {
        porter_give_back();
        fprintf(stderr, "stasis: cannot make a socket pair: %s. Raise ulimit -n\n", strerror(-error));
        return EXIT_SYSTEM;
    }
    return 0;
}

int bubble_run(const struct bubble_plan *plan)
{
    int link[2], task_link[2];

    if (plan->pid == 1) {
        fprintf(stderr, "stasis: %s\n", pid_1_sentence);
        return EXIT_REFUSED;
    }
    fflush(NULL); /* or task and porter would both write it */
    int status = prepare(plan, link, task_link);
    if (status)
        return status;
    uint64_t mask = bubble_mask(ALL_SIGNALS);
    for (int signal = 1; signal <= 64; signal++)
        bubble_default(signal); /* an ignored SIGCHLD would hide how the task ended */
    status = run(plan, link, task_link);
    bubble_mask(mask);
    return status;
}
