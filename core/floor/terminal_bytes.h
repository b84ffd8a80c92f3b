/* SPDX-License-Identifier: MIT */
/* What is on its way in a pair of a master and a slave. The kernel shows it only to whoever takes it out (there is no
 * MSG_PEEK, no tee for terminals), so a parked thread of the program takes it out and puts it back; only a program that is killed
 * in between loses it, with what else it had. No libc. */
#ifndef STASIS_TERMINAL_BYTES_H
#define STASIS_TERMINAL_BYTES_H

#include <stdint.h>

/* Modes of a terminal: the kernel's struct termios2 (asm/termbits.h). */
enum { TERMINAL_CHARACTERS = 19 };
struct terminal_modes {
    uint32_t input, output, control, local;
    uint8_t line, characters[TERMINAL_CHARACTERS];
    uint32_t input_speed, output_speed;
};

enum { TERMINAL_ROOM = 16384 }; /* drivers/tty: 4096 bytes in n_tty and 8192 in front of it, either way */

enum terminal_mark {
    MARK_NONE = 0,
    MARK_LINE,         /* this byte ends a line, for whoever reads line by line */
    MARK_END_OF_FILE,  /* no byte, but an end of file (Ctrl-D) */
};

struct terminal_bytes {
    uint32_t shown;    /* written by the slave's side, not read by the master */
    uint32_t typed;    /* written by the master, not read by the slave's side */
    uint8_t shown_bytes[TERMINAL_ROOM];
    uint8_t typed_bytes[TERMINAL_ROOM];
    uint8_t typed_marks[TERMINAL_ROOM];
};

/* All of it. `slave` is open for reading and writing, with O_NONBLOCK. Before anything is taken: -EBUSY, output is stopped or
 * full; -E2BIG, more than can be put back at once; -EIO, the caller is in the background of this terminal. */
long terminal_bytes_take(int master, int slave, struct terminal_bytes *bytes);
/* Into a pair with nothing in it, whose modes are then those that it had before. -ETIMEDOUT: the kernel did not take it. */
long terminal_bytes_put(int master, int slave, const struct terminal_bytes *bytes);

#endif
