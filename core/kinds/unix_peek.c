/* SPDX-License-Identifier: MIT */
/* What waits in a unix socket, looked at with MSG_PEEK. Of a stream one look gives all, as long as nobody wants to know
 * the sender of each byte. Messages, and bytes with their senders, are passed over one by one by means of SO_PEEK_OFF,
 * which is put back. */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unix_format.h"

#ifndef SCM_PIDFD
#define SCM_PIDFD 4 /* 6.5 */
#endif

struct look {
    struct saving *saving;
    const struct descriptor *descriptor;
    int handle, type;
    char *bytes;
    size_t room;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(512) +
                  CMSG_SPACE(sizeof(int))]; /* credentials, a label, a pidfd */
    } control;
    struct sockaddr_un sender;
    struct msghdr message;
    struct ucred credentials;
    int has_credentials;
};

/* -EAGAIN: there is no more. The length of a message that was cut is that of the whole. */
static ssize_t look_once(struct look *look)
{
    struct iovec vector = { .iov_base = look->bytes, .iov_len = look->room };

    look->message = (struct msghdr){ .msg_name = &look->sender,
                                     .msg_namelen = sizeof look->sender,
                                     .msg_iov = &vector,
                                     .msg_iovlen = 1,
                                     .msg_control = &look->control,
                                     .msg_controllen = sizeof look->control };
    ssize_t got = recvmsg(look->handle, &look->message,
                          MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (look->type == SOCK_STREAM ? 0 : MSG_TRUNC));
    return got < 0 ? -errno : got;
}

static void close_sent(const struct cmsghdr *header)
{
    int sent;

    for (size_t at = 0; at + sizeof sent <= header->cmsg_len - CMSG_LEN(0); at += sizeof sent) {
        memcpy(&sent, CMSG_DATA(header) + at, sizeof sent);
        close(sent);
    }
}

/* Who has sent it; descriptors on their way are of processes that may be gone when the message is read. */
static int take_control(struct look *look)
{
    int rights = look->message.msg_flags & MSG_CTRUNC;

    look->has_credentials = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&look->message); header; header = CMSG_NXTHDR(&look->message, header)) {
        if (header->cmsg_level != SOL_SOCKET)
            continue;
        if (header->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&look->credentials, CMSG_DATA(header), sizeof look->credentials);
            look->has_credentials = 1;
        }
        if (header->cmsg_type == SCM_RIGHTS || header->cmsg_type == SCM_PIDFD)
            close_sent(header);
        rights |= header->cmsg_type == SCM_RIGHTS;
    }
    if (rights)
        return refuse(look->saving, "R-SCM-RIGHTS", "descriptors are on their way to descriptor %d, a unix socket",
                      look->descriptor->number);
    if (look->has_credentials &&
        (look->credentials.uid != geteuid() || look->credentials.gid != getegid() || look->credentials.pid <= 1))
        return refuse(look->saving, "R-SCM-CREDENTIALS",
                      "what waits in descriptor %d, a unix socket, was sent by another user or by process %d",
                      look->descriptor->number, (int)look->credentials.pid);
    return 0;
}

static void add_message(const struct look *look, size_t length, struct buffer *to)
{
    size_t begin = offsetof(struct sockaddr_un, sun_path);
    struct unix_message_record record = { .length = (uint32_t)length,
                                          .pid = look->has_credentials ? look->credentials.pid : 0 };
    uint32_t name_length = look->message.msg_namelen > begin ? (uint32_t)(look->message.msg_namelen - begin) : 0;

    buffer_add(to, &record, sizeof record);
    buffer_add(to, &name_length, sizeof name_length);
    buffer_add(to, look->sender.sun_path, name_length);
    buffer_add(to, look->bytes, length);
}

static int make_room(struct look *look, size_t room)
{
    char *larger = room <= look->room ? look->bytes : realloc(look->bytes, room);

    if (!larger)
        return -ENOMEM;
    look->bytes = larger;
    if (room > look->room)
        look->room = room;
    return 0;
}

static int set_offset(int handle, int offset)
{
    return setsockopt(handle, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) ? -errno : 0;
}

static uint64_t *find_looked_at(const struct saving *saving, uint64_t inode)
{
    for (int i = 0; i < AGENT_LOOKED_AT; i++)
        if (saving->looked_at[i] == inode)
            return &saving->looked_at[i];
    return NULL;
}

/* Passing over an empty message marks it, and a marked one is passed over by every further look. So the socket is
 * noted, and refused until all has been read. */
static int note_empty(const struct look *look)
{
    uint64_t *free = find_looked_at(look->saving, 0);

    if (!free)
        return refuse(look->saving, "R-SOCKET",
                      "descriptor %d is a unix socket with an empty message, as are more than %d others",
                      look->descriptor->number, AGENT_LOOKED_AT);
    *free = look->descriptor->status.st_ino;
    return 0;
}

/* Of a checkpoint before. */
static int has_been_emptied(const struct look *look, int waiting, int is_ended)
{
    uint64_t *noted = find_looked_at(look->saving, look->descriptor->status.st_ino);
    struct pollfd state = { .fd = look->handle, .events = POLLIN };

    if (!noted)
        return 1;
    if (waiting || (!is_ended && poll(&state, 1, 0)))
        return 0;
    *noted = 0;
    return 1;
}

static int look_again(struct look *look, size_t seen, ssize_t length)
{
    int error = make_room(look, (size_t)length);

    if (!error)
        error = set_offset(look->handle, (int)seen);
    if (!error && look_once(look) != length)
        error = -EPROTO;
    return error ? error : take_control(look);
}

/* At the end of a connection a look gives 0, as an empty message does. */
static int look_at_messages(struct look *look, size_t waiting, int is_ended, struct buffer *to, uint32_t *ret_count)
{
    for (size_t seen = 0;; ++*ret_count) {
        ssize_t got = look_once(look);
        if (got == -EAGAIN || (got == 0 && is_ended && seen == waiting))
            return to->error;
        if (got < 0)
            return (int)got;
        int error = take_control(look);
        if (!error && !got && !find_looked_at(look->saving, look->descriptor->status.st_ino))
            error = note_empty(look);
        if (!error && (size_t)got > look->room)
            error = look_again(look, seen, got);
        if (error)
            return error;
        add_message(look, (size_t)got, to);
        seen += (size_t)got;
    }
}

/* Never more than there is: an error that waits behind the bytes would be told to us, and to nobody else. */
static int look_at_stream(struct look *look, size_t waiting, struct buffer *to, uint32_t *ret_count)
{
    for (size_t seen = 0; seen < waiting; ++*ret_count) {
        look->room = waiting - seen;
        ssize_t got = look_once(look);
        int error = got > 0 ? take_control(look) : got ? (int)got : -EPROTO;
        if (error)
            return error;
        add_message(look, (size_t)got, to);
        seen += (size_t)got;
    }
    return to->error;
}

/* A message is not looked at where an error waits: that would be told to us. */
static int error_waits(int handle)
{
    struct pollfd state = { .fd = handle };
    return poll(&state, 1, 0) == 1 && state.revents & POLLERR;
}

static int flag_of(int handle, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(handle, SOL_SOCKET, name, &value, &length) ? 0 : value;
}

int unix_peek(struct saving *saving, const struct descriptor *descriptor, int handle, int type, int is_ended,
              struct buffer *to, uint32_t *ret_count)
{
    struct look look = { .saving = saving, .descriptor = descriptor, .handle = handle, .type = type };
    int waiting = 0, offset = -1, error;
    socklen_t length = sizeof offset;

    *ret_count = 0;
    if (ioctl(handle, SIOCINQ, &waiting) || (!waiting && (type == SOCK_STREAM || error_waits(handle))))
        return 0;
    if (type != SOCK_STREAM && error_waits(handle))
        return refuse(saving, "R-SOCKET",
                      "descriptor %d is a unix socket with messages and an error that it has not been told of",
                      descriptor->number);
    if (type != SOCK_STREAM && !has_been_emptied(&look, waiting, is_ended))
        return refuse(saving, "R-SOCKET",
                      "descriptor %d is a unix socket in which an empty message may wait that was in the image before",
                      descriptor->number);
    getsockopt(handle, SOL_SOCKET, SO_PEEK_OFF, &offset, &length);
    error = make_room(&look, (size_t)waiting + PAGE_BYTES);
    if (!error && (type != SOCK_STREAM || offset >= 0 || flag_of(handle, SO_PASSCRED)))
        error = set_offset(handle, 0);
    if (!error)
        error = type == SOCK_STREAM ? look_at_stream(&look, (size_t)waiting, to, ret_count)
                                    : look_at_messages(&look, (size_t)waiting, is_ended, to, ret_count);
    set_offset(handle, offset);
    free(look.bytes);
    return error;
}
