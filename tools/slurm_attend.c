/* SPDX-License-Identifier: MIT */
/* stasis attend: the parent of a batch script. Slurm ends a job at its time limit and does not run it again, not even with --requeue; so
 * this one asks for a last image of each step in time, and then for the requeue. It hands signals on, and ends as the script does. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/floor/interval.h"
#include "../core/kinds/kind.h"
#include "../core/slurm/slurm.h"
#include "commands.h"
#include "locate.h"
#include "slurm_book.h"
#include "slurm_commands.h"
#include "slurm_images.h"
#include "slurm_moment.h"
#include "slurm_request.h"
#include "slurm_script.h"
#include "stand_in.h"

enum { ATTEND_CHILD, ATTEND_TELL };

static const struct choice choices[] = {
    [ATTEND_CHILD] = { "child", "PID", NULL, "SCRIPT is to run as this child of ours: for the plugin" },
    [ATTEND_TELL] = { "tell", "FD", NULL, "where that child waits to be told what to add to its environment" },
    { 0 },
};

/* Seconds. What is between the last image and the limit: the commands of Slurm, and a few times what images have cost so far. */
enum { SECOND = 1000000000 /* in nanoseconds */ };
enum { MARGIN = 15, COSTS = 3, LONGEST_SLEEP = 600, AFTER_REQUEUE = 120, UNLIMITED = INT32_MAX };

struct job {
    const char *number;         /* SLURM_JOB_ID */
    char name[2 * MAX_ID];      /* the same, or ARRAY_ELEMENT: the number of an array's last element means the whole array */
    const char *directory;
    struct former former;       /* images may have its number */
    char prefix[MAX_PATH];      /* ENV_SRUNS of the script; "": it does not run under the shim */
    pid_t script, worker;       /* worker: takes the last images, and asks for the requeue */
    pid_t taker;                /* takes those of the interval */
    int has_complained;         /* somebody has been told why the script has no image */
    uint32_t interval;          /* seconds; 0: none */
    int64_t due;                /* CLOCK_MONOTONIC seconds */
    int64_t began;              /* seconds since 1970 */
    int64_t limit;              /* in seconds, of this life; 0 when not known yet */
    int is_to_requeue;          /* --requeue was given */
    int64_t lead;               /* --signal=...@SECONDS: how long before the limit the user wants to be told */
};

/* ---- what was asked for ---- */

static void read_word(struct job *job, const char *word)
{
    const char *at = strchr(word, '@');

    if (!strcmp(word, "--requeue"))
        job->is_to_requeue = 1;
    else if (!strcmp(word, "--no-requeue"))
        job->is_to_requeue = 0;
    else if (!strncmp(word, "--signal=", 9))
        job->lead = at ? strtol(at + 1, NULL, 10) : 60; /* sbatch(1) */
}

static void read_script_word(void *context, char *start, size_t length)
{
    char word[128];

    if (length < sizeof word) {
        snprintf(word, sizeof word, "%.*s", (int)length, start);
        read_word(context, word);
    }
}

/* The script's lines, and over them the command line, which sbatch's plugin has noted. */
static void read_wishes(struct job *job, const char *script)
{
    size_t length = 0;
    char *text = script_read(fopen(script, "re"), &length), *words = getenv(ENV_SUBMITTED);

    if (text)
        script_walk(text, length, read_script_word, job);
    free(text);
    words = words ? strdup(words) : NULL;
    for (char *rest = words, *word; (word = strsep(&rest, " "));)
        read_word(job, word);
    free(words);
}

static void find_images(const struct job *job, struct job_images *ret_images)
{
    *ret_images = (struct job_images){ 0 };
    job_images_add(job->directory, job->number, ret_images);
    if (*job->former.images)
        job_images_add(job->directory, job->former.images, ret_images);
}

/* The plugin has done it before we are there. */
static void know_former(struct job *job)
{
    char whole[192];

    if (slurm_former_begins(getenv(ENV_FORMER), job->number, whole, sizeof whole))
        setenv(ENV_FORMER, whole, 1);
    if (slurm_former(getenv(ENV_FORMER), job->number, &job->former))
        slurm_take_over(job->directory, job->former.job, job->number);
    else
        unsetenv(ENV_FORMER); /* of the job that has submitted this one */
}

static int know_job(struct job *job, const char *script)
{
    const char *array = getenv(ENV_SLURM_ARRAY), *element = getenv(ENV_SLURM_ELEMENT);
    static char here[MAX_PATH];

    job->number = getenv(ENV_SLURM_JOB);
    job->directory = getenv(ENV_DIRECTORY);
    if (!job->number)
        return complain(EXIT_NO_IMAGE, "this is no job of Slurm");
    if (array && element)
        snprintf(job->name, sizeof job->name, "%s_%s", array, element);
    else
        snprintf(job->name, sizeof job->name, "%s", job->number);
    if (!job->directory || !*job->directory)
        job->directory = getcwd(here, sizeof here) ? here : ".";
    know_former(job);
    job->began = time(NULL);
    read_wishes(job, script);
    return 0;
}

/* A life that begins anew must not repeat the lines of the former one. */
static void settle_output(const struct job *job, char **script)
{
    const char *restarts = getenv(ENV_SLURM_RESTARTS), *from = getenv(ENV_FROM);
    struct job_images images;

    if (!*job->former.job && (!restarts || !atoi(restarts))) {
        book_begin(job->directory, job->number);
        request_note(job->directory, job->number, script);
        return;
    }
    if (*job->former.job)
        request_note_former(job->directory, job->number, job->former.images);
    find_images(job, &images);
    if (from)
        job_images_add(from, job->number, &images);
    if (!images.count)
        book_cut_output(job->directory, job->number);
}

/* ---- how the script begins ---- */

/* What it is to have in its environment besides: texts NAME=VALUE. */
enum { MOST_VARIABLES = 4 };
struct beginning {
    char *variables[MOST_VARIABLES];
    int count;
};

static void add_variable(struct beginning *beginning, const char *name, const char *value)
{
    if (beginning->count < MOST_VARIABLES && asprintf(&beginning->variables[beginning->count], "%s=%s", name, value) > 0)
        beginning->count++;
}

/* The last moment of which all images are there. */
static int find_moment(const struct job *job, struct moment *moment)
{
    const char *directories[] = { getenv(ENV_FROM), job->directory }, *jobs[] = { job->number, job->former.images };

    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        for (size_t j = 0; j < sizeof directories / sizeof *directories; j++)
            if (directories[j] && *jobs[i] && !moment_find(directories[j], jobs[i], moment))
                return 1;
    return 0;
}

static int goes_on(struct job *job, const char *script, struct beginning *beginning)
{
    char map[2 * MAX_PATH + 1];
    struct moment moment;
    int error;

    if (!find_moment(job, &moment))
        return 0;
    error = moment_prepare(&moment, job->number, script);
    if (error) {
        complain(0, "job %s begins with its script's first line, as %s" MOMENT_SUFFIX " cannot be gone back to: %s", job->name, moment.prefix,
                 strerror(-error));
    } else {
        snprintf(job->prefix, sizeof job->prefix, "%s", moment.prefix);
        add_variable(beginning, ENV_RESTART, moment.image.path);
        snprintf(map, sizeof map, "%s=%s", moment.script, script);
        if (*moment.script && strcmp(moment.script, script))
            add_variable(beginning, ENV_PATH_MAP, map);
    }
    moment_free(&moment);
    return !error;
}

/* The highest number of a step that has begun in a former life, by its mark or its image; -1: none has. */
static int last_step(const struct job *job)
{
    size_t length = strlen(job->number), former = strlen(job->former.images);
    DIR *entries = opendir(job->directory);
    struct dirent *entry;
    int last = -1, number, end;

    while (entries && (entry = readdir(entries))) {
        const char *name = entry->d_name;
        if (!strncmp(name, job->number, length) && name[length] == '.')
            name += length;
        else if (former && !strncmp(name, job->former.images, former) && name[former] == '.')
            name += former;
        else
            continue;
        if (((end = 0, sscanf(name, ".%d" MARK_SUFFIX "%n", &number, &end)) == 1 && end && !name[end])
            || ((end = 0, sscanf(name, ".%d" IMAGE_SUFFIX "%n", &number, &end)) == 1 && end && !name[end]))
            last = number > last ? number : last;
    }
    if (entries)
        closedir(entries);
    return last;
}

static void begins_anew(struct job *job, const char *script, int is_later)
{
    int error;

    moment_remove(job->directory, job->number);
    snprintf(job->prefix, sizeof job->prefix, "%s/%s", job->directory, job->number);
    error = sruns_begin_anew(job->prefix, is_later ? last_step(job) : -1);
    if (!error)
        error = life_begin(job->prefix, script, NULL);
    if (error)
        *job->prefix = 0; /* nor can there be images */
}

/* With sbatch --restart-dir the steps go on from other jobs' images: then the script is not part of it. */
static void settle_beginning(struct job *job, const char *script, struct beginning *beginning)
{
    const char *restarts = getenv(ENV_SLURM_RESTARTS), *restart = getenv(ENV_RESTART);
    int is_later = *job->former.job || (restarts && atoi(restarts));

    *beginning = (struct beginning){ 0 };
    if (restart && *restart)
        return;
    if (!is_later || !goes_on(job, script, beginning))
        begins_anew(job, script, is_later);
    if (*job->prefix)
        add_variable(beginning, ENV_SRUNS, job->prefix);
    add_variable(beginning, ENV_STEP, BATCH_STEP);
}

static void tell(int pipe, const struct beginning *beginning)
{
    for (int i = 0; i < beginning->count; i++)
        dprintf(pipe, "%s\n", beginning->variables[i]);
    close(pipe);
}

/* An interval of the job's own goes before those of its steps. */
static void settle_interval(struct job *job)
{
    const char *value = getenv(ENV_JOB_INTERVAL);

    if (value && *value && interval_parse(value, &job->interval)) {
        complain(0, "%s%s; the job runs without", INTERVAL_BAD, value);
        job->interval = 0;
    }
    job->due = clock_now(CLOCK_MONOTONIC) / SECOND + job->interval;
}

/* ---- images of the whole ---- */

static const char *own_path(void)
{
    static char self[MAX_PATH];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

    self[length > 0 ? length : 0] = 0;
    return self;
}

/* The script and its steps; or, where the script cannot be taken along, the steps alone. Exit status. */
static int take_all(const struct job *job, const char *max_wait, int is_silent)
{
    char target[MAX_ID + 16], wait[32];
    int status = EXIT_NO_IMAGE, errors = is_silent ? fcntl(2, F_DUPFD_CLOEXEC, 3) : -1, nowhere = is_silent ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;

    snprintf(target, sizeof target, "%s." BATCH_STEP, job->number);
    snprintf(wait, sizeof wait, "--max-wait=%s", max_wait ? max_wait : "");
    setenv(ENV_ATTENDING, BATCH_STEP, 1);
    if (nowhere >= 0)
        dup2(nowhere, 2);
    if (*job->prefix)
        status = slurm_run((char *[]){ (char *)own_path(), "checkpoint", max_wait ? wait : "--", max_wait ? "--" : target, max_wait ? target : NULL, NULL });
    if (errors >= 0)
        dup2(errors, 2);
    if (!status)
        return 0;
    snprintf(wait, sizeof wait, "MaxWait=%s", max_wait ? max_wait : "");
    setenv(ENV_ATTENDING, "1", 1);
    slurm_run((char *[]){ (char *)own_path(), "scontrol", "checkpoint", "create", (char *)job->name, max_wait ? wait : NULL, NULL });
    return status;
}

/* In a process of its own, as signals are handed on meanwhile. */
static void start_taker(struct job *job)
{
    sigset_t none;

    job->taker = fork();
    if (job->taker)
        return;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(take_all(job, NULL, job->has_complained));
}

static void look_at_taker(struct job *job)
{
    int status;

    if (job->taker <= 0 || waitpid(job->taker, &status, WNOHANG) != job->taker)
        return;
    job->taker = 0;
    job->has_complained |= !WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != EXIT_RUN_AGAIN);
}

/* Seconds until it wants to be asked again. */
static int64_t look_at_interval(struct job *job)
{
    int64_t now = clock_now(CLOCK_MONOTONIC) / SECOND;

    look_at_taker(job);
    if (!job->interval || job->worker)
        return LONGEST_SLEEP;
    if (now >= job->due && !job->taker) {
        start_taker(job);
        job->due = now + job->interval;
    }
    return job->due > now ? job->due - now : 1;
}

/* ---- the last images ---- */

/* What Slurm prints: [DAYS-][[HOURS:]MINUTES:]SECONDS, or a word. */
static int64_t seconds_of(const char *text)
{
    const char *dash = strchr(text, '-');
    int64_t days = dash ? strtol(text, NULL, 10) : 0, seconds = 0;

    for (text = dash ? dash + 1 : text;; text++) {
        char *end;
        int64_t field = strtol(text, &end, 10);
        if (end == text)
            return UNLIMITED;
        seconds = seconds * 60 + field;
        text = end;
        if (*text != ':')
            return *text ? UNLIMITED : days * 86400 + seconds;
    }
}

/* UNLIMITED also when it cannot be had now. */
static int64_t seconds_left(const struct job *job)
{
    char *text = slurm_output((char *[]){ "squeue", "--noheader", "--job", (char *)job->name, "--format=%L", NULL });
    int64_t seconds = text ? seconds_of(text) : UNLIMITED;

    free(text);
    return seconds;
}

static void note_in_comment(const struct job *job, const struct job_images *images)
{
    char *comment = slurm_output((char *[]){ "squeue", "--noheader", "--job", (char *)job->name, "--Format=comment:1000", NULL });
    char *ours = comment ? strstr(comment, "stasis: ") : NULL, *text, when[32];
    time_t taken = images->newest;
    struct tm local;

    if (comment && !strncmp(comment, "(null)", 6))
        *comment = 0;
    if (ours)
        *ours = 0; /* of a former life */
    for (size_t length = comment ? strlen(comment) : 0; length && comment[length - 1] == ' '; length--)
        comment[length - 1] = 0;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", localtime_r(&taken, &local));
    if (comment
        && asprintf(&text, "Comment=%s%sstasis: image of %s, %" PRIu64 " bytes", comment, *comment ? " " : "", when, images->bytes) > 0) {
        slurm_run((char *[]){ "scontrol", "update", "JobId", (char *)job->name, text, NULL });
        free(text);
    }
    free(comment);
}

/* In a process of its own: signals are handed on meanwhile. A life without any image of its own would be lived again and again. */
static int end_life(const struct job *job)
{
    enum { TO_REQUEUE = 5 /* seconds */ };
    struct job_images images;
    char wait[32];
    int64_t left = seconds_left(job);

    /* for a program that forbids checkpoints for now */
    snprintf(wait, sizeof wait, "%" PRId64, left > TO_REQUEUE ? left - TO_REQUEUE : 1);
    take_all(job, left > UINT16_MAX ? NULL : wait, job->has_complained);
    find_images(job, &images);
    if (!images.count || images.newest < job->began)
        return complain(EXIT_REFUSED, "the time limit of job %s comes, and it has no image of its last %" PRId64 " seconds; it is not requeued",
                        job->name, (int64_t)time(NULL) - job->began);
    note_in_comment(job, &images);
    return slurm_run((char *[]){ "scontrol", "requeue", (char *)job->name, NULL });
}

static void start_worker(struct job *job)
{
    sigset_t none;

    job->worker = fork();
    if (job->worker)
        return;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(end_life(job));
}

/* How long before the limit it is to be done. Of a short limit half at most. */
static int64_t lead(const struct job *job)
{
    struct job_images images;
    int64_t seconds;

    find_images(job, &images);
    seconds = MARGIN + COSTS * images.seconds;
    if (seconds > job->limit / 2)
        seconds = job->limit / 2;
    return job->lead > seconds ? job->lead : seconds;
}

/* Does what is due, and returns after how many seconds it wants to be asked again. The limit can be changed while a job runs. */
static int64_t look_at_clock(struct job *job)
{
    int64_t left, wait;

    if (!job->is_to_requeue || job->worker)
        return LONGEST_SLEEP;
    left = seconds_left(job);
    if (left == UNLIMITED)
        return LONGEST_SLEEP;
    job->limit = left + (int64_t)time(NULL) - job->began;
    wait = left - lead(job);
    if (wait <= 0) {
        start_worker(job);
        return LONGEST_SLEEP;
    }
    wait = wait > 20 ? wait / 2 : wait;
    return wait > LONGEST_SLEEP ? LONGEST_SLEEP : wait;
}

/* ---- the script's end ---- */

/* With a GraceTime, Slurm ends the steps of a job that it will requeue, and a script whose step is gone ends by itself: then Slurm
 * would take the job for done. */
static int is_preempted(const struct job *job)
{
    char *text = slurm_output((char *[]){ "scontrol", "show", "job", (char *)job->name, NULL });
    const char *when = text ? strstr(text, "PreemptTime=") : NULL;
    int is = when && strncmp(when + 12, "None", 4) && strncmp(when + 12, "N/A", 3);

    free(text);
    return is;
}

static void wait_to_be_ended(void)
{
    sigset_t all;

    sigfillset(&all);
    for (int64_t end = time(NULL) + AFTER_REQUEUE; time(NULL) < end;)
        sigtimedwait(&all, NULL, &(struct timespec){ .tv_sec = 1 });
}

/* When it is about to be requeued after all, it will want them. */
static void clean_up(const struct job *job)
{
    const char *wish = getenv(ENV_CLEANUP);
    int64_t began = wish && *wish && !job->worker ? book_began(job->directory, job->number) : -1;

    if (began >= 0)
        job_images_remove(job->directory, job->number, began);
    if (began >= 0 && *job->former.images)
        job_images_remove(job->directory, job->former.images, began);
}

static void forget_moments(const struct job *job)
{
    moment_remove(job->directory, job->number);
    if (*job->former.images)
        moment_remove(job->directory, job->former.images);
}

_Noreturn static void end_with_script(const struct job *job, int status)
{
    struct job_images images;
    int worker;

    if (job->worker) /* a requeue that has begun must not be overtaken by our end */
        while (waitpid(job->worker, &worker, 0) < 0 && errno == EINTR)
            continue;
    find_images(job, &images);
    if (status && job->is_to_requeue && !job->worker && images.count && is_preempted(job)
        && !slurm_run((char *[]){ "scontrol", "requeue", (char *)job->name, NULL }))
        wait_to_be_ended();
    if (!status) {
        clean_up(job);
        book_remove(job->directory, job->number);
        forget_moments(job);
    }
    stand_in_end_as(status);
}

/* ---- the command ---- */

_Noreturn static void attend_to_end(struct job *job)
{
    int64_t due = 0;
    sigset_t all;
    siginfo_t info;
    int status;

    sigfillset(&all);
    while (!stand_in_look(job->script, &status)) {
        int64_t wait = due - clock_now(CLOCK_MONOTONIC);
        if (wait <= 0) {
            int64_t clock = look_at_clock(job), interval = look_at_interval(job);
            wait = (clock < interval ? clock : interval) * SECOND;
            due = clock_now(CLOCK_MONOTONIC) + wait;
        }
        struct timespec patience = { .tv_sec = wait / SECOND, .tv_nsec = wait % SECOND };
        if (sigtimedwait(&all, &info, &patience) > 0 && info.si_signo != SIGCHLD)
            stand_in_forward(job->script, &info);
        look_at_taker(job);
    }
    end_with_script(job, status);
}

/* Without the plugin: a plain `srun` of the script's is ours. */
static void prefer_wrappers(void)
{
    char directory[MAX_PATH], *value;
    const char *path = getenv("PATH");

    if (locate_helper(WRAPPERS "/srun", directory, NULL) || asprintf(&value, "%s/" WRAPPERS ":%s", directory, path ? path : "/usr/bin:/bin") < 0)
        return;
    setenv("PATH", value, 1);
    free(value);
}

static void take_from(const struct job *job)
{
    const char *restarts = getenv(ENV_SLURM_RESTARTS);
    char directory[MAX_PATH];

    unsetenv(ENV_FROM); /* of the job that has submitted this one */
    if (restarts && atoi(restarts) && slurm_take_from(getenv("XDG_STATE_HOME"), getenv("HOME"), job->number, directory))
        setenv(ENV_FROM, directory, 1);
}

static void preload(void)
{
    const char *others = getenv("LD_PRELOAD");
    char shim[MAX_PATH], value[3 * MAX_PATH];

    if (locate_shim(shim))
        return;
    snprintf(value, sizeof value, "%s/" SHIM_NAME "%s%s", shim, others && *others ? ":" : "", others ? others : "");
    setenv("LD_PRELOAD", value, 1);
}

static void become_script(char **argv, const struct beginning *beginning)
{
    for (int i = 0; i < beginning->count; i++)
        putenv(beginning->variables[i]);
    if (beginning->count)
        preload();
    execvp(argv[0], argv);
    complain(0, "cannot run '%s': %m", argv[0]);
    _exit(EXIT_NO_IMAGE);
}

static int start_script(struct job *job, char **argv, const struct beginning *beginning)
{
    sigset_t all, before;

    setenv(ENV_ATTENDED, "1", 1);
    prefer_wrappers();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    job->script = fork();
    if (job->script < 0)
        return complain(EXIT_SYSTEM, "cannot make a process: %m");
    if (job->script)
        return 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    become_script(argv, beginning);
    return 0;
}

/* What the plugin does before we are there. */
static void prepare_environment(const struct job *job)
{
    const char *interval = getenv(ENV_INTERVAL);

    take_from(job);
    setenv(ENV_DIRECTORY, job->directory, 1);
    if (interval)
        setenv(ENV_JOB_INTERVAL, interval, 1);
    else
        unsetenv(ENV_JOB_INTERVAL); /* of the job that has submitted this one */
    unsetenv(ENV_INTERVAL);
}

static int attend(int argc, char **argv)
{
    struct job job = { 0 };
    struct beginning beginning;
    const char *value;
    uint32_t numbers[] = { [ATTEND_CHILD] = 0, [ATTEND_TELL] = 0 };
    int status;

    for (int option; (option = options_next(&command_attend, argc, argv, &value)) >= 0;)
        if (options_number(value, INT32_MAX, &numbers[option]))
            return complain_usage(&command_attend, "--%s=%s: give a number", choices[option].name, value);
    if (argc == optind)
        return complain_usage(&command_attend, "no script");
    status = know_job(&job, argv[optind]);
    if (status)
        return status;
    if (!numbers[ATTEND_CHILD])
        prepare_environment(&job);
    settle_output(&job, argv + optind);
    settle_beginning(&job, argv[optind], &beginning);
    settle_interval(&job);
    job.script = (pid_t)numbers[ATTEND_CHILD];
    if (numbers[ATTEND_TELL])
        tell((int)numbers[ATTEND_TELL], &beginning);
    if (!job.script)
        status = start_script(&job, argv + optind, &beginning);
    if (status)
        return status;
    stand_in_let_go();
    attend_to_end(&job);
}

const struct command command_attend = {
    .name = "attend",
    .operands = "SCRIPT [ARG...]",
    .summary = "Stand by a batch script of Slurm: last images and a requeue in time",
    .notes = "SCRIPT is run. When it was submitted with --requeue, an image of each of its steps\n"
             "is taken before the time limit, and the job is requeued.",
    .choices = choices,
    .stops_at_operand = 1,
    .run = attend,
};
