/* SPDX-License-Identifier: MIT */
/* stasis scontrol: scontrol(1) with the word `checkpoint` that Slurm had until 20.02. What else it is asked goes to Slurm's own
 * scontrol untouched. Images are taken on the step's node, by `stasis checkpoint` in a step of its own beside it
 * (srun --overlap): so Slurm's authentication is ours, and nothing listens anywhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "commands.h"
#include "slurm_commands.h"

enum { EXIT_SCONTROL = 1 /* scontrol's own status for whatever goes wrong */, MAX_WORDS = 5 };

static const struct choice choices[] = { { 0 } };

struct request {
    char job[MAX_ID];
    const char *step;     /* NULL: all of the job */
    const char *max_wait; /* seconds; NULL: no limit */
    int stop;
};

/* ---- one step ---- */

/* On the node of the step. What srun says about that second step is not for the user; what stasis says is. */
static int take_image(const struct request *request, const char *step, const char *node)
{
    char program[MAX_PATH], job_option[2 * MAX_ID], node_option[MAX_PATH], wait_option[2 * MAX_ID];
    char *argv[16] = { "srun", "--overlap", "--quiet", "-N1", "-n1", "--mem=0", job_option, node_option, program, "checkpoint", (char *)step };
    int count = 11;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);

    if (length < 0)
        return complain(EXIT_SYSTEM, "cannot find myself: %m");
    program[length] = 0;
    snprintf(job_option, sizeof job_option, "--jobid=%s", request->job);
    snprintf(node_option, sizeof node_option, "--nodelist=%s", node);
    if (request->max_wait) {
        snprintf(wait_option, sizeof wait_option, "--max-wait=%s", request->max_wait);
        argv[count++] = wait_option;
    }
    if (request->stop)
        argv[count++] = "--stop";
    return slurm_run(argv);
}

/* All lines "JOB.STEP NODE" of squeue. The batch script and other steps without a number have no image. */
static int take_images(const struct request *request, char *lines)
{
    int status = 0, count = 0;

    for (char *line; (line = strsep(&lines, "\n"));) {
        char *node = strchr(line, ' '), *number = strchr(line, '.');
        if (!node || !number || number[1] < '0' || number[1] > '9')
            continue;
        *node++ = 0;
        if (request->step && strcmp(number + 1, request->step))
            continue;
        int one = take_image(request, line, node);
        status = status ? status : one;
        count++;
    }
    if (count)
        return status;
    fprintf(stderr, "scontrol_checkpoint error: %s\n", request->step ? "Invalid job id specified" : "the job has no running step");
    return EXIT_SCONTROL;
}

static int take(const struct request *request)
{
    char *lines = slurm_output((char *[]){ "squeue", "--noheader", "--steps", "--job", (char *)request->job, "--format=%i %N", NULL });
    int status = lines ? take_images(request, lines) : EXIT_SCONTROL;

    free(lines);
    return status;
}

/* ---- operations ---- */

static int operation_create(struct request *request)
{
    return take(request);
}

/* The step ends when its image is safe, and only then. */
static int operation_vacate(struct request *request)
{
    request->stop = 1;
    return take(request);
}

static int operation_requeue(struct request *request)
{
    int status;

    if (request->step) {
        fprintf(stderr, "scontrol_checkpoint error: Requested operation not supported on this system\n");
        return EXIT_SCONTROL;
    }
    status = take(request);
    return status ? status : slurm_run((char *[]){ "scontrol", "requeue", request->job, NULL });
}

/* A job that has ended and that Slurm still knows is run again, and goes on from its images. */
static int operation_restart(struct request *request)
{
    return slurm_run((char *[]){ "scontrol", "requeue", request->job, NULL });
}

/* Abbreviations as scontrol had them: "re" is requeue. */
static const struct operation {
    const char *name;
    size_t shortest;
    int (*run)(struct request *request);
} operations[] = {
    { "create", 2, operation_create },
    { "requeue", 2, operation_requeue },
    { "restart", 4, operation_restart },
    { "vacate", 2, operation_vacate },
};

static const struct operation *find_operation(const char *word)
{
    size_t length = strlen(word);

    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (length >= operations[i].shortest && !strncasecmp(word, operations[i].name, length))
            return &operations[i];
    return NULL;
}

/* JOB, JOB.STEP, and of arrays JOB_INDEX and JOB_INDEX.STEP; an element's own job id is asked of Slurm. */
static int read_id(char *word, struct request *request)
{
    char *step = strchr(word, '.'), *job;
    uint32_t number;

    if (step)
        *step++ = 0;
    if (strspn(word, "0123456789_") != strlen(word) || !*word || (step && options_number(step, INT32_MAX, &number))) {
        fprintf(stderr, "Invalid job step name\n");
        return EXIT_SCONTROL;
    }
    request->step = step;
    job = strchr(word, '_') ? slurm_output((char *[]){ "squeue", "--noheader", "--job", word, "--format=%A", NULL }) : strdup(word);
    if (!job || !*job || strlen(job) >= sizeof request->job) {
        free(job);
        fprintf(stderr, "scontrol_checkpoint error: Invalid job id specified\n");
        return EXIT_SCONTROL;
    }
    strcpy(request->job, job);
    free(job);
    return 0;
}

static int read_argument(char *word, struct request *request)
{
    uint32_t seconds;

    if (!strncasecmp(word, "MaxWait=", 8) && !options_number(word + 8, UINT16_MAX, &seconds)) {
        request->max_wait = word + 8;
        return 0;
    }
    fprintf(stderr, "error: Invalid input: %s\nRequest aborted\n", word);
    return EXIT_SCONTROL;
}

/* `checkpoint` OPERATION ID [ARGUMENT...] */
static int checkpoint(int count, char **words)
{
    struct request request = { 0 };
    const struct operation *operation;
    int status;

    if (count < 3 || count > MAX_WORDS) {
        fprintf(stderr, "too %s arguments for keyword:%s\n", count < 3 ? "few" : "many", words[0]);
        return EXIT_SCONTROL;
    }
    operation = find_operation(words[1]);
    if (!operation) {
        fprintf(stderr, "Invalid checkpoint operation: %s\n", words[1]);
        return EXIT_SCONTROL;
    }
    status = read_id(words[2], &request);
    for (int i = 3; !status && i < count; i++)
        status = read_argument(words[i], &request);
    return status ? status : operation->run(&request);
}

/* "ch" to "checkpoint", as scontrol shortened its words. */
static int is_checkpoint(const char *word)
{
    return strlen(word) >= 2 && !strncasecmp(word, "checkpoint", strlen(word));
}

static int scontrol(int argc, char **argv)
{
    const char *value;

    if (argc > 1 && is_checkpoint(argv[1])) {
        unsetenv(ENV_INTERVAL); /* our own steps need no images */
        unsetenv(ENV_RESTART);
        return checkpoint(argc - 1, argv + 1);
    }
    if (argc < 2 || !strcmp(argv[1], "--help"))
        while (options_next(&command_scontrol, argc, argv, &value) >= 0)
            continue;
    argv[0] = "scontrol";
    execvp("scontrol", argv);
    return complain(EXIT_SYSTEM, "cannot run scontrol: %m; is Slurm installed?");
}

const struct command command_scontrol = {
    .name = "scontrol",
    .operands = "checkpoint OPERATION JOB[.STEP] [MaxWait=SECONDS]",
    .summary = "scontrol(1) with its word 'checkpoint' back",
    .notes = "OPERATION is create (an image of each step), vacate (and end it), requeue (and\n"
             "run the job again from there), or restart (run a job that has ended again).\n"
             "Returns when it is done. All else goes to Slurm's own scontrol.",
    .choices = choices,
    .stops_at_operand = 1,
    .run = scontrol,
};
