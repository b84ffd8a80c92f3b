/* SPDX-License-Identifier: MIT */
/* Before and after main(): the constructor reads the settings and takes the two signals, the destructor drops the page,
 * if there is one. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
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

/* Few texts are near the shim, as most of them are short; when they are more, they begin again in the larger place. */
static char near_texts[2048] NEAR_THE_SHIM __attribute__((aligned(8)));
static char far_texts[6 * MAX_PATH] __attribute__((aligned(8)));
static struct {
    char *start;
    size_t size, used;
} texts NEAR_THE_SHIM = { near_texts, sizeof near_texts, 0 };

/* `bytes` bytes behind what is kept, aligned for pointers, or NULL. */
static char *texts_room(size_t bytes)
{
    size_t at = (texts.used + sizeof(char *) - 1) & -sizeof(char *);

    if (at + bytes <= texts.size)
        return texts.start + at;
    if (texts.start == far_texts || bytes > sizeof far_texts)
        return NULL;
    texts.start = far_texts;
    texts.size = sizeof far_texts;
    texts.used = 0;
    return far_texts;
}

static void *texts_take(char *room, size_t bytes)
{
    texts.used = (size_t)(room - texts.start) + bytes;
    return room;
}

const char *shim_keep(const char *first, const char *second, const char *third)
{
    const char *const parts[] = { first, second, third };
    size_t bytes = 1, at = 0;
    char *room;

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        bytes += parts[i] ? text_length(parts[i]) : 0;
    room = texts_room(bytes);
    for (size_t i = 0; room && i < sizeof parts / sizeof *parts; i++)
        at = text_add(room, bytes, at, parts[i] ? parts[i] : "");
    return room ? texts_take(room, bytes) : NULL;
}

/* Straight into its place: such an array on the stack would be a page that nobody else needs. */
const char *shim_keep_here(const char *path)
{
    static const size_t sizes[] = { 256, MAX_PATH };
    size_t more = path ? text_length(path) + 1 : 0;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *room = texts_room(sizes[i] + more);
        long got = room ? SYS_CALL(getcwd, room, sizes[i], 0, 0, 0, 0) : -ENOMEM; /* with its NUL */
        size_t at = (size_t)got - 1;
        if (got == -ERANGE)
            continue;
        if (got <= 0 || room[0] != '/')
            return NULL;
        at = text_add(room, sizes[i] + more, at, path ? "/" : "");
        return texts_take(room, text_add(room, sizes[i] + more, at, path ? path : "") + 1);
    }
    return NULL;
}

/* DIRECTORY/NAME, kept, or NULL when there is no such file. */
static const char *helper_in(const char *directory, const char *slash, const char *name)
{
    struct stat status;
    const char *path = shim_keep(directory, slash, name);

    if (path && !sys_fstatat(AT_FDCWD, path, &status, 0))
        return path;
    if (path)
        texts.used = (size_t)(path - texts.start);
    return NULL;
}

/* The helpers: in ENV_LIBEXEC; beside the shim (a build tree: ../../libexec); where they were installed. */
static const char *helper_path(const char *name)
{
    const char *directory = setting(ENV_LIBEXEC), *path = NULL;
    char *beside;

    if (directory)
        return helper_in(directory, "/", name);
    beside = shim.own_path ? (char *)shim_keep(shim.own_path, NULL, NULL) : NULL;
    if (beside) {
        *(char *)text_file_name(beside) = 0;
        path = helper_in(beside, NULL, name);
        path = path ? path : helper_in(beside, "../../libexec/", name);
    }
    return path ? path : helper_in(STASIS_LIBEXECDIR, "/", name);
}

NEXT_OF(unsetenv);

/* Acts once, in the first process: the variable is taken out, and the restorer takes our place. */
static void restart_instead(void)
{
    const char *from = setting(ENV_RESTART);
    const char *path, *arguments[] = { RESTORER_NAME, "--", NULL, NULL };

    if (!from)
        return;
    path = helper_path(RESTORER_NAME);
    if (!path) {
        complain("cannot restart from ", from, ": " RESTORER_NAME " is not installed; set " ENV_LIBEXEC);
        sys_exit_group(EXIT_NO_IMAGE);
    }
    arguments[2] = shim_keep(from, NULL, NULL);
    NEXT(unsetenv)(ENV_RESTART);
    NEXT(unsetenv)("LD_PRELOAD");
    SYS_CALL(execve, path, arguments, environ, 0, 0, 0);
    complain("cannot restart from ", from, ": " RESTORER_NAME " cannot be executed");
    sys_exit_group(EXIT_NO_IMAGE);
}

/* What no image can hold, a child of its own runs, without us: see tools/outside.c. Returns when there is nobody to do so. */
static void stand_in(int count, char **words)
{
    enum { OURS = 3, MAX_WORDS = 4096 };
    const char *path = helper_path(WRAPPERS "/" OUTSIDE_NAME), *arguments[count + OURS + 1];

    if (!path || count < 1 || count > MAX_WORDS)
        return;
    arguments[0] = OUTSIDE_NAME;
    arguments[1] = "--";
    arguments[2] = (const char *)getauxval(AT_EXECFN);
    for (int i = 1; i <= count; i++)
        arguments[i + OURS - 1] = words[i];
    SYS_CALL(execve, path, arguments, environ, 0, 0, 0);
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
    const char *job = setting(ENV_JOB), *step = setting(ENV_STEP), *directory = setting(ENV_DIRECTORY);
    const char *slurm_job = setting(ENV_SLURM_JOB), *slurm_step = setting(ENV_SLURM_STEP);

    if (!job)
        job = slurm_job;
    if (job)
        text_add(shim.job, sizeof shim.job, 0, job);
    else
        text_add_number(shim.job, sizeof shim.job, 0, shim.first_pid);
    if (step && slurm_job) {
        size_t at = text_add(shim.as_slurm, sizeof shim.as_slurm, text_add(shim.as_slurm, sizeof shim.as_slurm, 0, slurm_job), ".");
        text_add(shim.as_slurm, sizeof shim.as_slurm, at, slurm_step ? slurm_step : step); /* a batch script has no number */
    }
    step = step ? step : slurm_step;
    text_add(shim.step, sizeof shim.step, 0, step ? step : "0");
    shim.directory = directory && directory[0] == '/' ? shim_keep(directory, NULL, NULL) : shim_keep_here(directory);
    if (!shim.directory)
        shim.directory = "";
    read_keep();
    read_save_files();
    roll_place(environ, &shim.place);
}

NEXT_OF(putenv);

enum { MANY_VARIABLES = 256 };

/* As putenv() does it, but without the allocator, whose first use costs more than the rest of this file. */
static void add_variable(const char *variable)
{
    size_t count = 0;
    char *room, **variables;

    while (environ && environ[count])
        count++;
    room = count < MANY_VARIABLES ? texts_room((count + 2) * sizeof(char *)) : NULL;
    if (!room) {
        NEXT(putenv)((char *)variable);
        return;
    }
    variables = texts_take(room, (count + 2) * sizeof(char *));
    for (size_t i = 0; i < count; i++)
        variables[i] = environ[i];
    variables[count] = (char *)variable;
    variables[count + 1] = NULL;
    environ = variables;
}

static void begin_run(void)
{
    char uuid[UUID_TEXT], variable[sizeof ENV_RUN + UUID_TEXT + 48];
    size_t at;

    SYS_CALL(getrandom, shim.run, UUID_BYTES, 0, 0, 0, 0);
    text_mark_uuid(shim.run);
    shim.first = 1;
    shim.first_pid = (uint32_t)sys_getpid();
    shim.began = interval_now();
    text_from_uuid(shim.run, uuid);
    at = text_add(variable, sizeof variable, 0, ENV_RUN "=");
    at = text_add(variable, sizeof variable, at, uuid);
    at = text_add(variable, sizeof variable, at, ":");
    at = text_add_number(variable, sizeof variable, at, shim.first_pid);
    at = text_add(variable, sizeof variable, at, ":");
    text_add_number(variable, sizeof variable, at, shim.began);
    add_variable(shim_keep(variable, NULL, NULL));
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
        shim.first = shim.first_pid == (uint32_t)sys_getpid();
        first += *first == ':';
        shim.began = text_number(&first);
    } else {
        begin_run();
    }
    text_from_uuid(shim.run, uuid);
    at = text_add(shim.registry, sizeof shim.registry, 0, REGISTRY_ROOT);
    at = text_add_number(shim.registry, sizeof shim.registry, at, (uint64_t)sys_geteuid());
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
    if (shim.pid != (uint32_t)sys_getpid()) /* else the stop signal was quicker */
        page_become();
    cpu_timers_forget();
    watches_enter_child();
    ipc_child_enters();
    dispatch_child_enters();
    interval_start();
}

/* pthread_atfork() asks for it; crtbegin.o has one, with more that costs at every start and is of no use here. */
__attribute__((visibility("hidden"))) void *__dso_handle = &__dso_handle;

NEXT_OF(on_exit);

static void ends_with(int status, void *nothing)
{
    (void)nothing;
    tasks_note_end(status);
}

/* libc hands on what main() will get. */
__attribute__((constructor)) static void enter(int count, char **words)
{
    const char *fail;

    shim.entered = 1;
    shim.own_path = next_begin();
    if (clients_is_srun_of_batch())
        stand_in(count, words);
    if (clients_is_one())
        return;
    if (clients_is_prolog()) {
        shim.own_path = NULL; /* what it executes is left alone, too */
        return;
    }
    output_take();
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
    shim.saver = helper_path(SAVER_NAME);
    if (!shim.saver) {
        complain("cannot take checkpoints: ", SAVER_NAME, " is not installed; set " ENV_LIBEXEC);
        return;
    }
    shim.pid = (uint32_t)sys_getpid();
    shim.raw_call_end = (uint64_t)raw_call_end;
    stop_note_stderr();
    stop_install();
    stop_unblock();
    interval_start();
    if (shim.place.tasks > 1)
        NEXT(on_exit)(ends_with, NULL);
    pthread_atfork(exec_prepare, NULL, child_enters);
}

__attribute__((destructor)) static void leave(void)
{
    page_drop();
}
