/* SPDX-License-Identifier: MIT */
/* pthread_create: constructors of libraries run before ours, and may make threads (OpenBLAS does). After an exec these would
 * inherit the stop signal blocked, for ever: wrap/exec.c has blocked it, and nobody else can open it in them. */
#include <pthread.h>

#include "../shim.h"

NEXT_OF(pthread_create);

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    if (!shim.entered) {
        stop_set_handler(STOP_SIGNAL); /* before it is open: it may be waiting */
        stop_unblock();
    }
    return NEXT(pthread_create)(thread, attributes, start, argument);
}
