/* SPDX-License-Identifier: MIT */
/* stasis-saver: takes one image. Started by the shim (a signal, the interval) or by `stasis checkpoint`. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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

int fail_with(struct step *step, int error, const char *what)
{
    if (error == -ENOTSUP && step->saving.refusal[0])
        return fail(step, EXIT_REFUSED, "no checkpoint: %s; see the page of that name in the documentation",
                    step->saving.refusal);
    if (error == -ETIMEDOUT && step->request->deadline < now_nanoseconds())
        return fail(step, EXIT_RUN_AGAIN, "given up: the image was not written in time; the last good image stays");
    step->lost = error == -ESRCH;
    if (error == -ESRCH)
        return fail(step, EXIT_SYSTEM, "no checkpoint: the program, or the frozen copy of it, ended while it was read; the last "
                    "good image stays");
    if (error == -ENOSPC || error == -EDQUOT || error == -EFBIG)
        return fail(step, EXIT_CANNOT_WRITE, "no checkpoint: no room for the image in %s: %s; the last good image stays",
                    step->page->directory, strerror(-error));
    return fail(step, EXIT_SYSTEM, "no checkpoint: %s: %s", what, strerror(-error));
}

int64_t now_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int save_kinds(struct step *step, int late)
{
    struct saving *saving = &step->saving;

    for (size_t i = 0; kinds[i]; i++) {
        int error = kinds[i]->hold && !late ? kinds[i]->hold(saving) : 0;
        if (error)
            return fail_with(step, error, kinds[i]->name);
        if (kinds[i]->claim || !kinds[i]->save || kinds[i]->late != late)
            continue;
        error = kinds[i]->save(saving, NULL);
        if (error == -EAGAIN)
            return error;
        if (error)
            return fail_with(step, error, kinds[i]->name);
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
static int save_descriptors(struct step *step)
{
    struct saving *saving = &step->saving;
    int error = 0;

    for (size_t d = 0; !error && d < saving->descriptor_count; d++)
        if (!kind_of(saving, &saving->descriptors[d]))
            error = refuse(saving, refusal_of_descriptor(&saving->descriptors[d]), "descriptor %d is %s", saving->descriptors[d].number,
                           what_is(&saving->descriptors[d]));
    if (error)
        return fail_with(step, error, "descriptors");
    for (size_t d = 0; d < saving->descriptor_count; d++) {
        const struct descriptor *descriptor = &saving->descriptors[d];
        error = kind_of(saving, descriptor)->save(saving, descriptor);
        if (error)
            return fail_with(step, error, what_is(descriptor));
    }
    return 0;
}

static void fill_header(struct step *step)
{
    struct file_header *header = &step->saving.writer->header;
    const struct agent_page *page = step->page;
    struct utsname host;
    struct timespec now;
    char *command = proc_read(step->saving.pid, "comm", NULL);

    clock_gettime(CLOCK_REALTIME, &now);
    uname(&host);
    memcpy(header->run, page->run, sizeof header->run);
    header->generation = step->generation + 1;
    header->taken_seconds = (uint64_t)now.tv_sec;
    header->taken_nanoseconds = (uint64_t)now.tv_nsec;
    header->owner = geteuid();
    header->process_count = 1;
    text_add(header->job, sizeof header->job, 0, page->job);
    text_add(header->step, sizeof header->step, 0, page->step);
    text_add(header->host, sizeof header->host, 0, host.nodename);
    if (command)
        text_add(header->command, strcspn(command, "\n") + 1, 0, command);
    free(command);
}

/* The last generation there was: the page's, or that of the image in the directory, since the page is a new one after
 * exec. */
static uint64_t last_generation(const struct step *step, const char *name)
{
    uint64_t generation = step->page->generation;
    struct image image;
    int directory = open(step->page->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = directory < 0 ? -errno : image_open_at(&image, directory, name);

    if (directory >= 0)
        close(directory);
    if (error)
        return generation;
    if (!memcmp(image.header.run, step->page->run, sizeof image.header.run) && image.header.generation > generation)
        generation = image.header.generation;
    image_close(&image);
    return generation;
}

/* While the program is stopped: everything but the contents of its memory. */
static int take_moment(struct step *step)
{
    int status;

    if ((status = members_check_children(step)) || (status = stop_process(step)) ||
        (status = members_check_children(step)) || (status = signals_collect(step)) || (status = twin_take(step)) ||
        (status = describe_descriptors(step)) || (status = describe_mappings(step)) || (status = twin_copy(step)))
        return status;
    fill_header(step);
    if (!(status = save_descriptors(step)))
        status = save_kinds(step, 0); /* behind them, for the clocks */
    handles_forget(&step->saving);
    return status ? status : twin_leave(step);
}

static int write_image(struct step *step, const char *name, char *ret_path)
{
    struct saving *saving = &step->saving;
    int status, error;

    if (text_list_holds(saving->test_fail, "twin") && saving->view != saving->pid)
        kill(saving->view, SIGKILL); /* a test: what the out-of-memory killer may do at any moment */
    if (text_list_holds(saving->test_fail, "stand"))
        raise(SIGSTOP); /* a test: it looks at us in this state */
    status = save_kinds(step, 1);
    if (status)
        return status;
    error = contents_store(saving);
    if (!error)
        error = pages_save(saving, step->request->deadline);
    if (!error)
        error = image_write_end(saving->writer);
    if (!error && !stop_still_holds(step))
        error = -ESRCH;
    if (error)
        return fail_with(step, error, "memory");
    error = image_commit(saving->writer, name, step->page->keep, ret_path);
    if (error)
        return fail_with(step, error, "the image cannot get its name");
    return 0;
}

/* One try: -EAGAIN when the twin showed ranges that must be copied next time. */
static int checkpoint_once(struct step *step, char *ret_path)
{
    struct image_writer writer = { 0 };
    char name[2 * MAX_ID + 16];
    int status, error;

    memset(&step->saving, 0, sizeof step->saving);
    step->saving.first = &step->saving;
    step->saving.writer = &writer;
    step->saving.ask = stop_ask;
    step->saving.deadline = step->request->deadline;
    step->saving.fetch_handles = meeting_fetch;
    step->saving.fetch_memory = meeting_fetch_memory;
    error = image_name(name, sizeof name, step->page->job, step->page->step);
    if (!error)
        image_sweep(step->page->directory, name);
    if (!error)
        error = image_writer_open(&writer, step->page->directory, name);
    if (error)
        return fail(step, EXIT_CANNOT_CREATE, "no checkpoint: an image cannot be made in %s: %s; the last good image stays",
                    step->page->directory, strerror(-error));
    step->generation = last_generation(step, name);
    status = take_moment(step);
    if (status || (step->saving.view != step->saving.pid && !step->request->stop))
        stop_resume(step);
    if (!status)
        status = write_image(step, name, ret_path);
    if (!status)
        step->page->generation = writer.header.generation;
    if (!status && step->request->stop)
        stop_exit_program(step);
    stop_resume(step);
    twin_end(step);
    describe_free(step);
    image_writer_close(&writer);
    return status;
}

enum { TRIES = 20 };

/* Again when the twin has shown what must be copied, when it was killed, or when the program has become another by exec meanwhile. */
static int try_until_it_holds(struct step *step, char *ret_path)
{
    int status = 0;

    for (int tries = 0; tries < TRIES; tries++) {
        if ((status = members_find(step)) || (status = meeting_open(step)))
            return status;
        status = checkpoint_once(step, ret_path);
        int twin_was_killed = step->lost && !step->without_twin && step->saving.view != step->saving.pid;
        if (!status || (status != -EAGAIN && !twin_was_killed && !members_page_is_dead(step)))
            return status;
        close(step->listener);
        step->without_twin |= twin_was_killed; /* memory was shorter than it seemed, and the kernel took the twin first */
        if (status != -EAGAIN)
            step->message[0] = 0;
    }
    return fail(step, EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: the program did not hold still in %d tries", TRIES);
}

static int checkpoint(struct step *step)
{
    char path[MAX_PATH];
    int status = try_until_it_holds(step, path);

    if (!status && step->request->verbose)
        fprintf(stderr, "stasis: generation %ju, the program stood still for %.1f ms%s\n", (uintmax_t)step->generation + 1,
                (double)(step->ran_on_at - step->stopped_at) / 1e6,
                step->saving.view == step->saving.pid ? ", as memory is too short for a copy" : "");
    if (!status)
        puts(path);
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
        { "requester", required_argument, NULL, 'r' }, { "max-wait", required_argument, NULL, 'w' },
        { "stop", no_argument, NULL, 's' },            { "verbose", no_argument, NULL, 'v' },
        { 0 },
    };
    int option;

    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            request->directory = optarg;
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

int main(int count, char **arguments)
{
    struct request request = { .deadline = INT64_MAX };
    sigset_t none;
    struct step step = { .request = &request, .lock = -1, .listener = -1, .twin = -1 };

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
    if (read_options(count, arguments, &request)) {
        fprintf(stderr, "stasis-saver is started by `stasis checkpoint`, a signal or the interval; see stasis(1)\n");
        return EXIT_USAGE;
    }
    return checkpoint(&step);
}
