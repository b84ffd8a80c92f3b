/* SPDX-License-Identifier: MIT */
/* Slurm's own programs are left alone, when LD_PRELOAD was meant for the tasks that they start. */
#include <stdlib.h>
#include <sys/auxv.h>

#include "../../core/floor/names.h"
#include "../../core/floor/text.h"
#include "shim.h"

NEXT_OF(unsetenv);

/* As it was executed: getauxval(3). */
int clients_is_one(void)
{
    static const char *const names[] = { "srun", "sbatch", "salloc", "scontrol", "squeue", "scancel", "sattach", "sbcast", "sinfo", "sstat", "sacct" };
    const char *path = (const char *)getauxval(AT_EXECFN), *name = path ? text_file_name(path) : "";

    if (*name != 's')
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (text_equal(name, names[i])) {
            NEXT(unsetenv)(ENV_RUN); /* its tasks are a run of their own */
            return 1;
        }
    return 0;
}
