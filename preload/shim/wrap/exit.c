/* SPDX-License-Identifier: MIT */
/* Ends without destructors: the page would stay behind until somebody sweeps the registry. */
#include <stdlib.h>
#include <unistd.h>

#include "../../../core/floor/syscalls.h"
#include "../shim.h"

EXPORTED void _exit(int status)
{
    tasks_note_end(status);
    page_drop();
    sys_exit_group(status);
}

EXPORTED void _Exit(int status)
{
    _exit(status);
}
