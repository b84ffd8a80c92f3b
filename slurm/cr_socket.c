/* SPDX-License-Identifier: MIT */
/* In srun, before its tasks are launched: whoever has named a socket in SLURM_SRUN_CR_SOCKET, as srun_cr did until 19.05, is told of the step. In
 * the machine's own byte order: the job's and the step's number, 32 bits each, and how long the list of nodes is, an int, without the NUL behind
 * it. Nothing is answered, and srun runs on without it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <slurm/slurm.h>

#include "../core/floor/names.h"
#include "plugin.h"

static int connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int whole = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (whole >= 0 && strlen(path) < sizeof address.sun_path) {
        strcpy(address.sun_path, path);
        if (!connect(whole, (struct sockaddr *)&address, sizeof address))
            return whole;
    }
    if (whole >= 0)
        close(whole);
    return -1;
}

static void tell(int listener, uint32_t job, uint32_t step, const char *nodes)
{
    struct {
        uint32_t job, step;
        int length;
    } head = { job, step, (int)strlen(nodes) };
    struct iovec parts[] = { { &head, sizeof head }, { (char *)nodes, strlen(nodes) + 1 } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = sizeof parts / sizeof *parts };

    if (sendmsg(listener, &message, MSG_NOSIGNAL) < 0)
        slurm_debug("stasis: " ENV_CR_SOCKET ": %m");
}

void cr_socket_tell(spank_t spank)
{
    const char *path = getenv(ENV_CR_SOCKET);
    slurm_step_id_t step = { .step_het_comp = NO_VAL };
    slurm_step_layout_t *layout;
    int listener;

    if (!path || spank_get_item(spank, S_JOB_ID, &step.job_id) != ESPANK_SUCCESS
        || spank_get_item(spank, S_JOB_STEPID, &step.step_id) != ESPANK_SUCCESS)
        return;
    listener = connect_to(path);
    if (listener < 0) {
        slurm_debug("stasis: " ENV_CR_SOCKET "=%s: %m", path);
        return;
    }
    layout = slurm_job_step_layout_get(&step);
    tell(listener, step.job_id, step.step_id, layout && layout->node_list ? layout->node_list : "");
    if (layout)
        slurm_job_step_layout_free(layout);
    close(listener);
}
