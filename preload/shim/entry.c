/* SPDX-License-Identifier: MIT */
/* Before and after main(): the constructor reads the settings and takes the two signals, the destructor drops the page,
 * if there is one. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../core/floor/arch/x86_64/raw_call.h"
#include "../../core/floor/interval.h"
#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"
#include "wrap/cpu_clocks.h"
#include "wrap/environment.h"

extern char **environ;

static char run_variable[sizeof ENV_RUN + UUID_TEXT + 32];

/* One line on the program's stderr: only when something is wrong that a person must know. */
static void complain(const char *what, const char *why, const char *then)
{
    char line[1024];
    size_t at = text_add(line, sizeof line - 1, 0, "stasis: ");
    at = text_add(line, sizeof line - 1, at, what);
    at = text_add(line, sizeof line - 1, at, why);
    at = text_add(line, sizeof line - 1, at, then);
    line[at++] = '\n';
    sys_write(2, line, at);
}

static const char *setting(const char *name)
{
    const char *value = text_environment(environ, name);
    return value && *value ? value : NULL;
}

/* The helpers: in ENV_LIBEXEC; beside the shim (a build tree: ../../libexec); where they were installed. */
static int helper_path(const char *name, char *path, size_t size)
{
    static const char *const places[] = { "/", "/../../libexec/", NULL };
    const char *directory = setting(ENV_LIBEXEC);
    struct stat status;
    char *slash;

    if (directory) {
        text_add(path, size, text_add(path, size, text_add(path, size, 0, directory), "/"), name);
        return sys_fstatat(AT_FDCWD, path, &status, 0) == 0;
    }
    text_add(path, size, text_add(path, size, 0, STASIS_LIBEXECDIR "/"), name);
    if (!sys_fstatat(AT_FDCWD, path, &status, 0))
        return 1;
    for (int i = 0; places[i]; i++) {
        next_own_path(path, size);
        slash = strrchr(path, '/');
        if (!slash)
            return 0;
        *slash = 0;
        text_add(path, size, text_add(path, size, strlen(path), places[i]), name);
        if (!sys_fstatat(AT_FDCWD, path, &status, 0))
            return 1;
    }
    return 0;
}

/* Acts once, in the first process: the variable is taken out, and the restorer takes our place. */
static void restart_instead(void)
{
    const char *from = setting(ENV_RESTART);
    char path[MAX_PATH], image[MAX_PATH];
    const char *arguments[] = { RESTORER_NAME, "--", image, NULL };

    if (!from)
        return;
    if (!helper_path(RESTORER_NAME, path, sizeof path)) {
        complain("cannot restart from ", from, ": " RESTORER_NAME " is not installed; set " ENV_LIBEXEC);
        sys_exit_group(EXIT_NO_IMAGE);
    }
    text_add(image, sizeof image, 0, from);
    unsetenv(ENV_RESTART);
    unsetenv("LD_PRELOAD");
    SYS_CALL(execve, path, arguments, environ, 0, 0, 0);
    complain("cannot restart from ", from, ": " RESTORER_NAME " cannot be executed");
    sys_exit_group(EXIT_NO_IMAGE);
}

static const struct {
    const char *name;
    uint32_t number;
} signal_names[] = {
    { "HUP", 1 }, { "INT", 2 }, { "QUIT", 3 }, { "USR1", 10 }, { "USR2", 12 }, { "ALRM", 14 }, { "TERM", 15 },
    { "CONT", 18 }, { "TSTP", 20 }, { "URG", 23 }, { "XCPU", 24 }, { "WINCH", 28 }, { "IO", 29 }, { "PWR", 30 },
};

static uint32_t signal_from_text(const char *text)
{
    uint64_t number;

    if (text_starts(text, "SIG"))
        text += 3;
    for (size_t i = 0; i < sizeof signal_names / sizeof *signal_names; i++)
        if (text_equal(text, signal_names[i].name))
            return signal_names[i].number;
    number = text_number(&text);
    return *text || number < 1 || number > AGENT_SIGNALS || number == SIGKILL || number == SIGSTOP ||
                   number == STOP_SIGNAL || number == 32 || number == 33
               ? 0
               : (uint32_t)number;
}

static void read_trigger(void)
{
    const char *name = setting(ENV_SIGNAL);

    shim.trigger_signal = name ? signal_from_text(name) : DEFAULT_TRIGGER;
    if (shim.trigger_signal)
        return;
    complain(ENV_SIGNAL "=", name, " is no signal that can be used; SIGUSR2 takes images");
    shim.trigger_signal = DEFAULT_TRIGGER;
}

static void read_interval(void)
{
    const char *text = setting(ENV_INTERVAL);

    if (text && interval_parse(text, &shim.interval)) {
        complain(INTERVAL_BAD, text, "; running without an interval");
        shim.interval = 0;
    }
}

static void read_keep(void)
{
    const char *text = setting(ENV_KEEP), *rest = text;
    uint64_t keep = text ? text_number(&rest) : DEFAULT_KEEP;

    if (text && (*rest || rest == text || keep > MAX_KEEP)) {
        complain(ENV_KEEP "=", text, " is no number of images that can be kept; two older ones are");
        keep = DEFAULT_KEEP;
    }
    shim.keep = (uint32_t)keep;
}

static void read_save_files(void)
{
    const char *text = setting(ENV_SAVE_FILES);

    shim.save_files = text && !text_equal(text, "0");
}

static void read_names(void)
{
    const char *job = setting(ENV_JOB), *step = setting(ENV_SLURM_STEP), *directory = setting(ENV_DIRECTORY);
    const char *first = strchr(run_variable, ':');

    if (!job)
        job = setting(ENV_SLURM_JOB);
    text_add(shim.job, sizeof shim.job, 0, job ? job : first + 1);
    if (!job)
        shim.job[strcspn(shim.job, ":")] = 0;
    text_add(shim.step, sizeof shim.step, 0, step ? step : "0");
    if (directory && directory[0] == '/')
        text_add(shim.directory, sizeof shim.directory, 0, directory);
    else if (getcwd(shim.directory, sizeof shim.directory - 1) && directory) {
        size_t at = text_add(shim.directory, sizeof shim.directory, strlen(shim.directory), "/");
        text_add(shim.directory, sizeof shim.directory, at, directory);
    }
    read_keep();
    read_save_files();
}

/* As putenv() does it, but without the allocator, whose first use costs more than the rest of this file. */
static void add_run_variable(void)
{
    static char *variables[256];
    size_t count = 0;

    while (environ && environ[count])
        count++;
    if (count > sizeof variables / sizeof *variables - 2) {
        putenv(run_variable);
        return;
    }
    for (size_t i = 0; i < count; i++)
        variables[i] = environ[i];
    variables[count] = run_variable;
    environ = variables;
}

/* ENV_RUN names the run and its first process; that one makes it. It is the same string in memory for ever, so that a
 * program which looks at its environment finds it where environ says. */
static void read_run(void)
{
    const char *run = setting(ENV_RUN);
    char uuid[UUID_TEXT];
    size_t at;

    if (run && !text_to_uuid(run, shim.run) && run[UUID_TEXT - 1] == ':') {
        const char *first = run + UUID_TEXT;
        shim.first_pid = (uint32_t)text_number(&first);
        shim.first = shim.first_pid == (uint32_t)getpid();
        first += *first == ':';
        shim.began = text_number(&first);
        text_add(run_variable, sizeof run_variable, 0, run);
    } else {
        SYS_CALL(getrandom, shim.run, UUID_BYTES, 0, 0, 0, 0);
        text_mark_uuid(shim.run);
        shim.first = 1;
        shim.first_pid = (uint32_t)getpid();
        text_from_uuid(shim.run, uuid);
        at = text_add(run_variable, sizeof run_variable, 0, ENV_RUN "=");
        at = text_add(run_variable, sizeof run_variable, at, uuid);
        at = text_add(run_variable, sizeof run_variable, at, ":");
        at = text_add_number(run_variable, sizeof run_variable, at, (uint64_t)getpid());
        at = text_add(run_variable, sizeof run_variable, at, ":");
        shim.began = interval_now();
        text_add_number(run_variable, sizeof run_variable, at, shim.began);
        add_run_variable();
    }
    text_from_uuid(shim.run, uuid);
    at = text_add(shim.registry, sizeof shim.registry, 0, REGISTRY_ROOT);
    at = text_add_number(shim.registry, sizeof shim.registry, at, geteuid());
    at = text_add(shim.run_directory, sizeof shim.run_directory, 0, shim.registry);
    at = text_add(shim.run_directory, sizeof shim.run_directory, at, "/");
    text_add(shim.run_directory, sizeof shim.run_directory, at, uuid);
}

/* The first part that is loaded is all of it: vdso(7), elf(5). */
static void find_vdso(void)
{
    const uint8_t *start = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)start;
    const Elf64_Phdr *part = start ? (const Elf64_Phdr *)(start + header->e_phoff) : NULL;

    for (int i = 0; start && i < header->e_phnum; i++)
        if (part[i].p_type == PT_LOAD)
            shim.vdso = (struct agent_range){ (uint64_t)start, (uint64_t)start + part[i].p_memsz };
}

/* The length that libc gave is not exported: registering again tells (rseq(2): EBUSY for an exact match). */
static void find_rseq(void)
{
    const int64_t *offset = next_symbol("__rseq_offset");
    const uint32_t *size = next_symbol("__rseq_size");
    static const uint32_t lengths[] = { 32, 64, 128, 256 };

    if (!offset || !size || !*size)
        return;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char *area = (char *)__builtin_thread_pointer() + *offset;
        if (SYS_CALL(rseq, area, lengths[i], 0, 0x53053053, 0, 0) == -EBUSY) {
            shim.rseq_offset = *offset;
            shim.rseq_length = lengths[i];
            return;
        }
    }
}

static void child_enters(void)
{
    if (shim.pid != (uint32_t)getpid()) /* else the stop signal was quicker */
        page_become();
    cpu_timers_forget();
    watches_enter_child();
    ipc_child_enters();
    interval_start();
}

__attribute__((constructor)) static void enter(void)
{
    const char *fail;

    shim.entered = 1;
    restart_instead();
    read_run();
    read_interval();
    read_names();
    read_trigger();
    environment_note();
    find_rseq();
    find_vdso();
    SYS_CALL(sched_getaffinity, 0, sizeof shim.given_cpus, shim.given_cpus, 0, 0, 0);
    fail = setting(ENV_TEST_FAIL);
    if (fail)
        text_add(shim.test_fail, sizeof shim.test_fail,
                 text_add(shim.test_fail, sizeof shim.test_fail, 0, ENV_TEST_FAIL "="), fail);
    if (!helper_path(SAVER_NAME, shim.saver, sizeof shim.saver)) {
        complain("cannot take checkpoints: ", SAVER_NAME, " is not installed; set " ENV_LIBEXEC);
        return;
    }
    shim.pid = (uint32_t)getpid();
    shim.raw_call_end = (uint64_t)raw_call_end;
    stop_note_stderr();
    stop_install();
    stop_unblock();
    interval_start();
    pthread_atfork(next_resolve_all, NULL, child_enters);
}

__attribute__((destructor)) static void leave(void)
{
    page_drop();
}
