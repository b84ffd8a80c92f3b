/* SPDX-License-Identifier: MIT */
/* epoll: what it watches, for what, and with which data. A registration is of an open file description under the number it had
 * then; the number may be closed or another's by now, while the description lives on under other numbers (epoll(7), Q6).
 *
 * Whether an edge (EPOLLET) has been reported the kernel does not tell. So none is lost, and one may come twice: after a restart
 * each such registration reports what is ready at that moment, as it would had it just been made. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct epoll_record {
    struct descriptor_record descriptor;
    uint32_t count;       /* of watched_records that follow */
    uint32_t reserved;
};
static_assert(sizeof(struct epoll_record) == 32, "epoll record");

struct watched_record {
    int32_t number;       /* under which it was registered */
    int32_t target;       /* where its open file description is now: a number of the same process */
    uint32_t events;
    uint32_t reserved;
    uint64_t data;
};
static_assert(sizeof(struct watched_record) == 24, "watched record");

/* What EPOLLONESHOT leaves of a registration that has reported (fs/eventpoll.c: EP_PRIVATE_BITS) */
#define PRIVATE_EVENTS ((uint32_t)(EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE))

static int epolls_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return text_equal(descriptor->target, "anon_inode:[eventpoll]");
}

/* Is `other` the open file description of the epoll's registration? 0, 1 or -errno. */
static int is_watched(const struct descriptor *epoll, const struct kcmp_epoll_slot *slot, const struct descriptor *other)
{
    long compared = syscall(SYS_kcmp, other->holder->look, epoll->holder->look, KCMP_EPOLL_TFD, other->number, slot);

    return compared < 0 ? -errno : !compared;
}

/* A socket has one description, so its inode, which the line tells, will do: with very many registrations kcmp is slow. */
static int is_that_socket(const struct descriptor *descriptor, const char *line)
{
    const char *text = strstr(line, " ino:"), *end = strchr(line, '\n');
    uint64_t inode;
    unsigned device;

    return S_ISSOCK(descriptor->status.st_mode) && text && end && text < end &&
           sscanf(text, " ino:%" SCNx64 " sdev:%x", &inode, &device) == 2 && inode == descriptor->status.st_ino &&
           device == (major(descriptor->status.st_dev) << 20 | minor(descriptor->status.st_dev));
}

/* The number it was registered under, or else any. 1 when found, 0 or -errno. */
static int find_target(const struct saving *saving, const struct descriptor *epoll, const struct kcmp_epoll_slot *slot,
                       const char *line, int *ret_target)
{
    const struct descriptor *own = descriptor_numbered(saving, (int)slot->tfd);
    int found = !own ? 0 : is_that_socket(own, line) ? 1 : is_watched(epoll, slot, own);

    for (size_t i = 0; !found && i < saving->descriptor_count; i++) {
        own = &saving->descriptors[i];
        found = is_watched(epoll, slot, own);
    }
    if (found > 0)
        *ret_target = own->number;
    return found;
}

/* Counts the lines of one number: there may be several descriptions that had it. */
struct tally {
    uint32_t *lines;
    size_t room;
};

static int tally_count(struct tally *tally, uint32_t number, uint32_t *ret_before)
{
    if (number >= tally->room) {
        size_t room = (size_t)number + 1024;
        uint32_t *larger = realloc(tally->lines, room * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        memset(larger + tally->room, 0, (room - tally->room) * sizeof *larger);
        tally->lines = larger;
        tally->room = room;
    }
    *ret_before = tally->lines[number]++;
    return 0;
}

/* A line of fdinfo: "tfd: %8d events: %8x data: %16llx pos:%lli ino:%lx sdev:%x" */
static int add_watched(struct saving *saving, const struct descriptor *epoll, const char *line, struct tally *tally,
                       struct buffer *records)
{
    struct kcmp_epoll_slot slot = { .efd = (uint32_t)epoll->number };
    struct watched_record record = { 0 };
    int found;

    if (sscanf(line, "tfd: %" SCNd32 " events: %" SCNx32 " data: %" SCNx64, &record.number, &record.events, &record.data) != 3 ||
        record.number < 0)
        return -EPROTO;
    slot.tfd = (uint32_t)record.number;
    found = tally_count(tally, slot.tfd, &slot.toff);
    if (!found)
        found = find_target(saving, epoll, &slot, line, &record.target);
    if (found == -ENOSYS)
        return refuse(saving, "R-KCMP", "this kernel has no kcmp, and descriptor %d is an epoll", epoll->number);
    if (found == 0)
        return refuse(saving, "R-EPOLL", "descriptor %d watches what was descriptor %d, and no descriptor of the program leads there "
                      "any more", epoll->number, record.number);
    buffer_add(records, &record, sizeof record);
    return found < 0 ? found : records->error;
}

static int list_watched(struct saving *saving, const struct descriptor *epoll, struct buffer *records)
{
    char *info = descriptor_info(epoll);
    struct tally tally = { 0 };
    int error = info ? 0 : -errno;

    for (const char *line = info; !error && line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (text_starts(line, "tfd:"))
            error = add_watched(saving, epoll, line, &tally, records);
    }
    free(tally.lines);
    free(info);
    return error;
}

static int epolls_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct epoll_record record = { 0 };
    struct buffer payload = { 0 }, watched = { 0 };
    int error = 0;

    descriptor_describe(descriptor, &record.descriptor);
    if (descriptor_is_first(descriptor)) /* another may have closed what it watches */
        error = list_watched(saving, descriptor, &watched);
    record.count = (uint32_t)(watched.length / sizeof(struct watched_record));
    buffer_add(&payload, &record, sizeof record);
    buffer_add(&payload, watched.bytes, watched.length);
    if (!error)
        error = image_write_record(saving->writer, TAG_EPOLL, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&watched);
    buffer_free(&payload);
    return error;
}

/* ---- restorer ---- */

static const struct watched_record *take_record(struct reader *reader, struct epoll_record *record)
{
    reader_take(reader, record, sizeof *record);
    return reader_view(reader, record->count * sizeof(struct watched_record));
}

/* Only what has something to wait for can be watched: no regular file, no /dev/null. */
static int can_be_watched(int fd)
{
    struct epoll_event event = { 0 };
    int epoll = epoll_create1(EPOLL_CLOEXEC), can = epoll < 0 || !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) || errno != EPERM;

    if (epoll >= 0)
        close(epoll);
    return can;
}

static int epolls_check(struct restoring *restoring, struct reader *reader)
{
    struct epoll_record record;
    const struct watched_record *watched = take_record(reader, &record);

    for (uint32_t i = 0; watched && i < record.count; i++) {
        int stream = stream_for(restoring, watched[i].target);
        if (watched[i].number < 0 || watched[i].target < 0 || watched[i].target > restoring->last_number)
            return -EBADMSG;
        if (stream >= 0 && !can_be_watched(stream))
            missing(restoring, "R-EPOLL: the program waits (epoll) for descriptor %d, a standard stream, and that of this command is "
                    "a file or a device that cannot be waited for: give it a terminal or a pipe", watched[i].target);
    }
    return reader->error;
}

static int epolls_open(struct restoring *restoring, struct reader *reader)
{
    struct epoll_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    int fd;

    (void)restoring;
    if (placed)
        return placed < 0 ? placed : 0;
    fd = epoll_create1(0);
    return fd < 0 ? -errno : descriptor_place(&record.descriptor, fd);
}

/* What has the number now stands aside while the number leads to the description that is meant. */
static int control(int epoll, int operation, const struct watched_record *watched, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.u64 = watched->data };
    int number = watched->number, flags = fcntl(number, F_GETFD), aside = -1, error;

    if (number == watched->target)
        return epoll_ctl(epoll, operation, number, &event) ? -errno : 0;
    if (flags >= 0 && (aside = fcntl(number, F_DUPFD_CLOEXEC, 0)) < 0)
        return -errno;
    error = dup2(watched->target, number) < 0 || epoll_ctl(epoll, operation, number, &event) ? -errno : 0;
    if (aside < 0)
        close(number);
    else if (dup3(aside, number, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0)
        error = -errno;
    if (aside >= 0)
        close(aside);
    return error;
}

static int reports(int epoll)
{
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, 0) == 1;
}

/* A byte through an empty pipe, and out again. */
static int provoke_pipe(int epoll, int fd)
{
    char path[64], byte = 0;
    int ends[2], reported;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ends[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ends[1] = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    reported = write(ends[1], &byte, 1) == 1 && reports(epoll);
    if (read(ends[0], &byte, 1) != 1)
        reported = 0;
    close(ends[0]);
    close(ends[1]);
    return reported;
}

/* It is not set before `last`. */
static int provoke_timer(int epoll, int fd)
{
    const struct itimerspec soon = { .it_value.tv_nsec = 1 };
    struct pollfd wait = { .fd = fd, .events = POLLIN };

    return !timerfd_settime(fd, 0, &soon, NULL) && poll(&wait, 1, -1) == 1 && reports(epoll);
}

/* A signal of its set, sent and taken by this thread. */
static int provoke_signal(int epoll, int fd)
{
    const uint64_t all = ~UINT64_C(0);
    const struct timespec none = { 0 };
    struct descriptor self = { .holder = &(struct saving){ .look = getpid() }, .number = fd };
    char *info = descriptor_info(&self);
    const char *text = info ? status_field(info, "sigmask") : NULL;
    uint64_t set = text ? strtoull(text, NULL, 16) : 0, one = set & -set, old;
    int reported;

    free(info);
    if (!one || syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof old))
        return 0;
    syscall(SYS_tgkill, getpid(), gettid(), __builtin_ctzll(one) + 1);
    reported = reports(epoll);
    syscall(SYS_rt_sigtimedwait, &one, NULL, &none, sizeof one);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof old);
    return reported;
}

/* Makes what is not ready report for once. */
static int provoke(int epoll, int fd)
{
    char name[32], *target;
    int reported = 0;

    snprintf(name, sizeof name, "fd/%d", fd);
    target = proc_link(getpid(), name);
    if (!target)
        return 0;
    if (text_starts(target, "pipe:"))
        reported = provoke_pipe(epoll, fd);
    else if (text_equal(target, "anon_inode:[timerfd]"))
        reported = provoke_timer(epoll, fd);
    else if (text_equal(target, "anon_inode:[signalfd]"))
        reported = provoke_signal(epoll, fd);
    free(target);
    return reported;
}

static int is_spent(const struct watched_record *watched)
{
    return watched->events & EPOLLONESHOT && !(watched->events & ~PRIVATE_EVENTS);
}

/* One that has reported (EPOLLONESHOT) must do so again to be as it was; nothing else is in the epoll yet that could. What can
 * not be made to report is left waiting for errors and hang-ups, without which nothing is watched. */
static int watch_spent(int epoll, const struct watched_record *watched)
{
    uint32_t any = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;
    int error = control(epoll, EPOLL_CTL_ADD, watched, watched->events | any);

    if (error || reports(epoll) || provoke(epoll, watched->target))
        return error;
    return control(epoll, EPOLL_CTL_MOD, watched, watched->events);
}

static int epolls_wire(struct restoring *restoring, struct reader *reader)
{
    struct epoll_record record;
    const struct watched_record *watched = take_record(reader, &record);
    int error = reader->error, epoll = record.descriptor.number;

    (void)restoring;
    for (uint32_t i = 0; !error && i < record.count; i++)
        if (is_spent(&watched[i]))
            error = watch_spent(epoll, &watched[i]);
    for (uint32_t i = 0; !error && i < record.count; i++)
        if (!is_spent(&watched[i]))
            error = control(epoll, EPOLL_CTL_ADD, &watched[i], watched[i].events);
    return error;
}

static void epolls_show(struct reader *reader, FILE *out)
{
    struct epoll_record record;
    const struct watched_record *watched = take_record(reader, &record);

    if (!watched)
        return;
    descriptor_show(&record.descriptor, "epoll", out);
    for (uint32_t i = 0; i < record.count; i++)
        fprintf(out, "    waits for %d, events %#x, data %#" PRIx64 "\n", watched[i].number, watched[i].events, watched[i].data);
}

const struct kind kind_epolls = {
    .name = "epoll",
    .tag = TAG_EPOLL,
    .claim = epolls_claim,
    .save = epolls_save,
    .check = epolls_check,
    .open = epolls_open,
    .wire = epolls_wire,
    .show = epolls_show,
};
