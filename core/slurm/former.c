/* SPDX-License-Identifier: MIT */
/* A job that was submitted anew goes on where a former one was, which Slurm has forgotten. ENV_FORMER is "FORMER,IMAGES": that one's number, and
 * the number in the names of its images, which is another when it went on for one, too. The job's script gets it with the job's own number before
 * it ("JOB:FORMER,IMAGES"), so that a job that this one submits does not take it for its own. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "../floor/names.h"
#include "slurm.h"

int slurm_former_begins(const char *value, const char *job, char *whole, size_t size)
{
    int is_new = value && *value && strspn(value, "0123456789,") == strlen(value);

    if (is_new)
        snprintf(whole, size, "%s:%s", job, value);
    return is_new;
}

int slurm_former(const char *value, const char *job, struct former *ret_former)
{
    size_t length = job ? strlen(job) : 0;

    *ret_former = (struct former){ .job = "" };
    return value && length && !strncmp(value, job, length) && value[length] == ':'
           && sscanf(value + length + 1, "%15[0-9],%15[0-9]", ret_former->job, ret_former->images) == 2;
}

/* <former>.book and <former>.<step>.step */
static int is_to_take(const char *name, const char *former)
{
    size_t length = strlen(former), whole = strlen(name);
    static const size_t suffix = sizeof MARK_SUFFIX - 1;

    return !strncmp(name, former, length) && name[length] == '.'
           && (!strcmp(name + length, BOOK_SUFFIX) || (whole > length + suffix && !strcmp(name + whole - suffix, MARK_SUFFIX)));
}

void slurm_take_over(const char *directory, const char *former, const char *job)
{
    char to[MAX_PATH];
    DIR *entries = opendir(directory);
    struct dirent *entry;

    while (entries && (entry = readdir(entries)))
        if (is_to_take(entry->d_name, former)) {
            snprintf(to, sizeof to, "%s%s", job, entry->d_name + strlen(former));
            renameat(dirfd(entries), entry->d_name, dirfd(entries), to);
        }
    if (entries)
        closedir(entries);
}
