/* SPDX-License-Identifier: MIT */
/* Terminals. The program's own, at which its user sits, becomes that of the restart's command, in the modes that the program
 * had set. Pairs whose master the program holds come back whole, with their numbers and what is on its way in them: the bubble
 * has a /dev/pts of its own then. Any other is refused. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kind.h"

enum { UNIX98_SLAVES = 136 }; /* Documentation/admin-guide/devices.txt */

static_assert(sizeof(struct terminal_modes) == sizeof(struct termios2), "modes of a terminal");
static_assert(NCCS == TERMINAL_CHARACTERS, "modes of a terminal");

enum terminal_sort { OWN = 1, MASTER, SLAVE, BY_NAME /* /dev/tty, where that is a slave */ };

struct terminal_record {
    struct descriptor_record descriptor;
    uint32_t sort;
    int32_t stream;  /* of the own one: of the command's streams the one that takes its place; -1: its controlling terminal */
    struct agent_terminal state;
    int32_t index;   /* of master and slave: N of /dev/pts/N */
    uint32_t has_pair; /* of a master, the first of its pair: 1: a pair_record follows, then the bytes on their way */
};
static_assert(sizeof(struct terminal_record) == 136, "terminal record");

struct pair_record {
    uint32_t mode, user, group; /* of the slave's node */
    uint32_t is_locked, has_packets;
    uint32_t shown, typed;      /* bytes that follow: shown ones, typed ones, a mark for each typed one */
};
static_assert(sizeof(struct pair_record) == 28, "pair record");

struct terminal_pair {
    struct terminal_pair *next;
    int32_t index, session;
    uint32_t is_locked;
    int master, slave;          /* above the image's numbers */
};

/* ---- which terminal is it ---- */

static int is_master_of(const struct descriptor *descriptor, const void *index)
{
    return descriptor->master_of >= 0 && descriptor->master_of == *(const int *)index;
}

/* In the /dev/pts that the program sees: in a bubble the terminal of its user may have the same number in another one. */
static int is_slave_of(const struct descriptor *descriptor, const void *index)
{
    struct stat directory;

    return S_ISCHR(descriptor->status.st_mode) && major(descriptor->status.st_rdev) == UNIX98_SLAVES &&
           minor(descriptor->status.st_rdev) == *(const unsigned *)index && !stat("/dev/pts", &directory) &&
           descriptor->status.st_dev == directory.st_dev;
}

static int is_slave_inside(const struct saving *saving, const struct descriptor *descriptor)
{
    int index = (int)minor(descriptor->status.st_rdev);
    return is_slave_of(descriptor, &index) && step_find(saving, is_master_of, &index);
}

/* By the session, as the number alone may be that of two. */
int terminals_control_inside(const struct saving *saving, uint64_t device, int32_t session)
{
    int index = (int)minor((dev_t)device);
    const struct descriptor *master = step_find(saving, is_master_of, &index);

    return session > 0 && major((dev_t)device) == UNIX98_SLAVES && master &&
           !master->holder->ask(master->holder, ORDER_TERMINAL, (uint32_t)master->number) &&
           master->holder->page->terminal.session == session;
}

/* Memory devices (major 1) are asked nothing. What is no terminal says ENOTTY, or, as KVM does, EINVAL. */
static int terminals_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    int answer;

    if (!S_ISCHR(descriptor->status.st_mode) || major(descriptor->status.st_rdev) == 1 || descriptor->flags & O_PATH)
        return 0;
    answer = saving->ask(saving, ORDER_TERMINAL, (uint32_t)descriptor->number);
    return answer != -ENOTTY && answer != -EINVAL;
}

/* ---- saving ---- */

static int refuse_pair(struct saving *saving, const struct descriptor *descriptor, const char *why)
{
    return refuse(saving, "R-TERMINAL", "descriptor %d is the master of /dev/pts/%d, %s", descriptor->number,
                  descriptor->master_of, why);
}

/* What is on its way is in page->pair behind this. */
static int ask_pair(struct saving *saving, const struct descriptor *descriptor)
{
    const struct descriptor *slave = step_find(saving, is_slave_of, &descriptor->master_of);
    const struct agent_pair *pair = &saving->page->pair;
    int error;

    if (!slave && !saving->page->terminal.is_hung_up)
        return refuse_pair(saving, descriptor, "and nobody in the program holds its other side");
    if ((descriptor->flags & O_ACCMODE) != O_RDWR)
        return refuse_pair(saving, descriptor, "not open for both reading and writing");
    error = saving->ask(saving, ORDER_PAIR, (uint32_t)descriptor->number);
    if (error == -E2BIG || error == -EBUSY)
        return refuse_pair(saving, descriptor, "and what is on its way is stopped, or more than can be put back");
    if (error == -EIO)
        return refuse_pair(saving, descriptor, "and the program is in the background there");
    if (error == -EACCES)
        return refuse_pair(saving, descriptor, "in exclusive mode");
    if (error)
        return error;
    if (pair->is_exclusive || pair->discipline || pair->has_news)
        return refuse_pair(saving, descriptor, pair->has_news ? "and news of its mode wait to be read"
                                               : pair->discipline ? "with a line discipline of its own" : "in exclusive mode");
    if (slave && slave->status.st_dev != pair->device)
        return refuse_pair(saving, descriptor, "and nobody in the program holds its other side");
    return 0;
}

static void add_pair(struct buffer *payload, const struct agent_pair *pair)
{
    struct pair_record record = { .mode = pair->mode, .user = pair->user, .group = pair->group, .is_locked = pair->is_locked,
                                  .has_packets = pair->has_packets, .shown = pair->bytes.shown, .typed = pair->bytes.typed };

    buffer_add(payload, &record, sizeof record);
    buffer_add(payload, pair->bytes.shown_bytes, pair->bytes.shown);
    buffer_add(payload, pair->bytes.typed_bytes, pair->bytes.typed);
    buffer_add(payload, pair->bytes.typed_marks, pair->bytes.typed);
}

/* A terminal that is gone (hung up) tells nothing any more; on a stream it may be all the same. */
static int sort_out(struct saving *saving, const struct descriptor *descriptor, struct terminal_record *record)
{
    int error = saving->ask(saving, ORDER_TERMINAL, (uint32_t)descriptor->number);

    record->state = saving->page->terminal;
    if (error && error != -EIO)
        return error;
    record->index = record->state.is_master ? record->state.index : (int32_t)minor(descriptor->status.st_rdev);
    record->sort = record->state.is_master                ? MASTER
                   : error                                 ? OWN
                   : is_slave_inside(saving, descriptor) ? SLAVE
                   : record->state.is_controlling &&
                           terminals_control_inside(saving, record->state.device, record->state.session)
                       ? BY_NAME
                       : OWN;
    if (record->sort != OWN)
        return 0;
    record->stream = stream_of(saving, descriptor);
    if (record->stream < 0 && !record->state.is_controlling)
        return refuse(saving, "R-TERMINAL", "descriptor %d is %s, a terminal that is not the program's own", descriptor->number,
                      descriptor->target);
    return 0;
}

static int terminals_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct terminal_record record = { .stream = -1 };
    struct buffer payload = { 0 };
    int error = sort_out(saving, descriptor, &record);

    record.has_pair = record.sort == MASTER && step_find(saving, is_master_of, &descriptor->master_of) == descriptor;
    if (!error && record.has_pair)
        error = ask_pair(saving, descriptor);
    descriptor_describe(descriptor, &record.descriptor);
    buffer_add(&payload, &record, sizeof record);
    if (record.has_pair)
        add_pair(&payload, &saving->page->pair);
    if (!error)
        error = image_write_record(saving->writer, TAG_TERMINAL, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* ---- checking ---- */

static int take_record(struct reader *reader, struct terminal_record *record)
{
    if (reader_take(reader, record, sizeof *record))
        return reader->error;
    return record->sort >= OWN && record->sort <= BY_NAME && record->stream >= -1 && record->stream <= 2 && record->index >= 0 ? 0 : -EBADMSG;
}

static int terminals_check(struct restoring *restoring, struct reader *reader)
{
    struct terminal_record record;
    int error = take_record(reader, &record), fd;

    if (error)
        return error;
    restoring->has_terminal_pairs |= record.sort == MASTER;
    if (record.sort != OWN)
        return 0;
    if (record.stream >= 0)
        return stream_check(restoring, record.stream);
    fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return missing(restoring, "R-TERMINAL: descriptor %d was the terminal from which the program is controlled, and this command has none (%s); "
                       "restart in a terminal", record.descriptor.number, strerror(errno));
    close(fd);
    return 0;
}

/* ---- pairs ---- */

static struct terminal_pair *find_pair(const struct restoring *restoring, int32_t index)
{
    struct terminal_pair *pair = restoring->terminals;

    while (pair && pair->index != index)
        pair = pair->next;
    return pair;
}

/* The kernel gives the lowest number that is free, and in the bubble only we have any. So those below are taken for a moment. */
static int open_master(const struct restoring *restoring, int wanted, int *ret_master)
{
    int got = -1, master, error = 0, *below = calloc((size_t)wanted + 1, sizeof *below), count = 0;

    *ret_master = -1;
    while (below && !error && *ret_master < 0) {
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (master < 0 || ioctl(master, TIOCGPTN, &got))
            error = -errno;
        else if (got > wanted)
            error = -EEXIST;
        else if (got == wanted && (*ret_master = fcntl(master, F_DUPFD_CLOEXEC, restoring->highest + 1)) < 0)
            error = -errno;
        if (master >= 0 && !error && got < wanted)
            below[count++] = master;
        else if (master >= 0)
            close(master);
    }
    while (count)
        close(below[--count]);
    free(below);
    return below ? error : -ENOMEM;
}

static int open_slave(const struct restoring *restoring, int master)
{
    int locked = 0, slave;

    if (ioctl(master, TIOCSPTLCK, &locked) || (slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)) < 0)
        return -errno;
    return descriptor_lift(restoring, slave);
}

/* Modes first: what is put in must lie there as they say. The owner is set as far as this user may. */
static int fill_pair(const struct terminal_pair *pair, const struct terminal_record *record, const struct pair_record *more,
                     const struct terminal_bytes *bytes)
{
    int packets = !!more->has_packets;
    long error;

    if (ioctl(pair->slave, TCSETS2, &record->state.modes) || ioctl(pair->master, TIOCSWINSZ, record->state.size))
        return -errno;
    error = terminal_bytes_put(pair->master, pair->slave, bytes);
    if (!error && packets && ioctl(pair->master, TIOCPKT, &packets))
        error = -errno;
    if (!error && fchmod(pair->slave, more->mode & 07777))
        error = -errno;
    if (fchown(pair->slave, more->user, more->group))
        errno = 0; /* in a user namespace only the own ids are known */
    return (int)error;
}

static int make_pair(struct restoring *restoring, const struct terminal_record *record, const struct pair_record *more,
                     const struct terminal_bytes *bytes)
{
    struct terminal_pair *pair = calloc(1, sizeof *pair);
    int error;

    if (!pair)
        return -ENOMEM;
    pair->index = record->index;
    pair->session = record->state.session;
    pair->is_locked = more->is_locked;
    error = open_master(restoring, record->index, &pair->master);
    if (!error && (pair->slave = open_slave(restoring, pair->master)) < 0)
        error = pair->slave;
    if (!error)
        error = fill_pair(pair, record, more, bytes);
    pair->next = restoring->terminals;
    restoring->terminals = pair;
    return error;
}

static int take_bytes(struct reader *reader, void *to, uint32_t length)
{
    const void *bytes = length > TERMINAL_ROOM ? NULL : reader_view(reader, length);

    if (!bytes && length)
        return -EBADMSG;
    if (length)
        memcpy(to, bytes, length);
    return 0;
}

static int terminals_make(struct restoring *restoring, struct reader *reader)
{
    static struct terminal_bytes bytes;
    struct terminal_record record;
    struct pair_record more;
    int error = take_record(reader, &record);

    if (error || record.sort != MASTER || !record.has_pair || find_pair(restoring, record.index))
        return error;
    if (reader_take(reader, &more, sizeof more))
        return reader->error;
    bytes.shown = more.shown;
    bytes.typed = more.typed;
    if (take_bytes(reader, bytes.shown_bytes, more.shown) || take_bytes(reader, bytes.typed_bytes, more.typed) ||
        take_bytes(reader, bytes.typed_marks, more.typed))
        return -EBADMSG;
    return make_pair(restoring, &record, &more, &bytes);
}

int terminals_take_control(const struct restoring *restoring)
{
    for (const struct terminal_pair *pair = restoring->terminals; pair; pair = pair->next)
        if (pair->session && pair->session == restoring->pid && ioctl(pair->slave, TIOCSCTTY, 0))
            return -errno;
    return 0;
}

/* ---- the program's descriptors ---- */

static int open_in_pair(const struct restoring *restoring, const struct terminal_record *record)
{
    const struct terminal_pair *pair = find_pair(restoring, record->index);
    char path[32];
    int fd;

    if (!pair)
        return -EBADMSG;
    if (record->sort == MASTER) {
        fd = fcntl(pair->master, F_DUPFD_CLOEXEC, 0);
        if (fd >= 0)
            fcntl(fd, F_SETFL, record->descriptor.flags & (O_NONBLOCK | O_APPEND));
    } else {
        snprintf(path, sizeof path, "/dev/pts/%d", record->index);
        fd = open(path, (record->descriptor.flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOCTTY | O_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

static int is_same_terminal(int one, int two)
{
    struct stat a, b;

    return isatty(one) && !fstat(one, &a) && !fstat(two, &b) && a.st_rdev == b.st_rdev && a.st_dev == b.st_dev;
}

/* With a description of its own: flags of the program's are then not those of the shell's. */
static int open_again(const struct restoring *restoring, const struct terminal_record *record)
{
    char path[64];
    int fd = -1;

    if (record->sort == MASTER || record->sort == SLAVE)
        return open_in_pair(restoring, record);
    if (record->stream < 0)
        snprintf(path, sizeof path, "/dev/tty");
    else
        snprintf(path, sizeof path, "/proc/self/fd/%d", restoring->streams[record->stream]);
    if (record->stream < 0 || isatty(restoring->streams[record->stream]))
        fd = open(path, (record->descriptor.flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 || record->stream < 0)
        return fd < 0 ? -errno : fd;
    return stream_duplicate(restoring, record->stream); /* no terminal any more, or another user's */
}

static int terminals_open(struct restoring *restoring, struct reader *reader)
{
    struct terminal_record record;
    int error = take_record(reader, &record), fd;

    if (error)
        return error;
    if (record.descriptor.same_as != record.descriptor.number &&
        (record.stream < 0 || is_same_terminal(restoring->streams[record.stream], record.descriptor.same_as)))
        return descriptor_share(&record.descriptor);
    fd = open_again(restoring, &record);
    return fd < 0 ? fd : descriptor_place(&record.descriptor, fd);
}

/* What the program may have set. How fast the line is, which key erases, and whether characters are UTF-8 belongs to where
 * its user sits now. */
static struct terminal_modes modes_wanted(const struct terminal_modes *then, const struct terminal_modes *now)
{
    struct terminal_modes wanted = *then;

    wanted.input = (then->input & ~(uint32_t)IUTF8) | (now->input & IUTF8);
    wanted.control = (then->control & ~(uint32_t)(CBAUD | CIBAUD)) | (now->control & (CBAUD | CIBAUD));
    wanted.line = now->line;
    wanted.characters[VERASE] = now->characters[VERASE];
    wanted.input_speed = now->input_speed;
    wanted.output_speed = now->output_speed;
    return wanted;
}

static int is_line_mode(const struct terminal_modes *modes)
{
    return (modes->local & (ICANON | ECHO)) == (ICANON | ECHO);
}

/* As the program itself would: in the background SIGTTOU stops it here until it is in front. But one that had left the
 * terminal as terminals are is not stopped for that. */
static void set_modes(int fd, const struct terminal_modes *then)
{
    struct terminal_modes now = { 0 }, wanted;
    sigset_t stops;
    char none;

    if (ioctl(fd, TCGETS2, &now))
        return;
    wanted = modes_wanted(then, &now);
    if (!memcmp(&wanted, &now, sizeof now) || (is_line_mode(then) && read(fd, &none, 0) < 0))
        return;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTTOU);
    sigprocmask(SIG_UNBLOCK, &stops, NULL);
    ioctl(fd, TCSETS2, &wanted);
    sigprocmask(SIG_BLOCK, &stops, NULL);
}

/* Who is in front there, and the lock: now that all is open. */
static int settle_pair(const struct restoring *restoring, const struct terminal_record *record)
{
    const struct terminal_pair *pair = find_pair(restoring, record->index);

    if (!pair)
        return -EBADMSG;
    if (record->sort == SLAVE && record->state.is_controlling && record->state.group > 0 &&
        ioctl(record->descriptor.number, TIOCSPGRP, &record->state.group))
        return -errno;
    return pair->is_locked && ioctl(pair->master, TIOCSPTLCK, &pair->is_locked) ? -errno : 0;
}

/* The signal, which waits until the program is there, makes it look at the size of the new terminal, and paint anew. */
static int terminals_wire(struct restoring *restoring, struct reader *reader)
{
    struct terminal_record record;
    int error = take_record(reader, &record);

    if (error || record.sort == BY_NAME)
        return error;
    if (record.sort != OWN)
        return settle_pair(restoring, &record);
    if (!record.state.is_controlling || !isatty(record.descriptor.number))
        return 0;
    if (record.state.is_in_front)
        set_modes(record.descriptor.number, &record.state.modes);
    kill(getpid(), SIGWINCH);
    return 0;
}

static void terminals_show(struct reader *reader, FILE *out)
{
    struct terminal_record record;
    char what[64];

    if (take_record(reader, &record))
        return;
    snprintf(what, sizeof what, record.sort == MASTER ? "master of /dev/pts/%d" : "/dev/pts/%d", record.index);
    descriptor_show(&record.descriptor, record.sort == MASTER || record.sort == SLAVE ? what
                                        : record.state.is_controlling                ? "the controlling terminal"
                                                                                     : "the terminal", out);
}

const struct kind kind_terminals = {
    .name = "terminal",
    .tag = TAG_TERMINAL,
    .claim = terminals_claim,
    .save = terminals_save,
    .check = terminals_check,
    .make = terminals_make,
    .open = terminals_open,
    .wire = terminals_wire,
    .show = terminals_show,
};
