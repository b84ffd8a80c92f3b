/* SPDX-License-Identifier: MIT */
/* The saver: one short-lived program that takes one image of one step. main.c has the order of the whole. */
#ifndef STASIS_SAVER_H
#define STASIS_SAVER_H

#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <time.h>

#include "../../core/kinds/kind.h"
#include "../../core/registry/requests.h"

struct request {
    const char *directory;    /* the run's, in the registry */
    const char *images;       /* where this image goes; NULL: where the program's others are. Not of several tasks */
    uint64_t pid_namespace;   /* whose processes are meant */
    int starter;              /* pid of our parent as we began: a stub of the program's, when a program asked */
    int requester;            /* pid of the process that asked by signal or interval; 0: a person at our stderr */
    uint32_t call;            /* the requester's, of stasis.h, that waits for an answer; 0: none */
    int is_owed;              /* 1: it waits for the moment only */
    int meanwhile;            /* a socket, see await_requester(); -1: none */
    int stop;                 /* end the program after the image */
    int verbose;
    int64_t deadline;         /* CLOCK_MONOTONIC nanoseconds; INT64_MAX: none */
};

/* One process of the step. */
struct process {
    struct process *next;
    struct step *step;
    int pid;
    struct agent_page *page;  /* NULL: it has none yet, or none any more */
    int page_descriptor;
    uint64_t page_device, page_inode;
    int64_t pageless_since;
    int64_t asked_at;         /* for its page */
    int is_open;              /* nothing keeps it from stopping: obstacles.c */
    int has_room;             /* its page, for what it will say */
    int twin;                 /* connection to the twin; -1: none */
    uint32_t sequence;        /* of orders */
    uint32_t last_order;
    uint32_t *sleeps_at;      /* another's agent_page.turn, when it has been queued behind that one; or NULL */
    int stopped;              /* has the order to stop, */
    int is_parked;            /* and all its threads have obeyed */
    struct stopping *stopping; /* stop.c's own, while they have not */
    int main_has_ended;
    int is_described;         /* it has said already what ORDER_DESCRIBE asks for */
    uint64_t memory;          /* bytes of its own and shared memory, before it was stopped */
    int signals_wait;         /* 1: for some thread */
    int twin_is_ordered;      /* 1: memory is not short */
    int was_job_stopped;      /* SIGSTOP or Ctrl-Z had stopped it: it will be again */
    int waits_for_parent;     /* 1: it is still so, as its parent does not stand yet */
    int was_owed;             /* 1: before we waited for it: forbids.c */
    uint64_t token;           /* of the stop that it is about to have; 0: none yet */
    struct saving saving;
};

static inline struct process *process_of(const struct saving *saving)
{
    return (struct process *)((char *)saving - offsetof(struct process, saving));
}

/* The step: a tree of processes, as a rule; some of it may have been orphaned. */
struct step {
    const struct request *request;
    int lock;                 /* the run directory, with its flock */
    struct process *processes; /* the step's first one before all others, once they stand */
    struct born *born;        /* members.c's own: who was there before the stop */
    uint32_t attempt;         /* a number of this saver's */
    int listener;             /* abstract socket */
    char socket[64];          /* its name */
    int without_twin;         /* 1: the last one was killed; the programs themselves are read */
    int is_passing;           /* 1: what was refused is mostly there for a moment only */
    int lost;                 /* 1: whose memory was read has ended meanwhile */
    int keeps_turn;           /* 1: the machine is busy with others: twin.c */
    int64_t stopped_at, ran_on_at;
    int64_t forks; /* nanoseconds that they took, each for itself */
    int64_t forbidden_since;  /* when this saver began to wait; 0: it has not */
    uint64_t generation;      /* of the last image */
    struct request_file wanted_by_file; /* before the stop */
    char message[480];        /* what went wrong, for whoever asked */
    int is_said;              /* 1: by the saver of another task */
    int is_answered;          /* 1: whoever called knows */
};

/* Fills step->message and returns status, an exit status. */
int fail(struct step *step, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The exit status for what a kind or the writer returned, with a sentence. */
int fail_with(struct process *process, int error, const char *what);
int64_t now_nanoseconds(void);

/* jobs.c: what job control has stopped. */
int jobs_wake(struct process *process); /* if it is so, and its parent stands. -EAGAIN: it does not */
void jobs_wake_pageless(struct process *process); /* the same, for one that has to make its page yet */
void jobs_note(struct process *process); /* in its page, that it is awake for the stop only */
void jobs_find_going_on(struct step *step); /* of which their parents have not been told yet that they go on */
void jobs_rest(struct step *step);      /* all that were woken are stopped again */

/* members.c: finding the step's processes. Exit status, 0 when there is one and all have their pages. */
int members_find(struct step *step);
int members_page_is_dead(const struct process *process);
int members_any_is_dead(const struct step *step);
/* Looks once at who is there now: in *ret_pending how many have no page yet; 1 in *ret_news when that has changed. */
int members_look(struct step *step, int *ret_pending, int *ret_news);
/* While all stand: those whose parents are none of ours, as members_look(). */
int members_find_orphans(struct step *step, int *ret_pending, int *ret_news);
struct process *members_parent(const struct process *process); /* NULL: none of ours */
void members_sort(struct step *step);             /* as the image has them */

/* stop.c: orders to parked processes. */
int stop_all(struct step *step);                  /* exit status */
int stop_order(struct process *process, enum agent_order order);  /* 0 or -errno of the process; -ETIMEDOUT */
void stop_order_give(struct process *process, enum agent_order order); /* the same in two halves, for orders that meet */
int stop_order_wait(struct process *process);
void stop_order_queue(struct process *process, enum agent_order order, uint32_t *turn); /* when whoever has `turn` wakes it */
int stop_ask(const struct saving *saving, enum agent_order order, uint32_t argument); /* struct saving's `ask` */
void stop_wake(uint32_t *word);                   /* whoever waits for its change, in a page */
void stop_send_to_all(int pid, uint64_t value);   /* the stop signal, to each thread */
int stop_given_up(struct step *step);             /* the requester's time is over */
void stop_resume(struct step *step);
/* Without a twin: has no program freed itself meanwhile? 1 with a twin. */
int stop_still_holds(const struct step *step);
void stop_exit_programs(struct step *step);
void stop_forget(struct process *process);
void stop_say(struct step *step);                 /* step->message to the stderr of the program that asked */

/* forbids.c: what programs have forbidden, and the answer to one that has called; stasis.h. Exit status. */
int forbids_await(struct step *step);             /* until none of the step's processes forbids checkpoints, or it is refused */
int forbids_among_the_stopped(struct step *step); /* -EAGAIN: one does */
void forbids_passed(struct step *step, int status); /* those that stay in the moment are told, before they run on */
void forbids_answer(struct step *step, int status); /* at the end, to the call */

/* obstacles.c: why a thread does not stop. Exit status. */
struct obstacle {
    uint32_t tid;             /* 0: none */
    int64_t since;
};
int obstacles_before(struct process *process);    /* while the program runs */
int obstacles_look(struct process *process, struct obstacle *obstacle, uint32_t tid); /* at one that does not come; 0: it still may */
int obstacles_fail(struct process *process, uint32_t tid); /* it did not */

/* meeting.c: the abstract socket. */
int meeting_open(struct step *step);
int meeting_accept(struct process *process, int pid, int *ret_connection);    /* of that process; -errno */
/* Gives an order whose answer comes over a connection: `count` descriptors are received, or, count 0, the one at
 * *descriptors is handed over. 0 or -errno. */
int meeting_order(struct process *process, enum agent_order order, int *descriptors, int count);
int meeting_fetch_memory(struct saving *saving, const struct agent_range *range, struct buffer *bytes); /* saving->fetch_memory */
int meeting_fetch(struct saving *saving, const int *numbers, int count, int *ret_handles); /* saving->fetch_handles */

/* signals.c: exit status. */
int signals_list_timers(struct process *process);       /* before ORDER_DESCRIBE, */
int signals_look(struct process *process);              /* and behind it, while the process may be busy: does any wait? */
int signals_collect(struct process *process);           /* then what waits, in page->waiting */

/* describe.c: what is looked at while the program is stopped. Exit status. */
int describe_process(struct process *process);    /* its mappings and descriptors */
int describe_copies(struct process *process);     /* what the twin has not */
int describe_sharing(struct step *step);          /* behind the descriptors of all */
void describe_free(struct process *process);

/* twin.c: exit status. */
void twins_order(struct step *step);                    /* programs fork while we do something else, */
void twins_give_way(struct step *step);                 /* sometimes; */
int twin_take(struct process *process);                 /* and this waits for one: the view is it, or else the process itself */
int twin_copy(struct process *process);                 /* what the twin lacks */
int twins_leave(struct step *step);                     /* the descriptors: the programs may run on */
int twins_meet(struct step *step);                      /* then they hand over their memory */
void twin_end(struct process *process);

/* tasks.c: a step of several tasks. Exit status; -EAGAIN: all begin again. */
int tasks_are_several(const struct step *step);
/* 1: its image would have gone where another request wanted it, not this one. */
int tasks_follow_another(const struct step *step);
int tasks_join(struct step *step);                /* returns when the savers of all are there; step->generation is that of all */
int tasks_stopped(struct step *step);             /* when all stand; this program does */
int tasks_taken(struct step *step);               /* when all have been looked at */
int tasks_written(struct step *step, const struct image_writer *writer, char *ret_path); /* when the index has its name */
int tasks_refuse(struct step *step, int status);  /* this one will not have it: the others are told when they are there. `status` */
void tasks_keep_place(struct step *step);         /* while this one is waited for that forbids checkpoints, the others wait, too */
void tasks_give_place(void);
void tasks_leave(struct step *step, int status, int again); /* after a failure: the others are told */
const char *tasks_parts(void);                    /* directory and name of this task's part */
const char *tasks_part(void);

/* pages.c: the contents of memory, by several workers. -errno; -ETIMEDOUT at the deadline. */
int pages_save(struct saving *saving, int64_t deadline);

/* quiet.c: how many bytes wait in the pipes that the step reads. -ENOMEM. */
struct pipe_note;
struct quiet {
    struct pipe_note *pipes;
    size_t count;
};
int quiet_note(const struct step *step, struct quiet *ret_quiet);
int quiet_holds(const struct step *step, const struct quiet *quiet);
void quiet_free(struct quiet *quiet);

#endif
