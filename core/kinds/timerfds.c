/* SPDX-License-Identifier: MIT */
/* timerfd: what is left of it, its interval, and the expirations that nobody has read. One that was set for a time from now goes
 * on in the program's own time, which stood still meanwhile; one that was set for a time of a clock ends at that time: the wall
 * clock's is the real one. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "../floor/text.h"
#include "kind.h"

struct timerfd_record {
    struct descriptor_record descriptor;
    int32_t clock;
    uint32_t flags;       /* of timerfd_settime(2) */
    uint64_t ticks;       /* expirations that were not read */
    uint64_t interval;    /* nanoseconds; 0: once */
    int64_t due;          /* nanoseconds of `clock` with TFD_TIMER_ABSTIME, else of CLOCK_MONOTONIC; 0: not set */
};
static_assert(sizeof(struct timerfd_record) == 56, "timerfd record");

#define SET_TICKS _IOW('T', 0, uint64_t) /* TFD_IOC_SET_TICKS; kernels with CONFIG_CHECKPOINT_RESTORE */
enum { NANOSECONDS = 1000000000, TRIES = 10, QUICK = 100000 /* nanoseconds */ };

static int timerfds_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return text_equal(descriptor->target, "anon_inode:[timerfd]");
}

static int64_t nanoseconds(uint64_t seconds, uint64_t more)
{
    return seconds > INT64_MAX / NANOSECONDS - 1 ? INT64_MAX : (int64_t)(seconds * NANOSECONDS + more);
}

/* "key: (seconds, nanoseconds)" */
static int64_t time_in(const char *info, const char *key)
{
    const char *text = status_field(info, key);
    uint64_t seconds, more;

    return text && sscanf(text, "(%" SCNu64 ", %" SCNu64, &seconds, &more) == 2 ? nanoseconds(seconds, more) : -1;
}

static int parse(const struct descriptor *descriptor, struct timerfd_record *record, int64_t *ret_left)
{
    char *info = descriptor_info(descriptor);
    const char *clock = info ? status_field(info, "clockid") : NULL, *ticks = info ? status_field(info, "ticks") : NULL;
    const char *flags = info ? status_field(info, "settime flags") : NULL;
    int error = clock && ticks && flags ? 0 : -EPROTO;

    if (!error) {
        *ret_left = time_in(info, "it_value");
        record->clock = (int32_t)strtol(clock, NULL, 10);
        record->ticks = strtoull(ticks, NULL, 10);
        record->flags = (uint32_t)strtoul(flags, NULL, 8);
        record->interval = (uint64_t)time_in(info, "it_interval");
        if (*ret_left < 0 || record->interval > INT64_MAX)
            error = -EPROTO;
    }
    free(info);
    return error;
}

/* The clock that a timer's `due` is of. */
static clockid_t clock_of(const struct timerfd_record *record)
{
    return record->flags & TFD_TIMER_ABSTIME ? record->clock : CLOCK_MONOTONIC;
}

/* What is left, and when that is. It counts from the moment of the reading: again, when we were not let run between that and
 * the clock. Asked so, a periodic timer that has expired counts on; until then it stands still, and fdinfo tells nothing. */
static int measure(int handle, clockid_t clock, int64_t ahead, int64_t *ret_left, int64_t *ret_due)
{
    struct itimerspec stands;
    int64_t before, now;
    int tries = 0;

    do {
        before = clock_now(clock);
        if (timerfd_gettime(handle, &stands))
            return -errno;
        now = clock_now(clock);
    } while (now - before > QUICK && ++tries < TRIES);
    *ret_left = nanoseconds((uint64_t)stands.it_value.tv_sec, (uint64_t)stands.it_value.tv_nsec);
    *ret_due = !*ret_left ? 0 : *ret_left > INT64_MAX - now - ahead ? INT64_MAX : *ret_left + now + ahead;
    return 0;
}

/* The rest is told by fdinfo. Again, when the timer has expired in between; and when it seems to be neither set nor expired, for
 * its interrupt comes a little behind its time. */
static int look(const struct saving *saving, const struct descriptor *descriptor, struct timerfd_record *record)
{
    const struct timespec a_little = { .tv_nsec = 200000 };
    int handle = handle_of(descriptor), error = handle < 0 ? handle : 0, waited = 0;
    int64_t left, left_then = 0;

    for (int tries = 0; !error && tries < TRIES; tries++) {
        if (!(error = parse(descriptor, record, &left)))
            error = measure(handle, clock_of(record), clock_ahead(saving, clock_of(record)), &left, &record->due);
        if (!error)
            error = parse(descriptor, record, &left_then);
        if (error || (!left == !left_then && (left || record->ticks || waited)))
            break;
        if (!left && !record->ticks)
            nanosleep(&a_little, NULL);
        waited = !left && !record->ticks;
    }
    return error;
}

static int timerfds_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct timerfd_record record = { 0 };
    int error = look(saving, descriptor, &record);

    descriptor_describe(descriptor, &record.descriptor);
    if (!error && record.clock != CLOCK_REALTIME && record.clock != CLOCK_MONOTONIC && record.clock != CLOCK_BOOTTIME)
        return refuse(saving, "R-TIMERFD", "descriptor %d is a timer on clock %d, which wakes the machine", descriptor->number,
                      record.clock);
    return error ? error : save_record(saving, TAG_TIMERFD, &record, sizeof record);
}

static int is_sound(const struct timerfd_record *record)
{
    return record->interval <= INT64_MAX && record->due >= 0 && record->ticks <= INT64_MAX;
}

static int can_set_ticks(void)
{
    const uint64_t one = 1;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), can = fd >= 0 && !ioctl(fd, SET_TICKS, &one);

    if (fd >= 0)
        close(fd);
    return can;
}

static int timerfds_check(struct restoring *restoring, struct reader *reader)
{
    struct timerfd_record record;

    if (reader_take(reader, &record, sizeof record) || !is_sound(&record))
        return -EBADMSG;
    if ((record.ticks || record.interval) && (text_list_holds(restoring->test_fail, "timer-ticks") || !can_set_ticks()))
        missing(restoring, "R-TIMERFD: descriptor %d is a timer whose expirations this kernel (without "
                "CONFIG_CHECKPOINT_RESTORE) cannot give it again", record.descriptor.number);
    return 0;
}

static int timerfds_open(struct restoring *restoring, struct reader *reader)
{
    struct timerfd_record record;
    int placed = descriptor_take(reader, &record, sizeof record);
    int fd;

    (void)restoring;
    if (placed)
        return placed < 0 ? placed : 0;
    fd = timerfd_create(record.clock, record.descriptor.flags & O_NONBLOCK);
    return fd < 0 ? -errno : descriptor_place(&record.descriptor, fd);
}

static struct timespec time_of(int64_t nanoseconds)
{
    return (struct timespec){ nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS };
}

/* What a periodic timer has missed is counted here, so that it is set for a time to come. Returns what is left. */
static int64_t catch_up(struct timerfd_record *record)
{
    int64_t left = record->due - clock_now(clock_of(record)), missed;

    if (left > 0 || !record->interval)
        return left > 0 ? left : 1;
    missed = -left / (int64_t)record->interval + 1;
    record->ticks += (uint64_t)missed;
    record->due += missed * (int64_t)record->interval;
    return left + missed * (int64_t)record->interval;
}

/* Setting a timer forgets its expirations, and giving them forgets one that has come in between: then again. */
static int set(struct timerfd_record *record)
{
    struct itimerspec value = { time_of((int64_t)record->interval), { 0 } };
    int fd = record->descriptor.number, tries = 0;

    do {
        int64_t left = record->due ? catch_up(record) : 0;
        int is_absolute = record->due && record->flags & TFD_TIMER_ABSTIME;
        value.it_value = time_of(is_absolute ? record->due : left);
        if (timerfd_settime(fd, (int)record->flags, &value, NULL) && errno != ECANCELED)
            return -errno;
        if (record->ticks && ioctl(fd, SET_TICKS, &record->ticks) && errno != ECANCELED)
            return -errno;
    } while (record->due && record->ticks && clock_now(clock_of(record)) >= record->due && ++tries < TRIES);
    return 0;
}

/* Last, for an epoll that is being made may have to see it expire: see epolls.c. */
static int timerfds_last(struct restoring *restoring, struct reader *reader)
{
    struct timerfd_record record;

    if (reader_take(reader, &record, sizeof record))
        return reader->error;
    if (record.descriptor.same_as != record.descriptor.number || sharing_is_later(restoring, record.descriptor.number))
        return 0;
    return set(&record);
}

static void timerfds_show(struct reader *reader, FILE *out)
{
    struct timerfd_record record;
    char what[160];

    if (reader_take(reader, &record, sizeof record))
        return;
    snprintf(what, sizeof what, "timerfd on clock %d%s, every %" PRIu64 ".%09" PRIu64 " s, %" PRIu64 " expirations unread", record.clock,
             record.due ? "" : ", not set", record.interval / NANOSECONDS, record.interval % NANOSECONDS, record.ticks);
    descriptor_show(&record.descriptor, what, out);
}

const struct kind kind_timerfds = {
    .name = "timerfd",
    .tag = TAG_TIMERFD,
    .claim = timerfds_claim,
    .save = timerfds_save,
    .check = timerfds_check,
    .open = timerfds_open,
    .last = timerfds_last,
    .show = timerfds_show,
};
