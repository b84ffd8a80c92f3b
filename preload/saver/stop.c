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
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "saver.h"

enum { ORDER_SECONDS = 60, LET_OUT_SECONDS = 2 };

void stop_wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void wait_word(uint32_t *word, uint32_t value, long milliseconds)
{
    struct timespec timeout = { .tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000 };
    syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

static void note_order(struct process *process, enum agent_order order)
{
    process->last_order = ORDER_WORD(++process->sequence, order);
    __atomic_store_n(&process->page->order, process->last_order, __ATOMIC_SEQ_CST);
}

void stop_order_give(struct process *process, enum agent_order order)
{
    note_order(process, order);
    stop_wake(&process->page->order);
    if (process->sleeps_at)
        stop_wake(process->sleeps_at);
    process->sleeps_at = NULL;
}

/* It sleeps on, but at another word. Should it be just awake it obeys at once, which does no harm. */
void stop_order_queue(struct process *process, enum agent_order order, uint32_t *turn)
{
    note_order(process, order);
    process->sleeps_at = turn;
    syscall(SYS_futex, &process->page->order, FUTEX_CMP_REQUEUE, 0, INT_MAX, turn, process->last_order);
}

static int is_parked(const struct agent_page *page, uint32_t tid)
{
    uint32_t count = __atomic_load_n(&page->parked, __ATOMIC_SEQ_CST);

    for (uint32_t i = 0; i < count && i < page->thread_room; i++)
        if (__atomic_load_n(&page->threads[i].tid, __ATOMIC_ACQUIRE) == tid)
            return 1;
    return 0;
}

static int send(int pid, uint32_t tid, int number, uint64_t value)
{
    siginfo_t info = { 0 };

    info.si_signo = number;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = (void *)value;
    if (tid)
        return syscall(SYS_rt_tgsigqueueinfo, pid, tid, number, &info) ? -errno : 0;
    return syscall(SYS_rt_sigqueueinfo, pid, number, &info) ? -errno : 0;
}

/* The threads that have been sent this stop already, and in which look at all threads each was last seen: one that was
 * missing in the look before is another thread with that number. */
struct sent {
    struct sent_thread {
        uint32_t tid, look;
    } *threads;
    size_t count, room;
    uint32_t look;
};

/* A process that is being stopped. */
struct stopping {
    struct sent sent;
    struct sent by_libc_signal; /* those that were sent the other one, too */
    struct obstacle obstacle;
    int64_t since;
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
static void try_libc_signal(struct process *process, uint32_t tid)
{
    char name[64];
    uint64_t blocked, both = UINT64_C(1) << (STOP_SIGNAL - 1) | UINT64_C(1) << (LIBC_SIGNAL - 1);

    if (!__atomic_load_n(&process->page->libc_signal, __ATOMIC_SEQ_CST) ||
        now_nanoseconds() - process->step->stopped_at < LIBC_SIGNAL_AFTER)
        return;
    snprintf(name, sizeof name, "task/%u/status", tid);
    char *status = proc_read((int)process->page->pid, name, NULL);
    const char *mask = status ? status_field(status, "SigBlk") : NULL;
    blocked = mask ? strtoull(mask, NULL, 16) & both : 0;
    free(status);
    if (blocked == UINT64_C(1) << (STOP_SIGNAL - 1) && !was_sent(&process->stopping->by_libc_signal, tid))
        send(process->pid, tid, LIBC_SIGNAL, process->page->token);
}

/* Looks at all threads once: sends the signal to new ones. Returns how many are not parked; one of them in *ret_tid. */
static int scan_threads(struct process *process, uint32_t *ret_tid, uint32_t *ret_count)
{
    struct sent *sent = &process->stopping->sent;
    char path[64];
    DIR *tasks;
    struct dirent *entry;
    int running = 0;

    *ret_count = 0;
    sent->look++;
    snprintf(path, sizeof path, "/proc/%u/task", process->page->pid);
    tasks = opendir(path);
    if (!tasks)
        return -ESRCH;
    while ((entry = readdir(tasks))) {
        uint32_t tid = (uint32_t)strtoul(entry->d_name, NULL, 10);
        if (!tid)
            continue;
        ++*ret_count;
        if (is_parked(process->page, tid))
            continue;
        *ret_tid = tid;
        running++;
        if (!was_sent(sent, tid)) {
            int error = send(process->pid, tid, STOP_SIGNAL, process->page->token);
            if (error == -ESRCH)
                running--; /* it has ended meanwhile */
            else if (error) {
                closedir(tasks);
                return error;
            }
        } else
            try_libc_signal(process, tid);
    }
    closedir(tasks);
    return *ret_count ? running : -ESRCH;
}

/* The first look at a process of one thread needs no list of them: should it have become more, the next look finds out. */
static int begin_with_threads(struct process *process, uint32_t *ret_tid, uint32_t *ret_count)
{
    struct sent *sent = &process->stopping->sent;

    if (sent->look || proc_threads(process->pid) != 1 || send(process->pid, process->page->pid, STOP_SIGNAL, process->page->token))
        return scan_threads(process, ret_tid, ret_count);
    sent->look++;
    was_sent(sent, process->page->pid);
    *ret_tid = process->page->pid;
    *ret_count = 1;
    return 1;
}

/* Memory for a part of the page that tmpfs cannot refuse any more when the program writes to it; and seen by us, while nobody waits. */
static int make_part(const struct process *process, size_t from, size_t end)
{
    uint8_t *page = (uint8_t *)process->page;

    if (fallocate(process->page_descriptor, 0, (off_t)from, (off_t)(end - from)))
        return -errno;
    from = from / PAGE_BYTES * PAGE_BYTES;
    madvise(page + from, (end - from + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES, MADV_POPULATE_WRITE); /* only for speed */
    return 0;
}

/* Slots for twice the threads there are, and some timers. While the program runs for most of them. */
static int make_room(struct process *process)
{
    uint64_t threads = (uint64_t)proc_threads(process->pid), room = threads * 2 + 64;
    int error;

    if (process->has_room && threads * 2 <= process->page->thread_room)
        return 0;
    if (room > AGENT_MAX_THREADS)
        room = AGENT_MAX_THREADS;
    error = make_part(process, offsetof(struct agent_page, range_count), offsetof(struct agent_page, threads[room]));
    if (!error)
        error = make_part(process, offsetof(struct agent_page, traits), offsetof(struct agent_page, traits[room]));
    if (!error)
        error = make_part(process, offsetof(struct agent_page, timer_count), offsetof(struct agent_page, timers[AGENT_FEW_TIMERS]));
    if (error)
        return fail(process->step, EXIT_SYSTEM, "no checkpoint: no room in /dev/shm to describe %ju threads: %s", (uintmax_t)room,
                    strerror(-error));
    process->page->thread_room = (uint32_t)room;
    process->has_room = 1;
    return 0;
}

static uint64_t new_token(const struct agent_page *page)
{
    uint64_t token;

    do
        if (getrandom(&token, sizeof token, 0) != sizeof token)
            token = (uint64_t)now_nanoseconds();
    while (token < VALUE_FIRST_TOKEN || token == page->token);
    return token;
}

void stop_send_to_all(int pid, uint64_t value)
{
    char path[64];
    struct dirent *entry;
    DIR *tasks;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    tasks = opendir(path);
    while (tasks && (entry = readdir(tasks)))
        if (entry->d_name[0] != '.')
            send(pid, (uint32_t)strtoul(entry->d_name, NULL, 10), STOP_SIGNAL, value);
    if (tasks)
        closedir(tasks);
}

/* A job-stopped process that the checkpoint before has left in our handler: on its way out it must not come to run the program's code.
 * The signal of the next stop is there before, and its threads wait for that. */
static void announce_stop(struct process *process)
{
    process->token = new_token(process->page);
    __atomic_store_n(&process->page->coming, COMING_WORD(process->token), __ATOMIC_SEQ_CST);
    stop_send_to_all(process->pid, process->token);
}

/* Threads of a stop that was given up may still be on their way out, and wait where the saver of another has died. */
static void let_leave(struct process *process)
{
    struct agent_page *page = process->page;

    process->sequence = page->order >> 8;
    if (ORDER_KIND(page->order) != ORDER_NONE)
        stop_order_give(process, ORDER_RESUME);
    __atomic_fetch_add(&page->release, 1, __ATOMIC_SEQ_CST);
    stop_wake(&page->release);
}

static int await_leaving(struct process *process)
{
    struct agent_page *page = process->page;
    int64_t deadline = now_nanoseconds() + STOP_DEADLINE_SECONDS * INT64_C(1000000000);

    let_leave(process);
    while (__atomic_load_n(&page->inside, __ATOMIC_SEQ_CST)) {
        if (now_nanoseconds() > deadline || members_page_is_dead(process))
            return fail(process->step, EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: a thread has not left the checkpoint before");
        poll(NULL, 0, 1);
    }
    return 0;
}

static void begin_stop(struct process *process)
{
    struct agent_page *page = process->page;
    uint32_t used = page->parked < page->thread_room ? page->parked : page->thread_room;
    uint64_t token = process->token ? process->token : new_token(page);

    for (uint32_t i = 0; i < used; i++)
        page->threads[i].tid = 0;
    page->parked = 0;
    memset(page->let_out, 0, sizeof page->let_out);
    page->let_out_allowed = 1;
    page->saver_pid = (uint32_t)getpid();
    page->message[0] = 0;
    page->woken_count = 0;
    page->timer_count = timers_of_all(page->timers);
    __atomic_store_n(&page->wanted, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&page->token, token, __ATOMIC_SEQ_CST);
    stop_order_give(process, ORDER_STOP);
    process->token = 0;
    __atomic_store_n(&page->coming, 0, __ATOMIC_SEQ_CST);
    stop_wake(&page->coming);
}

int stop_given_up(struct step *step)
{
    return fail(step, EXIT_RUN_AGAIN, "given up: the program did not stop in time");
}

/* Threads that were inside the vDSO, and went on, get the signal again; some may be there most of the time. */
static int send_to_let_out(struct process *process)
{
    struct agent_page *page = process->page;
    int error = 0;

    if (now_nanoseconds() > process->step->stopped_at + LET_OUT_SECONDS * INT64_C(1000000000))
        __atomic_store_n(&page->let_out_allowed, 0, __ATOMIC_SEQ_CST);
    for (int i = 0; !error && i < AGENT_LET_OUT; i++) {
        uint32_t tid = __atomic_exchange_n(&page->let_out[i], 0, __ATOMIC_SEQ_CST);
        if (tid)
            error = send((int)page->pid, tid, STOP_SIGNAL, page->token);
    }
    return error == -ESRCH ? 0 : error;
}

enum { PARK_NANOSECONDS = 2000000 };

/* It has been told a moment ago. */
static int may_be_on_its_way(const struct process *process)
{
    return now_nanoseconds() - process->stopping->since < PARK_NANOSECONDS;
}

/* Then one slot tells all. */
static int is_parked_alone(const struct process *process)
{
    const struct agent_page *page = process->page;

    return __atomic_load_n(&page->parked, __ATOMIC_SEQ_CST) == 1 && is_parked(page, page->pid) && proc_threads(process->pid) == 1;
}

/* One look at a process that has the order. *ret_tid: a thread that has not come; 0: all have, or it has ended. Exit status. */
static int look_at_threads(struct process *process, uint32_t *ret_tid)
{
    struct agent_page *page = process->page;
    uint32_t count = 1;
    int running = send_to_let_out(process);

    *ret_tid = page->pid;
    if (!running && process->stopping->sent.look && !__atomic_load_n(&page->parked, __ATOMIC_SEQ_CST) && may_be_on_its_way(process))
        return 0;
    *ret_tid = 0;
    if (!running && !is_parked_alone(process))
        running = begin_with_threads(process, ret_tid, &count);
    if (running < 0 && running != -ESRCH)
        return fail(process->step, EXIT_SYSTEM, "no checkpoint: the stop signal cannot be queued: %s", strerror(-running));
    if (page->parked > page->thread_room)
        return fail(process->step, EXIT_REFUSED, "no checkpoint: R-MANY-THREADS: more than %u threads, or they multiply too fast",
                    page->thread_room);
    if (running == -ESRCH)
        return 0; /* members_look() drops it */
    process->is_parked = !running && count == page->parked;
    process->saving.thread_count = count;
    if (process->is_parked)
        stop_forget(process);
    else
        *ret_tid = running ? *ret_tid : page->pid;
    return process->main_has_ended && running == 1 ? obstacles_fail(process, *ret_tid) : 0;
}

void stop_forget(struct process *process)
{
    if (!process->stopping)
        return;
    free(process->stopping->sent.threads);
    free(process->stopping->by_libc_signal.threads);
    free(process->stopping);
    process->stopping = NULL;
}

static int give_stop(struct process *process)
{
    int status = process->is_open ? 0 : obstacles_before(process);

    if (!status && __atomic_load_n(&process->page->inside, __ATOMIC_SEQ_CST) && proc_state(process->pid) == 'T') {
        if (!process->token)
            announce_stop(process);
        if (jobs_wake(process))
            return 0; /* later */
    }
    if (!status)
        status = make_room(process);
    if (!status)
        status = await_leaving(process);
    if (status && members_page_is_dead(process)) {
        process->step->message[0] = 0;
        return 0; /* members_look() drops it */
    }
    if (status)
        return status;
    process->stopping = calloc(1, sizeof *process->stopping);
    if (!process->stopping)
        return fail(process->step, EXIT_SYSTEM, "no checkpoint: out of memory");
    process->saving.pid = process->pid;
    process->saving.page = process->page;
    process->saving.looked_at = process->page->looked_at;
    process->saving.page_device = process->page_device;
    process->saving.page_inode = process->page_inode;
    process->saving.memory = process->saving.pagemap = process->saving.copies = -1;
    process->stopping->since = now_nanoseconds();
    begin_stop(process);
    process->stopped = 1;
    jobs_note(process);
    return 0;
}

/* What is in the way of one that does not come. */
static int look_closer(struct process *process, uint32_t tid)
{
    struct obstacle *obstacle = &process->stopping->obstacle;

    if (proc_state(process->pid) == 'Z')
        process->main_has_ended = 1;
    if (jobs_wake(process))
        return 0;
    return obstacles_look(process, obstacle, obstacle->tid ? obstacle->tid : tid) ? EXIT_REFUSED : 0;
}

/* Those that have not come: how many, one of them, a thread of it, and how many of its threads had parked before the look. */
struct late {
    int count;
    struct process *process;
    uint32_t tid, parked;
};

/* One look at all that have pages. */
static int look_at_all(struct step *step, struct late *ret_late)
{
    int status = 0;

    *ret_late = (struct late){ 0 };
    for (struct process *process = step->processes; process && !status; process = process->next) {
        uint32_t tid, parked;
        if (!process->page || process->is_parked)
            continue;
        if (!process->stopped)
            status = give_stop(process);
        parked = __atomic_load_n(&process->page->parked, __ATOMIC_SEQ_CST);
        if (!status && process->stopped)
            status = look_at_threads(process, &tid);
        if (!status && process->waits_for_parent && !process->stopped) {
            tid = process->page->pid;
        } else if (status || !process->stopped || !tid)
            continue;
        else if (!may_be_on_its_way(process))
            status = look_closer(process, tid);
        *ret_late = (struct late){ ret_late->count + 1, process, tid, parked };
    }
    return status;
}

static int fail_late(struct step *step, const struct late *late)
{
    if (now_nanoseconds() > step->request->deadline)
        return stop_given_up(step);
    if (late->process)
        return obstacles_fail(late->process, late->tid);
    return fail(step, EXIT_REFUSED, "no checkpoint: R-THREAD-BUSY: processes are born faster than they can be stopped, or one does "
                "not come up");
}

/* Many processes take long on a busy machine: time counts only while there are never fewer that have not come. */
struct patience {
    int least;
    int64_t end;
};

static int is_over(const struct step *step, struct patience *patience, int left)
{
    int64_t now = now_nanoseconds();

    if (left < patience->least)
        *patience = (struct patience){ left, now + STOP_DEADLINE_SECONDS * INT64_C(1000000000) };
    return now > patience->end || now > step->request->deadline;
}

/* Waits for those that are there; then looks who else is, until nobody is new. Children of a process whose children are just
 * ending may be missed by a look at /proc: so a second one must see what the first saw. */
static int stop_everybody(struct step *step)
{
    struct patience patience = { .least = INT_MAX };
    int calm = 0;

    while (!calm) {
        struct late late;
        int pending = 0, news = 0, status = look_at_all(step, &late);
        if (!status && !late.count)
            status = members_look(step, &pending, &news);
        if (!status && !late.count && !pending && !news) {
            status = members_find_orphans(step, &pending, &news);
            calm = !pending && !news;
        }
        if (status)
            return status;
        if (!step->processes)
            return fail(step, EXIT_NO_IMAGE, "no checkpoint: the program has ended");
        if (!late.count && !pending)
            continue;
        if (is_over(step, &patience, late.count + pending))
            return fail_late(step, &late);
        if (late.count)
            wait_word(&late.process->page->parked, late.parked, 1);
        else
            poll(NULL, 0, 1);
    }
    return 0;
}

/* Few programs use any of it. */
static int ask_for_ipc(struct process *process)
{
    const struct agent_page *page = process->page;

    if (!page->ipc_count && !page->undo_count)
        return 0;
    if (fallocate(process->page_descriptor, 0, offsetof(struct agent_page, ipc), (off_t)(sizeof *page - offsetof(struct agent_page, ipc))))
        return fail(process->step, EXIT_SYSTEM, "no checkpoint: no room in /dev/shm to describe what the program uses of System V IPC: %s",
                    strerror(errno));
    return stop_order(process, ORDER_IPC) ? fail(process->step, EXIT_SYSTEM, "no checkpoint: the program's agent does not answer") : 0;
}

/* All obey at the same time; many have said it already. */
static int describe_all(struct step *step)
{
    int status = 0;

    for (struct process *process = step->processes; process && !status; process = process->next) {
        status = signals_list_timers(process);
        if (!status && !process->is_described)
            stop_order_give(process, ORDER_DESCRIBE);
    }
    for (struct process *process = step->processes; process && !status; process = process->next) {
        if (!process->is_described && stop_order_wait(process))
            status = fail(step, EXIT_SYSTEM, "no checkpoint: the program's agent does not answer");
        if (!status)
            status = ask_for_ipc(process);
    }
    if (!status)
        jobs_find_going_on(step);
    return status;
}

int stop_all(struct step *step)
{
    int status = 0;

    for (struct process *process = step->processes; process; process = process->next)
        if (process->page && __atomic_load_n(&process->page->inside, __ATOMIC_SEQ_CST))
            let_leave(process);
    for (struct process *process = step->processes; process && !status; process = process->next) {
        status = process->page ? obstacles_before(process) : 0;
        process->is_open = process->page && !status;
        if (process->is_open)
            status = make_room(process);
        if (status && members_page_is_dead(process)) {
            step->message[0] = 0;
            status = 0;
        }
    }
    if (status)
        return status;
    step->stopped_at = now_nanoseconds();
    status = stop_everybody(step);
    if (status)
        return status;
    members_sort(step);
    return describe_all(step);
}

static int still_there(const struct process *process)
{
    return !members_page_is_dead(process) && (!kill((int)process->page->pid, 0) || errno == EPERM);
}

int stop_order_wait(struct process *process)
{
    int64_t deadline = now_nanoseconds() + ORDER_SECONDS * INT64_C(1000000000);
    uint32_t answer, wanted = __atomic_load_n(&process->page->order, __ATOMIC_SEQ_CST);

    while ((answer = __atomic_load_n(&process->page->answer, __ATOMIC_SEQ_CST)) != wanted) {
        if (now_nanoseconds() > deadline || !still_there(process))
            return -ETIMEDOUT;
        wait_word(&process->page->answer, answer, 100);
    }
    return process->page->result;
}

int stop_order(struct process *process, enum agent_order order)
{
    stop_order_give(process, order);
    return stop_order_wait(process);
}

static void resume(struct process *process)
{
    process->stopped = process->is_parked = 0;
    stop_order_give(process, ORDER_RESUME);
    __atomic_fetch_add(&process->page->release, 1, __ATOMIC_SEQ_CST);
    stop_wake(&process->page->release);
}

int stop_ask(const struct saving *saving, enum agent_order order, uint32_t argument)
{
    struct process *process = process_of(saving);

    off_t at = order == ORDER_PAIR ? offsetof(struct agent_page, pair) : offsetof(struct agent_page, queue);
    off_t bytes = order == ORDER_PAIR ? sizeof process->page->pair : order == ORDER_QUEUE ? sizeof process->page->queue : 0;

    /* memory that tmpfs could refuse the program, which would be a SIGBUS */
    if (bytes && fallocate(process->page_descriptor, 0, at, bytes))
        return -errno;
    process->page->argument = argument;
    return stop_order(process, order);
}

void stop_resume(struct step *step)
{
    int any = 0;

    jobs_rest(step);
    for (struct process *process = step->processes; process; process = process->next) {
        any |= process->stopped;
        if (process->stopped)
            resume(process);
    }
    if (any)
        step->ran_on_at = now_nanoseconds();
}

int stop_still_holds(const struct step *step)
{
    for (const struct process *process = step->processes; process; process = process->next)
        if (process->stopped && __atomic_load_n(&process->page->order, __ATOMIC_SEQ_CST) != process->last_order)
            return 0;
    return 1;
}

/* Parents first: none of them then runs on because a child has ended. */
void stop_exit_programs(struct step *step)
{
    step->ran_on_at = now_nanoseconds();
    for (struct process *process = step->processes; process; process = process->next)
        stop_order_give(process, ORDER_EXIT);
    for (struct process *process = step->processes; process; process = process->next) {
        for (int i = 0; i < 1000 && still_there(process); i++)
            wait_word(&process->page->answer, process->page->answer, 10);
        process->stopped = process->was_job_stopped = 0;
    }
}

/* The program writes the line itself: it then has the place in the file, or in the pipe, that its own lines have. */
void stop_say(struct step *step)
{
    struct process *process = step->processes;

    while (process && process->pid != step->request->requester)
        process = process->next;
    if (!step->message[0] || !process || !process->page || members_page_is_dead(process))
        return; /* nobody is there to be told, or somebody who would die of the signal */
    snprintf(process->page->message, sizeof process->page->message, "stasis: %s\n", step->message);
    send(process->pid, 0, STOP_SIGNAL, VALUE_SAY);
}
