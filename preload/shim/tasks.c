/* SPDX-License-Identifier: MIT */
/* A step of several tasks: the others' savers do not wait for a task that has ended on its own. Of one that was killed nobody writes
 * anything down, and no image of the step is taken any more. Island: no libc. */
#include "../../core/floor/syscalls.h"
#include "shim.h"

void tasks_note_end(int status)
{
    char parts[MAX_PATH];

    if (shim.place.tasks < 2 || !shim.first || shim.pid != (uint32_t)sys_getpid())
        return;
    shim.first = 0; /* it is said */
    roll_directory(parts, shim.directory, shim.job, shim.step);
    roll_note_end(parts, &shim.place, shim.run, status);
}
