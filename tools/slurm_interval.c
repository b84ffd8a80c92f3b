/* SPDX-License-Identifier: MIT */
/* Images of a whole job, by the interval that sbatch was given. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/floor/interval.h"
#include "../core/kinds/kind.h"
#include "locate.h"
#include "options.h"
#include "slurm_attend.h"
#include "slurm_commands.h"

enum { SECOND = 1000000000 /* in nanoseconds */, UNASKED = 600, BETWEEN_REQUESTS = 3 };

/* An interval of the job's own goes before those of its steps. */
void interval_settle(struct attended *job)
{
    const char *value = getenv(ENV_JOB_INTERVAL);

    if (value && *value && interval_parse(value, &job->interval)) {
        complain(0, "%s%s; the job runs without", INTERVAL_BAD, value);
        job->interval = 0;
    }
    job->due = clock_now(CLOCK_MONOTONIC) / SECOND + job->interval;
}

/* Nobody is told twice why something has no image. */
static void be_silent(void)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (nowhere >= 0)
        dup2(nowhere, 2);
}

static int take_whole(const struct attended *job, const char *max_wait)
{
    char target[MAX_ID + 16], wait[32];
    char *words[5] = { (char *)locate_self(), "checkpoint", target };

    snprintf(target, sizeof target, "%s." BATCH_STEP, job->number);
    snprintf(wait, sizeof wait, "--max-wait=%s", max_wait ? max_wait : "");
    if (max_wait)
        words[3] = wait;
    setenv(ENV_ATTENDING, BATCH_STEP, 1);
    return slurm_run(words);
}

static void take_steps(const struct attended *job, const char *max_wait)
{
    char wait[32];

    snprintf(wait, sizeof wait, "MaxWait=%s", max_wait ? max_wait : "");
    setenv(ENV_ATTENDING, "1", 1);
    slurm_run((char *[]){ (char *)locate_self(), "scontrol", "checkpoint", "create", (char *)job->number, max_wait ? wait : NULL, NULL });
}

int interval_take(const struct attended *job, const char *max_wait)
{
    int status = *job->prefix ? take_whole(job, max_wait) : EXIT_NO_IMAGE;

    if (status)
        take_steps(job, max_wait);
    return status;
}

/* In a process of its own, as signals are handed on meanwhile. */
static void start_taker(struct attended *job)
{
    sigset_t none;

    job->taker = fork();
    if (job->taker)
        return;
    setpgid(0, 0); /* so that all of it can be ended */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (job->has_complained)
        be_silent();
    _exit(interval_take(job, NULL));
}

void interval_learn(struct attended *job)
{
    int status;

    if (job->taker <= 0 || waitpid(job->taker, &status, WNOHANG) != job->taker)
        return;
    job->taker = 0;
    job->has_complained |= !WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != EXIT_RUN_AGAIN);
}

void interval_end(struct attended *job)
{
    if (job->taker > 0) {
        setpgid(job->taker, job->taker); /* should it not have come to that yet */
        kill(-job->taker, SIGTERM);
        waitpid(job->taker, NULL, 0);
        job->taker = 0;
    }
    if (job->requests.asking > 0) {
        kill(job->requests.asking, SIGTERM);
        waitpid(job->requests.asking, NULL, 0);
        job->requests.asking = 0;
    }
}

/* An image of the whole has one of each step. */
static void hand_on_requests_of_steps(const struct attended *job)
{
    const struct requests *whole = &job->requests;
    struct sruns sruns;
    char step[16];

    if (sruns_read(job->prefix, &sruns))
        return;
    for (size_t i = 0; i < sruns.running_count; i++) {
        snprintf(step, sizeof step, "%u", sruns.running[i].number);
        struct request_file request = request_look(whole->directory, whole->job, step);
        if (request.is_there == 1 && !request_make(whole->directory, whole->job, whole->step))
            request_remove(whole->directory, whole->job, step, &request);
    }
    sruns_free(&sruns);
}

int64_t interval_look_for_request(struct attended *job)
{
    static char directory[MAX_PATH];
    char *slash;

    if (!*job->prefix)
        return UNASKED;
    if (!job->requests.tool) {
        snprintf(directory, sizeof directory, "%s", job->prefix);
        slash = strrchr(directory, '/');
        *slash = 0;
        job->requests = (struct requests){ .tool = locate_self(), .directory = directory, .job = slash + 1, .step = BATCH_STEP, .target = job->script };
    }
    hand_on_requests_of_steps(job);
    requests_attend(&job->requests);
    return BETWEEN_REQUESTS;
}

int64_t interval_look(struct attended *job)
{
    int64_t now = clock_now(CLOCK_MONOTONIC) / SECOND;

    interval_learn(job);
    if (!job->interval || job->worker)
        return UNASKED;
    if (now >= job->due && !job->taker) {
        start_taker(job);
        job->due = now + job->interval;
    }
    return job->due > now ? job->due - now : 1;
}
