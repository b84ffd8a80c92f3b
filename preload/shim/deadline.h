/* SPDX-License-Identifier: MIT */
/* When the timed wait that a thread is in must end. The kernel starts nanosleep, poll, epoll_wait, sigtimedwait and
 * their kin again with their whole time when we send them back (resume.c), so a checkpoint every minute would make an
 * hour's sleep endless: wrappers note the first deadline here, and the call goes on with what is left. */
#ifndef STASIS_DEADLINE_H
#define STASIS_DEADLINE_H

#include <stdint.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

#pragma GCC visibility push(hidden)

/* In the wrapper's own frame, so that a longjmp out of it leaves nothing behind: `seal` is then overwritten. */
struct deadline {
    struct deadline *outer; /* of a wait that a signal handler interrupted */
    int64_t at;             /* CLOCK_MONOTONIC nanoseconds */
    struct timespec left;   /* what the call is pointed to when it goes on */
    uint64_t seal;
    int socket, option;     /* of a wait whose time is an option of a socket, SO_RCVTIMEO or SO_SNDTIMEO; option 0: it is an argument */
    int is_shortened;       /* 1: the socket has what is left for its time */
};

int64_t deadline_nanoseconds(const struct timespec *time); /* INT64_MAX for what does not fit */
int64_t deadline_of_timeval(const struct timeval *time);

/* Clocks that go as the monotonic one goes, which deadlines are kept in; not those of CPU time. */
int deadline_keeps(clockid_t clock);

/* How long a system call of raw_call_timed waits: nanoseconds, -1: it has no time, or an absolute one. */
int64_t deadline_of_call(long number, const long arguments[6]);

/* Notes that a wait of so long begins or ends. */
void deadline_begin(struct deadline *deadline, int64_t nanoseconds);
void deadline_begin_socket(struct deadline *deadline, int64_t nanoseconds, int socket, int option);
void deadline_end(const struct deadline *deadline);

/* For a frame that has been sent back to its system call `number`: puts what is left in place of the whole time. */
void deadline_apply(ucontext_t *frame, int number);

#pragma GCC visibility pop

#endif
