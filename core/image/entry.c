/* SPDX-License-Identifier: MIT */
#include "entry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "../floor/names.h"
#include "commit.h"

enum { MAX_GENERATION_DIGITS = 9, TEMPORARY_DIGITS = 8 };

#define TEMPORARY_SUFFIX ".tmp"

int entry_format(struct entry *to, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(to->name, sizeof to->name, format, arguments);
    va_end(arguments);
    return length < 0 || (size_t)length >= sizeof to->name ? -ENAMETOOLONG : 0;
}

/* An id may come from an environment variable: nothing in it may lead out of the directory, hide the file, or break
 * a line of a listing. A step has no dot, so that "<job>.<step>" can be taken apart again. */
static int good_id(const char *id, int is_step)
{
    if (!*id || *id == '.')
        return 0;
    for (; *id; id++)
        if (*id == '/' || (unsigned char)*id < ' ' || *id == 0x7f || (is_step && *id == '.'))
            return 0;
    return 1;
}

/* A whole batch job: a job whose name has a dot in it could not be told from a step then. */
static int is_whole_job(const char *job, const char *step)
{
    return !strcmp(step, BATCH_STEP) && !strchr(job, '.');
}

int image_name(char *name, size_t size, const char *job, const char *step)
{
    if (!good_id(job, 0) || !good_id(step, 1))
        return -EINVAL;
    int length = is_whole_job(job, step) ? snprintf(name, size, "%s" IMAGE_SUFFIX, job)
                                         : snprintf(name, size, "%s.%s" IMAGE_SUFFIX, job, step);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

int image_temporary_name(char *to, size_t size, const char *name)
{
    uint32_t random;

    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -errno;
    int length = snprintf(to, size, ".%s.%08x" TEMPORARY_SUFFIX, name, random);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

int entry_is_temporary(const char *entry, const char *name)
{
    size_t length = strlen(name);

    if (entry[0] != '.' || strncmp(entry + 1, name, length) || entry[1 + length] != '.')
        return 0;
    entry += 1 + length + 1;
    return strspn(entry, "0123456789abcdef") == TEMPORARY_DIGITS && !strcmp(entry + TEMPORARY_DIGITS, TEMPORARY_SUFFIX);
}

/* The number of an older generation: N of "<name>.N" (no leading zero), or 0 when it is no such name. */
static unsigned generation_of(const char *entry, const char *name)
{
    size_t length = strlen(name);

    if (strncmp(entry, name, length) || entry[length] != '.')
        return 0;
    entry += length + 1;
    size_t digits = strspn(entry, "0123456789");
    if (!digits || digits > MAX_GENERATION_DIGITS || entry[digits] || *entry == '0')
        return 0;
    return (unsigned)strtoul(entry, NULL, 10);
}

/* Where a generation number starts, with its dot, or the end of entry. */
static size_t number_start(const char *entry)
{
    const char *dot = strrchr(entry, '.');
    struct entry before;

    if (!dot || entry_format(&before, "%.*s", (int)(dot - entry), entry) || !generation_of(entry, before.name))
        return strlen(entry);
    return (size_t)(dot - entry);
}

size_t entry_stem(const char *entry, size_t *ret_job)
{
    const size_t suffix = strlen(IMAGE_SUFFIX);
    size_t length = number_start(entry);

    if (length < suffix || strncmp(entry + length - suffix, IMAGE_SUFFIX, suffix) || *entry == '.')
        return 0;
    const char *dot = memrchr(entry, '.', length - suffix);
    if (length == suffix || (dot && dot + 1 == entry + length - suffix))
        return 0;
    *ret_job = dot ? (size_t)(dot - entry) : length - suffix;
    return length;
}

int entry_is_whole_job(size_t length, size_t job)
{
    return job + strlen(IMAGE_SUFFIX) == length;
}

int entry_walk(int directory, int (*each)(void *context, const char *entry), void *context)
{
    /* A new open file, so that nobody else's position in the directory matters. */
    int again = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = again < 0 ? NULL : fdopendir(again);
    int result = stream ? 0 : -errno;
    struct dirent *found;

    if (!stream) {
        if (again >= 0)
            close(again);
        return result;
    }
    while (!result) {
        errno = 0;
        found = readdir(stream);
        if (!found) {
            result = -errno;
            break;
        }
        result = each(context, found->d_name);
    }
    closedir(stream);
    return result;
}

struct numbers {
    const char *name;
    struct buffer *found;
};

static int add_number(void *context, const char *entry)
{
    struct numbers *numbers = context;
    unsigned number = generation_of(entry, numbers->name);

    if (number)
        buffer_add(numbers->found, &number, sizeof number);
    return numbers->found->error;
}

static int compare_numbers(const void *a, const void *b)
{
    unsigned left = *(const unsigned *)a, right = *(const unsigned *)b;
    return (left > right) - (left < right);
}

int entry_generations(int directory, const char *name, struct buffer *ret_numbers)
{
    struct numbers numbers = { name, ret_numbers };
    int error;

    *ret_numbers = (struct buffer){ 0 };
    error = entry_walk(directory, add_number, &numbers);
    if (error)
        buffer_free(ret_numbers);
    else if (ret_numbers->length)
        qsort(ret_numbers->bytes, ret_numbers->length / sizeof(unsigned), sizeof(unsigned), compare_numbers);
    return error;
}

char *entry_absolute(const char *directory)
{
    char *here, *path = NULL;

    if (*directory == '/')
        return strdup(directory);
    here = getcwd(NULL, 0);
    if (!here)
        return NULL;
    if (!*directory || !strcmp(directory, "."))
        return here;
    if (asprintf(&path, "%s/%s", here, directory) < 0)
        path = NULL;
    free(here);
    return path;
}
