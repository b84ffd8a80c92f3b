/* SPDX-License-Identifier: MIT */
/* Terminals. The program's own, to which its user sits, becomes that of the restart's command, in the modes that the program
 * had set. Any other is refused. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kind.h"

static_assert(sizeof(struct terminal_modes) == sizeof(struct termios2), "modes of a terminal");
static_assert(NCCS == TERMINAL_CHARACTERS, "modes of a terminal");

enum terminal_sort { OWN = 1 };

struct terminal_record {
    struct descriptor_record descriptor;
    uint32_t sort;
    int32_t stream;  /* of the own one: of the command's streams the one that takes its place; -1: its controlling terminal */
    struct agent_terminal state;
    uint32_t reserved;
};
static_assert(sizeof(struct terminal_record) == 120, "terminal record");

/* Memory devices (major 1) are asked nothing. What is no terminal says ENOTTY, or, as KVM does, EINVAL. */
static int terminals_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    int answer;

    if (!S_ISCHR(descriptor->status.st_mode) || major(descriptor->status.st_rdev) == 1 || descriptor->flags & O_PATH)
        return 0;
    answer = saving->ask(saving, ORDER_TERMINAL, (uint32_t)descriptor->number);
    return answer != -ENOTTY && answer != -EINVAL;
}

static int terminals_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct terminal_record record = { .sort = OWN, .stream = stream_of(saving, descriptor) };
    int error = saving->ask(saving, ORDER_TERMINAL, (uint32_t)descriptor->number);

    if (error)
        return error;
    record.state = saving->page->terminal;
    if (record.state.is_master || (record.stream < 0 && !record.state.is_controlling))
        return refuse(saving, "R-TERMINAL", "descriptor %d is %s, a terminal that is not the program's own", descriptor->number,
                      descriptor->target);
    descriptor_describe(descriptor, &record.descriptor);
    return save_record(saving, TAG_TERMINAL, &record, sizeof record);
}

static int take_record(struct reader *reader, struct terminal_record *record)
{
    if (reader_take(reader, record, sizeof *record))
        return reader->error;
    return record->sort == OWN && record->stream >= -1 && record->stream <= 2 ? 0 : -EBADMSG;
}

static int terminals_check(struct restoring *restoring, struct reader *reader)
{
    struct terminal_record record;
    int error = take_record(reader, &record), fd;

    if (error)
        return error;
    if (record.stream >= 0)
        return stream_check(restoring, record.stream);
    fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return missing(restoring, "R-TERMINAL: descriptor %d was the terminal from which the program is controlled, and this command has none (%s); "
                       "restart in a terminal", record.descriptor.number, strerror(errno));
    close(fd);
    return 0;
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

/* The signal, which waits until the program is there, makes it look at the size of the new terminal, and paint anew. */
static int terminals_wire(struct restoring *restoring, struct reader *reader)
{
    struct terminal_record record;
    int error = take_record(reader, &record);

    (void)restoring;
    if (error || !record.state.is_controlling || !isatty(record.descriptor.number))
        return error;
    if (record.state.is_in_front)
        set_modes(record.descriptor.number, &record.state.modes);
    kill(getpid(), SIGWINCH);
    return 0;
}

static void terminals_show(struct reader *reader, FILE *out)
{
    struct terminal_record record;

    if (!take_record(reader, &record))
        descriptor_show(&record.descriptor, record.state.is_controlling ? "the controlling terminal" : "the terminal", out);
}

const struct kind kind_terminals = {
    .name = "terminal",
    .tag = TAG_TERMINAL,
    .claim = terminals_claim,
    .save = terminals_save,
    .check = terminals_check,
    .open = terminals_open,
    .wire = terminals_wire,
    .show = terminals_show,
};
