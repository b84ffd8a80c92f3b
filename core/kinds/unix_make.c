/* SPDX-License-Identifier: MIT */
/* Unix sockets are made all at once, since they need one another. The order is law:
 *
 *   1. connections of streams and packets, and pairs of datagram sockets, with their names
 *   2. all other names: listening sockets and datagram sockets
 *   3. datagrams, before anybody is connected and takes no others
 *   4. datagram sockets connect
 *   5. listening sockets listen, and the connections they have not accepted are made
 *   6. bytes and messages in flight of connections; what was shut down; other ends that nobody has are closed
 *   7. options, which could stand in the way of all this
 *
 * Each in the name of the process that did it, for SO_PEERCRED and SCM_CREDENTIALS. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockets.h"
#include "unix_actor.h"

struct making {
    struct restoring *restoring;
    struct scratch scratch;
};

#define ALL(making, is) (struct unix_socket *is = (making)->restoring->unix_sockets; is; is = is->next)

/* At the number it will have, when there is one process: above all numbers there may be no room for as many again. `is`
 * NULL: none of the program's. A descriptor, or -errno. */
static int put_away(const struct making *making, const struct unix_socket *is, int fd)
{
    int number = is ? is->record.descriptor.number : -1;

    if (fd < 0)
        return -errno;
    if (!is || making->restoring->image->header.process_count != 1)
        return descriptor_lift(making->restoring, fd);
    if (fd == number)
        return fd;
    if (fcntl(number, F_GETFD) >= 0 || dup3(fd, number, O_CLOEXEC) < 0)
        return descriptor_lift(making->restoring, fd);
    close(fd);
    return number;
}

static int new_socket(const struct making *making, const struct unix_socket *is, uint32_t type)
{
    return put_away(making, is, socket(AF_UNIX, (int)type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static int is_messages(const struct unix_socket *is)
{
    return is->state.type == SOCK_DGRAM;
}

/* ---- 1 connections ---- */

/* What a process does that is given its PID: on numbers, which it shares with us. */
struct act {
    uint32_t type;
    int fd, other, backlog;
    struct sockaddr_un address;
    socklen_t length;
};

static int act_pair(void *context)
{
    const struct act *act = context;
    int ends[2];

    if (socketpair(AF_UNIX, (int)act->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
        return -errno;
    int failed = dup3(ends[0], act->fd, O_CLOEXEC) < 0 || dup3(ends[1], act->other, O_CLOEXEC) < 0;
    int error = failed ? -errno : 0;
    close(ends[0]);
    close(ends[1]);
    return error;
}

static int act_listen(void *context)
{
    const struct act *act = context;
    return listen(act->fd, act->backlog) ? -errno : 0;
}

static int act_connect(void *context)
{
    const struct act *act = context;
    return connect(act->fd, (const struct sockaddr *)&act->address, act->length) ? -errno : 0;
}

/* Both ends by socketpair(2): when no name has to be on them before they are connected. */
static int make_pair(const struct making *making, struct unix_socket *is)
{
    struct act act = { .type = is->state.type };
    int *other = is->other ? &is->other->fd : &is->other_end;
    int error;

    act.fd = is->fd = new_socket(making, is, is->state.type);
    act.other = *other = new_socket(making, is->other, is->state.type);
    if (act.fd < 0 || act.other < 0)
        return act.fd < 0 ? act.fd : act.other;
    error = actor_run(is->state.pid, act_pair, &act);
    is->is_pair = is->is_connected = 1;
    if (is->other)
        is->other->is_pair = is->other->is_connected = 1;
    return error;
}

/* A listening socket under the name of the accepted one, that ends at once. */
static int make_listener(struct making *making, const struct unix_name *name, uint32_t type, int pid,
                         struct unix_place *ret_place)
{
    struct act act = { .fd = new_socket(making, NULL, type), .backlog = 1 };
    int error = act.fd < 0 ? act.fd : 0;
    struct unix_name any = { 0 };

    ret_place->file = NULL;
    if (!error)
        error = scratch_bind(&making->scratch, act.fd, name->length ? name : &any, ret_place);
    if (!error)
        error = actor_run(pid, act_listen, &act);
    if (error && act.fd >= 0)
        close(act.fd);
    return error ? error : act.fd;
}

/* Of a connection, the accepted end has the listener's name. An end that nobody has may go without, where that is
 * taken. */
static int make_connection(struct making *making, struct unix_socket *is)
{
    int is_accepted = is->name.length > 0, client_pid, listener_pid, error;
    const struct unix_name *name = is_accepted ? &is->name : &is->other_name,
                           *client_name = is_accepted ? &is->other_name : &is->name;
    int *accepted = is_accepted ? &is->fd : is->other ? &is->other->fd : &is->other_end;
    int *client = is_accepted ? is->other ? &is->other->fd : &is->other_end : &is->fd;
    struct unix_place place, own = { 0 };
    struct act act = { 0 };

    client_pid = is_accepted ? is->state.pid : is->other ? is->other->state.pid : 0;
    listener_pid = !is_accepted ? is->state.pid : is->other ? is->other->state.pid : 0;
    int listener = make_listener(making, name, is->state.type, listener_pid, &place);
    if (listener == -EADDRINUSE && !is_accepted && !is->other)
        return make_pair(making, is);
    if (listener < 0)
        return listener;
    act.fd = *client = new_socket(making, is_accepted ? is->other : is, is->state.type);
    error = act.fd < 0 ? act.fd : client_name->length ? scratch_bind(&making->scratch, act.fd, client_name, &own) : 0;
    if (error == -EADDRINUSE && is_accepted && !is->other)
        error = 0;
    if (!error)
        error = place_address(&place, &act.address, &act.length);
    if (!error)
        error = actor_run(client_pid, act_connect, &act);
    if (!error && (*accepted = put_away(making, is_accepted ? is : is->other,
                                        accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK))) < 0)
        error = *accepted;
    close(listener);
    free(place.file);
    free(own.file);
    is->is_connected = 1;
    if (is->other)
        is->other->is_connected = 1;
    return error;
}

/* Two that are named can have been connected one by one, to each other. */
static int is_datagram_pair(const struct unix_socket *is)
{
    if (!is_messages(is) || is->state.end == END_NONE || is->state.end == END_WAITING)
        return 0;
    if (is->other)
        return is->other->other == is && !(is->name.length && is->other->name.length);
    return !is->other_name.length;
}

static int connect_one(struct making *making, struct unix_socket *is)
{
    int has_two = is->state.end == END_INSIDE,
        same_maker = !has_two || (is->other && is->other->state.pid == is->state.pid);

    if (is->is_connected || is->state.end == END_NONE || is->state.end == END_WAITING)
        return 0;
    if (has_two && !is->other)
        return -EBADMSG;
    if (is_messages(is))
        return is_datagram_pair(is) ? make_pair(making, is) : 0;
    return !is->name.length && !is->other_name.length && same_maker ? make_pair(making, is)
                                                                    : make_connection(making, is);
}

/* ---- 2 names ---- */

static int name_one(struct making *making, struct unix_socket *is)
{
    struct unix_place place = { 0 };
    int error = 0;

    if (is->fd < 0)
        is->fd = new_socket(making, is, is->state.type);
    if (is->fd < 0)
        return is->fd;
    if (!is->name.length || (is->is_connected && !is_messages(is)))
        return 0;
    if (*is->file) {
        error = place_bind(is->fd, &is->name, is->file);
        is->place = strdup(is->file);
        return error ? error : is->place ? chmod(is->file, is->state.file_mode) ? -errno : 0 : -ENOMEM;
    }
    error = scratch_bind(&making->scratch, is->fd, &is->name, &place);
    is->place = place.file;
    return error;
}

static int reach(const struct unix_socket *is, struct sockaddr_un *ret_address, socklen_t *ret_length)
{
    struct unix_place place = { .name = is->name, .file = is->place };
    return place_address(&place, ret_address, ret_length);
}

/* ---- 3 and 6 what is in flight ---- */

struct sending {
    int fd;
    uint32_t unread; /* memory that all it sends takes in the end; 0: as it comes */
    const struct msghdr *message;
};

enum { PART_OVERHEAD = 768 };

/* The bytes of a stream lie in parts, and the kernel counts the memory of these. A socket that was full, so that
 * somebody waits to send more, must be full again: so they are sent in parts that take as much. */
static size_t part_length(const struct sending *sending, size_t left)
{
    int now = 0;
    size_t room, part;

    if (!sending->unread || ioctl(sending->fd, SIOCOUTQ, &now) || sending->unread <= (uint32_t)now)
        return left;
    room = sending->unread - (uint32_t)now;
    part = room > left ? PART_OVERHEAD * left / (room - left) + 1 : left;
    return part < left ? part : left;
}

static int act_send(void *context)
{
    const struct sending *sending = context;
    struct iovec part = *sending->message->msg_iov;
    struct msghdr message = *sending->message;
    size_t left = part.iov_len;

    message.msg_iov = &part;
    do {
        part.iov_len = part_length(sending, left);
        ssize_t sent = sendmsg(sending->fd, &message, MSG_NOSIGNAL);
        if (sent < 0)
            return -errno;
        part.iov_base = (char *)part.iov_base + sent;
        left -= (size_t)sent;
    } while (left);
    return 0;
}

static int set_flag(int fd, int name, int value)
{
    return setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) ? -errno : 0;
}

/* Room for as much as may ever have been sent; options are set later. */
static void widen(int fd)
{
    set_flag(fd, SO_SNDBUF, INT32_MAX / 2);
}

/* Into `to`, which notes senders as it did. Without an address the sender must be connected. */
static int send_one(int to, int from, uint32_t unread, const struct unix_message_record *record, const void *bytes,
                    struct sockaddr_un *address, socklen_t length)
{
    struct iovec vector = { .iov_base = (void *)bytes, .iov_len = record->length };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_name = address, .msg_namelen = length };
    struct sending sending = { .fd = from, .unread = unread, .message = &message };
    int error;

    widen(from);
    set_flag(to, SO_PASSCRED, record->pid != 0);
    error = actor_run(record->pid, act_send, &sending);
    set_flag(to, SO_PASSCRED, 0);
    return error;
}

typedef int (*message_step)(struct making *making, struct unix_socket *is, const struct unix_message_record *record,
                            const struct unix_name *sender, const void *bytes);

static int each_message(struct making *making, struct unix_socket *is, message_step step)
{
    struct reader messages = is->messages;
    int error = 0;

    for (uint32_t i = 0; !error && i < is->state.message_count; i++) {
        struct unix_message_record record;
        struct unix_name sender;
        const void *bytes;
        error = unix_next_message(&messages, &record, &sender, &bytes);
        if (!error)
            error = step(making, is, &record, &sender, bytes);
    }
    return error;
}

static int send_connected(struct making *making, struct unix_socket *is, const struct unix_message_record *record,
                          const struct unix_name *sender, const void *bytes)
{
    uint32_t unread = is->state.type == SOCK_STREAM && is->other ? is->other->state.unread : 0;

    (void)making, (void)sender; /* which is the other end */
    return send_one(is->fd, is->other ? is->other->fd : is->other_end, unread, record, bytes, NULL, 0);
}

static struct unix_socket *datagram_named(const struct making *making, const struct unix_name *name)
{
    for
        ALL(making, is)
    if (is_messages(is) && name->length && is->name.length == name->length &&
        !memcmp(is->name.bytes, name->bytes, name->length))
        return is;
    return NULL;
}

/* From the socket that has the sender's name; or from one that has it for the moment, since who has sent it is gone. */
static int send_datagram(struct making *making, struct unix_socket *is, const struct unix_message_record *record,
                         const struct unix_name *sender, const void *bytes)
{
    const struct unix_socket *from = datagram_named(making, sender);
    struct unix_place place = { 0 };
    struct sockaddr_un address;
    socklen_t length;
    int fd = from ? from->fd : new_socket(making, NULL, SOCK_DGRAM), error = fd < 0 ? fd : 0;

    if (!error && !from && sender->length)
        error = scratch_bind(&making->scratch, fd, sender, &place);
    if (!error)
        error = reach(is, &address, &length);
    if (!error)
        error = send_one(is->fd, fd, 0, record, bytes, &address, length);
    if (!from && fd >= 0)
        close(fd);
    free(place.file);
    return error;
}

static int fill_datagrams(struct making *making, struct unix_socket *is)
{
    return is_messages(is) && !is->is_pair ? each_message(making, is, send_datagram) : 0;
}

/* ---- 4 datagram sockets connect ---- */

static int connect_to(const struct unix_socket *is, const struct unix_name *name, char *file)
{
    struct unix_place place = { .name = *name, .file = file };
    struct act act = { .fd = is->fd };
    int error = place_address(&place, &act.address, &act.length);

    return error ? error : act_connect(&act);
}

/* To where somebody was: under the same name, somebody may be there again. If not, to one that goes at once. */
static int connect_outside(struct making *making, struct unix_socket *is)
{
    struct unix_place place = { 0 };
    int fd, error;

    if (is->state.end == END_OUTSIDE && unix_name_is_for_all(&is->other_name) && !connect_to(is, &is->other_name, NULL))
        return 0;
    fd = new_socket(making, NULL, SOCK_DGRAM);
    error = fd < 0 ? fd : scratch_bind(&making->scratch, fd, &is->other_name, &place);
    if (!error)
        error = connect_to(is, &place.name, place.file);
    if (fd >= 0)
        close(fd);
    free(place.file);
    return error;
}

/* Who is connected takes no other: so all that are connected to it come first. */
static int connect_datagrams(struct making *making, struct unix_socket *is)
{
    int error = 0;

    if (!is_messages(is) || is->is_connected || is->state.end == END_NONE)
        return 0;
    is->is_connected = 1;
    for
        ALL(making, before)
    if (!error && before->other == is && before != is->other)
        error = connect_datagrams(making, before);
    if (error)
        return error;
    return is->other ? connect_to(is, &is->other->name, is->other->place) : connect_outside(making, is);
}

/* ---- 5 listening sockets ---- */

static int find(const struct making *making, uint64_t inode, struct unix_socket **ret_socket)
{
    for
        ALL(making, is)
    if (is->record.socket == inode) {
        *ret_socket = is;
        return 0;
    }
    return -EBADMSG;
}

static int listen_one(struct making *making, struct unix_socket *is)
{
    struct act act = { .fd = is->fd, .backlog = (int)is->state.backlog };
    int error = 0;

    if (is->state.state != UNIX_LISTENS)
        return 0;
    error = actor_run(is->state.pid, act_listen, &act);
    for (uint32_t i = 0; !error && i < is->state.waiting_count; i++) {
        struct unix_socket *client = NULL;
        uint64_t inode;
        memcpy(&inode, is->waiting + i * sizeof inode, sizeof inode);
        error = find(making, inode, &client);
        if (!error)
            error = reach(is, &act.address, &act.length);
        if (!error) {
            act.fd = client->fd;
            error = actor_run(client->state.holder, act_connect, &act);
        }
    }
    return error;
}

/* ---- 6 and 7 ---- */

static int fill_connection(struct making *making, struct unix_socket *is)
{
    return is->is_pair || (!is_messages(is) && is->is_connected) ? each_message(making, is, send_connected) : 0;
}

/* An end that is closed with something unread resets the other one. */
static int end_connection(struct making *making, struct unix_socket *is)
{
    int must_reset = is->state.reset || is->state.end == END_OUTSIDE,
        is_lone = is_messages(is) || is->state.end != END_INSIDE;

    (void)making;
    if (is->other_end >= 0 && !is_messages(is) && must_reset && send(is->fd, "", 1, MSG_NOSIGNAL) != 1)
        return -errno;
    if (is->state.shutdown & 2 && shutdown(is->fd, SHUT_WR))
        return -errno;
    if (is->state.shutdown & 1 && is_lone && shutdown(is->fd, SHUT_RD)) /* of two, the other one's SHUT_WR does it */
        return -errno;
    if (is->other_end >= 0)
        close(is->other_end);
    is->other_end = -1;
    return 0;
}

static int set_options(struct making *making, struct unix_socket *is)
{
    struct reader options = is->options;
    const char *word;

    (void)making;
    int error = socket_options_set(socket_options, &options, is->fd, &word);

    return error ? error : socket_options_set(socket_late_options, &options, is->fd, &word);
}

/* ---- the whole ---- */

static int collect(struct restoring *restoring)
{
    struct unix_socket **end = &restoring->unix_sockets;
    struct reader record;

    for (size_t at = 0; image_next_of(restoring->image, TAG_UNIX_SOCKET, ANY_PROCESS, &at, &record);) {
        struct unix_socket *is = malloc(sizeof *is);
        int error = is ? unix_parse(restoring, &record, is) : -ENOMEM;
        if (error)
            return error;
        if (is->record.whole) {
            *end = is;
            end = &is->next;
        } else
            free(is);
    }
    return 0;
}

typedef int (*making_step)(struct making *making, struct unix_socket *is);

static int find_other(struct making *making, struct unix_socket *is)
{
    return is->state.end == END_INSIDE || is->state.end == END_WAITING ? find(making, is->state.other, &is->other) : 0;
}

/* A socket's file stands where others see it. They need one another before the memory is there, which is then read, and verified, once
 * more; until now it was not. A damaged image changes nothing. */
static int verify_before_files(struct restoring *restoring)
{
    for (const struct unix_socket *is = restoring->unix_sockets; is; is = is->next)
        if (*is->file)
            return image_verify(restoring->image);
    return 0;
}

static int make_all(struct restoring *restoring)
{
    static const making_step steps[] = { find_other, connect_one,     name_one,       fill_datagrams, connect_datagrams,
                                         listen_one, fill_connection, end_connection, set_options };
    struct making making = { .restoring = restoring };
    int old = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), error = old < 0 ? -errno : collect(restoring);

    if (!error)
        error = verify_before_files(restoring);
    for (size_t i = 0; !error && i < sizeof steps / sizeof *steps; i++)
        for
            ALL(&making, is)
    if (!error)
        error = steps[i](&making, is);
    scratch_end(&making.scratch);
    if (old >= 0 && fchdir(old) && !error)
        error = -errno;
    close(old);
    return error;
}

int unix_make(struct restoring *restoring, struct reader *reader)
{
    (void)reader;
    return restoring->unix_sockets ? 0 : make_all(restoring);
}

int unix_open(struct restoring *restoring, struct reader *reader)
{
    struct making making = { .restoring = restoring };
    struct unix_record record;
    struct unix_socket *is = NULL;
    int error = descriptor_take(reader, &record, sizeof record);

    if (error)
        return error < 0 ? error : 0;
    error = find(&making, record.socket, &is);
    return error ? error : socket_place(&record.descriptor, is->fd);
}
