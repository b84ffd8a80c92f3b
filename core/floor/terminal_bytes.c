/* SPDX-License-Identifier: MIT */
/* Taking out and putting back what is on its way in a terminal. Islands have it, and the restorer. */
#include "terminal_bytes.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <poll.h>

#include "syscalls.h"

/* The kernel's workers may be late on a busy machine, and to give up would be to lose. */
enum { CHUNK = 128, FULL = 4095 /* what n_tty holds */, LOOK_MILLISECONDS = 10, PATIENCE = 60000 / LOOK_MILLISECONDS };

static long call(int fd, unsigned long request, void *argument)
{
    return SYS_CALL(ioctl, fd, request, argument, 0, 0, 0);
}

/* poll() makes the kernel hand on what lies in front of n_tty, if that has nothing (drivers/tty/n_tty.c: n_tty_poll). */
static int is_ready(int fd, int events, int milliseconds)
{
    struct pollfd ready = { .fd = fd, .events = (short)events };
    return SYS_CALL(poll, &ready, 1, milliseconds, 0, 0, 0) == 1 && ready.revents & events;
}

static int waiting(int fd)
{
    int count = 0;

    is_ready(fd, POLLIN, 0);
    call(fd, FIONREAD, &count);
    return count;
}

/* ---- taking ---- */

static void take_shown(int master, struct terminal_bytes *bytes)
{
    while (bytes->shown < TERMINAL_ROOM && is_ready(master, POLLIN, 0)) {
        long got = sys_read(master, bytes->shown_bytes + bytes->shown, TERMINAL_ROOM - bytes->shown);
        if (got <= 0)
            break;
        bytes->shown += (uint32_t)got;
    }
}

static void mark(struct terminal_bytes *bytes, int end_of_file)
{
    if (!end_of_file)
        bytes->typed_marks[bytes->typed - 1] = MARK_LINE;
    else if (bytes->typed < TERMINAL_ROOM)
        bytes->typed_marks[bytes->typed++] = MARK_END_OF_FILE;
}

static int ends_line(const struct terminal_modes *modes, uint8_t byte)
{
    return byte == '\n' || (byte && byte == modes->characters[VEOL]) ||
           (byte && byte == modes->characters[VEOL2] && modes->local & IEXTEN);
}

static long read_some(int slave, struct terminal_bytes *bytes)
{
    long got = sys_read(slave, bytes->typed_bytes + bytes->typed, TERMINAL_ROOM - bytes->typed);

    if (got > 0) {
        __builtin_memset(bytes->typed_marks + bytes->typed, MARK_NONE, (size_t)got);
        bytes->typed += (uint32_t)got;
    }
    return got;
}

/* One read gives one line, or what stands before an end of file. */
static void take_lines(int slave, const struct terminal_modes *modes, struct terminal_bytes *bytes)
{
    long got;

    while (bytes->typed < TERMINAL_ROOM && (got = read_some(slave, bytes)) >= 0)
        mark(bytes, !got || !ends_line(modes, bytes->typed_bytes[bytes->typed - 1]));
}

static struct terminal_modes plain(const struct terminal_modes *modes, uint32_t local)
{
    struct terminal_modes plain = *modes;

    plain.input = plain.output = 0;
    plain.local = local;
    __builtin_memset(plain.characters, 0, sizeof plain.characters);
    return plain;
}

/* An unfinished line is not told of while the kernel edits it. */
static void take_typed(int slave, const struct terminal_modes *modes, struct terminal_bytes *bytes)
{
    struct terminal_modes raw = plain(modes, 0);

    if (modes->local & ICANON)
        take_lines(slave, modes, bytes);
    call(slave, TCSETS2, &raw);
    while (bytes->typed < TERMINAL_ROOM && read_some(slave, bytes) > 0)
        ;
    call(slave, TCSETS2, (void *)modes);
}

long terminal_bytes_take(int master, int slave, struct terminal_bytes *bytes)
{
    struct terminal_modes modes;
    char none;
    long error = call(slave, TCGETS2, &modes);

    bytes->shown = bytes->typed = 0;
    if (error)
        return error;
    if (modes.local & EXTPROC || !is_ready(slave, POLLOUT, 0))
        return -EBUSY;
    if (waiting(slave) >= FULL)
        return -E2BIG;
    if ((error = sys_read(slave, &none, 0)) < 0)
        return error;
    take_shown(master, bytes);
    take_typed(slave, &modes, bytes);
    return 0;
}

/* ---- putting ---- */

struct special {
    uint8_t quote, end_of_file, erase, ends[2];
};

/* Besides the newline two bytes at most end lines: a terminal has places for two. */
static struct special choose(const struct terminal_bytes *bytes)
{
    struct special special = { 0 };
    uint8_t *const free[] = { &special.quote, &special.end_of_file, &special.erase };
    uint8_t next = 1;

    for (uint32_t i = 0; i < bytes->typed; i++)
        if (bytes->typed_marks[i] == MARK_LINE && bytes->typed_bytes[i] != '\n')
            special.ends[special.ends[0] && special.ends[0] != bytes->typed_bytes[i]] = bytes->typed_bytes[i];
    for (int i = 0; i < 3; i++) {
        while (next == special.ends[0] || next == special.ends[1])
            next++;
        *free[i] = next++; /* 5 at most, so no newline */
    }
    return special;
}

static int is_special(const struct special *special, uint8_t byte)
{
    return byte == '\n' || byte == special->quote || byte == special->end_of_file || byte == special->erase ||
           (byte && (byte == special->ends[0] || byte == special->ends[1]));
}

/* What a person would type, from item `at` on; the number of bytes. */
static size_t spell(const struct terminal_bytes *bytes, uint32_t *at, const struct special *special, uint8_t *text, int *ret_echoed)
{
    size_t length = 0;

    for (*ret_echoed = 0; *at < bytes->typed && length < CHUNK - 1; ++*at) {
        uint8_t byte = bytes->typed_bytes[*at], kind = bytes->typed_marks[*at];
        if (special && kind == MARK_NONE && is_special(special, byte))
            text[length++] = special->quote;
        text[length++] = special && kind == MARK_END_OF_FILE ? special->end_of_file : byte;
        *ret_echoed += kind != MARK_END_OF_FILE;
    }
    return length;
}

/* The echo tells that the kernel has gone through what was typed: that happens later than the write, and not before it may
 * the modes be others. */
static long await_echo(int master, int count)
{
    uint8_t echo[CHUNK];

    for (int tries = 0; count > 0 && tries < PATIENCE; tries++)
        if (is_ready(master, POLLIN, LOOK_MILLISECONDS)) {
            long got = sys_read(master, echo, (size_t)count);
            count -= got > 0 ? (int)got : 0;
        }
    return count ? -ETIMEDOUT : 0;
}

static long await_count(int slave, int count)
{
    for (int tries = 0; waiting(slave) != count; tries++) {
        if (tries == PATIENCE)
            return -ETIMEDOUT;
        SYS_CALL(poll, 0, 0, tries < LOOK_MILLISECONDS ? 1 : LOOK_MILLISECONDS, 0, 0, 0);
    }
    return 0;
}

/* An end of file is not echoed: so at the end one byte is typed, and erased again. */
static long await_end(int master, const struct special *special)
{
    uint8_t text[] = { 'a', special->erase };
    return sys_write(master, text, sizeof text) == sizeof text ? await_echo(master, sizeof text) : -EIO;
}

static long type(int master, int slave, const struct terminal_bytes *bytes, const struct special *special)
{
    uint8_t text[CHUNK];
    int echoed;
    long error = 0;

    for (uint32_t at = 0; !error && at < bytes->typed;) {
        size_t length = spell(bytes, &at, special, text, &echoed);
        if (sys_write(master, text, length) != (long)length)
            return -EIO;
        if (special)
            error = await_echo(master, echoed);
    }
    if (error)
        return error;
    return special ? await_end(master, special) : await_count(slave, (int)bytes->typed);
}

static long put_typed(int master, int slave, const struct terminal_modes *modes, const struct terminal_bytes *bytes)
{
    struct special special = choose(bytes);
    int lines = !!(modes->local & ICANON);
    struct terminal_modes typing = plain(modes, lines ? ICANON | ECHO | IEXTEN : 0);
    long error;

    typing.characters[VEOL] = special.ends[0];
    typing.characters[VEOL2] = special.ends[1];
    if (lines) {
        typing.characters[VLNEXT] = special.quote;
        typing.characters[VEOF] = special.end_of_file;
        typing.characters[VERASE] = special.erase;
    }
    error = call(slave, TCSETS2, &typing);
    return error ? error : type(master, slave, bytes, lines ? &special : NULL);
}

static long put_shown(int slave, const struct terminal_modes *modes, const struct terminal_bytes *bytes)
{
    struct terminal_modes showing = *modes;
    uint32_t done = 0;

    showing.output &= ~(uint32_t)OPOST;
    call(slave, TCSETS2, &showing);
    for (int tries = 0; done < bytes->shown && tries < PATIENCE;) {
        long wrote = sys_write(slave, bytes->shown_bytes + done, bytes->shown - done);
        if (wrote > 0)
            done += (uint32_t)wrote;
        else if (++tries < PATIENCE)
            is_ready(slave, POLLOUT, LOOK_MILLISECONDS);
    }
    return done < bytes->shown ? -ETIMEDOUT : 0;
}

long terminal_bytes_put(int master, int slave, const struct terminal_bytes *bytes)
{
    struct terminal_modes modes;
    long error = call(slave, TCGETS2, &modes);

    if (!error && bytes->typed)
        error = put_typed(master, slave, &modes, bytes);
    if (!error && bytes->shown)
        error = put_shown(slave, &modes, bytes);
    call(slave, TCSETS2, &modes);
    return error;
}
