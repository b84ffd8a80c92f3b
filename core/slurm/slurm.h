/* SPDX-License-Identifier: MIT */
/* What the plugin and the wrappers of `stasis srun` and `stasis sbatch` do alike, as the user. */
#ifndef STASIS_SLURM_H
#define STASIS_SLURM_H

#include <stddef.h>
#include <stdint.h>

#include "../floor/names.h"

#define CLEANUP_BAD "--cleanup is for sbatch; of one program: srun stasis run --cleanup ..."

/* command_line.c: the words of this process's command line, NULL-terminated, to be freed. NULL when it cannot be read. */
char **command_line(int *ret_count);

/* paths.c: sets a variable to a path, made absolute: relative to where srun or sbatch was started, for the task may be started elsewhere. */
void slurm_export_path(const char *variable, const char *value);

/* submitted.c, before sbatch reads its options: a requeued job must not empty its output file. */
void submitted_append(void);
/* The same, in the plugin, when its options stand on sbatch's command line. */
void submitted_look(void);
/* The same, in the plugin, when sbatch has read them. */
void submitted_end_append(void);
/* In sbatch: what the job must know of this command line and its environment, for `stasis attend`. */
void submitted_note(void);
/* The options among these words (the first is the command, the last the last option), for whoever submits it anew. */
void submitted_keep(char **words, int count);

/* state.c: the directory for what is remembered of jobs, made when it is missing; own and home are XDG_STATE_HOME and HOME, NULL: not
 * set. -errno. */
int slurm_state_directory(const char *own, const char *home, char *path, size_t size);
/* `scontrol checkpoint restart JOB ImageDir=DIR`: a note for the job's next life, and whoever begins that takes it away, to
 * directory[MAX_PATH]. -errno; 1 when there was one. */
int slurm_note_from(const char *own, const char *home, const char *job, const char *directory);
int slurm_take_from(const char *own, const char *home, const char *job, char *directory);

/* former.c: with the value of ENV_FORMER. 1: the job has a former one. */
struct former {
    char job[16], images[16]; /* numbers */
};
int slurm_former(const char *value, const char *job, struct former *ret_former);
/* 1: it is as it was submitted; whole[size] is what the job's script is to have. */
int slurm_former_begins(const char *value, const char *job, char *whole, size_t size);
/* The former one's book and marks become the job's. */
void slurm_take_over(const char *directory, const char *former, const char *job);

/* sruns.c: of a script's own list of its sruns. prefix: ENV_SRUNS. */
struct srun {
    uint32_t number;
    int has_tasks;         /* they are started, or were */
};
struct sruns {
    uint32_t begun;        /* how many */
    struct srun *running;  /* those that have not ended */
    size_t running_count;
    int64_t length;        /* of the list, in bytes */
    int64_t until;         /* the script has not come to where it was in a former life: to this srun; -1: it has */
};
/* The number of one that begins; or -errno. */
int sruns_begin(const char *prefix);
/* In its first task. */
void sruns_tasks(const char *prefix, int number);
void sruns_end(const char *prefix, int number);
/* 0 or -errno; of a list that is not there yet, zeros. */
int sruns_read(const char *prefix, struct sruns *ret_sruns);
int sruns_is_running(const struct sruns *sruns, uint32_t number);
void sruns_free(struct sruns *sruns);
/* An empty one; of a later life with the number of the last srun that has begun before, else -1. -errno. */
int sruns_begin_anew(const char *prefix, int until);
/* To what it was at the moment of an image. -errno. */
int sruns_cut(const char *prefix, int64_t length);

/* life.c: a life of the script begins, with this process's environment; its file is `script`. images: texts "@NUMBER=IMAGE", with LIFE_WITH_IMAGE before them, for one that goes on
 * from its image; NULL: it begins with its first line. 0 or -errno. */
#define LIFE_WITH_IMAGE "@"
int life_begin(const char *prefix, const char *script, char *const *images);
/* Where the script is in this life. 0 or -ENOENT. */
int life_script(const char *prefix, char path[MAX_PATH]);
/* Before an srun of that number: this process's environment becomes that of the present life. image: from what it goes on; SRUN_FRESH: from none; "":
 * nothing is known of that. */
void life_enter(const char *prefix, int number, char image[MAX_PATH]);

/* output.c, in srun: the files that it would write its task's output to, for the shim. */
void output_note(void);

#endif
