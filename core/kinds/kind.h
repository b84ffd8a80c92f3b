/* SPDX-License-Identifier: MIT */
/* A kind is one sort of thing a process holds. One file each, both sides on one page: how it is saved, and how it
 * comes back. The table in list.c is walked in its order by the saver and by the restorer. */
#ifndef STASIS_KIND_H
#define STASIS_KIND_H

#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "../floor/agent_page.h"
#include "../image/read.h"
#include "../image/write.h"
#include "last_plan.h"
#include "mapping_flags.h"

/* A mapping of the process, from /proc/PID/maps. */
struct mapping {
    uint64_t start, end, offset;
    uint64_t device, inode;
    int readable, writable, executable, shared;
    char *name;           /* as maps says it; "" for anonymous ones */
    uint32_t flags;       /* enum mapping_flag, from smaps */
    uint32_t key;         /* protection key: pkeys(7), from smaps */
    uint32_t type;        /* enum mapping_type, by memory_save */
    int copied;           /* 1: its bytes are in saving.copies, at copy_offset */
    uint64_t copy_offset;
};

struct mappings {
    struct mapping *items;
    size_t count;
};

/* A descriptor of a process. */
struct descriptor {
    struct saving *holder; /* the process */
    int number;
    int flags;            /* open(2)'s, from fdinfo; O_CLOEXEC among them */
    int64_t position;
    int same_as;          /* the lowest number with the same open file description, its own if none */
    const struct descriptor *shares; /* the first process's that has the same description; NULL: this one is the first */
    struct stat status;
    char *target;         /* readlink of /proc/PID/fd/N */
    int master_of;        /* N of /dev/pts/N, of which it is the master; -1: it is none */
    char *locks;          /* fdinfo from its first lock on, or NULL; locks.c's own */
};

/* Descriptors of the program that are ours for a while, see handles.c. */
struct handles {
    int numbers[AGENT_MAX_HANDLES], handles[AGENT_MAX_HANDLES];
    int count;
};

/* All processes that there were at a moment, by number: what comes later is no matter of that moment. */
struct born {
    int *pids;
    size_t count;
};
void born_sort(struct born *born);
int born_has(const struct born *born, int pid);

/* Numbers of /proc/PID/stat, each at its number in proc(5); the state is its letter. */
enum { STAT_STATE = 3, STAT_PARENT, STAT_GROUP, STAT_SESSION, STAT_TERMINAL, STAT_START = 22, STAT_MEMORY, STAT_EXIT_SIGNAL = 38, STAT_STATUS = 52, STAT_FIELDS };

/* One process while it is saved. */
struct saving {
    struct image_writer *writer;
    const struct agent_page *page;
    uint64_t *looked_at;  /* unix_peek.c's own; in the page, so that the next checkpoint has it, too */
    struct saving *first, *next; /* the processes of the step, by their index */
    const struct born *born; /* of the first process: who was there, anywhere, while all stood */
    uint32_t index;       /* of the process in the image */
    int pid;              /* of the program */
    int view;             /* whose /proc is read: the twin's, or the program's own when there is none */
    int look;             /* whose /proc has the table of descriptors: the program's own; the view's, when that may not be read */
    uint32_t thread_count;
    char *status;         /* of /proc/PID, once all threads stand */
    uint64_t stat[STAT_FIELDS]; /* the same of another file */
    int64_t clocks_ahead[2]; /* clock_ahead()'s own */
    int has_terminal;     /* process.c's own: 1: a controlling one, that is not of the step */
    int job_stop;         /* the signal by which job control had stopped it; 0: none */
    int job_is_reported;  /* 1: its parent has been told, */
    int goes_on;          /* 1: it is stopped no more, and its parent has not been told, */
    int job_parent;       /* which has this PID, when it is of the step; else 0 */
    uint32_t waiting_count; /* of page->waiting */
    struct mappings mappings;
    int lacks_flags;      /* 1: the twin does not have some of them, and so not their flags */
    struct descriptor *descriptors;
    size_t descriptor_count;
    const struct descriptor **by_file; /* in the first process those of all: by device, inode, process and number */
    size_t by_file_count;
    uint64_t page_device, page_inode; /* of the agent page, which is not the program's */
    struct agent_inherited inherited; /* told by the view, with: */
    int memory;           /* its /proc/self/mem, */
    int pagemap;          /* and pagemap */
    int copies;           /* memfd with what a twin does not inherit, or -1 */
    int64_t deadline;     /* CLOCK_MONOTONIC nanoseconds; INT64_MAX: none */
    struct saved_content *contents; /* contents.c's own, */
    struct held_object *objects;    /* and shared_memory.c's: both of the first process for all */
    /* The saver's: copies of the program's descriptors, AGENT_MAX_HANDLES at most. 0 or -errno. */
    int (*fetch_handles)(struct saving *saving, const int *numbers, int count, int *ret_handles);
    struct handles handles; /* handles.c's own */
    /* Gives the parked process an order that concerns `argument`, one of its descriptors. What it returns, or -errno. */
    int (*ask)(const struct saving *saving, enum agent_order order, uint32_t argument);
    const struct descriptor **sockets; /* sockets.c's own: in the first process, those of all */
    size_t socket_count;
    struct unix_table *unix_sockets; /* unix_table.c's own, in the first process */
    struct buffer copied_parts; /* memory.c's own, of the first process only: this, */
    struct buffer mapped_files; /* and the files that any process writes to by mapping them, in order */
    struct inet_end *inet_ends; /* inet.c's own, of the first process only */
    /* The same: a range of the program's memory, added to `bytes`. */
    int (*fetch_memory)(struct saving *saving, const struct agent_range *range, struct buffer *bytes);
    struct buffer watches; /* inotifies.c's own */
    const char *test_fail; /* value of ENV_TEST_FAIL or NULL */
    char refusal[512];    /* name and sentence, when a kind refused */
};

/* What the person who restarts wants; from the command line. */
struct policy {
    int strict;           /* nothing may be adapted */
    int only_check;       /* what passes by itself is not waited for */
    int no_tails;         /* what was written to a file after the checkpoint is not kept */
    const char *shared_output; /* value of ENV_SHARED_OUTPUT or NULL: a file that is neither cut nor too short */
    const char **path_rules; /* OLD=NEW, see path_map.c */
    size_t path_rule_count;
    uint64_t roll;        /* of the step that brings it back; see struct restart_note */
};

/* One process while it is restored. */
struct restoring {
    struct image *image;
    uint32_t index;
    struct last_plan *plan;
    struct staging *staging;  /* memory_restore.c's own */
    struct pipe_pair *pipes;  /* pipes.c's own */
    struct fifo *fifos;   /* fifos.c's own */
    int executable;       /* descriptor for PR_SET_MM_EXE_FD */
    int highest;          /* descriptors of our own have numbers above it that the image does not use, and below own_end */
    int own_end;
    int last_number;      /* the highest that the image uses */
    int streams[3];       /* the command's stdin, stdout, stderr, out of the way */
    int closed_streams;   /* bit N: the command's N was closed, and is /dev/null now */
    struct policy policy;
    struct made_object *objects;    /* shared_memory.c's own */
    struct nameless_file *nameless; /* nameless_files.c's own */
    struct kept_tail *tails;  /* tails.c's own */
    int tails_are_kept;   /* regular_files.c's own */
    struct buffer missing; /* a sentence per line: what is not there */
    struct buffer adapted; /* the same: what will be otherwise than it was */
    int cannot_schedule;  /* scheduling.c's own */
    struct unix_socket *unix_sockets; /* unix_make.c's own */
    struct tcp_socket *tcp; /* tcp.c's own */
    struct udp_socket *udp; /* udp.c's own */
    int network;          /* tcp_network.c's own */
    int network_is_checked; /* tcp.c's own */
    int64_t monotonic[2], boottime[2]; /* as the program saw them */
    int has_terminal_pairs; /* 1: a /dev/pts of its own is needed */
    const char *bubble_for; /* what cannot be made without a bubble, see needs_bubble(); NULL: nothing */
    int is_on_host;         /* 1: there is none */
    struct terminal_pair *terminals; /* terminals.c's own */
    int pid, parent, session, group, exit_signal;
    int has_terminal;     /* 1: a controlling one */
    struct ended_child *ended; /* its children that nobody has waited for */
    size_t ended_count;
    struct shared_description *sharing; /* of the whole step, with this process's own view of it: sharing.c */
    size_t sharing_count;
    int timer_ids_by_request; /* timers.c's own */
    char *directory;      /* working directory to be */
    const char *test_fail;
};

struct kind {
    const char *name;     /* one word or more: heading, log prefix, test name */
    uint16_t tag;
    int late;             /* save after the program runs on, from the twin */
    int soon;             /* save while others may not have their twins yet: gives no order, looks at no view */
    int (*claim)(const struct saving *saving, const struct descriptor *descriptor); /* NULL: no kind of descriptor */
    int (*hold)(struct saving *saving); /* program stopped, behind descriptors: what is mapped and perhaps not open. As save */
    int (*save)(struct saving *saving, const struct descriptor *descriptor); /* -errno; -ENOTSUP when refused */
    int (*check)(struct restoring *restoring, struct reader *record); /* changes nothing; missing() says what is not there */
    int (*make)(struct restoring *restoring, struct reader *record);  /* what processes share, before they exist; see below */
    int (*open)(struct restoring *restoring, struct reader *record);  /* makes it exist; touches nothing that others see */
    int (*wire)(struct restoring *restoring, struct reader *record);  /* all is verified: now sizes, positions, limits */
    int (*last)(struct restoring *restoring, struct reader *record);  /* into the plan of the last stage */
    void (*show)(struct reader *record, FILE *out);                   /* to a person, each line indented by two */
};

/* `make` sees the records of all processes. It makes what several may hold, once for each object of the kernel, and keeps
 * its descriptors above restoring->highest; the processes inherit them, and `open` gives them their numbers. */

extern const struct kind *const kinds[];      /* NULL at the end */
const struct kind *kind_of_tag(uint16_t tag); /* or NULL */

/* support.c: what several kinds need. */

/* The first descriptor of the step, by process and number, of which is(descriptor, wanted) holds; NULL: none. */
const struct descriptor *step_find(const struct saving *saving, int (*is)(const struct descriptor *descriptor, const void *wanted),
                                   const void *wanted);
/* The same, where only descriptors of one file can be meant: quick, however many there are. */
const struct descriptor *step_find_file(const struct saving *saving, const struct stat *file,
                                        int (*is)(const struct descriptor *descriptor, const void *wanted), const void *wanted);
/* Makes by_file of the first process, when the descriptors of all are known. 0 or -errno. */
int descriptors_sort(struct saving *first);
/* Fills saving->refusal (first one wins) and returns -ENOTSUP. */
int refuse(struct saving *saving, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Writes a record of fixed size, which every reader must know. 0 or -errno. */
int save_record(struct saving *saving, uint16_t tag, const void *record, size_t length);
/* The same with a text behind it (buffer_add_text); reader_take_text() takes both. */
int save_record_with_text(struct saving *saving, uint16_t tag, const void *record, size_t length, const char *text);
/* Adds a sentence to restoring->missing. Returns 0. */
int missing(struct restoring *restoring, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for what will be otherwise than it was, which the person is told at the start; --strict refuses it, by `name`. Returns 0. */
int adapted(struct restoring *restoring, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* By `check`: there is `what`, which needs namespaces of the program's own; see restorer/host.c. */
void needs_bubble(struct restoring *restoring, const char *what);
/* Reads /proc/<pid>/<name> whole; malloc'ed, NUL behind; *ret_length may be NULL. NULL and errno on failure. */
char *proc_read(int pid, const char *name, size_t *ret_length);
/* The same for an open file. */
char *read_all(int fd, size_t *ret_length);
/* The value of a variable in the environment that it was executed with, malloc'ed, or NULL. */
char *proc_variable(int pid, const char *name);
/* readlink, malloc'ed, or NULL. */
char *proc_link(int pid, const char *name);
int proc_stat(int pid, uint64_t fields[STAT_FIELDS]); /* 0 or -ESRCH */
int proc_state(int pid);     /* its letter; 0: there is none */
int proc_has_ended(int pid); /* also of one that nobody has waited for */
int proc_is_named(int pid, const char *name); /* by the kernel, see prctl(2), PR_SET_NAME */
/* How many threads it has, those that have ended and that it still stands for, too; 0: it is not there. The links of a directory tell:
 * that is quicker than any file of /proc. */
int proc_threads(int pid);
/* The children of all its threads, those that have ended, too. */
void proc_children(int pid, void (*each)(void *context, int child), void *context);
/* The text behind "Key:\t" in a status file, or NULL; valid as long as status. */
const char *status_field(const char *status, const char *key);

/* What a file was, so that a changed one is refused: size always, content hash where asked for, else mtime. */
struct file_identity {
    uint64_t size;
    int64_t mtime_seconds, mtime_nanoseconds;
    uint64_t hash;        /* XXH3-64 of the content; 0: not taken, mtime counts */
};
int file_identity_take(const char *path, int with_hash, struct file_identity *ret_identity);
/* 1 when path (now) is as it was; else 0, and missing() has said why. */
int file_identity_check(struct restoring *restoring, const char *path, const struct file_identity *identity);

int64_t clock_now(clockid_t clock); /* nanoseconds, as we see it ourselves */
/* How far a clock of the program's is ahead of ours, since that was looked at: it may be in another time namespace. Nanoseconds. */
void clocks_look(struct saving *saving);
int64_t clock_ahead(const struct saving *saving, clockid_t clock);
/* Nanoseconds that are added to CLOCK_MONOTONIC and CLOCK_BOOTTIME in the time namespace of a process. */
void proc_clock_offsets(int pid, int64_t ret_offsets[2]);

/* Every descriptor record starts so. */
struct descriptor_record {
    int32_t number;
    int32_t flags;        /* open(2)'s */
    int64_t position;
    int32_t same_as;      /* the descriptor whose open file description it shares; itself: its own */
    uint32_t written;     /* regular files: 1 when any descriptor of the program may write to it */
};
const struct descriptor *descriptor_numbered(const struct saving *saving, int number); /* or NULL */
/* Is it the first one in the step that leads to its open file description? Only that one tells what there is to tell of it. */
int descriptor_is_first(const struct descriptor *descriptor);
/* Its fdinfo, malloc'ed; NULL and errno. */
char *descriptor_info(const struct descriptor *descriptor);
void descriptor_describe(const struct descriptor *descriptor, struct descriptor_record *ret_record);
/* Gives an open file the recorded number and close-on-exec flag, and closes fd. 0 or -errno. */
int descriptor_place(const struct descriptor_record *record, int fd);
/* Out of the way of the image's numbers: a descriptor above restoring->highest in place of `fd`. -errno, also as `fd`. */
int descriptor_lift(const struct restoring *restoring, int fd);
/* For a record that shares its description with a lower one, which is there already. 0 or -errno. */
int descriptor_share(const struct descriptor_record *record);
/* Is what /proc/PID/fd says of it still the path of the same thing? */
int descriptor_is_at_target(const struct descriptor *descriptor);
/* Takes a record, and places what shares its description with a lower one. 1: that is all; 0: it is to be made; -errno. */
int descriptor_take(struct reader *reader, void *record, size_t length);
/* By path, or shared with a lower one. 0 or -errno. */
int descriptor_open(const struct descriptor_record *record, const char *path);
/* `what` is shown without control characters: it may be a path. */
void show_text(const char *what, FILE *out);
void descriptor_show(const struct descriptor_record *record, const char *what, FILE *out);

/* handles.c: the saver's own handle on a descriptor of the program, for what cannot be opened through /proc. No right is needed for
 * it. It leads to the program's own open file description: nothing of that may be changed. It stays ours, until the next call
 * for the same process. -errno. */
int handle_of(const struct descriptor *descriptor);
void handles_forget(struct saving *saving); /* before the program runs on: held longer, what it closes would stay open */

/* refused.c: the name for what no kind knows; of a mapping's name as maps has it, NULL: none. */
const char *refusal_of_target(const char *target);
const char *refusal_of_descriptor(const struct descriptor *descriptor);

/* standard_streams.c: the descriptor of ours that will stand for the program's descriptor `number`; -1: none. */
int stream_for(const struct restoring *restoring, int number);
/* sockets.c, unix_table.c: what was looked up, for the first process. */
void sockets_forget(struct saving *saving);
void unix_forget(struct saving *saving);
/* unix_sockets.c: a unix socket whose other end is neither outside of the step nor gone? */
int unix_stays_inside(const struct descriptor *descriptor);

/* ended_children.c: a child that has ended and that nobody has waited for. */
struct ended_child {
    int32_t pid, group, session;
    int32_t exit_signal;
    int32_t status;       /* of wait(2) */
    char name[20];        /* the kernel's, 16 bytes */
};

/* sharing.c: an open file description that several processes have. */
struct shared_description {
    uint32_t process;     /* this process's `number` is */
    int32_t number;
    uint32_t first;       /* that process's `first_number`, */
    int32_t first_number;
    int32_t held;         /* which the restorer holds here; -1: not yet, */
    int32_t mail[2];      /* and it will come this way */
};
/* Is the descriptor that of a process before this one? */
int sharing_is_later(const struct restoring *restoring, int number);

/* pipes.c: is it a pipe whose both ends are in the step? */
int pipe_is_inside(const struct saving *saving, const struct descriptor *descriptor);
uint64_t pipe_of_record(const struct reader *record); /* which pipe: its inode then */

/* proc_files.c: is a path in /proc or /sys, and of another process or thread than the program and its main one? */
int path_is_virtual(const char *path);
int proc_path_is_foreign(const struct saving *saving, const char *path);

/* standard_streams.c. Which of the three streams a descriptor is, or leads to like it; -1 for none. */
int stream_of(const struct saving *saving, const struct descriptor *descriptor);
int stream_check(struct restoring *restoring, int stream); /* says what --strict misses; 0 */
int stream_duplicate(const struct restoring *restoring, int stream); /* a descriptor of the command's; -errno */

/* pipes.c: what is in a pipe or FIFO, which stays in it. Behind `bytes`, in `packets`, the lengths of what would be read at once. */
int pipe_peek(int fd, int capacity, struct buffer *bytes, struct buffer *packets);

/* terminals.c. Does the program hold the master of the terminal that controls this session? `device` as /proc/PID/stat has it. */
int terminals_control_inside(const struct saving *saving, uint64_t device, int32_t session);
/* In a process that leads its session, behind `make`, before it has children: it takes its controlling terminal. -errno. */
int terminals_take_control(const struct restoring *restoring);

/* path_map.c: where a file of the image is now. Takes a malloc'ed path, gives back another; NULL for NULL or no memory. */
char *path_now(const struct restoring *restoring, char *then);
/* The same for what was just read of a record. NULL: reader->error says why. */
char *path_read(const struct restoring *restoring, struct reader *reader, char *then);
/* Is it OLD=NEW with absolute paths? */
int path_rule_is_good(const char *rule);

/* contents.c: files whose bytes are in the image. */
struct kept_file {
    uint64_t size;
    int64_t mtime_seconds, mtime_nanoseconds;
    uint32_t content;     /* the number of the bytes, from 1: the same in all records of one file; 0: none are kept */
    uint32_t mode, user, group;
};
struct kept_file kept_file_of(const struct stat *status); /* but for its content */
/* Saver: stores the bytes of /proc/<look>/<name>, or of an absolute path, once for each file. 0 or -errno: -EACCES
 * when they may not be read, -ETIMEDOUT. */
int contents_save(struct saving *saving, const char *name, const struct stat *status, struct kept_file *ret_kept);
/* A stretch of a content: its bytes from `offset` on are those of `fd` from `at` on. Whole pages, but for the last length. */
struct content_part {
    int fd;
    int of_memory;        /* 1: /proc/PID/mem, where what is not mapped gives EIO and counts as zeros */
    uint64_t at, offset, length;
};
/* Gives the content of a file a number now, once for each; its bytes are taken from the parts (by rising offset) by
 * contents_store(), when the program runs on. */
int contents_save_later(struct saving *saving, uint64_t device, uint64_t inode, const struct content_part *parts, size_t count,
                        uint32_t *ret_number);
int contents_store(struct saving *saving);
void contents_forget(struct saving *saving);
/* Restorer: reads and verifies the bytes. -EBADMSG and image->reason, or -errno. */
int contents_verify(struct restoring *restoring, const struct kept_file *kept);
/* The same, into fresh memory with room for its whole pages. */
int contents_fill(struct restoring *restoring, const struct kept_file *kept, void *memory);
/* The same, and makes a file open for writing, empty or not, what it was: bytes, size, mode, times, and, as far as allowed, owner. */
int contents_restore(struct restoring *restoring, const struct kept_file *kept, int fd);

/* nameless_files.c: files that had no name any more. `path`: where it was. */
void nameless_check(struct restoring *restoring, const char *path);
/* The file, made when it is asked for first: a descriptor that stays ours, or -errno. */
int nameless_file(struct restoring *restoring, const char *path, const struct kept_file *kept);
void nameless_forget(struct restoring *restoring); /* the program's own descriptors are all there */

/* tails.c: what was written behind the size that a file had, kept aside. */
void tails_check(struct restoring *restoring, const char *path);
int tails_keep(struct restoring *restoring, const char *path, uint64_t size); /* once for each file; 0 or -errno */
void tails_forget(struct restoring *restoring, int remove_them);

/* maps text to mappings; smaps text adds flags to those of the same start. 0 or -errno. */
int mappings_parse(const char *maps, struct mappings *ret_mappings);
void mappings_add_flags(struct mappings *mappings, const char *smaps);
void mappings_free(struct mappings *mappings);

/* threads.c: how many a record of the kind holds; and one of them in the plan, looked for from *hint on, which is then behind
 * it: records that go through the threads have them in the same order. NULL: none. */
uint32_t threads_count(const struct reader *record);
uint32_t threads_others(const struct restoring *restoring, int *ret_tids); /* all but the main one; room for threads_count() */
struct last_thread *threads_find(struct last_plan *plan, uint32_t tid, uint32_t *hint);
uint32_t owners_count(const struct reader *record); /* owners.c */
uint32_t traits_policy_count(const struct reader *record); /* thread_traits.c: memory policies of ranges */

uint32_t timers_of_all(struct agent_timer timers[INTERVAL_TIMERS]); /* timers.c: setitimer(2)'s, which are always there; their number */
/* The timers that /proc/PID/timers tells of, AGENT_MAX_TIMERS at most, by rising id behind the interval timers. 0 or -errno. */
int timers_list(struct saving *saving, const char *text, struct agent_timer *timers, uint32_t *ret_count);
uint32_t timers_count(const struct reader *record);
uint32_t waiting_count(const struct reader *record); /* waiting_signals.c */
int locks_take_again(struct restoring *restoring); /* locks.c: when all that is ours is closed. 0 or -errno */
uint32_t jobs_count(const struct reader *record); /* jobs.c: children to be stopped */

/* memory.c, saver's side: is the mapped file still the one at that path? Does any process of the step write to a file by mapping it?
 * That is told when all mappings are known and sorted (0 or -errno). */
int mapping_is_at_path(const struct mapping *mapping);
int mapped_files_sort(struct saving *first);
int step_writes_by_mapping(const struct saving *saving, const struct stat *file);

void objects_forget(struct saving *saving);

/* memory.c, saver's side. During the pause: marks the mappings whose bytes a twin does not have or may see changing
 * (shared ones that can be had in no other way, those that `twin` lacks, those of the page's hints), gives them their copy_offset and puts them into
 * page->ranges. Refuses when there are more than fit. */
int memory_mark_copies(struct saving *saving, const struct mappings *twin, struct agent_page *page);
/* The pages that must be stored, for the saver's workers; to be freed. */
struct page_range {
    uint64_t start, end;
    int keep_zeros;       /* 1: a page of zeros must be stored too */
    int may_end;          /* 1: a mapped file that is gone, perhaps shorter than its mapping */
    int copied;           /* 1: read from saving.copies at offset + (address - start) */
    uint64_t offset;
};
int memory_page_ranges(struct saving *saving, struct page_range **ret_ranges, size_t *ret_count);

/* Restorer's side. An address where `length` bytes are free both now and in the image; 0: none. */
uint64_t memory_hole(struct restoring *restoring, uint64_t length);
/* Reads and verifies all pages into their staging, with several threads. -EBADMSG and image->reason, or -errno. */
int memory_load(struct restoring *restoring);
uint32_t memory_operation_count(const struct restoring *restoring); /* LAST_ operations at most */

#endif
