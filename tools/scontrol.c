/* SPDX-License-Identifier: MIT */
/* stasis scontrol: scontrol(1) with the word `checkpoint` that Slurm had until 20.02. What else it is asked goes to Slurm's own
 * scontrol untouched. Images are taken on the step's node, by `stasis checkpoint` in a step of its own beside it
 * (srun --overlap): so Slurm's authentication is ours, and nothing listens anywhere. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "../core/floor/names.h"
#include "commands.h"
#include "locate.h"
#include "slurm_commands.h"
#include "slurm_nodes.h"
#include "slurm_request.h"
#include "slurm_state.h"
#include "../core/slurm/slurm.h"

enum { EXIT_SCONTROL = 1 /* scontrol's own status for whatever goes wrong */, MAX_WORDS = 5 };
enum { NONE = -1 /* no status */ };
enum { AGENT_WORDS = 6 };

#define AGENT_STEP "stasis-agent" /* what steps of ours are called: nobody wants an image of those */
enum { MAX_WAIT = 1, STICK_TO_NODES = 2, IMAGE_DIRECTORY = 4 };

static const struct choice choices[] = { { 0 } };

struct request {
    char job[MAX_ID];     /* JOB, or ARRAY_INDEX: an element's own number may be that of the whole array */
    const char *step;     /* NULL: all of the job */
    const char *max_wait; /* seconds; NULL: no limit */
    const char *images;   /* ImageDir: where images go, or are; NULL: where those of the job do */
    int stop;
    int sticks;           /* StickToNodes */
};

/* The old words; the code of each was Slurm's own and is not told. */
static int complain_slurm(const char *text)
{
    fprintf(stderr, "scontrol_checkpoint error: %s\n", text);
    return EXIT_SCONTROL;
}

/* ---- one step ---- */

/* What `scontrol show job` says behind NAME=, to be freed; NULL when Slurm does not know the job. */
static char *job_word(const char *job, const char *name)
{
    char *text = slurm_output((char *[]){ "sh", "-c", "exec scontrol --oneliner show job \"$1\" 2>/dev/null", "sh", (char *)job, NULL });
    char *word = NULL, own[MAX_ID + 16];

    snprintf(own, sizeof own, "JobId=%s ", job);
    char *exact = text && getenv(ENV_ATTENDING) ? strstr(text, own) : NULL; /* an array's number is also that of its last element */
    for (char *rest = exact ? exact : text, *one; !word && (one = strsep(&rest, " \n"));)
        if (!strncmp(one, name, strlen(name)) && one[strlen(name)] == '=')
            word = strdup(one + strlen(name) + 1);
    free(text);
    return word;
}

/* Beside the script of the job, and the step is there, too: nobody need be asked who is elsewhere. */
static int is_asked_on(const char *nodes)
{
    const char *here = getenv("SLURMD_NODENAME");

    return getenv(ENV_ATTENDING) && here && !strcmp(here, nodes);
}

/* On the nodes of the step. What srun says about that second step is not for the user; what stasis says is. */
static int take_image(const struct request *request, const char *job, const char *number, const char *nodes)
{
    char step[2 * MAX_ID], job_option[2 * MAX_ID], wait_option[2 * MAX_ID],
        directory_option[MAX_PATH + 32];
    char *argv[AGENT_WORDS + NODE_OPTIONS + 8] = { "srun", "--overlap", "--quiet", "--mem=0", "--job-name=" AGENT_STEP, job_option };
    int count = AGENT_WORDS + NODE_OPTIONS;
    int is_here = is_asked_on(nodes);

    snprintf(step, sizeof step, "%s.%s", job, number);
    snprintf(job_option, sizeof job_option, "--jobid=%s", job);
    slurm_node_options(nodes, argv + AGENT_WORDS);
    argv[count++] = (char *)locate_self();
    argv[count++] = "checkpoint";
    argv[count++] = step;
    if (request->max_wait) {
        snprintf(wait_option, sizeof wait_option, "--max-wait=%s", request->max_wait);
        argv[count++] = wait_option;
    }
    if (request->images) {
        snprintf(directory_option, sizeof directory_option, "--checkpoint-dir=%s", request->images);
        argv[count++] = directory_option;
    }
    if (request->stop)
        argv[count++] = "--stop";
    return is_here ? slurm_run(argv + AGENT_WORDS + NODE_OPTIONS) : slurm_run_on_nodes(argv);
}

/* Programs and their images have the element's own number. */
static int take_image_of_element(const struct request *request, const char *element, const char *number, const char *nodes)
{
    char *job = job_word(element, "JobId");
    int status = job ? take_image(request, job, number, nodes) : complain_slurm("Invalid job id specified");

    free(job);
    return status;
}

/* There is no such step to take an image of. */
static int complain_absent(const struct request *request)
{
    static const char *const reasons[][2] = {
        { "PENDING", "Job is pending execution" },
        { "SUSPENDED", "Job is current suspended, requested operation disabled" },
        { "RUNNING", NULL },
    };
    char *state = job_word(request->job, "JobState");
    const char *reason = state ? "Job/step already completing or completed" : "Invalid job id specified";

    for (size_t i = 0; state && i < sizeof reasons / sizeof *reasons; i++)
        if (!strcmp(state, reasons[i][0]))
            reason = reasons[i][1] ? reasons[i][1] : request->step ? "Invalid job id specified" : "the job has no running step";
    free(state);
    return complain_slurm(reason);
}

/* Of the batch script, which takes its steps along, when it runs under the shim; or of the steps. */
static int is_wanted(const struct request *request, const char *number, int of_script)
{
    if (of_script)
        return !strncmp(number, BATCH_STEP " ", sizeof BATCH_STEP);
    return *number >= '0' && *number <= '9'
           && (!request->step || (!strncmp(number, request->step, strlen(request->step)) && number[strlen(request->step)] == ' '));
}

/* Of all lines "JOB.STEP NODE NAME" or "ARRAY_INDEX.STEP NODE NAME" of squeue that are wanted. NONE: there is none. */
static int take_images(const struct request *request, const char *all, int of_script)
{
    char *lines = strdup(all);
    int status = 0, count = 0;

    for (char *rest = lines, *line; (line = strsep(&rest, "\n"));) {
        char *number = strchr(line, '.'), *node = number ? strchr(number, ' ') : NULL, *name = node ? strchr(node + 1, ' ') : NULL;
        if (!name || !is_wanted(request, number + 1, of_script) || !strcmp(name + 1, AGENT_STEP))
            continue;
        *name = 0;
        *node++ = 0;
        *number++ = 0;
        int one = (strchr(line, '_') ? take_image_of_element : take_image)(request, line, number, node);
        status = status ? status : one;
        count++;
    }
    free(lines);
    return count ? status : NONE;
}

/* NONE: it does not run under the shim. */
static int take_script(const struct request *request, const char *lines)
{
    int status;

    if (request->step || getenv(ENV_ATTENDING))
        return NONE;
    setenv(ENV_ATTENDING, BATCH_STEP, 1);
    status = take_images(request, lines, 1);
    unsetenv(ENV_ATTENDING);
    return status == EXIT_NO_IMAGE ? NONE : status;
}

static int take_now(const struct request *request)
{
    char *lines = slurm_output((char *[]){ "squeue", "--noheader", "--steps", "--job", (char *)request->job, "--format=%i %N %j", NULL });
    int status = lines ? take_script(request, lines) : EXIT_SCONTROL;

    if (lines && status && !(status == EXIT_RUN_AGAIN && request->max_wait)) {
        if (status != NONE)
            complain(0, "the script of job %s has no image therefore; its steps have", request->job);
        status = take_images(request, lines, 0);
    }
    free(lines);
    if (status == NONE && getenv(ENV_ATTENDING))
        return EXIT_NO_IMAGE; /* of which nobody need be told */
    return status == NONE ? complain_absent(request) : status;
}

/* JOB or JOB.STEP */
static int open_state(const struct request *request, struct state *state)
{
    char id[2 * MAX_ID];
    int error;

    snprintf(id, sizeof id, "%s%s%s", request->job, request->step ? "." : "", request->step ? request->step : "");
    error = state_open(state, id);
    return error ? complain(EXIT_SCONTROL, "cannot remember anything in %s: %s", *state->path ? state->path : "$HOME", strerror(-error)) : 0;
}

/* Without a place to remember it in, and beside another request, an image is taken all the same. */
static int take(const struct request *request)
{
    struct state state;
    int status;

    if (getenv(ENV_ATTENDING))
        return take_now(request); /* of what has been asked for already, or of the interval */
    if (open_state(request, &state) || state.is_busy) {
        state_close(&state);
        return take_now(request);
    }
    if (state.disabled) {
        state_close(&state);
        return complain_slurm("Requested operation is presently disabled");
    }
    state.began = time(NULL);
    state_write(&state);
    status = take_now(request);
    if (status != EXIT_SCONTROL) /* which was no request */
        state.error = (uint32_t)status;
    state_write(&state);
    state_close(&state);
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

/* In the life that begins, its steps look for their images in ImageDir first. Of an array each element is told. */
static int tell_directory(const struct request *request)
{
    char *numbers = slurm_output((char *[]){ "squeue", "--noheader", "--states=all", "--job", (char *)request->job, "--format=%A", NULL });
    int error = 0;

    for (char *rest = numbers, *number; !error && (number = strsep(&rest, "\n"));)
        if (*number)
            error = slurm_note_from(getenv("XDG_STATE_HOME"), getenv("HOME"), number, request->images);
    free(numbers);
    return error ? complain(EXIT_SCONTROL, "cannot remember in $HOME where the images are: %s", strerror(-error)) : 0;
}

static int requeue(struct request *request)
{
    int status = request->images ? tell_directory(request) : 0;

    return status ? status : slurm_run((char *[]){ "scontrol", "requeue", request->job, NULL });
}

static int operation_requeue(struct request *request)
{
    int status;

    if (request->step)
        return complain_slurm("Requested operation not supported on this system");
    status = take(request);
    return status ? status : requeue(request);
}

/* On the nodes it had. Before it is requeued, for then Slurm forgets them; after that they can be asked for. */
static int requeue_on(struct request *request, char *nodes)
{
    char words[MAX_PATH];
    int status = requeue(request);

    snprintf(words, sizeof words, "ReqNodeList=%s", nodes);
    return status ? status : slurm_run((char *[]){ "scontrol", "update", "JobId", request->job, words, NULL });
}

/* One that Slurm has forgotten. Only its images' directory knows of it. */
static int submit_anew(const struct request *request)
{
    int status;

    if (request->sticks)
        return complain(EXIT_SCONTROL, "Slurm has forgotten job %s, and so nobody knows its nodes: leave StickToNodes out", request->job);
    status = request->step ? EXIT_NO_IMAGE : request_submit(request->images ? request->images : ".", request->job);
    if (status != EXIT_NO_IMAGE)
        return status;
    complain_slurm("Invalid job id specified");
    return complain(EXIT_SCONTROL, "Slurm has forgotten job %s, or never had it; to submit it anew, name the directory of its images with ImageDir=DIR",
                    request->job);
}

/* A job that has ended is run again, and goes on from its images. */
static int operation_restart(struct request *request)
{
    char *state = job_word(request->job, "JobState"), *nodes = request->sticks ? job_word(request->job, "NodeList") : NULL;
    int status;

    if (!state)
        status = submit_anew(request);
    else if (request->step)
        status = complain_slurm("Requested operation not supported on this system");
    else if (!strcmp(state, "PENDING") || !strcmp(state, "RUNNING") || !strcmp(state, "SUSPENDED") || !strcmp(state, "COMPLETING"))
        status = complain_slurm("Job is not finished");
    else
        status = nodes ? requeue_on(request, nodes) : requeue(request);
    free(state);
    free(nodes);
    return status;
}

static int operation_able(struct request *request)
{
    struct state state;
    char when[32] = "";
    struct tm local;
    int status = open_state(request, &state);

    if (status)
        return status;
    if (state.is_busy) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", localtime_r(&(time_t){ state.began }, &local));
        printf("Began at %s\n", when);
    } else {
        printf("%s\n", state.disabled ? "No" : "Yes");
    }
    state_close(&state);
    return 0;
}

/* They nest; but what is enabled more often than disabled is just enabled. */
static int change_disabled(struct request *request, int change)
{
    struct state state;
    int status = open_state(request, &state);

    if (status)
        return status;
    if (state.is_busy) {
        state_close(&state);
        return complain_slurm(strerror(EALREADY));
    }
    if (change > 0 || state.disabled)
        state.disabled += (uint32_t)change;
    state_write(&state);
    state_close(&state);
    return 0;
}

static int operation_disable(struct request *request)
{
    return change_disabled(request, 1);
}

static int operation_enable(struct request *request)
{
    return change_disabled(request, -1);
}

static int operation_error(struct request *request)
{
    static const struct {
        uint32_t status;
        const char *text;
    } texts[] = {
        { 0, "No error" }, { EXIT_NO_IMAGE, "No such program" }, { EXIT_REFUSED, "Refused by name" },
        { EXIT_CANNOT_CREATE, "Cannot create the image" }, { EXIT_CANNOT_WRITE, "Cannot write the image" },
        { EXIT_RUN_AGAIN, "Given up within MaxWait" }, { EXIT_NOT_ALLOWED, "Access/permission denied" },
    };
    const char *text = "Unspecified error";
    struct state state;
    int status = open_state(request, &state);

    if (status)
        return status;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].status == state.error)
            text = texts[i].text;
    printf("error(%u): %s\n", state.error, text);
    state_close(&state);
    return 0;
}

/* Abbreviations as scontrol had them: "re" is requeue. */
static const struct operation {
    const char *name;
    size_t shortest;
    int arguments; /* those it takes */
    int (*run)(struct request *request);
} operations[] = {
    { "able", 1, 0, operation_able },
    { "create", 2, MAX_WAIT | IMAGE_DIRECTORY, operation_create },
    { "disable", 1, 0, operation_disable },
    { "enable", 2, 0, operation_enable },
    { "error", 2, 0, operation_error },
    { "requeue", 2, MAX_WAIT | IMAGE_DIRECTORY, operation_requeue },
    { "restart", 4, STICK_TO_NODES | IMAGE_DIRECTORY, operation_restart },
    { "vacate", 2, MAX_WAIT | IMAGE_DIRECTORY, operation_vacate },
};

static const struct operation *find_operation(const char *word)
{
    size_t length = strlen(word);

    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (length >= operations[i].shortest && !strncasecmp(word, operations[i].name, length))
            return &operations[i];
    return NULL;
}

/* The element of an array that has this number; an array's own number means all of it. */
static void name_as_element(struct request *request)
{
    char *array = job_word(request->job, "ArrayJobId"), *index = array ? job_word(request->job, "ArrayTaskId") : NULL;

    if (index && (strcmp(array, request->job) || getenv(ENV_ATTENDING)))
        snprintf(request->job, sizeof request->job, "%s_%s", array, index);
    free(array);
    free(index);
}

/* JOB or ARRAY_INDEX, and .STEP behind it. */
static int read_id(char *word, struct request *request)
{
    char *step = strchr(word, '.'), *index;
    uint32_t number;

    if (step)
        *step++ = 0;
    snprintf(request->job, sizeof request->job, "%s", word);
    index = strchr(word, '_');
    if (index)
        *index++ = 0;
    if (options_number(word, INT32_MAX, &number) || (index && options_number(index, INT32_MAX, &number))
        || (step && options_number(step, INT32_MAX, &number))) {
        fprintf(stderr, "Invalid job step name\n");
        return EXIT_SCONTROL;
    }
    request->step = step;
    if (!index)
        name_as_element(request);
    return 0;
}

/* Taken literally: nothing is put behind it. */
static const char *absolute(const char *path)
{
    static char whole[MAX_PATH];
    size_t length = *path == '/' || !getcwd(whole, sizeof whole - 1) ? 0 : strlen(whole);

    snprintf(whole + length, sizeof whole - length, "%s%s", length ? "/" : "", path);
    return whole;
}

static int read_argument(char *word, int allowed, struct request *request)
{
    uint32_t seconds;
    size_t length = strlen(word);

    if ((allowed & STICK_TO_NODES) && length >= 5 && !strncasecmp(word, "StickToNodes", length)) {
        request->sticks = 1;
        return 0;
    }
    if ((allowed & MAX_WAIT) && !strncasecmp(word, "MaxWait=", 8) && !options_number(word + 8, UINT16_MAX, &seconds)) {
        request->max_wait = word + 8;
        return 0;
    }
    if ((allowed & IMAGE_DIRECTORY) && !strncasecmp(word, "ImageDir=", 9) && word[9]) {
        request->images = absolute(word + 9);
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
        status = read_argument(words[i], operation->arguments, &request);
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
        unsetenv(ENV_DIRECTORY);
        return checkpoint(argc - 1, argv + 1);
    }
    if (argc < 2 || !strcmp(argv[1], "--help"))
        while (options_next(&command_scontrol, argc, argv, &value) >= 0)
            continue;
    argv[0] = "scontrol";
    return slurm_become("scontrol", argv);
}

const struct command command_scontrol = {
    .name = "scontrol",
    .operands = "checkpoint OPERATION JOB[.STEP] [MaxWait=SECONDS] [ImageDir=DIR]",
    .summary = "scontrol(1) with its word 'checkpoint' back",
    .notes = "OPERATION is create (an image of each step), vacate (and end it), requeue (and\n"
             "run the job again from there), restart (run a job that has ended again), able,\n"
             "disable, enable (may images be asked for?) or error (of the last request).\n"
             "Returns when it is done. All else goes to Slurm's own scontrol.",
    .choices = choices,
    .stops_at_operand = 1,
    .run = scontrol,
};
