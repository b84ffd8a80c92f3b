/* SPDX-License-Identifier: MIT */
/* family pipes|workers|ended|places|orphan|raw|stranger|table|core SECONDS: several processes that need one another and look after themselves.
 *
 *   pipes    parent and child with a pipe each way, both full; and a file that both write to, with one position
 *   workers  shared memory, with robust mutexes that are shared between processes, one of them left by a worker that has died
 *   ended    children that have ended and that nobody has waited for yet
 *   places   sessions and process groups, among them some whose leaders are gone
 *   raw      a child of the system call, of which libc knows nothing
 *   stranger a child that executes a program with an environment of its own, past libc
 *   table    a child with the same table of descriptors
 *   core     a child that has dumped its core and that nobody has waited for; status 77 when it has not
 *   orphan   a grandchild that daemonised, and a parent that ignores SIGCHLD */
#include "sorts.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

static pid_t child_of(void (*run)(long ticks), long ticks)
{
    pid_t parent = getpid(), child = fork();

    if (child < 0)
        bad("no child");
    if (child)
        return child;
    if (getppid() != parent)
        bad("another parent");
    run(ticks);
    _exit(7);
}

static void ends_with(pid_t child, int wanted)
{
    int status;

    if (waitpid(child, &status, 0) != child || status != wanted)
        bad("child %d ended with %x", (int)child, status);
}

/* ---- pipes ---- */

enum { PACKET = 8192, ROUNDS_EACH_TICK = 4 };

static int down[2], up[2], shared_file;

static void fill(uint64_t *packet, uint64_t number)
{
    for (size_t i = 0; i < PACKET / sizeof *packet; i++)
        packet[i] = mix(number * PACKET + i);
}

static void write_all(int fd, const void *bytes)
{
    for (size_t done = 0; done < PACKET;) {
        ssize_t got = write(fd, (const char *)bytes + done, PACKET - done);
        if (got < 0 && errno != EINTR)
            bad("write: %s", strerror(errno));
        done += got > 0 ? (size_t)got : 0;
    }
}

static int read_all(int fd, void *bytes)
{
    for (size_t done = 0; done < PACKET;) {
        ssize_t got = read(fd, (char *)bytes + done, PACKET - done);
        if (!got)
            return done ? bad("half a packet"), 0 : 0;
        if (got < 0 && errno != EINTR)
            bad("read: %s", strerror(errno));
        done += got > 0 ? (size_t)got : 0;
    }
    return 1;
}

static void echo_down_up(long ticks)
{
    uint64_t packet[PACKET / 8], wanted[PACKET / 8];

    (void)ticks;
    close(down[1]);
    close(up[0]);
    for (uint64_t number = 0; read_all(down[0], packet); number++) {
        fill(wanted, number);
        if (memcmp(packet, wanted, sizeof wanted))
            bad("packet %llu is another one", (unsigned long long)number);
        if (number % 16 == 0 && write(shared_file, "c", 1) != 1)
            bad("file: %s", strerror(errno));
        write_all(up[1], packet);
    }
    _exit(0);
}

/* Ahead of its child by so many packets that both pipes are full. */
static void pipes(long ticks)
{
    uint64_t packet[PACKET / 8], sent = 0, back = 0;
    off_t length = 0;
    pid_t child;

    shared_file = open("family.data", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (pipe(down) || pipe(up) || shared_file < 0)
        bad("pipes: %s", strerror(errno));
    child = child_of(echo_down_up, 0);
    close(down[0]);
    close(up[1]);
    while (sent < 14) {
        fill(packet, sent++);
        write_all(down[1], packet);
    }
    ready();
    for (long tick = 0; tick < ticks; tick++, tick_sleep())
        for (int round = 0; round < ROUNDS_EACH_TICK; round++) {
            uint64_t got[PACKET / 8];
            if (!read_all(up[0], got))
                bad("the child has ended");
            fill(packet, back++);
            if (memcmp(packet, got, sizeof got))
                bad("packet %llu has come back as another one", (unsigned long long)back);
            fill(packet, sent++);
            write_all(down[1], packet);
            if (sent % 16 == 0 && write(shared_file, "p", 1) != 1)
                bad("file: %s", strerror(errno));
        }
    close(down[1]);
    while (read_all(up[0], packet))
        back++;
    ends_with(child, 0);
    length = lseek(shared_file, 0, SEEK_CUR);
    if (back != sent || length != (off_t)((sent + 15) / 16 + sent / 16) || length != lseek(shared_file, 0, SEEK_END))
        bad("%llu sent, %llu back, %ld bytes", (unsigned long long)sent, (unsigned long long)back, (long)length);
}

/* ---- workers ---- */

enum { WORKERS = 4 };

struct office {
    pthread_mutex_t mutex, left;
    pthread_cond_t changed;
    uint64_t sum, number, done[WORKERS];
    int stop;
};

static struct office *office;
static int worker_number;

static void share_mutex(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &attributes);
}

/* Takes the next number from the office, and adds what belongs to it. */
static void work(long ticks)
{
    int number = worker_number;

    (void)ticks;
    pthread_mutex_lock(&office->mutex);
    while (!office->stop) {
        uint64_t mine = office->number;
        if (!mine) {
            pthread_cond_wait(&office->changed, &office->mutex);
            continue;
        }
        office->number = 0;
        office->sum += mix(mine);
        office->done[number]++;
        pthread_cond_broadcast(&office->changed);
    }
    pthread_mutex_unlock(&office->mutex);
    _exit(0);
}

static void leave_locked(long ticks)
{
    (void)ticks;
    pthread_mutex_lock(&office->left);
    _exit(3);
}

static void workers(long ticks)
{
    pthread_condattr_t attributes;
    pid_t children[WORKERS];
    uint64_t sum = 0, done = 0;

    office = mmap(NULL, sizeof *office, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    share_mutex(&office->mutex);
    share_mutex(&office->left);
    pthread_condattr_init(&attributes);
    pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&office->changed, &attributes);
    for (worker_number = 0; worker_number < WORKERS; worker_number++)
        children[worker_number] = child_of(work, 0);
    ends_with(child_of(leave_locked, 0), 3 << 8);
    ready();
    for (long tick = 1; tick <= ticks; tick++, tick_sleep()) {
        pthread_mutex_lock(&office->mutex);
        while (office->number)
            pthread_cond_wait(&office->changed, &office->mutex);
        office->number = (uint64_t)tick;
        sum += mix((uint64_t)tick);
        pthread_cond_broadcast(&office->changed);
        pthread_mutex_unlock(&office->mutex);
    }
    pthread_mutex_lock(&office->mutex);
    while (office->number)
        pthread_cond_wait(&office->changed, &office->mutex);
    office->stop = 1;
    pthread_cond_broadcast(&office->changed);
    pthread_mutex_unlock(&office->mutex);
    for (int i = 0; i < WORKERS; i++) {
        ends_with(children[i], 0);
        done += office->done[i];
    }
    if (office->sum != sum || done != (uint64_t)ticks)
        bad("%llu numbers of %ld are in the sum", (unsigned long long)done, ticks);
    if (pthread_mutex_lock(&office->left) != EOWNERDEAD)
        bad("a mutex whose owner has died does not say so");
}

/* ---- ended ---- */

static volatile sig_atomic_t told;

static void count_child(int signal)
{
    (void)signal;
    told++;
}

static void end_at_once(long ticks)
{
    _exit((int)ticks);
}

static void end_by_signal(long ticks)
{
    signal(SIGTERM, SIG_DFL);
    raise((int)ticks);
}

static void ended(long ticks)
{
    pid_t first, second, third;
    siginfo_t info;

    signal(SIGCHLD, count_child);
    first = child_of(end_at_once, 5);
    second = child_of(end_by_signal, SIGTERM);
    third = child_of(end_by_signal, SIGKILL);
    for (int i = 0; i < 3; i++)
        while (waitid(P_PID, (id_t)(i == 0 ? first : i == 1 ? second : third), &info, WEXITED | WNOWAIT))
            ;
    told = 0;
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    if (told)
        bad("a child's end was told %d times more", (int)told);
    ends_with(third, SIGKILL);
    ends_with(first, 5 << 8);
    ends_with(second, SIGTERM);
    if (waitpid(-1, NULL, 0) != -1 || errno != ECHILD)
        bad("a child that nobody made");
}

/* ---- places ---- */

struct place {
    pid_t pid, parent, group, session;
};

enum { PLACES = 9 };
static struct place *places;

static struct place place_now(void)
{
    return (struct place){ getpid(), getppid(), getpgrp(), getsid(0) };
}

/* Until the parent closes its end of `down`; its place must be the same all the time. */
static void stand(long number)
{
    struct place mine = places[number] = place_now(), now;
    char byte;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    write(up[1], "", 1);
    close(down[1]);
    while (read(down[0], &byte, 1) < 0 && errno == EINTR)
        ;
    now = place_now();
    if (memcmp(&mine, &now, sizeof now))
        bad("process %d was in group %d, session %d, child of %d, and is in %d, %d, of %d", (int)now.pid, (int)mine.group, (int)mine.session,
            (int)mine.parent, (int)now.group, (int)now.session, (int)now.parent);
    _exit(0);
}

static void stand_as_leader(long number)
{
    setpgid(0, 0);
    stand(number);
}

static void stand_in_session(long number)
{
    setsid();
    stand(number);
}

/* Its child stands in the session that it had before it began its own. */
static void stand_above(long number)
{
    pid_t child = child_of(stand, number + 1);

    setsid();
    close(down[1]);
    write(up[1], "", 1);
    ends_with(child, 0);
    _exit(0);
}

/* Its child stands in the group whose leader has ended. */
static void stand_without_leader(long number)
{
    pid_t leader = child_of(end_at_once, 0);
    int status;

    setpgid(leader, leader);
    setpgid(0, leader);
    if (waitpid(leader, &status, 0) != leader)
        bad("no leader");
    leader = child_of(stand, number + 1);
    close(down[1]);
    write(up[1], "", 1);
    ends_with(leader, 0);
    _exit(0);
}

static void await_standing(int count)
{
    char byte;

    while (count)
        if (read(up[0], &byte, 1) == 1)
            count--;
}

static void stand_all(long ticks)
{
    pid_t children[5];

    setsid(); /* that of the outside is not ours to look at */
    places = mmap(NULL, PLACES * sizeof *places, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pipe(down) || pipe(up))
        bad("pipes: %s", strerror(errno));
    children[0] = child_of(stand, 0);
    children[1] = child_of(stand_as_leader, 1);
    children[2] = child_of(stand_in_session, 2);
    children[3] = child_of(stand_above, 3);
    children[4] = child_of(stand_without_leader, 6);
    await_standing(7);
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    close(down[1]);
    for (int i = 0; i < 5; i++)
        ends_with(children[i], 0);
}

/* ---- orphan ---- */

static void daemonise(long ticks)
{
    (void)ticks;
    setsid();
    if (fork())
        _exit(0);
    struct place mine = place_now(), now;
    char byte;
    close(down[1]);
    close(up[0]);
    while (getppid() == mine.session)
        tick_sleep();
    write(up[1], "", 1);
    while (read(down[0], &byte, 1) == 1)
        write(up[1], &byte, 1);
    now = place_now();
    if (now.pid != mine.pid || now.group != mine.group || now.session != mine.session)
        bad("the daemon is in group %d and session %d instead of %d and %d", (int)now.group, (int)now.session, (int)mine.group, (int)mine.session);
    _exit(0);
}

static void orphan(long ticks)
{
    char byte = 0;

    signal(SIGCHLD, SIG_IGN);
    if (pipe(down) || pipe(up))
        bad("pipes: %s", strerror(errno));
    if (waitpid(child_of(daemonise, 0), NULL, 0) != -1 || errno != ECHILD)
        bad("an ignored child was waited for");
    close(down[0]);
    close(up[1]);
    await_standing(1);
    ready();
    for (long tick = 0; tick < ticks; tick++, tick_sleep()) {
        if (tick % 8 == 0)
            child_of(end_at_once, 0);
        if (write(down[1], &tick, 1) != 1 || read(up[0], &byte, 1) != 1 || byte != (char)tick)
            bad("the daemon does not answer");
    }
    close(down[1]);
    if (read(up[0], &byte, 1))
        bad("the daemon does not end");
}

/* ---- what is odd ---- */

static void with_child(pid_t child, long ticks)
{
    if (child < 0)
        bad("no child: %s", strerror(errno));
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    kill(child, SIGKILL);
    ends_with(child, SIGKILL);
}

static void stranger(long ticks)
{
    char *arguments[] = { (char *)"sleep", (char *)"1000", NULL }, *environment[] = { NULL };
    pid_t child = fork();

    if (!child) {
        syscall(SYS_execve, "/bin/sleep", arguments, environment);
        _exit(9);
    }
    with_child(child, ticks);
}

static pid_t raw_child(long flags)
{
    pid_t child = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

    while (!child)
        pause();
    return child;
}

static void raw(long ticks)
{
    with_child(raw_child(0), ticks);
}

static void table(long ticks)
{
    with_child(raw_child(0x400 /* CLONE_FILES */), ticks);
}

static void core(long ticks)
{
    siginfo_t info;
    pid_t child = child_of(end_by_signal, SIGSEGV);

    while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT))
        ;
    if (info.si_code != CLD_DUMPED)
        _exit(77);
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct life lives[] = { { "pipes", pipes }, { "workers", workers }, { "ended", ended }, { "places", stand_all }, { "orphan", orphan },
                                         { "raw", raw }, { "stranger", stranger }, { "table", table }, { "core", core }, { 0 } };

    return run_life(lives, argc, argv);
}
