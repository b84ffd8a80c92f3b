/* SPDX-License-Identifier: MIT */
/* The abstract socket on which program and twin hand things over. It has no name in the file system, so nothing stays
 * when we are killed; whoever comes must be of our user, and a stranger is sent away. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../core/floor/passing.h"
#include "../../core/floor/text.h"
#include "saver.h"

enum { MEETING_SECONDS = 30, MEETING_LOOK_MILLISECONDS = 20 };

int meeting_open(struct step *step)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    uint64_t random[2];
    size_t at;

    if (getrandom(random, sizeof random, 0) != sizeof random)
        return fail(step, EXIT_SYSTEM, "no checkpoint: no random numbers: %s", strerror(errno));
    at = text_add(step->socket, sizeof step->socket, 0, "stasis-");
    at = text_add_hex(step->socket, sizeof step->socket, at, random[0]);
    at = text_add_hex(step->socket, sizeof step->socket, at, random[1]);
    memcpy(address.sun_path + 1, step->socket, at);
    step->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (step->listener < 0 ||
        bind(step->listener, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + at)) ||
        listen(step->listener, 16))
        return fail(step, EXIT_SYSTEM, "no checkpoint: no socket: %s", strerror(errno));
    return 0;
}

/* Why nobody will come any more: the process has answered with an error, or is gone. 0: it may still come. */
static int is_in_vain(const struct process *process, int pid)
{
    const struct agent_page *page = process->page;

    if (pid != (int)page->pid)
        return kill(pid, 0) && errno == ESRCH ? -ESRCH : 0;
    if (members_page_is_dead(process))
        return -ESRCH;
    return __atomic_load_n(&page->answer, __ATOMIC_SEQ_CST) == process->last_order && page->result < 0 ? page->result : 0;
}

/* Who has come; 0: a stranger. */
static int peer_of(int connection)
{
    struct timeval patience = { .tv_sec = MEETING_SECONDS };
    struct ucred peer;
    socklen_t length = sizeof peer;

    return !getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) && peer.uid == geteuid() &&
                   !setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)
               ? peer.pid
               : 0;
}

/* Twins come in any order. */
static void keep_for_its_turn(struct step *step, int pid, int connection)
{
    struct process *process = step->processes;

    while (process && (process->saving.view != pid || process->saving.pid == pid || process->twin >= 0))
        process = process->next;
    if (process)
        process->twin = connection;
    else
        close(connection);
}

/* The program stands still meanwhile: looked after every MEETING_LOOK_MILLISECONDS. */
int meeting_accept(struct process *process, int pid, int *ret_connection)
{
    struct pollfd wait = { .fd = process->step->listener, .events = POLLIN };
    int64_t deadline = now_nanoseconds() + MEETING_SECONDS * INT64_C(1000000000);
    int error;

    while (now_nanoseconds() < deadline) {
        int ready = poll(&wait, 1, MEETING_LOOK_MILLISECONDS);
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready <= 0 && (error = is_in_vain(process, pid)))
            return error;
        int fd = ready <= 0 ? -1 : accept4(process->step->listener, NULL, NULL, SOCK_CLOEXEC);
        int peer = fd < 0 ? 0 : peer_of(fd);
        if (peer == pid) {
            *ret_connection = fd;
            return 0;
        }
        if (fd >= 0)
            keep_for_its_turn(process->step, peer, fd);
    }
    return -ETIMEDOUT;
}

int meeting_order(struct process *process, enum agent_order order, int *descriptors, int count)
{
    int connection = -1, error;

    stop_order_give(process, order);
    error = meeting_accept(process, (int)process->page->pid, &connection);
    if (!error)
        error = (int)(count ? passing_receive(connection, descriptors, (size_t)count, 0) : passing_send(connection, descriptors, 1));
    if (!error)
        error = stop_order_wait(process);
    if (connection >= 0)
        close(connection);
    return error;
}

int meeting_fetch(struct saving *saving, const int *numbers, int count, int *ret_handles)
{
    struct process *process = process_of(saving);

    memcpy(process->page->to_send, numbers, (size_t)count * sizeof *numbers);
    process->page->to_send_count = (uint32_t)count;
    return meeting_order(process, ORDER_DESCRIPTORS, ret_handles, count);
}

int meeting_fetch_memory(struct saving *saving, const struct agent_range *range, struct buffer *bytes)
{
    struct process *process = process_of(saving);
    int copy = memfd_create("stasis", MFD_CLOEXEC), error = copy < 0 ? -errno : 0;
    size_t length = 0;
    char *text;

    process->page->ranges[0] = *range; /* what they were filled with before has been copied by now */
    process->page->lacking[0] = 0;
    process->page->skip_absent = 0;
    process->page->range_count = 1;
    if (!error)
        error = meeting_order(process, ORDER_COPY, &copy, 0);
    text = error ? NULL : lseek(copy, 0, SEEK_SET) ? NULL : read_all(copy, &length);
    if (!error && !text)
        error = -errno;
    buffer_add(bytes, text, length);
    free(text);
    if (copy >= 0)
        close(copy);
    return error ? error : bytes->error;
}
