/* SPDX-License-Identifier: MIT */
/* stasis-saver: takes one image. Started by the shim (a signal, the interval) or by `stasis checkpoint`. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../../core/floor/text.h"
#include "../../core/image/commit.h"
#include "../../core/kinds/sockets.h"
#include "saver.h"

int fail(struct step *step, int status, const char *format, ...)
{
    va_list arguments;

    if (step->message[0])
        return status;
    va_start(arguments, format);
    vsnprintf(step->message, sizeof step->message, format, arguments);
    va_end(arguments);
    return status;
}

/* What programs mostly hold for a moment only: a listing of /proc, what is about to be received or accepted. */
static int is_passing(const char *refusal)
{
    static const char *const names[] = { "R-PROC-FILE:", "R-SCM-RIGHTS:", "R-SOCKET-BACKLOG:", "R-SOCKET-QUEUE:" };
    int is = 0;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        is |= text_starts(refusal, names[i]);
    return is;
}

/* Whose /proc is read has lost its memory. It says so before it counts as ended: its files in /proc belong to root by then. */
static int view_is_gone(const struct process *process)
{
    uint64_t fields[STAT_FIELDS];
    return process->saving.view && (proc_stat(process->saving.view, fields) || !fields[STAT_MEMORY]);
}

int fail_with(struct process *process, int error, const char *what)
{
    struct step *step = process->step;

    if (error != -ETIMEDOUT && view_is_gone(process))
        error = -ESRCH;
    if (error == -ENOTSUP && process->saving.refusal[0]) {
        step->is_passing = is_passing(process->saving.refusal);
        return fail(step, EXIT_REFUSED, "no checkpoint: %s; see the page of that name in the documentation",
                    process->saving.refusal);
    }
    if (error == -ETIMEDOUT && step->request->deadline < now_nanoseconds())
        return fail(step, EXIT_RUN_AGAIN, "given up: the image was not written in time; the last good image stays");
    step->lost = error == -ESRCH;
    if (error == -ESRCH)
        return fail(step, EXIT_SYSTEM, "no checkpoint: the program, or the frozen copy of it, ended while it was read; the last "
                    "good image stays");
    if (error == -ENOSPC || error == -EDQUOT || error == -EFBIG)
        return fail(step, EXIT_CANNOT_WRITE, "no checkpoint: no room for the image in %s: %s; the last good image stays",
                    step->processes->page->directory, strerror(-error));
    return fail(step, EXIT_SYSTEM, "no checkpoint: %s: %s", what, strerror(-error));
}

int64_t now_nanoseconds(void)
{
    return clock_now(CLOCK_MONOTONIC);
}

enum stage { STAGE_SOON, STAGE_STOPPED, STAGE_LATE };

static enum stage stage_of(const struct kind *kind)
{
    return kind->late ? STAGE_LATE : kind->soon ? STAGE_SOON : STAGE_STOPPED;
}

static int save_kinds(struct process *process, enum stage stage)
{
    struct saving *saving = &process->saving;

    for (size_t i = 0; kinds[i]; i++) {
        if (kinds[i]->claim || !kinds[i]->save || stage_of(kinds[i]) != stage)
            continue;
        int error = kinds[i]->save(saving, NULL);
        if (error == -EAGAIN)
            return error;
        if (error)
            return fail_with(process, error, kinds[i]->name);
    }
    return 0;
}

static const char *what_is(const struct descriptor *descriptor)
{
    if (is_socket(descriptor))
        return socket_words(descriptor);
    return *descriptor->target ? descriptor->target : "something unknown";
}

/* Of the kind that claims it; NULL: none. */
static const struct kind *kind_of(const struct saving *saving, const struct descriptor *descriptor)
{
    size_t i = 0;

    while (kinds[i] && !(kinds[i]->claim && kinds[i]->claim(saving, descriptor)))
        i++;
    return kinds[i];
}

/* What nobody claims is refused before anything is looked into: it may be what cannot even be sent (handles.c). */
static int save_descriptors(struct process *process)
{
    struct saving *saving = &process->saving;
    int error = 0;

    for (size_t d = 0; !error && d < saving->descriptor_count; d++)
        if (!kind_of(saving, &saving->descriptors[d]))
            error = refuse(saving, refusal_of_descriptor(&saving->descriptors[d]), "descriptor %d is %s", saving->descriptors[d].number,
                           what_is(&saving->descriptors[d]));
    if (error)
        return fail_with(process, error, "descriptors");
    for (size_t d = 0; d < saving->descriptor_count; d++) {
        const struct descriptor *descriptor = &saving->descriptors[d];
        error = kind_of(saving, descriptor)->save(saving, descriptor);
        if (error)
            return fail_with(process, error, what_is(descriptor));
    }
    return 0;
}

static void fill_header(struct step *step)
{
    const struct process *first = step->processes;
    struct file_header *header = &first->saving.writer->header;
    const struct agent_page *page = first->page;
    struct utsname host;
    struct timespec now;
    char *command = proc_read(first->pid, "comm", NULL);

    clock_gettime(CLOCK_REALTIME, &now);
    uname(&host);
    memcpy(header->run, page->run, sizeof header->run);
    header->generation = step->generation + 1;
    header->taken_seconds = (uint64_t)now.tv_sec;
    header->taken_nanoseconds = (uint64_t)now.tv_nsec;
    header->owner = geteuid();
    header->process_count = 0;
    for (const struct process *process = first; process; process = process->next)
        header->process_count++;
    text_add(header->job, sizeof header->job, 0, page->job);
    text_add(header->step, sizeof header->step, 0, page->step);
    text_add(header->host, sizeof header->host, 0, host.nodename);
    if (command)
        text_add(header->command, strcspn(command, "\n") + 1, 0, command);
    free(command);
}

static const char *images_directory(const struct step *step)
{
    return step->request->images ? step->request->images : step->processes->page->directory;
}

/* The last generation there was: the page's, or that of the image in the directory, since the page is a new one after
 * exec. */
static uint64_t last_generation(const struct step *step, const char *name)
{
    const struct agent_page *page = step->processes->page;
    uint64_t generation = page->generation;
    struct image image;
    int directory = open(images_directory(step), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = directory < 0 ? -errno : image_open_at(&image, directory, name);

    if (directory >= 0)
        close(directory);
    if (error)
        return generation;
    if (!memcmp(image.header.run, page->run, sizeof image.header.run) && image.header.generation > generation)
        generation = image.header.generation;
    image_close(&image);
    return generation;
}

static int for_all(struct step *step, int (*what)(struct process *process))
{
    int status = 0;

    for (struct process *process = step->processes; process && !status; process = process->next)
        status = what(process);
    return status;
}

static int hold_kinds(struct process *process)
{
    for (size_t i = 0; kinds[i]; i++) {
        int error = kinds[i]->hold ? kinds[i]->hold(&process->saving) : 0;
        if (error)
            return fail_with(process, error, kinds[i]->name);
    }
    return 0;
}

static int save_stopped_kinds(struct process *process)
{
    return save_kinds(process, STAGE_STOPPED);
}

static int fail_open(struct step *step, const char *directory, int error)
{
    return fail(step, EXIT_CANNOT_CREATE, "no checkpoint: an image cannot be made in %s: %s; the last good image stays", directory,
                strerror(-error));
}

static int open_part(struct step *step, struct image_writer *writer)
{
    int error = image_writer_open(writer, tasks_parts(), tasks_part());
    return error ? fail_open(step, tasks_parts(), error) : 0;
}

/* The first process is known now, and by its page where the image goes. */
static int open_image(struct step *step, struct image_writer *writer, char *name, size_t size)
{
    const struct agent_page *page = step->processes->page;
    const char *directory = images_directory(step);
    int status = tasks_are_several(step) ? tasks_join(step) : 0, error;

    if (status)
        return status;
    if (tasks_are_several(step))
        return open_part(step, writer);
    error = image_name(name, size, page->job, page->step);
    step->wanted_by_file = request_look(directory, page->job, page->step);
    if (!error)
        image_sweep(directory, name);
    if (!error)
        error = image_writer_open(writer, directory, name);
    if (error)
        return fail_open(step, directory, error);
    step->generation = last_generation(step, name);
    return 0;
}

/* Whoever asked for it has something to do: told how far it is, it answers when that is done, or hangs up when it came to nothing. */
static int await_requester(struct step *step, char word)
{
    int meanwhile = step->request->meanwhile;

    if (meanwhile < 0)
        return 0;
    if (write(meanwhile, &word, 1) == 1 && read(meanwhile, &word, 1) == 1 && word == MEANWHILE_DONE)
        return 0;
    return fail(step, EXIT_RUN_AGAIN, "no checkpoint: what was to happen at the same moment has not");
}

/* Behind all that others do meanwhile: their images are of this moment only if they have written nothing to the step. */
static int await_requester_quietly(struct step *step)
{
    struct quiet quiet;
    int status = 0;

    if (step->request->meanwhile < 0)
        return 0;
    if (quiet_note(step, &quiet))
        status = fail(step, EXIT_SYSTEM, "no checkpoint: no memory");
    if (!status)
        status = await_requester(step, MEANWHILE_STOPPED);
    if (!status && !quiet_holds(step, &quiet))
        status = fail(step, EXIT_RUN_AGAIN, "no checkpoint: R-SRUN-PIPE: an srun has written into a pipe of the script meanwhile; see the page of that "
                      "name in the documentation");
    quiet_free(&quiet);
    return status;
}

/* The script of a batch job comes back with the images of its steps, which only `stasis checkpoint` takes along. Asked by a signal, `stasis attend` is
 * told. */
static int check_script(struct step *step)
{
    const struct agent_page *page = step->processes->page;

    if (step->request->meanwhile >= 0 || strcmp(page->step, BATCH_STEP))
        return 0;
    if (step->request->requester && !step->request->call && !request_make(page->directory, page->job, page->step)) {
        step->is_said = 1;
        return EXIT_REFUSED;
    }
    return fail(step, EXIT_REFUSED, "no checkpoint: R-BATCH-SCRIPT: an image of a batch script is one of its whole job: ask for that with 'stasis "
                "scontrol checkpoint create %s'; see the page of that name in the documentation", page->job);
}

/* While twins are made. */
static int look_meanwhile(struct process *process)
{
    int status = signals_look(process);

    if (!status)
        status = describe_process(process);
    twins_give_way(process->step);
    return status;
}

/* It has one now; those of others are still being made. */
static int take_twin(struct process *process)
{
    int status;

    if ((status = twin_take(process)) || (status = signals_collect(process)) || (status = describe_copies(process)))
        return status;
    return save_kinds(process, STAGE_SOON);
}

/* While all are stopped: everything but the contents of their memory. All twins are there before the memory of one is read. */
static int take_moment(struct step *step, struct image_writer *writer)
{
    int status;

    if ((status = stop_all(step)) || (status = forbids_among_the_stopped(step)) || (tasks_are_several(step) && (status = tasks_stopped(step)))
        || (status = await_requester_quietly(step)))
        return status;
    for (struct process *process = step->processes; process; process = process->next) {
        process->saving.writer = writer;
        process->saving.deadline = step->request->deadline;
        process->saving.fetch_handles = meeting_fetch;
        process->saving.fetch_memory = meeting_fetch_memory;
        process->saving.ask = stop_ask;
        process->saving.born = step->born;
    }
    fill_header(step);
    step->forks = 0;
    twins_order(step);
    if ((status = for_all(step, look_meanwhile)) || (status = describe_sharing(step)) || (status = for_all(step, take_twin)) ||
        (status = for_all(step, twin_copy)))
        return status;
    if (!(status = for_all(step, save_descriptors)) && !(status = for_all(step, hold_kinds)))
        status = for_all(step, save_stopped_kinds); /* behind them, for the clocks */
    for (struct process *process = step->processes; process; process = process->next)
        handles_forget(&process->saving);
    return status ? status : twins_leave(step);
}

static int save_memory(struct process *process)
{
    struct saving *saving = &process->saving;
    int status, error;

    if (text_list_holds(saving->test_fail, "twin") && saving->view != saving->pid)
        kill(saving->view, SIGKILL); /* a test: what the out-of-memory killer may do at any moment */
    if (text_list_holds(saving->test_fail, "stand"))
        raise(SIGSTOP); /* a test: it looks at us in this state */
    status = save_kinds(process, STAGE_LATE);
    if (status)
        return status;
    error = saving->first == saving ? contents_store(saving) : 0; /* of all */
    if (!error)
        error = pages_save(saving, process->step->request->deadline);
    return error ? fail_with(process, error, "memory") : 0;
}

static int write_image(struct step *step, struct image_writer *writer, const char *name, char *ret_path)
{
    int status = twins_meet(step), error;

    if (!status)
        status = for_all(step, save_memory);
    if (status)
        return status;
    error = image_write_end(writer);
    if (!error && !stop_still_holds(step))
        error = -ESRCH;
    if (error)
        return fail_with(step->processes, error, "memory");
    error = tasks_are_several(step) ? image_commit(writer, tasks_part(), 0, ret_path)
                                    : image_commit(writer, name, step->processes->page->keep, ret_path);
    if (!error && tasks_are_several(step))
        return tasks_written(step, writer, ret_path);
    return error ? fail_with(step->processes, error, "the image cannot get its name") : 0;
}

static int has_all_twins(const struct step *step)
{
    const struct process *process = step->processes;

    while (process && process->saving.view != process->saving.pid)
        process = process->next;
    return !process;
}

static void forget_all(struct step *step)
{
    for (struct process *process = step->processes; process; process = process->next) {
        twin_end(process);
        describe_free(process);
    }
}

/* One try: -EAGAIN when a twin showed ranges that must be copied next time. */
static int checkpoint_once(struct step *step, char *ret_path)
{
    struct image_writer writer = { 0 };
    char name[2 * MAX_ID + 16];
    int status;

    status = open_image(step, &writer, name, sizeof name);
    if (status)
        return status;
    status = take_moment(step, &writer);
    if (!status && tasks_are_several(step))
        status = tasks_taken(step);
    if (status || (has_all_twins(step) && !step->request->stop)) {
        forbids_passed(step, status);
        stop_resume(step);
    }
    if (!status)
        status = write_image(step, &writer, name, ret_path);
    for (struct process *process = step->processes; process && !status; process = process->next)
        process->page->generation = writer.header.generation;
    if (!status && !tasks_are_several(step))
        request_remove(images_directory(step), step->processes->page->job, step->processes->page->step, &step->wanted_by_file);
    if (!status)
        status = await_requester(step, MEANWHILE_SAFE);
    if (!status && step->request->stop) {
        signal(SIGTERM, SIG_IGN); /* the end of a batch job's last step ends the job, and us with it: the path is still to be said */
        stop_exit_programs(step);
    }
    forbids_passed(step, status);
    stop_resume(step);
    forget_all(step);
    image_writer_close(&writer);
    return status;
}

enum {
    TRIES = 20,
    FIRST_PATIENCE_MILLISECONDS = 5,
    LAST_PATIENCE_MILLISECONDS = 1280, /* 2.6 s in all */
};

/* While the program runs: gives what it holds for a moment time to pass, each time twice as long. 0: enough of that. */
static int wait_for_passing(const struct step *step, int *patience)
{
    if (*patience > LAST_PATIENCE_MILLISECONDS || now_nanoseconds() + *patience * INT64_C(1000000) > step->request->deadline)
        return 0;
    poll(NULL, 0, *patience);
    *patience *= 2;
    return 1;
}

/* Again when a twin has shown what must be copied, when one was killed, when a program has become another by exec meanwhile,
 * or when it may soon hold no more what cannot be brought back. */
static int try_until_it_holds(struct step *step, char *ret_path)
{
    int status = meeting_open(step), patience = FIRST_PATIENCE_MILLISECONDS;

    for (int tries = 0; tries < TRIES && !status; tries++) {
        status = members_find(step);
        while (!status && (status = forbids_await(step)) == -EAGAIN)
            status = members_find(step);
        if (!status)
            status = check_script(step);
        if (status)
            return status;
        step->is_passing = 0;
        status = checkpoint_once(step, ret_path);
        int twin_was_killed = step->lost && !step->without_twin && has_all_twins(step);
        int passes = status == EXIT_REFUSED && step->is_passing && wait_for_passing(step, &patience);
        int again = status && (status == -EAGAIN || twin_was_killed || passes || members_any_is_dead(step));
        if (status)
            tasks_leave(step, status, again);
        if (!again)
            return status;
        step->without_twin |= twin_was_killed; /* memory was shorter than it seemed, and the kernel took the twin first */
        if (status != -EAGAIN)
            step->message[0] = 0;
        status = 0;
    }
    return status ? status : fail(step, EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: the program did not hold still in %d tries", TRIES);
}

static int checkpoint(struct step *step)
{
    char path[MAX_PATH];
    int status = try_until_it_holds(step, path);

    forbids_answer(step, status);
    if (!status && step->request->verbose)
        fprintf(stderr, "stasis: generation %ju, the program stood still for %.1f ms%s; the forks took %.1f ms\n", (uintmax_t)step->generation + 1,
                (double)(step->ran_on_at - step->stopped_at) / 1e6,
                !has_all_twins(step) ? ", as memory is too short for a copy" : "", (double)step->forks / 1e6);
    if (!status)
        puts(path);
    else if (step->is_said || step->is_answered)
        return status;
    else if (step->request->requester && tasks_follow_another(step))
        return status; /* who has asked for that place is told */
    else if (step->request->requester)
        stop_say(step); /* its page may be gone: then there is nobody to tell */
    else
        fprintf(stderr, "stasis: %s\n", step->message);
    return status;
}

static int read_options(int count, char **arguments, struct request *request)
{
    static const struct option options[] = {
        { "directory", required_argument, NULL, 'd' }, { "pid-namespace", required_argument, NULL, 'n' },
        { "images", required_argument, NULL, 'i' },
        { "requester", required_argument, NULL, 'r' }, { "max-wait", required_argument, NULL, 'w' },
        { "call", required_argument, NULL, 'c' },      { "owed", required_argument, NULL, 'o' },
        { "meanwhile", required_argument, NULL, 'm' },
        { "stop", no_argument, NULL, 's' },            { "verbose", no_argument, NULL, 'v' },
        { 0 },
    };
    int option;

    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            request->directory = optarg;
            break;
        case 'i':
            request->images = optarg;
            break;
        case 'n':
            request->pid_namespace = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            request->requester = atoi(optarg);
            break;
        case 'w':
            request->deadline = now_nanoseconds() + (int64_t)(strtod(optarg, NULL) * 1e9);
            break;
        case 'c':
        case 'o':
            request->call = (uint32_t)strtoul(optarg, NULL, 10);
            request->is_owed = option == 'o';
            break;
        case 'm':
            request->meanwhile = atoi(optarg);
            break;
        case 's':
            request->stop = 1;
            break;
        case 'v':
            request->verbose = 1;
            break;
        default:
            return EXIT_USAGE;
        }
    }
    return request->directory ? 0 : EXIT_USAGE;
}

/* What the program may use of memory, address space and descriptors is inherited; it may be less than we need. */
static void widen_limits(void)
{
    static const int narrow[] = { RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_NOFILE };
    struct rlimit limit;

    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        if (!getrlimit((enum __rlimit_resource)narrow[i], &limit)) {
            limit.rlim_cur = limit.rlim_max;
            setrlimit((enum __rlimit_resource)narrow[i], &limit);
        }
}

/* What is freed is soon wanted again, while the program stands still: it is kept, and comes in large pieces. */
static void keep_memory(void)
{
    enum { PIECE = 4 << 20 };

    mallopt(M_TOP_PAD, PIECE);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_MMAP_THRESHOLD, PIECE);
}

int main(int count, char **arguments)
{
    struct request request = { .deadline = INT64_MAX, .starter = getppid(), .meanwhile = -1 };
    sigset_t none;
    struct step step = { .request = &request, .lock = -1, .listener = -1, .attempt = (uint32_t)now_nanoseconds() | 1 };

    for (int number = 1; number < 32; number++)
        signal(number, SIG_DFL); /* what the program ignores is inherited over exec */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* the program's RLIMIT_FSIZE is ours too: writing then fails with EFBIG */
    signal(SIGTSTP, SIG_IGN); /* a Ctrl-Z may not leave the program parked */
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* the shim starts us with all blocked */
    umask(077);
    widen_limits();
    keep_memory();
    if (read_options(count, arguments, &request)) {
        fprintf(stderr, "stasis-saver is started by `stasis checkpoint`, a signal or the interval; see stasis(1)\n");
        return EXIT_USAGE;
    }
    return checkpoint(&step);
}
