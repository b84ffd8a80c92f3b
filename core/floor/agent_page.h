/* SPDX-License-Identifier: MIT */
/* The agent page: the memory that one process under the shim shares with whoever checkpoints it.
 *
 * A file of AGENT_PAGE_BYTES in REGISTRY_ROOT<uid>/<run uuid>/ (directories 0700, file 0600, a random name), mapped
 * shared by the shim and MADV_DONTFORK. The shim took a flock on it before it closed the descriptor: the mapping keeps
 * the lock, so a page whose lock can be had belongs to no living process. All words that both sides change are
 * futexes; shared futexes on such a file work across namespaces.
 *
 * A process makes its page when it is asked to (VALUE_REGISTER, core/registry/summon.c) or takes an image itself: most never
 * are, and a file in tmpfs would be the larger part of what a start under the shim costs.
 *
 * The life of a stop: the saver writes `token`, sets `order` to ORDER_STOP and sends every thread the stop signal with
 * the token as its value. Each thread fills one slot of `threads` and parks. The thread in slot 0 then obeys orders:
 * it does what `order` says, writes `result`, and sets `answer` to the value of `order` it has obeyed.
 * ORDER_RESUME frees everybody. A parked thread looks every PARK_LOOK_SECONDS whether a saver still holds the run
 * directory's flock, and frees everybody when none does. */
#ifndef STASIS_AGENT_PAGE_H
#define STASIS_AGENT_PAGE_H

#include <stdint.h>

#include "names.h"
#include "roll.h"
#include "terminal_bytes.h"

enum {
    AGENT_MAX_THREADS = 16384,
    AGENT_MAX_RANGES = 256,
    AGENT_LET_OUT = 16,
    AGENT_SIGNALS = 64,
    AGENT_MAX_TIMERS = 1024, /* interval timers and POSIX timers together; */
    AGENT_FEW_TIMERS = 8,    /* for these there is room with the threads' */
    AGENT_MAX_WAITING = 4096,
    AGENT_LOOKED_AT = 16,
    AGENT_MAX_EXCLUDED = 256,
    AGENT_MAX_HANDLES = 128, /* of one message; unix(7): SCM_MAX_FD is 253 */
    PARK_LOOK_SECONDS = 1,
    NOTE_LIMITS = 16,      /* RLIMIT_ numbers there are */
    AGENT_MASK_WORDS = 16, /* of CPUs, and of NUMA nodes */
};

/* Values of a queued stop signal that are no stop token. Tokens are random and above them. */
enum agent_value {
    VALUE_REGISTER = 1, /* make a page if there is none, or its file is gone */
    VALUE_SAY = 2,      /* write `message` to descriptor 2 */
    VALUE_INTERVAL = 3, /* of the interval timer */
    VALUE_HALT = 4,     /* from its parent to a process that is to stop as by job control */
    VALUE_HOLD = 5,     /* VALUE_REGISTER, and stay in the handler until the next stop signal comes */
    VALUE_FIRST_TOKEN = 16,
};

#define AGENT_MAGIC UINT64_C(0x3130656761707473) /* "stpage01" */
#define COMING_WORD(token) ((uint32_t)(token) | 1)
#define ORDER_KIND(word) ((word) & 0xff)
#define ORDER_WORD(sequence, kind) ((uint32_t)((sequence) << 8 | (kind)))

enum { RELEASE_SUMMONS = 0x10000 };

/* Low byte of agent_page.order; the rest is a sequence number, so that the same order can be given twice. */
enum agent_order {
    ORDER_NONE = 0,
    ORDER_STOP,     /* park */
    ORDER_DESCRIBE, /* fill in the fields under "answer to ORDER_DESCRIBE" */
    ORDER_WAITING,  /* the thread `waiting_tid` adds the signals that wait for it to `waiting`; the main thread, those of the
                     * process as well */
    ORDER_TWIN,     /* fork the twin; its pid goes to twin_pid. result: 0 or -errno */
    ORDER_COPY,     /* connect to `socket`, receive a memfd, write the `ranges` into it one after the other */
    ORDER_TIMERS,   /* connect to `socket`, send own timers */
    ORDER_TERMINAL, /* `terminal` is to say what the descriptor `argument` is. result: 0, -ENOTTY, -errno */
    ORDER_PAIR,     /* `pair` is to be filled in, for the master at descriptor `argument`: what is on its way is taken out and put back */
    ORDER_QUEUE,    /* `queue` is to be filled in with the messages of the POSIX queue at descriptor `argument`: the same way. -E2BIG */
    ORDER_MAPS,     /* connect to `socket`, send own maps and smaps */
    ORDER_DESCRIPTORS, /* connect to `socket`, send the descriptors `to_send` */
    ORDER_IPC,      /* fill in `ipc` and `undo`, for which the saver has made room */
    ORDER_HANDLES,  /* no twin: become dumpable until ORDER_RESUME, connect to `socket`, send own mem and pagemap */
    ORDER_WAKE_CHILD, /* let the child `argument` go on that job control has stopped. result: the signal that its parent has not
                       * been told of yet, 0, -errno */
    ORDER_STOP_CHILD, /* and see that it stops again: it has ORDER_HALT. With JOB_REPORTED: its parent was told */
    ORDER_ASK_CHILD, /* result 1: the program has not been told yet that the child `argument` goes on */
    ORDER_HALT,     /* stop by the signal `argument`, as by job control; with JOB_HAS_PARENT when the parent says so */
    ORDER_RESUME,   /* run on */
    ORDER_EXIT,     /* exit_group(EXIT_RUN_AGAIN): --stop */
};

enum { JOB_REPORTED = 1 << 30, JOB_HAS_PARENT = 1 << 30 }; /* with `argument` */

/* The same for the twin, in agent_page.twin_order. */
enum twin_order {
    TWIN_WAIT = 0,
    TWIN_LEAVE, /* leave the descriptor table */
    TWIN_MEET,  /* connect to `socket`, send mem and pagemap, unmap the page, end at EOF */
};
enum twin_answer {
    TWIN_STANDS = 1,
    TWIN_HAS_LEFT, /* the descriptor table: the program may run on */
};

/* A checkpoint that could not be taken because this process forbids it. */
enum agent_owed {
    OWED_NOTHING = 0,
    OWED_BY_PROCESS, /* nobody waits for it: the process asks for it when it allows checkpoints again */
    OWED_BY_SAVER,   /* `owed_pid` waits for that moment: the process stays in it for some time */
    OWED_AND_TAKEN,  /* by that saver: the moment has passed */
};

/* A checkpoint that the program itself has asked for; a page that was made later has CALL_NONE. */
enum agent_call {
    CALL_NONE = 0,
    CALL_ASKED,
    CALL_OWED,   /* for one that has been waiting: of it, the moment only is waited for */
    CALL_PASSED, /* the program has been stopped, and runs on */
    CALL_DONE,
};

enum agent_role { ROLE_TASK = 1, ROLE_PORTER };

/* Where a parked thread stands. Addresses are in the process's own memory. */
struct agent_thread {
    uint32_t tid;          /* as the process sees it */
    uint32_t rseq_length;  /* bytes, as registered; 0: none */
    uint64_t frame;        /* the ucontext_t the kernel saved */
    uint64_t context;      /* struct context to jump to after a restart */
    uint64_t fs_base;
    uint64_t gs_base;
    uint64_t robust_list;
    uint64_t robust_length;
    uint64_t clear_child_tid;
    uint64_t rseq;         /* address of struct rseq; 0: none */
    uint32_t rseq_signature;
    uint32_t timer_slack;  /* nanoseconds, PR_GET_TIMERSLACK */
};

/* What else a thread can only be asked for by itself; by slot, as `threads`. */
enum { AGENT_SPECULATIONS = 3, AGENT_CAPABILITY_SETS = 4 };
struct agent_traits {
    uint32_t ids[6];           /* user: real, effective, saved; group: the same */
    uint32_t personality;
    uint32_t secure_bits;      /* PR_GET_SECUREBITS */
    uint32_t no_new_privileges;
    uint32_t parent_death;     /* PR_GET_PDEATHSIG */
    uint32_t tsc;              /* PR_GET_TSC; 0: unknown, as with the next */
    uint32_t cpuid;            /* 1 + ARCH_GET_CPUID */
    uint32_t speculation[AGENT_SPECULATIONS]; /* PR_GET_SPECULATION_CTRL; 0: this CPU has no such trouble, or cannot be told */
    uint32_t io_flusher;       /* PR_GET_IO_FLUSHER */
    uint32_t machine_check;    /* PR_MCE_KILL_GET */
    uint32_t keyrings;         /* 1: a keyring of the thread or the process, keyrings(7) */
    uint32_t memory_policy;    /* get_mempolicy(2), mode and flags */
    uint32_t has_core_cookie;  /* 1: PR_SCHED_CORE, who may run beside it on a core */
    uint64_t nodes[AGENT_MASK_WORDS];
    uint64_t capabilities[AGENT_CAPABILITY_SETS]; /* effective, permitted, inheritable, ambient */
};

/* As the kernel's struct sigaction on x86-64. */
struct agent_action {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    uint64_t mask;
};

/* What a fork inherits. */
struct agent_inherited {
    uint32_t keys;       /* bit N: protection key N (pkeys(7)) is the program's */
    uint32_t kernel_key; /* the one that the kernel took for memory that may only be executed; 0: none */
    struct agent_action actions[AGENT_SIGNALS]; /* of signal index + 1 */
};

enum { INTERVAL_TIMERS = 3 };

/* An interval timer (setitimer(2)) or a POSIX timer (timer_create(2)). */
struct agent_timer {
    uint32_t interval_timer; /* 1 + ITIMER_REAL, ITIMER_VIRTUAL or ITIMER_PROF; 0: a POSIX timer, with the fields to `value` */
    int32_t id;              /* the kernel's, not libc's timer_t */
    int32_t clock;
    uint32_t notify;         /* SIGEV_ */
    uint32_t signal;
    uint32_t target;         /* tid of the thread that is notified; 0: the process */
    uint64_t value;          /* sigev_value */
    uint64_t interval;       /* nanoseconds; 0: once */
    int64_t due;             /* CLOCK_MONOTONIC nanoseconds; of a timer that counts CPU time, those that are left */
    uint32_t armed;          /* 0: `due` means nothing */
    uint32_t overrun;        /* timer_getoverrun(2) */
};

/* A signal that waits, its siginfo_t as far as the kernel fills it: 48 bytes on x86-64. */
enum { AGENT_SIGINFO_BYTES = 48 };
struct agent_waiting {
    uint32_t tid;            /* of the thread it waits for; 0: any of the process */
    uint32_t reserved;
    uint8_t info[AGENT_SIGINFO_BYTES] __attribute__((aligned(8)));
};

/* 1 for clocks that go on while nobody works; others count CPU time (linux/posix-timers.h: negative, or 2 and 3). */
static inline int timer_is_of_the_wall(const struct agent_timer *timer)
{
    return timer->interval_timer ? timer->interval_timer == 1 : timer->clock >= 0 && timer->clock != 2 && timer->clock != 3;
}

/* A terminal that the process holds. */
struct agent_terminal {
    uint32_t is_master;       /* 1: the master's side of a pair; the rest is the slave's, but `is_exclusive` and `discipline` */
    uint32_t device;          /* of the terminal, also when it was opened by another name, such as /dev/tty */
    uint32_t is_controlling;  /* 1: of this process */
    uint32_t is_in_front;     /* 1: and its group is the one in front */
    uint32_t has_locked_modes;
    uint32_t is_exclusive;
    int32_t discipline;
    int32_t group;            /* the one in front, in the process's PID namespace; 0: none */
    int32_t session;          /* of a master: the one that the slave controls; 0: none */
    int32_t index;            /* of a master: N of /dev/pts/N */
    uint32_t is_hung_up;      /* of a master: 1: nobody holds its slave any more */
    struct terminal_modes modes;
    uint16_t size[4];         /* rows, columns; the same in pixels */
};

/* A pair of which the process holds the master. */
struct agent_pair {
    uint64_t device;          /* of the file system in which the slave's node is */
    uint32_t mode, user, group; /* of that node */
    uint32_t is_locked;       /* 1: the slave cannot be opened */
    uint32_t has_packets;     /* TIOCPKT */
    uint32_t has_news;        /* 1: a status waits for who reads the packets; then nothing was taken */
    uint32_t is_exclusive;    /* the slave */
    int32_t discipline;
    struct terminal_bytes bytes;
};

/* The messages of a POSIX queue, in the order in which they are received. */
enum { AGENT_QUEUE_BYTES = 1 << 20 }; /* more than a user may have (RLIMIT_MSGQUEUE: 819200) */
struct agent_message {
    uint32_t priority;
    uint32_t length; /* bytes that follow, with 0 to 3 to a whole word */
};
struct agent_queue {
    uint32_t count;
    uint32_t used; /* bytes */
    uint8_t messages[AGENT_QUEUE_BYTES];
};

struct agent_range {
    uint64_t start;
    uint64_t end;
};

/* What the program watches with inotify, as it asked for it: a table in the process's memory, of so many bytes, the entries one
 * behind the other. Links are offsets in it; 0: none. */
enum { AGENT_WATCH_HEADS = 1024 };
struct agent_watches {
    uint64_t used;
    uint32_t heads[AGENT_WATCH_HEADS]; /* by descriptor and inode */
};
struct agent_watch {
    uint32_t next;           /* with the same head */
    int32_t number;          /* descriptor by which it was asked for */
    int32_t watch;           /* its number (watch descriptor); 0: of the past */
    uint32_t flags;          /* IN_ONESHOT, IN_EXCL_UNLINK */
    uint64_t device, inode;  /* as stat(2) has them */
    uint32_t length;         /* of the path, without its NUL */
    char path[];
};
static inline uint64_t agent_watch_bytes(uint32_t length)
{
    return (sizeof(struct agent_watch) + (uint64_t)length + 1 + 7) / 8 * 8;
}

/* An object of System V that the process has used: what the kernel does not tell. */
enum agent_ipc_sort { IPC_SORT_MEMORY = 1, IPC_SORT_SEMAPHORES, IPC_SORT_MESSAGES };
enum { AGENT_MAX_IPC = 2048, AGENT_MAX_UNDO = 1024 };
struct agent_ipc {
    int32_t id;
    uint16_t sort;
    uint16_t created;      /* 1: by this process, or one that it was forked from */
};

/* What SEM_UNDO (semop(2)) will add to a semaphore when the process ends. */
struct agent_undo {
    int32_t id;
    uint16_t number;
    int16_t adjustment;
};

/* A child that is to be stopped when it has come back, or behind a checkpoint. */
enum { AGENT_MAX_WOKEN = 64 };
struct agent_job {
    int32_t pid;
    uint32_t is_reported;  /* 1: its parent has been told; CHILD_GOES_ON: it runs again, and its parent has not been told of that */
};
enum { CHILD_GOES_ON = 2 }; /* also for stop_with_parent */

/* What the last stage of a restart tells the shim, written at agent_page.restart_note. */
struct restart_note {
    uint64_t arena_start;  /* the last stage's own mapping: unmap it */
    uint64_t arena_length; /* bytes; 0 in a process that never was restarted */
    uint64_t generation;   /* of the image this process came from */
    uint64_t roll;         /* of the step in which it came back: roll.h; 0: of none */
    uint64_t restarts;     /* how often this process came back; 0: never */
    uint64_t threads;      /* that come back */
    uint64_t timers;       /* address, in the arena, of struct agent_timer, by rising id */
    uint64_t timer_count;
    uint64_t waiting;      /* the same of struct agent_waiting, in the order in which they were sent */
    uint64_t waiting_count;
    uint64_t ids_by_request; /* 1: timer_create(2) gives the id that is asked for (PR_TIMER_CREATE_RESTORE_IDS) */
    uint64_t jobs;         /* the same of struct agent_job */
    uint64_t job_count;
    uint64_t stop;         /* the signal by which the process is to be stopped; 0: it runs */
    uint64_t stop_with_parent; /* 1: when its parent says so; CHILD_GOES_ON: which lets it go on at once */
    uint64_t vdso_start;   /* of this kernel's vDSO and its data; 0: none */
    uint64_t vdso_end;
    uint64_t is_bound;     /* 1: the restart's command could use but some CPUs of its cpuset, these: */
    uint64_t given_cpus[AGENT_MASK_WORDS];
    uint64_t limits[NOTE_LIMITS][2]; /* soft, hard: to be set once the shim has what it needs; small ones stand in its way */
};

struct agent_page {
    uint64_t magic;
    uint32_t bytes;          /* sizeof(struct agent_page) of the shim that made it */
    uint32_t role;
    uint32_t pid;            /* in its own PID namespace */
    uint32_t first;          /* 1: the step's first process */
    uint64_t pid_namespace;  /* inode of /proc/self/ns/pid, by which copies of a run in two bubbles do not meet;
                              * 0: that of the process that holds the page's lock */
    uint8_t run[UUID_BYTES];
    char job[MAX_ID];
    char step[MAX_ID];
    uint32_t keep;
    uint32_t interval;        /* seconds; 0: none */
    uint32_t trigger_signal;
    uint32_t trigger_owned;   /* 1: the program has a disposition of its own for it (as of ORDER_DESCRIBE) */
    uint32_t thread_room;     /* slots of `threads` that have memory behind them; the saver makes more before a stop */
    uint32_t porter_target;   /* ROLE_PORTER: the keeper's pid as the porter sees it */
    uint32_t save_files;      /* 1: the content of files open for writing goes into the image */
    uint32_t attempts;        /* savers that have come to take an image of this process */
    uint32_t attempt;         /* the last one's own number, so that it counts once */
    uint32_t coming;          /* COMING_WORD of a token whose stop is about to begin: threads wait for it in the handler; 0: none */
    uint64_t generation;      /* of the last image written or restored */
    char as_slurm[2 * MAX_ID]; /* JOB.STEP as Slurm has it now: a porter's, and that of a step with a name of its own; else "" */
    struct task_place place;  /* which task of the step it is part of */
    uint64_t restart_note;    /* address of struct restart_note */

    /* What the program has said by preload/shim/stasis.h. */
    uint32_t forbidden;       /* how often it has forbidden checkpoints; exact while all its threads stand; 0: it allows them */
    uint32_t owed;            /* enum agent_owed; a futex */
    uint32_t owed_pid;        /* OWED_BY_SAVER: who waits */
    uint32_t call;            /* enum agent_call; a futex */
    uint32_t call_number;     /* which call of the process that is */
    uint32_t call_status;     /* of CALL_DONE: an exit status, with `message` */

    /* Orders. */
    uint32_t order;
    uint32_t answer;
    int32_t result;
    uint32_t parked;          /* slots of `threads` taken since ORDER_STOP; a slot is filled when its tid is not 0 */
    uint32_t release;         /* counted up, after ORDER_RESUME, to free all but slot 0; by RELEASE_SUMMONS to make them look
                               * at `summoned` */
    uint32_t libc_signal;     /* 1: threads that block the stop signal can be stopped by LIBC_SIGNAL */
    uint32_t waiting_tid;     /* the thread that ORDER_WAITING is for */
    uint32_t summoned;        /* the same, when it is another than that of slot 0, which asks it */
    uint32_t summons;         /* counted up when it is done, with this result: */
    int32_t summons_result;
    uint32_t wanted;          /* 1: a saver is about to stop the process, or may be on its way; exec waits for it */
    uint32_t inside;          /* threads that may still look at an order or fill a slot: none when a stop begins */
    uint32_t argument;        /* of an order */
    uint32_t orphans_come_up; /* 1: to an ancestor in the step (a subreaper), whose wait() would see helpers of ours that are orphans */
    uint32_t saver_pid;       /* who gives the orders, in the process's PID namespace */
    /* Should the saver die while somebody is awake that job control has stopped, he stops again by himself. */
    uint32_t job_stop;        /* as with ORDER_HALT: the process is awake for the stop only; 0: it was not stopped */
    uint32_t is_resting;      /* 1: it is about to do so, and its other threads wait */
    uint32_t twin_order;
    uint32_t twin_answer;     /* 0: none yet */
    int32_t twin_pid;
    uint32_t turn;           /* a futex, at which the process sleeps that is to fork behind this one */
    uint64_t fork_nanoseconds; /* of the fork that made the twin; for who wants to know what a pause consists of */
    uint64_t token;
    /* A thread that the stop signal has found inside the vDSO goes on for a moment, since another kernel has other code
     * there: it names itself in a free place, and the saver sends it the signal again. */
    uint32_t let_out_allowed; /* 0: it parks where it is */
    uint32_t let_out[AGENT_LET_OUT]; /* TIDs; 0: free */
    char socket[64];          /* abstract address of the saver, without its leading NUL */
    char message[512];        /* to be written to descriptor 2 on VALUE_SAY */

    uint32_t is_alone;        /* 1: it had one thread and no child when it stopped; the answer to ORDER_DESCRIBE, for the timers that are in the
                               * page at the stop, is here already */

    /* Answer to ORDER_DESCRIBE. */
    uint64_t brk;
    struct agent_range watches; /* struct agent_watches; start 0: none */
    struct agent_range excluded; /* array of struct agent_range in the process's memory: what it wants left out of images */
    uint32_t dumpable;
    uint32_t no_new_privileges;
    uint32_t keep_capabilities; /* PR_GET_KEEPCAPS */
    uint32_t subreaper;         /* PR_GET_CHILD_SUBREAPER */
    uint32_t parent_death;      /* PR_GET_PDEATHSIG */
    uint32_t child_goes_on;     /* 1: of some child the program has not been told yet that it goes on */
    uint32_t lock_future;       /* MCL_ flags of mlockall(2) for mappings to come */
    uint32_t thp_disabled;      /* PR_GET_THP_DISABLE */
    uint32_t no_exec_gain;      /* PR_GET_MDWE */
    uint32_t merges;            /* PR_GET_MEMORY_MERGE */
    uint32_t barriers;          /* commands of membarrier(2) by which the process has registered */
    uint32_t tagged_addresses;  /* 1: the CPU takes no notice of some bits of an address (LAM) */
    uint64_t given_cpus[AGENT_MASK_WORDS]; /* what the program could use when it was started, or restarted */
    uint64_t widest_cpus[AGENT_MASK_WORDS]; /* the twin's answer: all that its cpuset has; 0: no twin */
    uint32_t ipc_count;         /* of `ipc`; AGENT_MAX_IPC + 1: more than fit */
    uint32_t undo_count;
    uint64_t inherited;         /* address of struct agent_inherited, also in the twin */

    struct agent_terminal terminal;             /* answer to ORDER_TERMINAL */

    char directory[MAX_PATH];                   /* of the images; absolute */

    /* From here on, the saver makes the memory before a stop. */
    /* Ranges that a twin does not inherit: for ORDER_COPY; and those found by the last checkpoint. */
    uint32_t skip_absent;     /* 1: nothing can be in swap, so what is not in memory was never written */
    uint32_t range_count;
    uint32_t hint_count;
    struct agent_range ranges[AGENT_MAX_RANGES];
    uint8_t lacking[AGENT_MAX_RANGES]; /* 1: no twin has that range, so guard pages in it cannot be seen there */
    struct agent_range hints[AGENT_MAX_RANGES];
    uint32_t to_send_count;
    int32_t to_send[AGENT_MAX_HANDLES]; /* numbers of descriptors */
    uint32_t woken_count;     /* of the children that the process has let go on for a stop, and that are not stopped again: */
    struct agent_job woken[AGENT_MAX_WOKEN];
    uint64_t looked_at[AGENT_LOOKED_AT]; /* inodes of sockets, 0: none: see core/kinds/unix_peek.c */

    struct agent_thread threads[AGENT_MAX_THREADS];
    struct agent_traits traits[AGENT_MAX_THREADS];

    /* The memory of these, too, is made when it is needed. The saver lists the timers, ORDER_DESCRIBE fills them in. */
    uint32_t timer_count;
    uint32_t waiting_count;
    uint32_t waiting_room;    /* of `waiting`, that has memory behind it */
    struct agent_timer timers[AGENT_MAX_TIMERS]; /* the interval timers first */
    struct agent_waiting waiting[AGENT_MAX_WAITING];

    struct agent_ipc ipc[AGENT_MAX_IPC];     /* of ORDER_IPC */
    struct agent_undo undo[AGENT_MAX_UNDO];
    struct agent_pair pair;                  /* of ORDER_PAIR */
    struct agent_queue queue;                /* of ORDER_QUEUE */
};

/* Bytes of a page file: a whole number of pages; a sparse file, so only what is used takes memory. */
#define AGENT_PAGE_BYTES ((sizeof(struct agent_page) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES)

#endif
