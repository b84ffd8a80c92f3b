/* SPDX-License-Identifier: MIT */
/* Every environment variable, signal, file name, limit and exit status that is ours, once. */
#ifndef STASIS_NAMES_H
#define STASIS_NAMES_H

#define STASIS_VERSION "0.1.0"

/* Environment. The SLURM_ names are those that Slurm used until 20.02. */
#define ENV_INTERVAL       "SLURM_CHECKPOINT"      /* Slurm's time grammar, see interval.h */
#define ENV_DIRECTORY      "SLURM_CHECKPOINT_DIR"  /* where images go */
#define ENV_RESTART        "SLURM_RESTART_DIR"     /* restart from here instead of running */
#define ENV_BATCH_INTERVAL "SBATCH_CHECKPOINT"      /* the first two for sbatch */
#define ENV_BATCH_DIRECTORY "SBATCH_CHECKPOINT_DIR"
#define ENV_SUBMITTED      "SLURM_CHECKPOINT_SUBMITTED" /* sbatch to stasis attend: options that Slurm does not hand on */
#define ENV_CLEANUP        "SLURM_CHECKPOINT_CLEANUP" /* 1: sbatch --cleanup; to stasis attend */
#define ENV_OPTIONS        "SLURM_CHECKPOINT_OPTIONS" /* sbatch to stasis attend: its options, each but the last with OPTIONS_STOP behind it */
#define OPTIONS_STOP       '\x1f'
#define ENV_FORMER         "SLURM_CHECKPOINT_FORMER" /* see core/slurm/former.c */
#define ENV_FROM           "SLURM_CHECKPOINT_FROM" /* in this life, steps that have an image in this directory go on from it */
#define ENV_STEP           "STASIS_STEP"           /* the step as its images are called, when not as Slurm numbers it */
#define ENV_SRUN           "SLURM_CHECKPOINT_STEP" /* `stasis outside` to srun's tasks: ENV_STEP, see core/slurm/sruns.c; */
#define ENV_SRUN_IMAGE     "SLURM_CHECKPOINT_IMAGE" /* the image that they go on from, or SRUN_FRESH: none */
#define ENV_SRUNS          "STASIS_SRUNS"          /* in a batch script: <dir>/<job>, before SRUNS_SUFFIX and the like */
#define ENV_JOB_INTERVAL   "SLURM_CHECKPOINT_JOB"  /* sbatch's ENV_INTERVAL, to stasis attend: no step has one of its own then */
#define ENV_ATTENDING      "STASIS_ATTENDING"      /* BATCH_STEP: stasis checkpoint is asked for a job's script, if that runs under the shim;
                                                      * 1: stasis scontrol is asked for the job's steps alone */
#define ENV_PATH_MAP       "STASIS_PATH_MAP"       /* OLD=NEW, as stasis restart --path-map */
#define ENV_ATTENDED       "STASIS_ATTENDED"       /* 1 in a batch script that stasis attend stands by */
#define ENV_PROLOG         "STASIS_TASK_PROLOG"    /* the user's own task prolog, for ours */
#define ENV_STDOUT         "SLURM_CHECKPOINT_STDOUT" /* srun to its task: see slurm/output.c */
#define ENV_SHARED_OUTPUT  "STASIS_SHARED_OUTPUT" /* the plugin to the restorer: this file has the output of other steps, too */
#define ENV_STDERR         "SLURM_CHECKPOINT_STDERR"
#define ENV_CR_SOCKET      "SLURM_SRUN_CR_SOCKET"
#define ENV_SLURM_JOB      "SLURM_JOB_ID"
#define ENV_SLURM_STEP     "SLURM_STEP_ID"
#define ENV_BATCH_OPEN_MODE "SBATCH_OPEN_MODE"     /* these are Slurm's own: srun(1), sbatch(1) */
#define ENV_BATCH_JOB_NAME "SBATCH_JOB_NAME"
#define ENV_BATCH_REQUEUE  "SBATCH_REQUEUE"
#define ENV_BATCH_NO_REQUEUE "SBATCH_NO_REQUEUE"
#define ENV_BATCH_SIGNAL   "SBATCH_SIGNAL"
#define ENV_SLURM_STDOUT   "SLURM_STDOUTMODE"
#define ENV_SLURM_STDERR   "SLURM_STDERRMODE"
#define ENV_SLURM_LABEL    "SLURM_LABELIO"
#define ENV_SLURM_PROLOG   "SLURM_TASK_PROLOG"
#define ENV_SLURM_CONF     "SLURM_CONF"
#define ENV_SLURM_JOB_NAME "SLURM_JOB_NAME"
#define ENV_SLURM_SUBMITTED_IN "SLURM_SUBMIT_DIR"
#define ENV_SLURM_TASKS    "SLURM_STEP_NUM_TASKS"
#define ENV_SLURM_ARRAY    "SLURM_ARRAY_JOB_ID"
#define ENV_SLURM_ELEMENT  "SLURM_ARRAY_TASK_ID"
#define ENV_SLURM_RESTARTS "SLURM_RESTART_COUNT"
#define ENV_SLURM_TASK     "SLURM_PROCID"
#define ENV_SLURM_LAUNCHER "SLURM_LAUNCH_NODE_IPADDR" /* where srun is, and its ports */
#define ENV_SLURM_PORT     "SLURM_SRUN_COMM_PORT"
#define ENV_SLURM_STEP_PORT "SLURM_STEP_LAUNCHER_PORT"
#define ENV_NODES          "STASIS_NODES"          /* to `stasis checkpoint`: the same is asked on other nodes, too */
#define ENV_JOB            "STASIS_JOB_ID"         /* stasis run --job-id */
#define ENV_KEEP           "STASIS_KEEP"           /* older generations to keep */
#define ENV_SAVE_FILES     "STASIS_SAVE_FILES"     /* 1: stasis run --save-files */
#define ENV_SIGNAL         "STASIS_SIGNAL"         /* trigger signal, number or name */
#define ENV_RUN            "STASIS_RUN"            /* <run uuid>:<pid of the step's first process>:<its CLOCK_MONOTONIC ms> */
#define ENV_OUTSIDE        "STASIS_OUTSIDE"        /* in a child that no image has: its parent's PID, see tools/outside.c */
#define ENV_LIBEXEC        "STASIS_LIBEXEC"        /* where the helpers are, when not beside the shim */
#define ENV_TASK_PID       "STASIS_TASK_PID"       /* the plugin to the shim: which process the task is; its prolog is another */
#define ENV_TEST_FAIL      "STASIS_TEST_FAIL"      /* tests: comma-separated names of steps that must fail, or wait */

/* Helper programs, looked for in ENV_LIBEXEC, then beside libstasis.so, then in the install's libexec. */
#define SAVER_NAME         "stasis-saver"
#define RESTORER_NAME      "stasis-restorer"
#define KEEPER_NAME        "stasis-keeper" /* comm of the first process of a bubble */
#define SHIM_NAME          "libstasis.so"
#define TWIN_NAME          "stasis-twin"   /* comm of the frozen copies */

/* Beside them: a directory of links to stasis, under the names of Slurm's commands. */
#define WRAPPERS           "slurm"
#define PROLOG_NAME        "task-prolog"
#define OUTSIDE_NAME       "outside"

/* Registry of running processes: REGISTRY_ROOT<uid>/<run uuid>/<random>, in tmpfs. */
#define REGISTRY_ROOT      "/dev/shm/stasis-"
#define SPARE_PAGE         "spare" /* REGISTRY_ROOT<uid>/SPARE_PAGE: see spare.c */

/* Images: <dir>/<job>.<step>.ckpt, older ones with .1, .2 behind, other runs' with .run-<uuid8>. */
#define IMAGE_SUFFIX       ".ckpt"
#define IMAGE_ASIDE        ".run-"
#define PARTS_SUFFIX       ".d" /* <dir>/<job>.<step>.ckpt.d/: the parts of a step of several tasks, */
#define PART_NAME          "task." /* task.<task>.<attempt>, */
#define PARTS_LOCK         "lock"  /* held while an index is given its name, */
#define ROLL_NAME          "roll." /* and what their savers agree by: see roll.h */
#define RESUMED_SUFFIX     ".resumed" /* <dir>/<job>.<step>.resumed: see restorer/attempts.c */
#define REQUEST_SUFFIX     ".request" /* <dir>/<job>.<step>.request: see core/registry/requests.h; a refused one has .refused behind */
#define REFUSED_SUFFIX     ".refused"
#define BATCH_STEP         "batch"    /* the script of a batch job, whose image is <dir>/<job>.ckpt */
#define SRUN_FRESH         "none"
#define SRUNS_SUFFIX       ".sruns"   /* <dir>/<job>.sruns: see core/slurm/sruns.c, */
#define LIFE_SUFFIX        ".life"    /* and life.c; <dir>/<job>.life.first is that of the life in which the script began */
#define FIRST_LIFE_SUFFIX  ".life.first"
#define MOMENT_SUFFIX      ".moment"  /* <dir>/<job>.moment: see tools/slurm_moment.c */
#define BOOK_SUFFIX        ".book"    /* <dir>/<job>.book: see tools/slurm_book.c */
#define FROM_SUFFIX        ".from"    /* <state>/<job>.from: ENV_FROM for the job's next life, see core/slurm/state.c */
#define MARK_SUFFIX        ".step"    /* <dir>/<job>.<step>.step: see slurm/steps.c */
#define TAIL_SUFFIX        ".stasis-tail" /* behind the name of an output file: what was written after the checkpoint */
#define DEFAULT_KEEP       2
#define MAX_KEEP           1000

/* Signals. The stop signal is a real-time one above all that Java (62), Go and glibc (32, 33) use; the
 * trigger is what a person sends. */
#define STOP_SIGNAL        63
#define LIBC_SIGNAL        33 /* glibc's own, for setuid() in all threads: the one that its helper threads do not block */
#define DEFAULT_TRIGGER    12 /* SIGUSR2 */

/* Bytes between stasis-saver --meanwhile and whoever has something to do while the program stands still, and when its image is safe, but it is not
 * stopped yet. */
enum meanwhile { MEANWHILE_STOPPED = 's', MEANWHILE_SAFE = 'i', MEANWHILE_DONE = 'd' };

/* Exit status, as sysexits.h where it has a word for it. */
enum exit_status {
    EXIT_USAGE = 64,     /* bad command line or interval */
    EXIT_DAMAGED = 65,   /* the image is damaged */
    EXIT_NO_IMAGE = 66,  /* there is no image, or no such program */
    EXIT_REFUSED = 69,   /* refused by name, or something the image needs is missing */
    EXIT_INTERNAL = 70,  /* our own mistake */
    EXIT_SYSTEM = 71,    /* a system call failed for want of a resource */
    EXIT_CANNOT_CREATE = 73,
    EXIT_CANNOT_WRITE = 74,
    EXIT_RUN_AGAIN = 75, /* stopped after a checkpoint, or given up within --max-wait */
    EXIT_NOT_ALLOWED = 77,
};

enum {
    MAX_PATH = 4096,
    MAX_ID = 64,         /* job and step id, with the NUL */
    UUID_BYTES = 16,
    UUID_TEXT = 37,      /* 36 characters and the NUL */
    STOP_DEADLINE_SECONDS = 10,
    PAGE_BYTES = 4096,
};

#endif
