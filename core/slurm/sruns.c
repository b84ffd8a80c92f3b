/* SPDX-License-Identifier: MIT */
/* The sruns of a batch script whose shell has an image of its own: <prefix>.sruns has a line "begin NUMBER" for each, in the order in which they
 * began, "tasks NUMBER" when its tasks are started, and "end NUMBER" when it has ended. A script that begins anew in
 * a later life has "until NUMBER" in front: the last srun whose output is already there. It is only appended to, and cut when the script comes back from an image. The number is the
 * step's name in images: Slurm's own numbers begin again with 0 in each life of a job. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../floor/names.h"
#include "slurm.h"

static const char BEGIN[] = "begin", TASKS[] = "tasks", END[] = "end", UNTIL[] = "until";

static int open_sruns(const char *prefix, int flags)
{
    char path[MAX_PATH];
    int length = snprintf(path, sizeof path, "%s" SRUNS_SUFFIX, prefix), file;

    if (length < 0 || (size_t)length >= sizeof path)
        return -ENAMETOOLONG;
    file = open(path, flags | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    return file < 0 ? -errno : file;
}

static int add_running(struct sruns *sruns, uint32_t number)
{
    struct srun *more = reallocarray(sruns->running, sruns->running_count + 1, sizeof *more);

    if (!more)
        return -ENOMEM;
    sruns->running = more;
    more[sruns->running_count++] = (struct srun){ .number = number };
    return 0;
}

static void remove_running(struct sruns *sruns, uint32_t number)
{
    size_t kept = 0;

    for (size_t i = 0; i < sruns->running_count; i++)
        if (sruns->running[i].number != number)
            sruns->running[kept++] = sruns->running[i];
    sruns->running_count = kept;
}

static void note_tasks(struct sruns *sruns, uint32_t number)
{
    for (size_t i = 0; i < sruns->running_count; i++)
        if (sruns->running[i].number == number)
            sruns->running[i].has_tasks = 1;
}

/* Takes the descriptor. */
static int read_lines(int file, struct sruns *ret_sruns)
{
    FILE *lines = fdopen(file, "r");
    struct stat status;
    char word[8];
    uint32_t number;
    int error = lines ? 0 : -errno;

    if (!lines) {
        close(file);
        return error;
    }
    ret_sruns->until = -1;
    while (!error && fscanf(lines, "%7s %u", word, &number) == 2) {
        if (!strcmp(word, UNTIL))
            ret_sruns->until = number;
        else if (strcmp(word, BEGIN) && (int64_t)number >= ret_sruns->until)
            ret_sruns->until = -1;
        if (!strcmp(word, BEGIN)) {
            error = add_running(ret_sruns, number);
            ret_sruns->begun++;
        } else if (!strcmp(word, TASKS)) {
            note_tasks(ret_sruns, number);
        } else if (!strcmp(word, END)) {
            remove_running(ret_sruns, number);
        }
    }
    if (!error && !fstat(fileno(lines), &status))
        ret_sruns->length = status.st_size;
    fclose(lines);
    return error;
}

int sruns_read(const char *prefix, struct sruns *ret_sruns)
{
    int file = open_sruns(prefix, O_RDONLY);

    *ret_sruns = (struct sruns){ .until = -1 };
    if (file < 0)
        return file == -ENOENT ? 0 : file;
    return read_lines(file, ret_sruns);
}

int sruns_is_running(const struct sruns *sruns, uint32_t number)
{
    for (size_t i = 0; i < sruns->running_count; i++)
        if (sruns->running[i].number == number)
            return 1;
    return 0;
}

void sruns_free(struct sruns *sruns)
{
    free(sruns->running);
    *sruns = (struct sruns){ 0 };
}

/* Two of a script's background commands may be here at once. */
int sruns_begin(const char *prefix)
{
    int file = open_sruns(prefix, O_RDWR | O_CREAT), error = file, again;
    struct sruns sruns = { 0 };

    if (file < 0)
        return file;
    again = flock(file, LOCK_EX) ? -1 : dup(file); /* which has the lock, too */
    if (again < 0)
        error = -errno;
    else if (!(error = read_lines(again, &sruns)) && dprintf(file, "%s %u\n", BEGIN, sruns.begun) < 0)
        error = -errno;
    error = error < 0 ? error : (int)sruns.begun;
    sruns_free(&sruns);
    close(file);
    return error;
}

/* What cannot be written leaves the job without further images of the whole, which is said when one is wanted. */
static void add_line(const char *prefix, const char *word, int number)
{
    int file = open_sruns(prefix, O_WRONLY);

    if (file < 0)
        return;
    dprintf(file, "%s %d\n", word, number);
    close(file);
}

void sruns_tasks(const char *prefix, int number)
{
    add_line(prefix, TASKS, number);
}

void sruns_end(const char *prefix, int number)
{
    add_line(prefix, END, number);
}

int sruns_begin_anew(const char *prefix, int until)
{
    int error = sruns_cut(prefix, 0);

    if (!error && until >= 0)
        add_line(prefix, UNTIL, until);
    return error;
}

int sruns_cut(const char *prefix, int64_t length)
{
    int file = open_sruns(prefix, O_RDWR | O_CREAT), error;

    if (file < 0)
        return file;
    error = ftruncate(file, length) ? -errno : 0;
    close(file);
    return error;
}
