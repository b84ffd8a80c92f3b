/* SPDX-License-Identifier: MIT */
/* stasis attend: the parent of a batch script. Slurm ends a job at its time limit and does not run it again, not even with --requeue; so
 * this one asks for a last image of each step in time, and then for the requeue. It hands signals on, and ends as the script does. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/kinds/kind.h"
#include "../core/slurm/slurm.h"
#include "commands.h"
#include "slurm_attend.h"
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

/* ---- what was asked for ---- */

static void read_word(struct attended *job, const char *word)
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
static void read_wishes(struct attended *job, const char *script)
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

static void find_images(const struct attended *job, struct job_images *ret_images)
{
    *ret_images = (struct job_images){ 0 };
    job_images_add(job->directory, job->number, ret_images);
    if (*job->former.images)
        job_images_add(job->directory, job->former.images, ret_images);
}

/* The plugin has done it before we are there. */
static void know_former(struct attended *job)
{
    char whole[192];

    if (slurm_former_begins(getenv(ENV_FORMER), job->number, whole, sizeof whole))
        setenv(ENV_FORMER, whole, 1);
    if (slurm_former(getenv(ENV_FORMER), job->number, &job->former))
        slurm_take_over(job->directory, job->former.job, job->number);
    else
        unsetenv(ENV_FORMER); /* of the job that has submitted this one */
}

static int know_job(struct attended *job, const char *script)
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
static void settle_output(const struct attended *job, char **script)
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
static int64_t seconds_left(const struct attended *job)
{
    char *text = slurm_output((char *[]){ "squeue", "--noheader", "--job", (char *)job->name, "--format=%L", NULL });
    int64_t seconds = text ? seconds_of(text) : UNLIMITED;

    free(text);
    return seconds;
}

static void note_in_comment(const struct attended *job, const struct job_images *images)
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
static int end_life(const struct attended *job)
{
    enum { TO_REQUEUE = 5 /* seconds */ };
    struct job_images images;
    char wait[32];
    int64_t left = seconds_left(job);

    /* for a program that forbids checkpoints for now */
    snprintf(wait, sizeof wait, "%" PRId64, left > TO_REQUEUE ? left - TO_REQUEUE : 1);
    interval_take(job, left > UINT16_MAX ? NULL : wait);
    find_images(job, &images);
    if (!images.count || images.newest < job->began)
        return complain(EXIT_REFUSED, "the time limit of job %s comes, and it has no image of its last %" PRId64 " seconds; it is not requeued",
                        job->name, (int64_t)time(NULL) - job->began);
    note_in_comment(job, &images);
    return slurm_run((char *[]){ "scontrol", "requeue", (char *)job->name, NULL });
}

static void start_worker(struct attended *job)
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
static int64_t lead(const struct attended *job)
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
static int64_t look_at_clock(struct attended *job)
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
static int is_preempted(const struct attended *job)
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
static void clean_up(const struct attended *job)
{
    const char *wish = getenv(ENV_CLEANUP);
    int64_t began = wish && *wish && !job->worker ? book_began(job->directory, job->number) : -1;

    if (began >= 0)
        job_images_remove(job->directory, job->number, began);
    if (began >= 0 && *job->former.images)
        job_images_remove(job->directory, job->former.images, began);
}

static void forget_moments(const struct attended *job)
{
    moment_remove(job->directory, job->number);
    if (*job->former.images)
        moment_remove(job->directory, job->former.images);
}

/* Of a job that is requeued Slurm refuses further sruns at once, and ends the script later: one that does not mind comes to its end in
 * between, with status 0, and is not done. */
static int is_done(const struct attended *job)
{
    char *state = slurm_output((char *[]){ "squeue", "--noheader", "--job", (char *)job->name, "--format=%T", NULL });
    int is = state && !strncmp(state, "RUNNING", 7);

    free(state);
    return is;
}

_Noreturn static void end_with_script(const struct attended *job, int status)
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
    if (!status && is_done(job)) {
        clean_up(job);
        book_remove(job->directory, job->number);
        forget_moments(job);
    }
    stand_in_end_as(status);
}

/* ---- the command ---- */

_Noreturn static void attend_to_end(struct attended *job)
{
    int64_t (*const looks[])(struct attended *job) = { look_at_clock, interval_look, interval_look_for_request };
    enum { LOOKS = sizeof looks / sizeof *looks };
    int64_t due[LOOKS] = { 0 };
    sigset_t all;
    siginfo_t info;
    int status;

    sigfillset(&all);
    while (!stand_in_look(job->script, &status)) {
        int64_t now = clock_now(CLOCK_MONOTONIC), wait = INT64_MAX;
        for (int i = 0; i < LOOKS; i++) {
            if (due[i] <= now)
                due[i] = now + looks[i](job) * SECOND;
            wait = due[i] - now < wait ? due[i] - now : wait;
        }
        struct timespec patience = { .tv_sec = wait / SECOND, .tv_nsec = wait % SECOND };
        if (sigtimedwait(&all, &info, &patience) > 0 && info.si_signo != SIGCHLD)
            stand_in_forward(job->script, &info);
        interval_learn(job);
    }
    interval_end(job);
    end_with_script(job, status);
}

static int attend(int argc, char **argv)
{
    struct attended job = { 0 };
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
        beginning_prepare(&job);
    settle_output(&job, argv + optind);
    beginning_settle(&job, argv[optind], &beginning);
    interval_settle(&job);
    job.script = (pid_t)numbers[ATTEND_CHILD];
    if (numbers[ATTEND_TELL])
        beginning_tell((int)numbers[ATTEND_TELL], &beginning);
    if (!job.script)
        status = beginning_start(&job, argv + optind, &beginning);
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
