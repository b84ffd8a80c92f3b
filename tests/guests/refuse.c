/* SPDX-License-Identifier: MIT */
/* refuse WHAT SECONDS: holds one thing that is hard to bring back and uses it at every tick. A
 * checkpointer may refuse it by name, or bring it back whole; it must not lose it silently. `refuse list` names all. */
#include "sorts.h"

#include <arpa/inet.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static int one = -1, two = -1;
static char *memory;
static timer_t timer;
static volatile sig_atomic_t alarms;
static char name[64];

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

static void count_alarms(void)
{
    struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

    sigaction(SIGALRM, &action, NULL);
}

static int talk(void) /* bytes written to two come out of one */
{
    char got = 0;

    return write(two, "x", 1) == 1 && read(one, &got, 1) == 1 && got == 'x';
}

static int open_pair(void)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 0;
    one = pair[0];
    two = pair[1];
    return 1;
}

static int open_pipe(void)
{
    int ends[2];

    if (pipe(ends))
        return 0;
    one = ends[0];
    two = ends[1];
    return 1;
}

static int open_full_pipe(void) /* bytes that wait in it */
{
    return open_pipe() && write(two, "abc", 3) == 3;
}

static int pass_on(void)
{
    char got = 0;

    return read(one, &got, 1) == 1 && got >= 'a' && got <= 'c' && write(two, &got, 1) == 1;
}

static int open_listener(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };

    one = socket(AF_INET, SOCK_STREAM, 0);
    return one >= 0 && !bind(one, (struct sockaddr *)&address, sizeof address) && !listen(one, 5);
}

static int is_listening(void)
{
    int value = 0;
    socklen_t length = sizeof value;

    return !getsockopt(one, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) && value == 1;
}

static int open_epoll(void)
{
    struct epoll_event event = { .events = EPOLLIN };

    one = epoll_create1(0);
    two = eventfd(1, 0);
    return one >= 0 && two >= 0 && !epoll_ctl(one, EPOLL_CTL_ADD, two, &event);
}

static int epoll_sees(void)
{
    struct epoll_event event;

    return epoll_wait(one, &event, 1, 0) == 1 && event.events == EPOLLIN;
}

static int open_eventfd(void)
{
    one = eventfd(5, EFD_NONBLOCK);
    return one >= 0;
}

static int event_counts(void)
{
    eventfd_t value = 0;

    return !eventfd_read(one, &value) && value == 5 && !eventfd_write(one, 5);
}

static int open_timerfd(void)
{
    struct itimerspec every = { { 0, 5000000 }, { 0, 5000000 } };

    one = timerfd_create(CLOCK_MONOTONIC, 0);
    return one >= 0 && !timerfd_settime(one, 0, &every, NULL);
}

static int timer_fires(void)
{
    uint64_t count = 0;

    return read(one, &count, 8) == 8 && count > 0;
}

static int open_signalfd(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    sigprocmask(SIG_BLOCK, &set, NULL);
    one = signalfd(-1, &set, 0);
    return one >= 0;
}

static int signal_comes(void)
{
    struct signalfd_siginfo info = { 0 };

    return !raise(SIGURG) && read(one, &info, sizeof info) == sizeof info && info.ssi_signo == SIGURG;
}

static int open_inotify(void)
{
    one = inotify_init1(IN_NONBLOCK);
    snprintf(name, sizeof name, "watched");
    two = open(name, O_RDWR | O_CREAT, 0600);
    return one >= 0 && two >= 0 && inotify_add_watch(one, ".", IN_MODIFY) >= 0;
}

static int change_is_seen(void)
{
    char events[4096];

    return pwrite(two, "x", 1, 0) == 1 && read(one, events, sizeof events) > 0;
}

static int open_memfd(void)
{
    one = memfd_create("guest", 0);
    return one >= 0 && write(one, "abcdef", 6) == 6;
}

static int open_secret(void)
{
    one = (int)syscall(447 /* memfd_secret */, 0);
    if (one < 0 || ftruncate(one, GUEST_PAGE))
        return 0;
    memory = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, one, 0);
    return memory != MAP_FAILED && strcpy(memory, "abcdef") == memory;
}

static aio_context_t context;

static int open_aio(void)
{
    return !syscall(SYS_io_setup, 4, &context);
}

static int aio_answers(void)
{
    struct timespec none = { 0, 0 };

    return !syscall(SYS_io_getevents, context, 0, 4, NULL, &none);
}

static int open_huge_memfd(void)
{
    one = memfd_create("guest", 4 /* MFD_HUGETLB */);
    return one >= 0;
}

static int is_open(void)
{
    return fcntl(one, F_GETFD) >= 0;
}

static int open_unlinked(void)
{
    char path[] = "unlinked-XXXXXX";

    one = mkstemp(path);
    return one >= 0 && !unlink(path) && write(one, "abcdef", 6) == 6;
}

static int content_is_there(void)
{
    char got[6];

    return pread(one, got, 6, 0) == 6 && !memcmp(got, "abcdef", 6);
}

static int open_flock(void)
{
    one = open("locked", O_RDWR | O_CREAT, 0600);
    return one >= 0 && !flock(one, LOCK_EX | LOCK_NB);
}

static int flock_holds(void)
{
    int other = open("locked", O_RDWR | O_CLOEXEC), held;

    held = other >= 0 && flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK;
    close(other);
    return held;
}

static int open_record_lock(void)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 4 };

    one = open("locked", O_RDWR | O_CREAT, 0600);
    return one >= 0 && !fcntl(one, F_OFD_SETLK, &lock);
}

static int record_lock_holds(void)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };
    int other = open("locked", O_RDWR | O_CLOEXEC), held;

    held = other >= 0 && !fcntl(other, F_OFD_GETLK, &lock) && lock.l_type == F_WRLCK && lock.l_start == 3;
    close(other);
    return held;
}

static int open_sysv_memory(void)
{
    one = shmget(IPC_PRIVATE, GUEST_PAGE, IPC_CREAT | 0600);
    memory = one < 0 ? (char *)-1 : shmat(one, NULL, 0);
    if (one >= 0)
        shmctl(one, IPC_RMID, NULL);
    return memory != (char *)-1 && strcpy(memory, "abcdef") == memory;
}

static int memory_is_there(void)
{
    return !strcmp(memory, "abcdef");
}

static int sysv_memory_is_there(void)
{
    struct shmid_ds status;

    return memory_is_there() && !shmctl(one, IPC_STAT, &status) && status.shm_nattch >= 1;
}

static int open_shared_file(void)
{
    one = open("shared", O_RDWR | O_CREAT, 0600);
    if (one < 0 || ftruncate(one, GUEST_PAGE))
        return 0;
    memory = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, one, 0);
    return memory != MAP_FAILED && strcpy(memory, "abcdef") == memory;
}

static int shared_file_follows(void)
{
    char got = 0;

    memory[10]++;
    return memory_is_there() && pread(one, &got, 1, 10) == 1 && got == memory[10];
}

static int open_queue(void)
{
    struct mq_attr attributes = { .mq_maxmsg = 2, .mq_msgsize = 16 };

    snprintf(name, sizeof name, "/guest-%ld", (long)getpid());
    one = (int)mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    if (one < 0)
        return 0;
    mq_unlink(name);
    return !mq_send((mqd_t)one, "abcdef", 6, 0);
}

static int queue_works(void)
{
    char got[16];

    return mq_receive((mqd_t)one, got, sizeof got, NULL) == 6 && !memcmp(got, "abcdef", 6) &&
           !mq_send((mqd_t)one, "abcdef", 6, 0);
}

static int open_terminal(void)
{
    one = posix_openpt(O_RDWR | O_NOCTTY);
    if (one < 0 || grantpt(one) || unlockpt(one))
        return 0;
    two = open(ptsname(one), O_RDWR | O_NOCTTY);
    return two >= 0;
}

static int terminal_talks(void)
{
    char got[8] = "";

    return write(two, "x", 1) == 1 && read(one, got, sizeof got) >= 1 && got[0] == 'x';
}

static int open_directory(void)
{
    one = open(".", O_RDONLY | O_DIRECTORY);
    return one >= 0;
}

static int directory_works(void)
{
    return !faccessat(one, "/proc/self", F_OK, 0) && openat(one, "no such file", O_RDONLY) == -1 && errno == ENOENT;
}

static int start_itimer(void)
{
    struct itimerval every = { { 0, 5000 }, { 0, 5000 } };

    count_alarms();
    return !setitimer(ITIMER_REAL, &every, NULL);
}

static int start_timer(void)
{
    struct itimerspec every = { { 0, 5000000 }, { 0, 5000000 } };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };

    count_alarms();
    return !timer_create(CLOCK_MONOTONIC, &event, &timer) && !timer_settime(timer, 0, &every, NULL);
}

static int alarms_come(void) /* at least one in ten ticks */
{
    static int quiet;

    quiet = alarms ? 0 : quiet + 1;
    alarms = 0;
    return quiet < 10;
}

static int install_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof code[0], code };

    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int filter_works(void)
{
    return syscall(SYS_getpgrp) == -1 && errno == EXDEV;
}

static int lock_memory(void)
{
    memory = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED && !mlock(memory, GUEST_PAGE) && strcpy(memory, "abcdef") == memory;
}

static int memory_is_locked(void)
{
    char line[128];
    FILE *status = fopen("/proc/self/status", "re");
    int locked = 0;

    while (status && fgets(line, sizeof line, status))
        locked |= !strncmp(line, "VmLck:", 6) && atoi(line + 6) > 0;
    if (status)
        fclose(status);
    return memory_is_there() && locked;
}

static const struct sort things[] = {
    { "socketpair", open_pair, talk, NULL },
    { "pipe", open_pipe, talk, NULL },
    { "full-pipe", open_full_pipe, pass_on, NULL },
    { "listener", open_listener, is_listening, NULL },
    { "epoll", open_epoll, epoll_sees, NULL },
    { "eventfd", open_eventfd, event_counts, NULL },
    { "timerfd", open_timerfd, timer_fires, NULL },
    { "signalfd", open_signalfd, signal_comes, NULL },
    { "inotify", open_inotify, change_is_seen, NULL },
    { "memfd", open_memfd, content_is_there, NULL },
    { "unlinked", open_unlinked, content_is_there, NULL },
    { "flock", open_flock, flock_holds, NULL },
    { "record-lock", open_record_lock, record_lock_holds, NULL },
    { "sysv-memory", open_sysv_memory, sysv_memory_is_there, NULL },
    { "shared-file", open_shared_file, shared_file_follows, NULL },
    { "queue", open_queue, queue_works, NULL },
    { "terminal", open_terminal, terminal_talks, NULL },
    { "directory", open_directory, directory_works, NULL },
    { "itimer", start_itimer, alarms_come, NULL },
    { "timer", start_timer, alarms_come, NULL },
    { "filter", install_filter, filter_works, NULL },
    { "locked-memory", lock_memory, memory_is_locked, NULL },
    { "huge-memfd", open_huge_memfd, is_open, NULL },
    { "secret-memory", open_secret, memory_is_there, NULL },
    { "aio", open_aio, aio_answers, NULL },
    { 0 },
};

int main(int argc, char **argv)
{
    if (argc != 2 || strcmp(argv[1], "list"))
        return run_sort(things, argc, argv, ticks_wanted(argc, argv, 2, 5));
    for (const struct sort *thing = things; thing->name; thing++)
        puts(thing->name);
    return 0;
}
