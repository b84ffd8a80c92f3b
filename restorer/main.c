/* SPDX-License-Identifier: MIT */
/* stasis-restorer: becomes the program of an image. Everything that can be checked is checked before anything is
 * touched; all that is missing is said at once. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../core/floor/text.h"
#include "../core/image/commit.h"
#include "../core/kinds/kind.h"
#include "../core/registry/requests.h"
#include "attempts.h"
#include "bubble.h"
#include "descriptors.h"
#include "host.h"
#include "plan.h"
#include "tasks.h"
#include "tree.h"

/* What `stasis restart` has to say that is no error. Said at once, it would be cut off with the rest when stderr is the
 * file that the program writes its own stderr to. So it is said when that has its size; NULL: nothing, or no longer. */
static const char *notice;

static void say_lines(struct restoring *restoring, int fd)
{
    const char *line = (const char *)restoring->adapted.bytes;

    if (notice)
        dprintf(fd, "stasis: %s\n", notice);
    for (size_t left = restoring->adapted.length, length; left; line += length, left -= length) {
        length = strcspn(line, "\n") + 1;
        dprintf(fd, "stasis: restart: %.*s", (int)length, line);
    }
}

static void forget_lines(struct restoring *restoring)
{
    notice = NULL;
    buffer_free(&restoring->adapted);
}

static void say_notice(struct restoring *restoring)
{
    if (restoring->streams[2] >= 0)
        say_lines(restoring, restoring->streams[2]);
    forget_lines(restoring);
}

/* Is the program's stderr the very file that ours is? Then its descriptor is used, so that the line lies where its own lie;
 * unless it stands in the middle of the file. The line then stays with the tail. */
static void say_notice_in_file(struct restoring *restoring)
{
    struct stat ours, theirs;
    off_t at = lseek(2, 0, SEEK_CUR);

    if ((!notice && !restoring->adapted.length) || fstat(restoring->streams[2], &ours) || fstat(2, &theirs) || !S_ISREG(ours.st_mode) || ours.st_ino != theirs.st_ino ||
        ours.st_dev != theirs.st_dev)
        return;
    if (fcntl(2, F_GETFL) & O_APPEND || at == theirs.st_size)
        say_lines(restoring, 2);
    forget_lines(restoring);
}

/* What `stasis run` wants of a restart. */
static struct {
    int is_counted; /* --counted: it may be the last attempt */
    int cleans_up;  /* --cleanup: no images are left of a program that has ended with 0 */
    struct requests requests; /* --requests: `tool` */
    const char *image;
} wish;

typedef int (*kind_step)(struct restoring *restoring, struct reader *record);

enum step { STEP_CHECK, STEP_MAKE, STEP_OPEN, STEP_WIRE, STEP_LAST };

static kind_step step_of(const struct kind *kind, enum step step)
{
    kind_step const steps[] = { kind->check, kind->make, kind->open, kind->wire, kind->last };
    return steps[step];
}

/* The check has found that the program fits; what the restart itself needs is known only when it does not. */
static const char *advice(int error)
{
    struct rlimit space, data;

    getrlimit(RLIMIT_AS, &space);
    getrlimit(RLIMIT_DATA, &data);
    return error == -ENOMEM && (space.rlim_cur != RLIM_INFINITY || data.rlim_cur != RLIM_INFINITY)
               ? "; the limits of memory here (ulimit -v and -d) leave no room to restart in: raise them"
               : "";
}

/* On the command's stderr: descriptor 2 may be the program's already, at the beginning of a file of its own. */
static int say_error(struct restoring *restoring, const char *what, int error)
{
    say_notice(restoring);
    if (restoring->streams[2] >= 0)
        dprintf(restoring->streams[2], "stasis: restart: %s%s%s%s\n", what ? what : "", what ? ": " : "",
                *restoring->image->reason ? restoring->image->reason : strerror(-error), advice(error));
    return error == -EBADMSG ? EXIT_DAMAGED : EXIT_SYSTEM;
}

/* A record of a descriptor that processes share needs its kind only once. */
static int run_kind(struct restoring *restoring, const struct kind *kind, enum step step, struct reader record)
{
    const struct reader start = record;
    int done = 0;

    if (kind->claim && step == STEP_OPEN)
        done = descriptors_open(restoring, start);
    else if (kind->claim && step == STEP_WIRE)
        done = descriptors_wire(restoring, start);
    if (done)
        return done < 0 ? done : 0;
    done = step_of(kind, step)(restoring, &record);
    return !done && kind->claim && step == STEP_WIRE ? descriptors_send(restoring, start) : done;
}

/* Walks the table, and for each kind its records. */
static int walk(struct restoring *restoring, enum step step)
{
    uint32_t process = step == STEP_MAKE ? ANY_PROCESS : restoring->index;

    for (size_t i = 0; kinds[i]; i++) {
        struct reader record;
        for (size_t at = 0; step_of(kinds[i], step) && image_next_of(restoring->image, kinds[i]->tag, process, &at, &record);) {
            int error = run_kind(restoring, kinds[i], step, record);
            if (error)
                return say_error(restoring, kinds[i]->name, error);
        }
    }
    return 0;
}

static void say_missing(void *context, const char *sentence)
{
    missing(context, "%s", sentence);
}

static int make(struct restoring *task)
{
    const char *name = NULL;
    int error = descriptors_clear(task), status;

    if (error)
        return say_error(task, NULL, error);
    if ((status = walk(task, STEP_MAKE)))
        return status;
    error = descriptors_hold(task, &name);
    return error ? say_error(task, name, error) : 0;
}

/* Descriptors and memory. Nothing outside is touched. */
static int open_all(struct tree *tree, struct restoring *own)
{
    int status = walk(own, STEP_OPEN), error;

    if (status)
        return status;
    if ((error = memory_load(own)) || (error = plan_make(own, tree->together)))
        return say_error(own, NULL, error);
    return 0;
}

static int wire(struct tree *tree, struct restoring *own)
{
    int status = tree_await_turn(tree, own);

    if (!status && !(status = walk(own, STEP_WIRE)))
        tree_end_turn(tree);
    return status;
}

static int meet(struct tree *tree, struct restoring *own, enum stage stage, int status)
{
    if (status)
        tree_fail(tree, own, status);
    if ((status = tree_meet(tree, own, stage)))
        tree_fail(tree, own, status);
    return 0;
}

/* A test: it looks at us in this state. */
static void stand(const struct restoring *restoring, const char *word)
{
    if (restoring->index == 0 && text_list_holds(restoring->test_fail, word))
        raise(SIGSTOP);
}

/* Runs in the bubble as the process to be. Until `wire`, nothing outside is touched. */
static int become(void *context)
{
    struct tree *tree = context;
    struct restoring *own = &tree->processes[0];
    int status = host_hold_threads(own);

    if (!status) {
        host_say(own);
        status = make(own);
    }
    if (!status)
        status = tree_grow(tree, &own);
    if (status)
        return status;
    stand(own, "stand-in-bubble");
    meet(tree, own, STAGE_OPEN, open_all(tree, own));
    if (own->index == 0 && (status = tasks_meet(own->streams[2])))
        tree_fail(tree, own, status);
    meet(tree, own, STAGE_WIRED, wire(tree, own));
    descriptors_let_go(own);
    meet(tree, own, STAGE_READY, walk(own, STEP_LAST));
    if (own->index == 0 && (status = tasks_meet_again(own->streams[2])))
        tree_fail(tree, own, status);
    if (own->index == 0) {
        say_notice_in_file(own);
        say_notice(own);
        bubble_started();
    }
    return plan_jump(own);
}

/* Seconds and nanoseconds that must be added to the host's clock for the program's to go on. */
static void clock_offset(clockid_t clock, int64_t own, const int64_t then[2], int64_t ret_offset[2])
{
    int64_t ahead = then[0] * 1000000000 + then[1] - (clock_now(clock) - own);

    ret_offset[0] = ahead / 1000000000;
    ret_offset[1] = ahead % 1000000000;
    if (ret_offset[1] < 0)
        ret_offset[0]--, ret_offset[1] += 1000000000;
}

static void plan_clocks(const struct restoring *first, struct bubble_plan *bubble)
{
    int64_t own[2];

    proc_clock_offsets(getpid(), own);
    clock_offset(CLOCK_MONOTONIC, own[0], first->monotonic, bubble->monotonic_offset);
    clock_offset(CLOCK_BOOTTIME, own[1], first->boottime, bubble->boottime_offset);
}

/* Each process in turn. What is found of the whole (what is missing, what they share) is handed on from one to the next, and is
 * the task's in the end. */
static int check_processes(struct tree *tree, const struct restoring *blank)
{
    struct restoring found = *blank;
    int status = 0;

    for (uint32_t i = 0; i < tree->count && !status; i++) {
        found.index = i;
        found.ended = NULL;
        found.ended_count = 0;
        status = walk(&found, STEP_CHECK);
        tree->processes[i] = found;
    }
    tree_take_place(&found, &tree->processes[0]);
    tree->processes[0] = found;
    return status;
}

/* A bubble, or, where there are no namespaces, the host for those that can do without. */
static void find_place(struct tree *tree, struct bubble_plan *bubble)
{
    struct restoring *task = tree->processes, obstacles = { 0 };

    bubble_check(bubble, say_missing, &obstacles);
    if (bubble_is_forbidden() && host_check(tree, bubble, &obstacles))
        bubble->is_on_host = tree->is_on_host = 1;
    else
        buffer_add(&task->missing, obstacles.missing.bytes, obstacles.missing.length);
    buffer_free(&obstacles.missing);
}

static int check(struct tree *tree, const struct restoring *blank, struct bubble_plan *bubble)
{
    struct restoring *task = tree->processes;
    int status = check_processes(tree, blank), error;

    if (status)
        return status;
    if ((error = tree_plan(tree)))
        return say_error(task, "processes", error);
    bubble->pid = task->pid;
    bubble->own_session = task->session == task->pid;
    bubble->has_terminal = task->has_terminal;
    bubble->has_terminal_pairs = task->has_terminal_pairs;
    bubble->own_group = task->group == task->pid && !bubble->own_session;
    find_place(tree, bubble);
    if (!task->missing.length)
        return 0;
    say_notice(task);
    fprintf(stderr, "stasis: cannot restart; nothing was changed:\n%.*s", (int)task->missing.length, (const char *)task->missing.bytes);
    return EXIT_REFUSED;
}

/* In the porter. */
static void succeed(void *context)
{
    const struct file_header *header = &((const struct tree *)context)->processes->image->header;
    char directory[MAX_PATH];
    int error;

    if (wish.is_counted || wish.cleans_up)
        attempts_forget(wish.image, header);
    if (!wish.cleans_up)
        return;
    snprintf(directory, sizeof directory, "%s", wish.image);
    error = image_remove(dirname(directory), header->job, header->step, header->run);
    if (error)
        fprintf(stderr, "stasis: the images in %s cannot be removed: %s\n", directory, strerror(-error));
}

static void look_for_requests(void *context)
{
    (void)context;
    requests_attend(&wish.requests);
}

static void prepare_requests(const char *path, const struct file_header *header, struct bubble_plan *bubble)
{
    static char directory[MAX_PATH];

    snprintf(directory, sizeof directory, "%s", path);
    wish.requests.directory = dirname(directory);
    wish.requests.job = header->job;
    wish.requests.step = header->step;
    wish.requests.target = getpid();
    bubble->look = look_for_requests;
    bubble->look_milliseconds = REQUESTS_MILLISECONDS;
}

static void over(void *context, int status)
{
    (void)context;
    tasks_give_up(status);
}

static int restart(const char *path, struct restoring *restoring)
{
    static struct image image;
    static struct tree tree;
    static char registry[64], run_directory[128];
    struct bubble_plan bubble = { .registry = registry, .run_directory = run_directory, .task = become,
                                  .job = image.header.job, .step = image.header.step, .context = &tree, .succeeded = succeed,
                                  .over = over };
    char uuid[UUID_TEXT];
    int error = image_open(&image, path), status;

    if (error) {
        fprintf(stderr, "stasis: cannot restart from %s: %s\n", path, image.reason);
        return image_exit_status(error);
    }
    restoring->image = &image;
    restoring->test_fail = getenv(ENV_TEST_FAIL);
    descriptors_find_room(restoring);
    tree.count = image.header.process_count;
    tree.processes = tree.count && tree.count <= image.header.index_length ? calloc(tree.count, sizeof *tree.processes) : NULL;
    if (!tree.processes)
        return say_error(restoring, NULL, -EBADMSG);
    status = check(&tree, restoring, &bubble);
    if (wish.requests.tool)
        prepare_requests(path, &image.header, &bubble);
    if (!status && restoring->policy.only_check)
        host_say(tree.processes);
    if (status || restoring->policy.only_check) {
        say_notice(status ? restoring : tree.processes);
        return status;
    }
    stand(restoring, "stand");
    wish.image = path;
    if (wish.is_counted && (status = attempts_count(path, &image.header)))
        return status;
    text_from_uuid(image.header.run, uuid);
    snprintf(registry, sizeof registry, REGISTRY_ROOT "%u", geteuid());
    snprintf(run_directory, sizeof run_directory, "%s/%s", registry, uuid);
    plan_clocks(tree.processes, &bubble);
    return bubble_run(&bubble);
}

/* The image of the job that is named; where there are several, that of the same step and, among those, of this very job. */
static int find_image(const char *directory, char *ret_image, struct buffer *candidates)
{
    const char *job = getenv(ENV_JOB), *step = getenv(ENV_STEP);
    int error = image_find(directory, job, NULL, ret_image, candidates);

    step = step ? step : getenv(ENV_SLURM_STEP);
    if (error == -ENOTUNIQ && step) {
        candidates->length = 0;
        error = image_find(directory, job, step, ret_image, candidates);
    }
    if (error == -ENOTUNIQ && step && !job && getenv(ENV_SLURM_JOB)) {
        candidates->length = 0;
        error = image_find(directory, getenv(ENV_SLURM_JOB), step, ret_image, candidates);
    }
    return error;
}

/* For SLURM_RESTART_DIR the shim gives us a directory: the newest whole image of the job in it. */
static int choose(const char *path, char *ret_image, int *ret_is_found)
{
    struct buffer candidates = { 0 };
    struct stat status;
    int error;

    *ret_is_found = !stat(path, &status) && S_ISDIR(status.st_mode);
    if (!*ret_is_found) {
        snprintf(ret_image, MAX_PATH, "%s", path);
        return 0;
    }
    error = find_image(path, ret_image, &candidates);
    if (error == -ENOTUNIQ)
        fprintf(stderr, "stasis: images of several jobs in %s; name one:\n%.*s", path, (int)candidates.length,
                (const char *)candidates.bytes);
    else if (error)
        fprintf(stderr, "stasis: no whole image in %s\n%.*s", path, (int)candidates.length,
                candidates.bytes ? (const char *)candidates.bytes : "");
    buffer_free(&candidates);
    return error ? EXIT_NO_IMAGE : 0;
}

/* What is closed among 0, 1 and 2 becomes /dev/null, so that no file of ours gets its number. */
static int fill_streams(void)
{
    int closed = 0, fd;

    for (int i = 0; i < 3; i++)
        closed |= (fcntl(i, F_GETFD) < 0) << i;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
        continue;
    if (fd > 2)
        close(fd);
    return closed;
}

static int read_options(int count, char **arguments, struct policy *policy)
{
    static const struct option options[] = {
        { "check", no_argument, NULL, 'c' },    { "strict", no_argument, NULL, 's' },
        { "no-tails", no_argument, NULL, 'n' }, { "path-map", required_argument, NULL, 'p' },
        { "notice", required_argument, NULL, 'i' }, { "counted", no_argument, NULL, 'o' },
        { "cleanup", no_argument, NULL, 'u' }, { "requests", required_argument, NULL, 'r' }, { 0 },
    };

    const char *rule = getenv(ENV_PATH_MAP);

    policy->shared_output = getenv(ENV_SHARED_OUTPUT);
    policy->path_rules = calloc((size_t)count + 1, sizeof *policy->path_rules);
    if (rule && policy->path_rules && path_rule_is_good(rule))
        policy->path_rules[policy->path_rule_count++] = rule;
    for (int option; (option = getopt_long(count, arguments, "", options, NULL)) != -1;) {
        if (option == 'c')
            policy->only_check = 1;
        else if (option == 's')
            policy->strict = 1;
        else if (option == 'n')
            policy->no_tails = 1;
        else if (option == 'i')
            notice = optarg;
        else if (option == 'o')
            wish.is_counted = 1;
        else if (option == 'u')
            wish.cleans_up = 1;
        else if (option == 'r')
            wish.requests.tool = optarg;
        else if (option == 'p' && policy->path_rules && path_rule_is_good(optarg))
            policy->path_rules[policy->path_rule_count++] = optarg;
        else
            return EXIT_USAGE;
    }
    return optind + 1 == count ? 0 : EXIT_USAGE;
}

int main(int count, char **arguments)
{
    static struct restoring restoring = { .streams = { 0, 1, 2 } };
    char image[MAX_PATH];
    int is_found, status;

    restoring.closed_streams = fill_streams();
    if (read_options(count, arguments, &restoring.policy)) {
        fprintf(stderr, "stasis-restorer is started by `stasis restart`; see stasis(1)\n");
        return EXIT_USAGE;
    }
    status = choose(arguments[optind], image, &is_found);
    if (!status)
        status = tasks_choose(image, is_found, &restoring.policy.roll);
    if (status)
        return status;
    status = restart(image, &restoring);
    tasks_give_up(status);
    return status;
}
