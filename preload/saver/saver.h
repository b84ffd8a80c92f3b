/* SPDX-License-Identifier: MIT */
/* The saver: one short-lived program that takes one image of one step. main.c has the order of the whole. */
#ifndef STASIS_SAVER_H
#define STASIS_SAVER_H

#include <stdint.h>
#include <signal.h>
#include <time.h>

#include "../../core/kinds/kind.h"

struct request {
    const char *directory;    /* the run's, in the registry */
    uint64_t pid_namespace;   /* whose processes are meant */
    int requester;            /* pid of the process that asked by signal or interval; 0: a person at our stderr */
    int stop;                 /* end the program after the image */
    int verbose;
    int64_t deadline;         /* CLOCK_MONOTONIC nanoseconds; INT64_MAX: none */
};

/* The step: for now one process. */
struct step {
    const struct request *request;
    int lock;                 /* the run directory, with its flock */
    struct agent_page *page;
    int page_descriptor;
    uint64_t page_device, page_inode;
    int listener;             /* abstract socket */
    int twin;                 /* connection to the twin; -1: none */
    uint32_t sequence;        /* of orders */
    int without_twin;         /* 1: the last one was killed; the program itself is read */
    int lost;                 /* 1: whose memory was read has ended meanwhile */
    int stopped;
    uint32_t last_order;
    int main_has_ended;
    int was_job_stopped;      /* SIGSTOP or Ctrl-Z had stopped it: it will be again */
    int64_t stopped_at, ran_on_at;
    struct saving saving;
    uint64_t generation;      /* of the last image */
    char message[480];        /* what went wrong, for whoever asked */
};

/* Fills step->message and returns status, an exit status. */
int fail(struct step *step, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The exit status for what a kind or the writer returned, with a sentence. */
int fail_with(struct step *step, int error, const char *what);
int64_t now_nanoseconds(void);

/* members.c: finding the step's processes. Exit status, 0 when step->page is mapped. */
int members_find(struct step *step);
void members_forget(struct step *step);
int members_page_is_dead(const struct step *step);
/* Any child that is not one of our helpers; waits a little for one that is being born. */
int members_check_children(struct step *step);

/* stop.c: orders to the parked process. */
int stop_process(struct step *step);              /* exit status */
int stop_order(struct step *step, enum agent_order order);  /* 0 or -errno of the process; -ETIMEDOUT */
void stop_order_give(struct step *step, enum agent_order order); /* the same in two halves, for orders that meet */
int stop_order_wait(struct step *step);
int stop_ask(const struct saving *saving, enum agent_order order, uint32_t argument); /* struct saving's `ask` */
int stop_given_up(struct step *step);             /* the requester's time is over */
void stop_resume(struct step *step);
/* Without a twin: has the program not freed itself meanwhile? 1 with a twin. */
int stop_still_holds(const struct step *step);
void stop_exit_program(struct step *step);
void stop_say(struct step *step);                 /* step->message to the program's stderr */

/* obstacles.c: why a thread does not stop. Exit status. */
struct obstacle {
    uint32_t tid;             /* 0: none */
    int64_t since;
};
int obstacles_before(struct step *step);          /* while the program runs */
int obstacles_look(struct step *step, struct obstacle *obstacle, uint32_t tid); /* at one that does not come; 0: it still may */
int obstacles_fail(struct step *step, uint32_t tid); /* it did not */

/* meeting.c: the abstract socket. */
int meeting_open(struct step *step);
int meeting_accept(struct step *step, int pid, int *ret_connection);    /* of that process; -errno */
int meeting_receive(int connection, int *ret_descriptors, int count);
/* Gives an order whose answer comes over a connection: `count` descriptors are received, or, count 0, the one at
 * *descriptors is handed over. 0 or -errno. */
int meeting_order(struct step *step, enum agent_order order, int *descriptors, int count);
int meeting_fetch_memory(struct saving *saving, const struct agent_range *range, struct buffer *bytes); /* saving->fetch_memory */
int meeting_fetch(struct saving *saving, const int *numbers, int count, int *ret_handles); /* saving->fetch_handles */

/* signals.c: exit status. */
int signals_list_timers(struct step *step);       /* before ORDER_DESCRIBE, */
int signals_collect(struct step *step);           /* and behind it: what waits, in page->waiting */

/* describe.c: what is looked at while the program is stopped. Exit status. */
int describe_mappings(struct step *step);
int describe_descriptors(struct step *step);
void describe_free(struct step *step);

/* twin.c: exit status. */
int twin_take(struct step *step);                 /* the view: a twin, or the process itself when memory is short */
int twin_copy(struct step *step);                 /* what the twin lacks */
int twin_leave(struct step *step);                /* it leaves the descriptors and hands over its memory */
void twin_end(struct step *step);

/* pages.c: the contents of memory, by several workers. -errno; -ETIMEDOUT at the deadline. */
int pages_save(struct saving *saving, int64_t deadline);

#endif
