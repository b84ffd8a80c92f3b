/* SPDX-License-Identifier: MIT */
/* What the shim knows of its process. One object, in memory that every image carries, so that it is all there again
 * after a restart. Files named `island` in meson.build run in signal handlers of a program that may hold any lock:
 * they use the floor and nothing of libc. */
#ifndef STASIS_SHIM_H
#define STASIS_SHIM_H

#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <time.h>
#include <ucontext.h>

#include "../../core/floor/agent_page.h"

#pragma GCC visibility push(hidden)

enum { MAX_HELPERS = 8 };
#define NO_TICK_YET UINT32_MAX /* of the interval */

/* The clocks of linux/posix-timers.h, and the fields of struct rusage, which is all 8-byte words: its two times in
 * microseconds, the others as they are. */
enum { CPU_CLOCKS = 3, USAGE_WORDS = 16, USAGE_LARGEST = 2 /* ru_maxrss is no count */ };
struct cpu_times {
    int64_t clocks[CPU_CLOCKS];    /* nanoseconds */
    int64_t usage[USAGE_WORDS];
};

/* What a start and a fork touch stands together, in .data: each page more of it costs a fault in every process. */
#define NEAR_THE_SHIM __attribute__((section(".data")))

struct shim {
    struct agent_page *page;       /* NULL: none, nobody has asked for it yet */
    uint64_t page_made;            /* when: CLOCK_MONOTONIC milliseconds */
    struct agent_page *old_page;   /* the one before, whose file was deleted */
    uint32_t pid;                  /* whose it is: not a child's of vfork or a raw clone, which has our memory */
    uint64_t pid_namespace;        /* inode of its PID namespace; 0: not yet looked up, see page_namespace() */
    uint8_t run[UUID_BYTES];
    uint32_t keep;
    uint32_t interval;
    uint64_t began;                /* milliseconds of CLOCK_MONOTONIC when the run's first process began */
    uint32_t trigger_signal;
    uint32_t save_files;
    uint32_t first;
    uint32_t first_pid;            /* of the run's first process */
    uint32_t attempts;             /* of savers, that were known of at the last tick of the interval; or NO_TICK_YET */
    uint32_t entered;              /* 1: our constructor has run, or is running */
    uint32_t installed;            /* 1: the two signals are ours, masks and dispositions are kept in our books */
    uint64_t generation;
    struct task_place place;       /* of a step of several tasks */
    uint32_t rseq_length;          /* as libc registered it; 0: none */
    int64_t rseq_offset;           /* from the thread pointer */
    uint64_t raw_call_end;         /* where an interrupted syscall() stands: raw_call.h */
    uint32_t trigger_owned;        /* 1: the program has a disposition of its own for the trigger signal */
    uint64_t stderr_device, stderr_inode;
    uint32_t stderr_held;          /* as of the last stop */
    struct agent_range vdso;       /* the kernel's code in this process, with its data after a restart */
    uint32_t timed_sockets;        /* 1: the program has set a time for a socket's waits */
    uint32_t leaving;              /* 1: the program is ending, no page is made any more */
    uint32_t remaking;             /* 1: a thread makes the page again */
    uint32_t starting;             /* 1: a saver is being started */
    uint32_t forbidden;            /* how often the program has forbidden checkpoints */
    int32_t helpers[MAX_HELPERS];  /* pids of twins and stubs that are our children, 0: free */
    uint32_t awake;                /* threads that are back in our code after a restart */
    uint32_t gate;                 /* note.restarts of the restart whose work is done */
    uint64_t given_cpus[AGENT_MASK_WORDS]; /* sched_getaffinity(2) when the program began, or came back by a command that was bound */
    const char *own_path;          /* of the shim; these three by shim_keep() */
    const char *saver;             /* absolute path of the helper */
    const char *directory;         /* of the images; absolute */
    char registry[64];             /* REGISTRY_ROOT<uid> */
    char run_directory[128];       /* registry/<run uuid> */
    char job[MAX_ID];
    char step[MAX_ID];
    char as_slurm[2 * MAX_ID]; /* JOB.STEP in which it was started, when its name is another; else "" */
    char page_path[192];
    char test_fail[128];           /* ENV_TEST_FAIL=..., handed on to the saver; empty: not set */
    struct sigaction shown_stop;   /* what the program believes to have set for the stop and trigger signals */
    struct sigaction shown_trigger;
    struct agent_action libc_action; /* of LIBC_SIGNAL, which is ours during a stop */
    struct restart_note note;
    struct cpu_times cpu_process;  /* as of the last stop */
    struct cpu_times cpu_children;
    int64_t cpu_ticks;             /* what times() returned then */
};
extern struct shim shim;

/* Text that stays: up to three parts, one behind the other, NULL for none. NULL: there is no room. */
const char *shim_keep(const char *first, const char *second, const char *third);
const char *shim_keep_here(const char *path); /* with the current directory before it; NULL: that alone */

/* agent.c (island) */
int page_make(void);                     /* 0 or -errno; shim.page is then NULL */
uint64_t page_namespace(void);           /* inode of the process's PID namespace */
void registry_leave(void);               /* unlinks the page: the process is about to become another */
void page_drop(void);                    /* the same for ever, and the run's directory when it was the last */
void page_remake_when_gone(void);
void page_become(void);                  /* in a fork child, */
int page_become_child(void);             /* or perhaps in one: 1 when it was */

/* tasks.c (island) */
void tasks_note_end(int status);         /* the process ends on its own; of a step of several tasks the others must know */

/* ticks.c (island) */
uint64_t interval_now(void);             /* milliseconds of CLOCK_MONOTONIC */
int interval_start(void);                /* arms the raw timer, if there is an interval; 0 or -errno */
void interval_tick(void);                /* it has expired */

/* stop.c (island) */
void stop_install(void);                 /* handlers of the stop signal and of the trigger */
void stop_set_handler(int number);
void stop_list_actions(struct agent_action actions[AGENT_SIGNALS]); /* the program's */
void stop_unblock(void);
uint64_t stop_pending(void);
void stop_swallow(int number, uint64_t pending_before);
uint64_t stop_keep_out(uint32_t *lock);  /* blocks all signals, so that a stop finds what the lock is for whole; returns the mask */
void stop_let_in(uint32_t *lock, uint64_t old);
void stop_note_stderr(void);             /* what descriptor 2 is now is the program's stderr */
int stop_has_stderr(void);               /* and is so still */
void stop_say(const char *text);         /* to it, if it is so still; all signals must be blocked */
int32_t *helper_place(void);
void helpers_end(void);                  /* kills and reaps them */
int helper_forget(int pid);              /* 1 when it was one of ours */

/* stub.c (island) */
enum { STUB_STACK_BYTES = 16384 };
/* clone(2) with a function that must not return; `place` for CLONE_PARENT_SETTID, or NULL. The PID, or -errno. */
long stub_clone(uint8_t *stack, long flags, int32_t *place, void (*run)(void));
int stub_must_stay(const struct agent_page *page); /* orphans come to the program: to us (PID 1 or a subreaper), or to one above us */

/* orders.c (island) */
void orders_obey(struct agent_page *page, uint64_t token);                   /* slot 0 */
void orders_describe_inherited(void); /* by the twin, or without one by the program */
void orders_describe_early(struct agent_page *page); /* before slot 0 counts as filled; of a process that can: ORDER_DESCRIBE is not needed then */
void orders_wait(struct agent_page *page, uint64_t token, uint32_t release); /* the others */
int orders_saver_lives(const struct agent_page *page);
/* The next stop signal that waits; with `holds`, or with a stop announced, it is waited for while a saver lives. 0: none. */
int orders_next_signal(siginfo_t *ret_info, int holds);
void orders_await_stop(struct agent_page *page, uint64_t token); /* which is about to begin */

/* traits.c (island) */
void traits_note(struct agent_traits *traits);   /* of the calling thread */
void traits_of_twin(struct agent_page *page);

/* twin.c (island) */
long twin_make(struct agent_page *page);

/* room.c (island): does work that needs three descriptors at most of its own, and those of `kept` of the program's */
long room_with(long (*work)(void *), void *argument, const int *kept, uint32_t kept_count);

/* handles.c (island): meeting the saver on its abstract socket */
long handles_connect(const char *socket_name);
enum { HANDLES_OF_MEMORY = 2 };
extern const char *const handles_of_memory[HANDLES_OF_MEMORY];
long handles_send(int socket, const char *const *names, int count); /* two at most, opened for reading */
long handles_send_wanted(int socket, const struct agent_page *page);
long handles_copy_ranges(struct agent_page *page);

/* terminals.c (island) */
long terminals_look(struct agent_page *page);
long terminals_look_at_pair(struct agent_page *page);

/* messages.c (island) */
long messages_look(struct agent_page *page);

/* saver_start.c (island) */
struct saver_call {
    uint32_t number;  /* of the call; 0: a signal or the interval has asked, and nobody waits */
    uint32_t is_owed; /* 1: for a checkpoint that has been waiting */
};
long saver_start(struct saver_call call); /* its PID; -EBUSY: another one is being started; -errno */

/* calls.c (island): stasis.h */
void calls_note_page(void);              /* there is a new one */
void calls_enter_child(void);
int calls_refuse(const char *why);       /* STASIS_REFUSED */

/* exclude.c (island): the same */
void exclude_describe(struct agent_page *page);
void exclude_enter_child(void);

/* resume.c (island) */
void resume_settle(ucontext_t *frame);   /* an interrupted system call goes on as if nothing had happened */
void resume_after_restart(int leader);
__attribute__((noreturn)) void resume_die(const char *what, long error); /* after a restart: there is no way back */
int resume_fetch(uint64_t address, void *to, unsigned long length); /* own memory that may not be there: 1 when it was */

/* jobs.c (island) */
long jobs_wake_child(struct agent_page *page, int pid); /* one that is stopped: the signal that did it, 0 when our program has been told; -errno */
long jobs_stop_child(int pid, int is_reported); /* it waits in jobs_halt() */
int jobs_child_goes_on(int pid); /* 1: of this child, or (0) of any, our program has not been told yet that it goes on */
void jobs_forget_child(struct agent_page *page, int pid); /* it is stopped again */
void jobs_rest(struct agent_page *page); /* behind a stop: what the saver has not stopped again, for it has died */
void jobs_halt(const struct agent_page *page, int signal, int with_parent); /* stops; returns when somebody lets the process go on */
void jobs_stop_children(const struct restart_note *note);
void jobs_come_back(const struct restart_note *note); /* a process that is to be stopped is so */

/* timers.c (island) */
void timers_note(struct agent_page *page);
void timers_note_signal(struct agent_page *page, const siginfo_t *info);
void timers_note_overrun(struct agent_page *page, const siginfo_t *info); /* of a signal that stands for several */
void timers_make(const struct restart_note *note);

/* waiting.c (island) */
long waiting_collect(struct agent_page *page); /* of the calling thread, and, in the main thread, of the process */
void waiting_queue(const struct restart_note *note);
long waiting_put(uint32_t tid, siginfo_t *info);
int waiting_claim(int number);

/* watches.c (island) */
void watches_note(int number, int id, const char *path, uint32_t mask); /* as inotify_add_watch(2) has just had them */
void watches_describe(struct agent_page *page);
void watches_enter_child(void);

/* cpu_clocks.c (island): CPU time goes on over a restart. */
void cpu_clocks_note(void);                            /* the process's, into shim */
void cpu_clocks_note_thread(struct cpu_times *ret_times); /* the calling thread's, as the program sees them */
void cpu_clocks_go_on_thread(const struct cpu_times *times);
void cpu_clocks_go_on(void);
void cpu_clocks_forget(void);                          /* in a fork child, whose clocks begin at 0 */
extern uint32_t cpu_clocks_moved;                      /* restarts; 0: the kernel's clocks are the program's */
int64_t cpu_clocks_offset(int clock);                  /* nanoseconds that the program is ahead on this clock, which may be any */
const struct cpu_times *cpu_clocks_ahead(int who);     /* of RUSAGE_SELF, _CHILDREN or _THREAD */
int64_t cpu_clocks_ticks_ahead(void);

/* ipc.c (island): objects of System V that the process uses, and what SEM_UNDO has added up */
void ipc_note(enum agent_ipc_sort sort, int id, int created);
void ipc_forget(enum agent_ipc_sort sort, int id);
void ipc_describe(struct agent_page *page);
void ipc_hand_over(struct agent_page *page);
int ipc_is_adding(const ucontext_t *frame); /* is it between a call that has succeeded and our books? */
void ipc_child_enters(void);             /* which inherits objects, but nothing to undo */
/* semtimedop(2) and semctl(2), in the books when they return. -errno */
long ipc_operate(int id, struct sembuf *operations, unsigned long count, const struct timespec *time);
long ipc_control(int id, int number, int command, uint64_t argument);
/* Segments are not to be attached in a twin, where everybody would see them so. */
void ipc_hide_segments(void);
void ipc_show_segments(void);

/* wrap/dispatch.c */
void dispatch_child_enters(void);

/* next.c: the libc function that a wrapper stands before */
void *next_symbol(const char *name);
const char *next_begin(void);            /* at the start; the shim's own path, absolute, kept; NULL when unknown */
/* Stands before each wrapper: where it keeps what it has found. */
#define NEXT_OF(name) static void *next_of_##name
#define NEXT(name) ((__typeof__(&name))next_cached(#name, &next_of_##name))
void *next_find(const char *name, void **cache);
static inline void *next_cached(const char *name, void **cache)
{
    void *found = __atomic_load_n(cache, __ATOMIC_RELAXED);
    return __builtin_expect(found != NULL, 1) ? found : next_find(name, cache);
}

/* As in sigsetops(3); a call of libc less that must be looked up at every start. */
static inline void signals_add(sigset_t *set, int number) { set->__val[0] |= UINT64_C(1) << (number - 1); }
static inline void signals_remove(sigset_t *set, int number) { set->__val[0] &= ~(UINT64_C(1) << (number - 1)); }
static inline int signals_hold(const sigset_t *set, int number) { return set->__val[0] >> (number - 1) & 1; }

#pragma GCC visibility pop

#define EXPORTED __attribute__((visibility("default")))

/* clients.c: 1 in a command of Slurm's */
int clients_is_srun_of_batch(void);
int clients_is_one(void);
/* What Slurm runs beside the task, in its environment. */
int clients_is_prolog(void);

/* output.c: descriptors 1 and 2 are the files that srun has named */
void output_take(void);

#endif
