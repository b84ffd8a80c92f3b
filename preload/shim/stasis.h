/* SPDX-License-Identifier: MIT */
/* stasis.h: what a program may say to Stasis, if it wants to. No program must: all of it works without a word from the program.
 *
 * Nothing is to be linked. The names are weak: where libstasis.so has not been loaded, each call does nothing and returns STASIS_ABSENT.
 * Other languages find the same names in the process (dlsym(3); in Python, ctypes.CDLL(None)).
 *
 * The calls are for threads of the program, not for signal handlers, nor for the child of a vfork(2). A call that waits is not to be left by
 * longjmp(3) or by the end of its thread. A fork child has inherited what its parent had said: how often checkpoints are forbidden, hooks,
 * excluded memory. After exec(3) all of it is forgotten. In a restarted program all is as it was in the image. */
#ifndef STASIS_H
#define STASIS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the calls return. */
#define STASIS_NOTHING 0    /* no checkpoint was waiting, or there was nothing else to do */
#define STASIS_TAKEN 1      /* the program runs on */
#define STASIS_RESTARTED 2  /* the program has just come back, in this call */
#define STASIS_REFUSED (-1) /* and nothing has changed; stasis_reason() says why */
#define STASIS_ABSENT (-2)  /* the program does not run under Stasis */

#ifdef STASIS_SHIM
#define STASIS_NAME __attribute__((visibility("default")))
#else
#define STASIS_NAME __attribute__((weak))
#ifndef __PIC__
#warning "stasis.h: without -fPIE or -fPIC the linker leaves the names empty, and all calls return STASIS_ABSENT"
#endif
#endif

/* Takes a checkpoint of the whole program (all its processes) now. Returns when the image is safely on disk (STASIS_TAKEN), or when the
 * program has been restarted from it (STASIS_RESTARTED): like fork(2), it returns once more in each life. A checkpoint that is being written
 * is waited for, and another one taken. Refused as `stasis checkpoint` refuses, also when the program forbids checkpoints itself. When
 * another of its processes forbids them, that one is waited for, for five seconds. */
STASIS_NAME int stasis_checkpoint(void);

/* Why the last call of this process was refused; a text that the next such call changes. */
STASIS_NAME const char *stasis_reason(void);

/* No checkpoint is taken until stasis_allow() has been called as often as this, and no thread of the program is stopped for one (who is just being
 * stopped runs on at once); what one process forbids, holds for all of the program. Whoever asks for one is refused (R-FORBIDDEN), or waits with --max-wait. What nobody waits for (the interval, a
 * signal) comes as soon as it may. Returns how often it is forbidden now. When the process ends, or executes another program, it forbids nothing
 * any more. */
STASIS_NAME int stasis_forbid(void);

/* Takes back one stasis_forbid(). If it was the last one, and a checkpoint has been waiting, that is taken in this call: it returns
 * STASIS_TAKEN when the program has been stopped and runs on, while the image is still being written; STASIS_RESTARTED; or
 * STASIS_REFUSED. It does not wait for others of the program for more than five seconds. */
STASIS_NAME int stasis_allow(void);

/* A good moment for a checkpoint, in a program that keeps them forbidden: when one has been waiting, it is taken here, as in stasis_allow(), and
 * checkpoints are then forbidden as before. Otherwise, and when they are forbidden more than once, it does nothing. */
STASIS_NAME int stasis_point(void);

/* Functions that are called around a checkpoint which is taken inside stasis_checkpoint(), stasis_allow() or stasis_point(): `before` in the
 * opposite order, `after` in the order in which they were given, with what the call is going to return. `after` is called in any case:
 * STASIS_RESTARTED tells it that this is another life. They run in the thread that is in the call, as ordinary code; other threads run,
 * too. Either may be NULL. A program that wants them to be called around every checkpoint keeps checkpoints forbidden, and names good
 * moments by stasis_point(). One that is taken while they are allowed comes at any place in the code, where nothing can be called:
 * stasis_restarts() tells later that the program has come back. 32 pairs at most; they stay for ever. */
STASIS_NAME int stasis_hooks(void (*before)(void *context), void (*after)(int result, void *context), void *context);

/* How often this process has come back from an image. Cheap: it looks at a number. */
STASIS_NAME int stasis_restarts(void);

/* Leaves the content of this memory out of images: after a restart it is zeros. Whole pages only; those that are partly in the range stay in. The
 * memory must be private and without a file (mmap(2) with MAP_PRIVATE | MAP_ANONYMOUS, malloc(3)); else it is refused, as when there are more
 * than 256 such ranges. What is unmapped, or moved by mremap(2), is no longer excluded, and what is mapped there later is not either. Memory of
 * an allocator must be included again before it is freed, since it would soon be something else. Such memory is not in core files
 * either (madvise(2): MADV_DONTDUMP). */
STASIS_NAME int stasis_exclude(void *start, size_t length);

/* Takes that back, for any part of it. */
STASIS_NAME int stasis_include(void *start, size_t length);

#ifndef STASIS_SHIM
#define stasis_checkpoint() (stasis_checkpoint ? stasis_checkpoint() : STASIS_ABSENT)
#define stasis_reason() (stasis_reason ? stasis_reason() : "the program does not run under Stasis")
#define stasis_forbid() (stasis_forbid ? stasis_forbid() : STASIS_ABSENT)
#define stasis_allow() (stasis_allow ? stasis_allow() : STASIS_ABSENT)
#define stasis_point() (stasis_point ? stasis_point() : STASIS_ABSENT)
#define stasis_hooks(before, after, context) (stasis_hooks ? stasis_hooks(before, after, context) : STASIS_ABSENT)
#define stasis_restarts() (stasis_restarts ? stasis_restarts() : STASIS_ABSENT)
#define stasis_exclude(start, length) (stasis_exclude ? stasis_exclude(start, length) : STASIS_ABSENT)
#define stasis_include(start, length) (stasis_include ? stasis_include(start, length) : STASIS_ABSENT)
#endif

#ifdef __cplusplus
}
#endif

#endif
