/* SPDX-License-Identifier: MIT */
/* The file of a moment: written, found, gone back to. */
#include "slurm_moment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/floor/text.h"
#include "../core/image/entry.h"
#include "../core/image/tasks.h"
#include "../core/slurm/slurm.h"
#include "options.h"

void moment_free(struct moment *moment)
{
    free(moment->steps);
    *moment = (struct moment){ .prefix = "" };
}

/* ---- the file ---- */

static void print_image(FILE *file, const char *word, const struct moment_image *image)
{
    char run[UUID_TEXT];

    text_from_uuid(image->run, run);
    fprintf(file, "%s %s %" PRIu64 "\n", word, run, image->generation);
}

static void print(FILE *file, const struct moment *moment)
{
    char word[32];

    print_image(file, "image", &moment->image);
    fprintf(file, "sruns %" PRId64 " %s\n", moment->sruns_length, moment->prefix);
    fprintf(file, "script %" PRId64 " %" PRId64 " %s\n", moment->seconds, moment->nanoseconds, moment->script);
    for (size_t i = 0; i < moment->step_count; i++) {
        snprintf(word, sizeof word, "step %" PRIu32, moment->steps[i].number);
        print_image(file, word, &moment->steps[i].image);
    }
}

static int know_image(struct moment_image *image)
{
    struct image opened = { 0 };
    int error = image_open(&opened, image->path);

    memcpy(image->run, opened.header.run, sizeof image->run);
    image->generation = opened.header.generation;
    image_close(&opened);
    return error;
}

int moment_write(struct moment *moment, const char *directory, const char *job)
{
    char path[2 * MAX_PATH], temporary[2 * MAX_PATH + 8];
    FILE *file;

    snprintf(moment->image.path, sizeof moment->image.path, "%s/%s" IMAGE_SUFFIX, directory, job);
    snprintf(path, sizeof path, "%s/%s" MOMENT_SUFFIX, directory, job);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    if (know_image(&moment->image))
        return complain(EXIT_CANNOT_WRITE, "%s cannot be read again", moment->image.path);
    unlink(temporary);
    file = fopen(temporary, "wxe");
    if (file)
        print(file, moment);
    if (!file || fflush(file) || fsync(fileno(file)) || fclose(file) || rename(temporary, path))
        return complain(EXIT_CANNOT_WRITE, "cannot write %s: %m", path);
    return 0;
}

static int read_image(const char *run, struct moment_image *image)
{
    return text_to_uuid(run, image->run) ? -EBADMSG : 0;
}

static int add_step(struct moment *moment, uint32_t number, const char *run, uint64_t generation)
{
    struct moment_step *more = reallocarray(moment->steps, moment->step_count + 1, sizeof *more);

    if (!more)
        return -ENOMEM;
    moment->steps = more;
    more[moment->step_count] = (struct moment_step){ .number = number, .image.generation = generation };
    return read_image(run, &more[moment->step_count++].image);
}

static int read_line(struct moment *moment, const char *line)
{
    char run[UUID_TEXT + 1] = "";
    uint64_t generation;
    uint32_t number;
    int at = 0;

    if (sscanf(line, "image %36s %" SCNu64, run, &generation) == 2) {
        moment->image.generation = generation;
        return read_image(run, &moment->image);
    }
    if (sscanf(line, "step %" SCNu32 " %36s %" SCNu64, &number, run, &generation) == 3)
        return add_step(moment, number, run, generation);
    if (sscanf(line, "sruns %" SCNd64 " %n", &moment->sruns_length, &at) == 1 && at)
        snprintf(moment->prefix, sizeof moment->prefix, "%s", line + at);
    else if (sscanf(line, "script %" SCNd64 " %" SCNd64 " %n", &moment->seconds, &moment->nanoseconds, &at) == 2 && at)
        snprintf(moment->script, sizeof moment->script, "%s", line + at);
    else
        return -EBADMSG;
    return 0;
}

static int read_moment(const char *directory, const char *job, struct moment *ret_moment)
{
    char path[2 * MAX_PATH], line[MAX_PATH + 64];
    FILE *file;
    int error = 0;

    *ret_moment = (struct moment){ .prefix = "" };
    snprintf(path, sizeof path, "%s/%s" MOMENT_SUFFIX, directory, job);
    file = fopen(path, "re");
    if (!file)
        return -errno;
    while (!error && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        error = read_line(ret_moment, line);
    }
    fclose(file);
    return error ? error : *ret_moment->prefix && ret_moment->image.generation ? 0 : -EBADMSG;
}

/* ---- its images ---- */

static int is_it(const char *path, const struct moment_image *wanted)
{
    struct image image = { 0 };
    struct tasks_found tasks;
    int is = !image_open(&image, path) && image.header.generation == wanted->generation
             && !memcmp(image.header.run, wanted->run, sizeof wanted->run) && !tasks_check(&image, path, 0, &tasks);

    image_close(&image);
    return is;
}

/* Among the generations of that name. */
static int find_generation(const char *directory, const char *name, struct moment_image *image)
{
    int entries = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = entries < 0 ? -errno : 0;
    struct buffer numbers = { 0 };

    if (!error)
        error = entry_generations(entries, name, &numbers);
    snprintf(image->path, sizeof image->path, "%s/%s", directory, name);
    int is = !error && is_it(image->path, image);
    for (size_t at = 0; !error && !is && at < numbers.length; at += sizeof(unsigned)) {
        snprintf(image->path, sizeof image->path, "%s/%s.%u", directory, name, *(const unsigned *)(numbers.bytes + at));
        is = is_it(image->path, image);
    }
    buffer_free(&numbers);
    if (entries >= 0)
        close(entries);
    return is ? 0 : -ENOENT;
}

struct search {
    const char *directory;
    struct moment_step *step;
    int is_found;
};

/* <job>.<number>.ckpt: in a job that goes on for another, either's number. */
static int look_at_entry(void *context, const char *entry)
{
    struct search *search = context;
    size_t job, length = entry_stem(entry, &job);
    char step[16], name[NAME_MAX + 1];
    int digits = snprintf(step, sizeof step, "%" PRIu32, search->step->number);

    if (!length || entry[length] || entry_is_whole_job(length, job) || strncmp(entry + job + 1, step, (size_t)digits)
        || job + 1 + (size_t)digits + strlen(IMAGE_SUFFIX) != length)
        return 0;
    snprintf(name, sizeof name, "%s", entry);
    search->is_found = !find_generation(search->directory, name, &search->step->image);
    return search->is_found;
}

static int find_step(const char *directory, struct moment_step *step)
{
    struct search search = { directory, step, 0 };
    int entries = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (entries < 0)
        return -errno;
    entry_walk(entries, look_at_entry, &search);
    close(entries);
    return search.is_found ? 0 : -ENOENT;
}

int moment_find(const char *directory, const char *job, struct moment *ret_moment)
{
    char name[MAX_ID + sizeof IMAGE_SUFFIX];
    int error = read_moment(directory, job, ret_moment);

    snprintf(name, sizeof name, "%s" IMAGE_SUFFIX, job);
    if (!error)
        error = find_generation(directory, name, &ret_moment->image);
    for (size_t i = 0; !error && i < ret_moment->step_count; i++)
        error = find_step(directory, &ret_moment->steps[i]);
    if (error)
        moment_free(ret_moment);
    return error;
}

/* ---- going back to it ---- */

static const struct moment_step *step_of(const struct moment *moment, uint32_t number)
{
    for (size_t i = 0; i < moment->step_count; i++)
        if (moment->steps[i].number == number)
            return &moment->steps[i];
    return NULL;
}

/* Its step had begun, and had not ended: what the mark (slurm/steps.c) says of later is not true any more. */
static void cut_mark(const char *path)
{
    char *line = NULL;
    size_t room = 0;
    FILE *mark = fopen(path, "r+e");
    long end = 0;

    while (mark && getline(&line, &room, mark) > 0 && (!strncmp(line, "begun", 5) || !strncmp(line, "shared", 6)))
        end = ftell(mark);
    free(line);
    if (!mark)
        return;
    if (ftruncate(fileno(mark), end)) /* then it is taken for ended, and its srun for one that has nothing to do */
        complain(0, "%s: %m", path);
    fclose(mark);
}

/* Of the sruns that had ended by then the marks stay. */
static void settle_marks(const struct moment *moment, const char *slurm_job, const struct sruns *sruns)
{
    char directory[MAX_PATH], path[2 * MAX_PATH];
    size_t length = strlen(slurm_job);
    struct dirent *entry;
    uint32_t number;
    int end;

    snprintf(directory, sizeof directory, "%s", moment->prefix);
    *strrchr(directory, '/') = 0;
    DIR *entries = opendir(directory);
    while (entries && (entry = readdir(entries))) {
        end = 0;
        if (strncmp(entry->d_name, slurm_job, length) || sscanf(entry->d_name + length, ".%" SCNu32 MARK_SUFFIX "%n", &number, &end) != 1 || !end
            || entry->d_name[length + (size_t)end])
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (step_of(moment, number))
            cut_mark(path);
        else if (number >= sruns->begun || sruns_is_running(sruns, number))
            unlink(path);
    }
    if (entries)
        closedir(entries);
}

/* Slurm has written it anew: the same, as a job's script cannot be changed, but for its time. */
void moment_settle_script(const struct moment *moment, const char *script)
{
    struct timespec times[] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = moment->seconds, .tv_nsec = moment->nanoseconds } };

    if (*moment->script && utimensat(AT_FDCWD, script, times, 0))
        complain(0, "%s: %m", script);
}

static int begin_life(const struct moment *moment, const char *script)
{
    char **images = calloc(moment->step_count + 2, sizeof *images);
    int error = images ? 0 : -ENOMEM;

    for (size_t i = 0; !error && i < moment->step_count; i++)
        if (asprintf(&images[i + 1], "@%" PRIu32 "=%s", moment->steps[i].number, moment->steps[i].image.path) < 0)
            error = -ENOMEM;
    if (!error) {
        images[0] = LIFE_WITH_IMAGE;
        error = life_begin(moment->prefix, script, images);
    }
    for (size_t i = 0; images && i < moment->step_count; i++)
        free(images[i + 1]);
    free(images);
    return error;
}

int moment_prepare(const struct moment *moment, const char *slurm_job, const char *script)
{
    struct sruns sruns;
    int error = sruns_cut(moment->prefix, moment->sruns_length);

    if (!error)
        error = sruns_read(moment->prefix, &sruns);
    if (error)
        return error;
    settle_marks(moment, slurm_job, &sruns);
    sruns_free(&sruns);
    return begin_life(moment, script);
}

void moment_remove(const char *directory, const char *job)
{
    static const char *const suffixes[] = { MOMENT_SUFFIX, SRUNS_SUFFIX, LIFE_SUFFIX, FIRST_LIFE_SUFFIX };
    char path[2 * MAX_PATH];

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(path, sizeof path, "%s/%s%s", directory, job, suffixes[i]);
        unlink(path);
    }
}
