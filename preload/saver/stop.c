/* SPDX-License-Identifier: MIT */
/* Stopping the process: every thread gets the stop signal with the token, until each one that exists is parked; then
 * orders to the one in slot 0, through the agent page. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "saver.h"

enum { ORDER_SECONDS = 60, LET_OUT_SECONDS = 2 };

static void wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void wait_word(uint32_t *word, uint32_t value, long milliseconds)
{
    struct timespec timeout = { .tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000 };
    syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

void stop_order_give(struct step *step, enum agent_order order)
{
    step->last_order = ORDER_WORD(++step->sequence, order);
    __atomic_store_n(&step->page->order, step->last_order, __ATOMIC_SEQ_CST);
    wake(&step->page->order);
}

static int is_parked(const struct agent_page *page, uint32_t tid)
{
    uint32_t count = __atomic_load_n(&page->parked, __ATOMIC_SEQ_CST);

    for (uint32_t i = 0; i < count && i < page->thread_room; i++)
        if (__atomic_load_n(&page->threads[i].tid, __ATOMIC_ACQUIRE) == tid)
            return 1;
    return 0;
}

static int send(const struct agent_page *page, uint32_t tid, int number, uint64_t value)
{
    siginfo_t info = { 0 };

    info.si_signo = number;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = (void *)value;
    if (tid)
        return syscall(SYS_rt_tgsigqueueinfo, page->pid, tid, number, &info) ? -errno : 0;
    return syscall(SYS_rt_sigqueueinfo, page->pid, number, &info) ? -errno : 0;
}

/* The threads that have been sent this stop already, and in which look at all threads each was last seen: one that was
 * missing in the look before is another thread with that number. */
struct sent {
    struct sent_thread {
        uint32_t tid, look;
    } *threads;
    size_t count, room;
    uint32_t look;
    struct sent *by_libc_signal; /* those that were sent the other one, too */
};

static int was_sent(struct sent *sent, uint32_t tid)
{
    for (size_t i = 0; i < sent->count; i++) {
        struct sent_thread *thread = &sent->threads[i];
        if (thread->tid != tid)
            continue;
        int is_same = sent->look - thread->look <= 1;
        thread->look = sent->look;
        return is_same;
    }
    if (sent->count == sent->room) {
        size_t room = sent->room ? sent->room * 2 : 256;
        struct sent_thread *threads = realloc(sent->threads, room * sizeof *threads);
        if (!threads)
            return 1;
        sent->threads = threads;
        sent->room = room;
    }
    sent->threads[sent->count++] = (struct sent_thread){ tid, sent->look };
    return 0;
}

enum { LIBC_SIGNAL_AFTER = 5000000 /* nanoseconds; most threads have parked by then */ };

/* A thread of libc's that blocks the stop signal, see preload/shim/stop.c. */
static void try_libc_signal(struct step *step, struct sent *sent, uint32_t tid)
{
    char name[64];
    uint64_t blocked, both = UINT64_C(1) << (STOP_SIGNAL - 1) | UINT64_C(1) << (LIBC_SIGNAL - 1);

    if (!__atomic_load_n(&step->page->libc_signal, __ATOMIC_SEQ_CST) ||
        now_nanoseconds() - step->stopped_at < LIBC_SIGNAL_AFTER)
        return;
    snprintf(name, sizeof name, "task/%u/status", tid);
    char *status = proc_read((int)step->page->pid, name, NULL);
    const char *mask = status ? status_field(status, "SigBlk") : NULL;
    blocked = mask ? strtoull(mask, NULL, 16) & both : 0;
    free(status);
    if (blocked == UINT64_C(1) << (STOP_SIGNAL - 1) && !was_sent(sent->by_libc_signal, tid))
        send(step->page, tid, LIBC_SIGNAL, step->page->token);
}

/* Looks at all threads once: sends the signal to new ones. Returns how many are not parked; one of them in *ret_tid. */
static int scan_threads(struct step *step, struct sent *sent, uint32_t *ret_tid, uint32_t *ret_count)
{
    char path[64];
    DIR *tasks;
    struct dirent *entry;
    int running = 0;

    *ret_count = 0;
    sent->look++;
    snprintf(path, sizeof path, "/proc/%u/task", step->page->pid);
    tasks = opendir(path);
    if (!tasks)
        return -ESRCH;
    while ((entry = readdir(tasks))) {
        uint32_t tid = (uint32_t)strtoul(entry->d_name, NULL, 10);
        if (!tid)
            continue;
        ++*ret_count;
        if (is_parked(step->page, tid))
            continue;
        *ret_tid = tid;
        running++;
        if (!was_sent(sent, tid)) {
            int error = send(step->page, tid, STOP_SIGNAL, step->page->token);
            if (error == -ESRCH)
                running--; /* it has ended meanwhile */
            else if (error) {
                closedir(tasks);
                return error;
            }
        } else
            try_libc_signal(step, sent, tid);
    }
    closedir(tasks);
    return *ret_count ? running : -ESRCH;
}

/* Slots for twice the threads there are: memory that tmpfs cannot refuse any more when they park. */
static int make_room(struct step *step)
{
    char *status = proc_read((int)step->page->pid, "status", NULL);
    const char *threads = status ? status_field(status, "Threads") : NULL;
    uint64_t room = (threads ? strtoull(threads, NULL, 10) : 1) * 2 + 64;
    const size_t ranges = offsetof(struct agent_page, range_count), threads_at = offsetof(struct agent_page, threads);

    free(status);
    if (room > AGENT_MAX_THREADS)
        room = AGENT_MAX_THREADS;
    if (fallocate(step->page_descriptor, 0, (off_t)ranges, (off_t)(threads_at - ranges + room * sizeof *step->page->threads)) ||
        fallocate(step->page_descriptor, 0, offsetof(struct agent_page, traits), (off_t)(room * sizeof *step->page->traits)))
        return fail(step, EXIT_SYSTEM, "no checkpoint: no room in /dev/shm to describe %ju threads: %s", (uintmax_t)room,
                    strerror(errno));
    step->page->thread_room = (uint32_t)room;
    return 0;
}

/* A job-stopped process is woken: our signal waits for every thread, so none comes to run the program's code. */
static void wake_when_job_stopped(struct step *step)
{
    char *status = proc_read((int)step->page->pid, "status", NULL);
    const char *state = status ? status_field(status, "State") : NULL;

    if (state && *state == 'Z')
        step->main_has_ended = 1;
    if (state && *state == 'T' && !step->was_job_stopped) {
        step->was_job_stopped = 1;
        kill((int)step->page->pid, SIGCONT);
    }
    free(status);
}

/* Threads of a stop that was given up may still be on their way out. */
static int await_leaving(struct step *step)
{
    struct agent_page *page = step->page;
    int64_t deadline = now_nanoseconds() + STOP_DEADLINE_SECONDS * INT64_C(1000000000);

    step->sequence = page->order >> 8;
    if (ORDER_KIND(page->order) != ORDER_NONE)
        stop_order_give(step, ORDER_RESUME);
    __atomic_fetch_add(&page->release, 1, __ATOMIC_SEQ_CST);
    wake(&page->release);
    while (__atomic_load_n(&page->inside, __ATOMIC_SEQ_CST)) {
        if (now_nanoseconds() > deadline || members_page_is_dead(step))
            return fail(step, EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: a thread has not left the checkpoint before");
        wake_when_job_stopped(step); /* stopped again by the checkpoint before, it is still in our handler */
        poll(NULL, 0, 1);
    }
    return 0;
}

static void begin_stop(struct step *step)
{
    struct agent_page *page = step->page;
    uint32_t used = page->parked < page->thread_room ? page->parked : page->thread_room;
    uint64_t token;

    do
        if (getrandom(&token, sizeof token, 0) != sizeof token)
            token = (uint64_t)now_nanoseconds();
    while (token < VALUE_FIRST_TOKEN || token == page->token);
    for (uint32_t i = 0; i < used; i++)
        page->threads[i].tid = 0;
    page->parked = 0;
    memset(page->let_out, 0, sizeof page->let_out);
    page->let_out_allowed = 1;
    page->saver_pid = (uint32_t)getpid();
    page->message[0] = 0;
    __atomic_store_n(&page->wanted, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&page->token, token, __ATOMIC_SEQ_CST);
    stop_order_give(step, ORDER_STOP);
}

int stop_given_up(struct step *step)
{
    return fail(step, EXIT_RUN_AGAIN, "given up: the program did not stop in time");
}

/* Threads that were inside the vDSO, and went on, get the signal again; some may be there most of the time. */
static int send_to_let_out(struct step *step)
{
    struct agent_page *page = step->page;
    int error = 0;

    if (now_nanoseconds() > step->stopped_at + LET_OUT_SECONDS * INT64_C(1000000000))
        __atomic_store_n(&page->let_out_allowed, 0, __ATOMIC_SEQ_CST);
    for (int i = 0; !error && i < AGENT_LET_OUT; i++) {
        uint32_t tid = __atomic_exchange_n(&page->let_out[i], 0, __ATOMIC_SEQ_CST);
        if (tid)
            error = send(page, tid, STOP_SIGNAL, page->token);
    }
    return error == -ESRCH ? 0 : error;
}

static int await_threads(struct step *step, struct sent *sent)
{
    int64_t deadline = now_nanoseconds() + STOP_DEADLINE_SECONDS * INT64_C(1000000000);
    uint32_t tid = 0, count = 0;
    struct obstacle obstacle = { 0 };

    if (deadline > step->request->deadline)
        deadline = step->request->deadline;
    for (;;) {
        uint32_t parked = __atomic_load_n(&step->page->parked, __ATOMIC_SEQ_CST);
        int running = send_to_let_out(step);
        if (!running)
            running = scan_threads(step, sent, &tid, &count);
        if (running < 0)
            return running == -ESRCH ? fail(step, EXIT_NO_IMAGE, "no checkpoint: the program has ended")
                                     : fail(step, EXIT_SYSTEM, "no checkpoint: the stop signal cannot be queued: %s",
                                            strerror(-running));
        if (!running && step->page->parked <= step->page->thread_room && count == step->page->parked) {
            step->saving.thread_count = count;
            return 0;
        }
        if (step->page->parked > step->page->thread_room)
            return fail(step, EXIT_REFUSED, "no checkpoint: R-MANY-THREADS: more than %u threads, or they multiply too fast",
                        step->page->thread_room);
        if (now_nanoseconds() > deadline || (step->main_has_ended && running == 1))
            return deadline == step->request->deadline ? stop_given_up(step) : obstacles_fail(step, tid);
        wait_word(&step->page->parked, parked, 1);
        if (step->page->parked != parked)
            continue;
        wake_when_job_stopped(step);
        if (running && obstacles_look(step, &obstacle, obstacle.tid ? obstacle.tid : tid))
            return EXIT_REFUSED;
    }
}

/* Few programs use any of it. */
static int ask_for_ipc(struct step *step)
{
    const struct agent_page *page = step->page;

    if (!page->ipc_count && !page->undo_count)
        return 0;
    if (fallocate(step->page_descriptor, 0, offsetof(struct agent_page, ipc), (off_t)(sizeof *page - offsetof(struct agent_page, ipc))))
        return fail(step, EXIT_SYSTEM, "no checkpoint: no room in /dev/shm to describe what the program uses of System V IPC: %s",
                    strerror(errno));
    return stop_order(step, ORDER_IPC) ? fail(step, EXIT_SYSTEM, "no checkpoint: the program's agent does not answer") : 0;
}

int stop_process(struct step *step)
{
    struct sent by_libc_signal = { 0 }, sent = { .by_libc_signal = &by_libc_signal };
    int status;

    step->saving.pid = (int)step->page->pid;
    step->saving.page = step->page;
    step->saving.looked_at = step->page->looked_at;
    step->saving.page_device = step->page_device;
    step->saving.page_inode = step->page_inode;
    step->saving.memory = step->saving.pagemap = step->saving.copies = -1;
    if ((status = obstacles_before(step)) || (status = make_room(step)) || (status = await_leaving(step)))
        return status;
    step->stopped_at = now_nanoseconds();
    begin_stop(step);
    step->stopped = 1;
    status = await_threads(step, &sent);
    free(sent.threads);
    free(by_libc_signal.threads);
    if (!status)
        status = signals_list_timers(step);
    if (!status && stop_order(step, ORDER_DESCRIBE))
        status = fail(step, EXIT_SYSTEM, "no checkpoint: the program's agent does not answer");
    return status ? status : ask_for_ipc(step);
}

static int still_there(const struct step *step)
{
    return !members_page_is_dead(step) && (!kill((int)step->page->pid, 0) || errno == EPERM);
}

int stop_order_wait(struct step *step)
{
    int64_t deadline = now_nanoseconds() + ORDER_SECONDS * INT64_C(1000000000);
    uint32_t answer, wanted = __atomic_load_n(&step->page->order, __ATOMIC_SEQ_CST);

    while ((answer = __atomic_load_n(&step->page->answer, __ATOMIC_SEQ_CST)) != wanted) {
        if (now_nanoseconds() > deadline || !still_there(step))
            return -ETIMEDOUT;
        wait_word(&step->page->answer, answer, 100);
    }
    return step->page->result;
}

int stop_order(struct step *step, enum agent_order order)
{
    stop_order_give(step, order);
    return stop_order_wait(step);
}

int stop_ask(const struct saving *saving, enum agent_order order, uint32_t argument)
{
    struct step *step = (struct step *)((char *)saving - offsetof(struct step, saving));

    /* memory that tmpfs could refuse the program, which would be a SIGBUS */
    if (order == ORDER_PAIR &&
        fallocate(step->page_descriptor, 0, offsetof(struct agent_page, pair), sizeof step->page->pair))
        return -errno;
    step->page->argument = argument;
    return stop_order(step, order);
}

void stop_resume(struct step *step)
{
    if (!step->stopped)
        return;
    step->stopped = 0;
    step->ran_on_at = now_nanoseconds();
    if (step->was_job_stopped)
        kill((int)step->page->pid, SIGSTOP); /* it finds the order when somebody continues it */
    step->was_job_stopped = 0;
    stop_order_give(step, ORDER_RESUME);
    __atomic_fetch_add(&step->page->release, 1, __ATOMIC_SEQ_CST);
    wake(&step->page->release);
}

int stop_still_holds(const struct step *step)
{
    return !step->stopped || __atomic_load_n(&step->page->order, __ATOMIC_SEQ_CST) == step->last_order;
}

void stop_exit_program(struct step *step)
{
    step->ran_on_at = now_nanoseconds();
    stop_order_give(step, ORDER_EXIT);
    for (int i = 0; i < 1000 && still_there(step); i++)
        wait_word(&step->page->answer, step->page->answer, 10);
    step->stopped = 0;
}

/* The program writes the line itself: it then has the place in the file, or in the pipe, that its own lines have. */
void stop_say(struct step *step)
{
    if (!step->message[0] || !step->page || members_page_is_dead(step))
        return; /* nobody is there to be told, or somebody who would die of the signal */
    snprintf(step->page->message, sizeof step->page->message, "stasis: %s\n", step->message);
    send(step->page, 0, STOP_SIGNAL, VALUE_SAY);
}
