/* SPDX-License-Identifier: MIT */
/* Handles of ours on the program's descriptors. A socket cannot be opened through /proc, and pidfd_getfd(2) wants the
 * right to trace; so the stopped program sends them (SCM_RIGHTS). They come in batches: it may have twenty thousand,
 * and we may not. */
#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kind.h"

enum { OWN_DESCRIPTORS = 32 };

void handles_forget(struct saving *saving)
{
    while (saving->handles.count)
        close(saving->handles.handles[--saving->handles.count]);
}

static int most_at_once(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= AGENT_MAX_HANDLES + OWN_DESCRIPTORS)
        return AGENT_MAX_HANDLES;
    return limit.rlim_cur > OWN_DESCRIPTORS ? (int)limit.rlim_cur - OWN_DESCRIPTORS : 1;
}

/* With it the next of the same sort, which will be asked for soon. */
static int fetch(struct saving *saving, const struct descriptor *first)
{
    struct handles *handles = &saving->handles;
    const struct descriptor *end = saving->descriptors + saving->descriptor_count;
    int most = most_at_once(), count = 0, error;

    handles_forget(saving);
    for (const struct descriptor *next = first; next < end && count < most; next++)
        if ((next->status.st_mode & S_IFMT) == (first->status.st_mode & S_IFMT))
            handles->numbers[count++] = next->number;
    error = saving->fetch_handles(saving, handles->numbers, count, handles->handles);
    if (!error)
        handles->count = count;
    return error;
}

int handle_of(const struct descriptor *descriptor)
{
    struct saving *saving = descriptor->holder;
    int error;

    for (int i = 0; i < saving->handles.count; i++)
        if (saving->handles.numbers[i] == descriptor->number)
            return saving->handles.handles[i];
    error = fetch(saving, descriptor);
    return error ? error : saving->handles.handles[0];
}
