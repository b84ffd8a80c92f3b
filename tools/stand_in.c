/* SPDX-License-Identifier: MIT */
#include "locate.h"
#include "stand_in.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/floor/text.h"
#include "../core/image/commit.h"
#include "../core/kinds/kind.h"
#include "../core/registry/requests.h"
#include "options.h"

/* ---- the program's beginning ---- */

/* As the shim of a first process makes it, if there is none. */
static int name_run(const struct stand_in *program)
{
    char uuid[UUID_TEXT], value[UUID_TEXT + 48];

    text_from_uuid(program->run, uuid);
    snprintf(value, sizeof value, "%s:%d:%" PRId64, uuid, (int)getpid(), clock_now(CLOCK_MONOTONIC) / 1000000);
    return setenv(ENV_RUN, value, 1);
}

/* What is inherited is as it would be without us. */
static int begin_program(const struct stand_in *program)
{
    if (name_run(program))
        return complain(EXIT_SYSTEM, "cannot set the environment: %m");
    sigaction(SIGCHLD, &program->child, NULL);
    sigprocmask(SIG_SETMASK, &program->mask, NULL);
    return 0;
}

int stand_in_fork(struct stand_in *program)
{
    sigset_t all;

    if (getrandom(program->run, sizeof program->run, 0) != sizeof program->run)
        return complain(EXIT_SYSTEM, "no random number: %m");
    text_mark_uuid(program->run);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &program->mask);
    sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, &program->child); /* ignored, it would hide how the program ended */
    program->pid = fork();
    if (program->pid < 0)
        return complain(EXIT_SYSTEM, "cannot make a process: %m");
    return program->pid ? 0 : begin_program(program);
}

/* ---- waiting ---- */

const char *stand_in_tool(void)
{
    const char *tasks = getenv(ENV_SLURM_TASKS);

    if (tasks && atoi(tasks) > 1)
        exit(complain(EXIT_USAGE, "--requests: this step has %s tasks, and each would ask; use 'scontrol checkpoint create'", tasks));
    if (!*locate_self())
        exit(complain(EXIT_SYSTEM, "/proc/self/exe cannot be read: %m"));
    return locate_self();
}

/* Whoever waits for the end of a pipe waits for the program only. stderr stays: we may have to say something. */
void stand_in_let_go(void)
{
    int null = open("/dev/null", O_RDWR);

    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
    }
    syscall(SYS_close_range, 3, ~0U, 0);
}

/* What the terminal sends has reached the program without us. */
void stand_in_forward(pid_t program, const siginfo_t *info)
{
    if (info->si_code == SI_QUEUE)
        sigqueue(program, info->si_signo, info->si_value);
    else if (info->si_code <= 0)
        kill(program, info->si_signo);
}

/* 1 when it has ended. With a program that the terminal has stopped we stop, so that the shell has its prompt again. */
int stand_in_look(pid_t program, int *ret_status)
{
    while (waitpid(program, ret_status, WNOHANG | WUNTRACED) == program) {
        if (!WIFSTOPPED(*ret_status))
            return 1;
        if (WSTOPSIG(*ret_status) != SIGSTOP)
            raise(SIGSTOP);
    }
    return 0;
}

static int wait_for(pid_t program, struct requests *requests)
{
    const struct timespec time = { .tv_sec = REQUESTS_MILLISECONDS / 1000 };
    sigset_t all;
    siginfo_t info;
    int status;

    sigfillset(&all);
    while (!stand_in_look(program, &status)) {
        if (sigtimedwait(&all, &info, requests->tool ? &time : NULL) > 0 && info.si_signo != SIGCHLD)
            stand_in_forward(program, &info);
        if (requests->tool)
            requests_attend(requests);
    }
    return status;
}

/* ---- its end ---- */

/* 1 when a process of the run is there, by its environment or, a saver, by its arguments. */
static int is_of_run(int pid, const char *run)
{
    static const char *const places[] = { "environ", "cmdline" };
    int is = 0;

    for (size_t i = 0; i < 2 && !is; i++) {
        size_t length = 0;
        char *text = proc_read(pid, places[i], &length);
        is = text && memmem(text, length, run, strlen(run));
        free(text);
    }
    return is;
}

enum remains { NOBODY, OTHERS, A_SAVER };

static enum remains look_around(const char *run)
{
    enum remains most = NOBODY;
    DIR *processes = opendir("/proc");
    struct dirent *entry;

    while (processes && most != A_SAVER && (entry = readdir(processes))) {
        int pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;
        if (pid && pid != getpid() && is_of_run(pid, run))
            most = proc_is_named(pid, SAVER_NAME) ? A_SAVER : OTHERS;
    }
    if (processes)
        closedir(processes);
    return processes ? most : OTHERS;
}

enum { LOOK_NANOSECONDS = 10000000, SAVER_LOOKS = 1000, OTHERS_LOOKS = 30 };

/* A saver that began before the program's end gives its image a name when it is done, and then its helpers end. While others of the
 * program live on, it is not over. */
static int is_over(const struct stand_in *program)
{
    const int looks[] = { [OTHERS] = OTHERS_LOOKS, [A_SAVER] = SAVER_LOOKS };
    int seen[] = { [OTHERS] = 0, [A_SAVER] = 0 };
    char run[UUID_TEXT];
    enum remains remains;

    text_from_uuid(program->run, run);
    while ((remains = look_around(run)) != NOBODY && seen[remains]++ < looks[remains])
        nanosleep(&(struct timespec){ .tv_nsec = LOOK_NANOSECONDS }, NULL);
    return remains == NOBODY;
}

static void clean_up(const struct stand_in *program, const char *job, const char *step)
{
    const char *directory = getenv(ENV_DIRECTORY);
    int error = image_remove(directory, job, step, program->run);

    if (error)
        complain(0, "the images in %s cannot be removed: %s", directory, strerror(-error));
}

/* By the same signal, but without a core: that would be one of the wrong program. */
_Noreturn void stand_in_end_as(int status)
{
    sigset_t set;

    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    prctl(PR_SET_DUMPABLE, 0);
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    sigemptyset(&set);
    sigaddset(&set, WTERMSIG(status));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    _exit(128 + WTERMSIG(status));
}

_Noreturn int stand_in_wait(const struct stand_in *program, const char *job, const char *step, int cleans_up, const char *tool)
{
    char pid[16];
    struct requests requests = { .tool = tool, .directory = getenv(ENV_DIRECTORY), .job = job ? job : pid, .step = step,
                                 .target = program->pid };
    int status;

    snprintf(pid, sizeof pid, "%d", (int)program->pid);
    stand_in_let_go();
    status = wait_for(program->pid, &requests);
    if (cleans_up && !status && is_over(program))
        clean_up(program, requests.job, step);
    stand_in_end_as(status);
}
