/* SPDX-License-Identifier: MIT */
/* Unix sockets. Those that are connected with one another, or listen, come back as they were, with the bytes in flight;
 * the other end outside of the program is gone at a restart. This is the saver's side; unix_make.c is the other. */
#include <dirent.h>
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sockets.h"
#include "unix_table.h"

static int unix_claim(const struct saving *saving, const struct descriptor *descriptor)
{
    (void)saving;
    return socket_family(descriptor) == AF_UNIX;
}

static int is_inside(const struct saving *saving, uint64_t inode)
{
    return inode && socket_first(saving, inode);
}

/* Which end a socket's connection has; of END_INSIDE and END_WAITING the inode. A closed end, and one that is not
 * accepted yet, have no inode; only the first has shut down both directions. */
static enum unix_end find_end(const struct saving *saving, const struct unix_entry *entry, uint64_t *ret_other)
{
    *ret_other = 0;
    if (!entry->has_peer)
        return END_NONE;
    if (entry->peer) {
        *ret_other = entry->peer;
        return is_inside(saving, entry->peer) ? END_INSIDE : END_OUTSIDE;
    }
    if (entry->type == SOCK_DGRAM)
        return END_CLOSED;
    *ret_other = unix_listener_of(saving, entry->inode);
    if (*ret_other)
        return is_inside(saving, *ret_other) ? END_WAITING : END_OUTSIDE;
    return entry->shutdown == 3 ? END_CLOSED : END_OUTSIDE;
}

int unix_stays_inside(const struct descriptor *descriptor)
{
    const struct unix_entry *entry;
    uint64_t other;

    if (socket_family(descriptor) != AF_UNIX || unix_find(descriptor->holder, descriptor->status.st_ino, &entry))
        return 0;
    enum unix_end end = find_end(descriptor->holder, entry, &other);
    return end != END_OUTSIDE && end != END_CLOSED;
}

static int is_its_file(const char *path, const struct unix_entry *entry)
{
    struct stat status;

    return !lstat(path, &status) && S_ISSOCK(status.st_mode) && status.st_ino == entry->file_inode &&
           (major(status.st_dev) << 20 | minor(status.st_dev)) == entry->file_device;
}

/* Renamed in its directory? The kernel tells nobody but an administrator the path of a socket's file. */
static int find_beside(char *path, size_t size, const struct unix_entry *entry)
{
    char *name = strrchr(path, '/') + 1;
    size_t room = size - (size_t)(name - path);
    struct dirent *each;
    DIR *directory;
    int found = 0;

    *name = 0;
    directory = opendir(path);
    while (directory && !found && (each = readdir(directory)))
        if (each->d_ino == entry->file_inode && strlen(each->d_name) < room) {
            strcpy(name, each->d_name);
            found = is_its_file(path, entry);
        }
    if (directory)
        closedir(directory);
    return found;
}

/* The path of its file into `path`; "" when that has been deleted. 0 or -ENOTSUP. */
static int find_file(struct saving *saving, const struct descriptor *descriptor, const struct unix_entry *entry,
                     char *path, size_t size)
{
    char *directory = NULL;

    *path = 0;
    if (!entry->has_file || !unix_name_is_path(&entry->name) || (entry->has_peer && entry->type != SOCK_DGRAM))
        return 0; /* an accepted socket has the listener's name, but nobody comes to it by that */
    if (entry->name.bytes[0] != '/' && !(directory = proc_link(saving->view, "cwd")))
        return -errno;
    snprintf(path, size, "%s%s%.*s", directory ? directory : "", directory ? "/" : "", (int)entry->name.length,
             entry->name.bytes);
    free(directory);
    if (is_its_file(path, entry) || find_beside(path, size, entry))
        return 0;
    *path = 0;
    return entry->name.bytes[0] == '/'
               ? 0
               : refuse(saving, "R-SOCKET-PATH",
                        "descriptor %d is a unix socket bound to '%.*s', which is not there from the working directory",
                        descriptor->number, (int)entry->name.length, entry->name.bytes);
}

static short events_of(int handle)
{
    struct pollfd state = { .fd = handle, .events = POLLPRI };
    return poll(&state, 1, 0) == 1 ? state.revents : 0;
}

/* Who made the other end: a restart can be any process of the program, but no other user, and not PID 1. */
static int take_peer(struct saving *saving, const struct descriptor *descriptor, int handle,
                     struct unix_state_record *state)
{
    struct ucred peer = { 0 };
    socklen_t length = sizeof peer;

    if (getsockopt(handle, SOL_SOCKET, SO_PEERCRED, &peer, &length))
        return -errno;
    if (state->end == END_OUTSIDE || (!peer.pid && peer.uid == (uid_t)-1))
        return 0;
    state->pid = peer.pid;
    return peer.uid == geteuid() && peer.gid == getegid() && peer.pid > 1
               ? 0
               : refuse(saving, "R-SOCKET", "descriptor %d is a unix socket made by another user, or by process %d",
                        descriptor->number, (int)peer.pid);
}

/* What was sent into a connection that is not accepted yet can be seen by nobody. */
static int refuse_backlog(struct saving *saving, const struct descriptor *descriptor)
{
    return refuse(saving, "R-SOCKET-BACKLOG",
                  "descriptor %d is a unix socket, and bytes wait in a connection that nobody has accepted",
                  descriptor->number);
}

/* Connections from outside that nobody has accepted are gone with their other ends. */
static int take_waiting(struct saving *saving, const struct descriptor *descriptor, const struct unix_entry *entry,
                        struct unix_state_record *state, struct buffer *to)
{
    for (uint32_t i = 0; i < entry->waiting_count; i++) {
        uint64_t inode = entry->waiting[i];
        if (!inode)
            return refuse_backlog(saving, descriptor);
        if (!is_inside(saving, inode))
            continue;
        buffer_add(to, &inode, sizeof inode);
        state->waiting_count++;
    }
    return 0;
}

/* Connected to a socket without a name that is connected to another by now: no calls lead there. */
static int is_left_alone(const struct saving *saving, const struct unix_entry *entry,
                         const struct unix_state_record *state)
{
    const struct unix_entry *other;

    return state->end == END_INSIDE && !unix_find(saving, entry->peer, &other) && !other->name.length &&
           other->peer != entry->inode;
}

static int take_state(struct saving *saving, const struct descriptor *descriptor, const struct unix_entry *entry,
                      int handle, struct unix_state_record *state)
{
    short events = events_of(handle);
    int unread = 0;

    state->type = entry->type;
    state->state = entry->state == DIAG_LISTEN ? UNIX_LISTENS : entry->has_peer ? UNIX_CONNECTED : UNIX_FREE;
    state->end = find_end(saving, entry, &state->other);
    state->shutdown = entry->shutdown;
    state->backlog = entry->backlog;
    state->unread = ioctl(handle, SIOCOUTQ, &unread) ? 0 : (uint32_t)unread;
    state->reset = !!(events & POLLERR);
    state->holder = saving->pid;
    if (entry->type == SOCK_DGRAM && (state->reset || is_left_alone(saving, entry, state)))
        return refuse(saving, "R-SOCKET", "descriptor %d is a unix datagram socket %s", descriptor->number,
                      state->reset ? "with an error that it has not been told of"
                                   : "whose other end has turned to another");
    if (events & POLLPRI)
        return refuse(saving, "R-SOCKET", "descriptor %d is a unix socket with a byte out of band", descriptor->number);
    if (state->end == END_WAITING && unread)
        return refuse_backlog(saving, descriptor);
    return take_peer(saving, descriptor, handle, state);
}

static void add_name(struct buffer *to, const struct unix_name *name)
{
    buffer_add(to, &name->length, sizeof name->length);
    buffer_add(to, name->bytes, name->length);
}

static void add_peer_name(struct buffer *to, int handle)
{
    struct sockaddr_un address;
    socklen_t length = sizeof address, begin = offsetof(struct sockaddr_un, sun_path);
    struct unix_name name = { 0 };

    if (!getpeername(handle, (struct sockaddr *)&address, &length) && length > begin && length <= sizeof address) {
        name.length = length - begin;
        memcpy(name.bytes, address.sun_path, name.length);
    }
    add_name(to, &name);
}

static int save_whole(struct saving *saving, const struct descriptor *descriptor, struct buffer *to)
{
    struct unix_state_record state = { 0 };
    struct buffer waiting = { 0 }, messages = { 0 }, options = { 0 };
    const struct unix_entry *entry;
    char path[MAX_PATH];
    struct stat status = { 0 };
    int handle = handle_of(descriptor),
        error = handle < 0 ? handle : unix_find(saving, descriptor->status.st_ino, &entry);

    if (handle >= 0 && error == -ENOENT)
        return refuse(saving, "R-SOCKET",
                      "descriptor %d is a unix socket of which this kernel, or this network namespace, does not tell",
                      descriptor->number);
    if (error || (error = take_state(saving, descriptor, entry, handle, &state)) ||
        (error = find_file(saving, descriptor, entry, path, sizeof path)) ||
        (error = socket_options_save(saving, descriptor, handle, socket_options, &options)) ||
        (error = socket_options_save(saving, descriptor, handle, socket_late_options, &options)) ||
        (error = take_waiting(saving, descriptor, entry, &state, &waiting)) ||
        (error = state.state != UNIX_CONNECTED && entry->type != SOCK_DGRAM
                     ? 0
                     : unix_peek(saving, descriptor, handle, entry->type, state.shutdown & 1, &messages,
                                 &state.message_count)))
        goto out;
    if (*path && !lstat(path, &status))
        state.file_mode = status.st_mode & 07777;
    buffer_add(to, &state, sizeof state);
    add_name(to, &entry->name);
    add_peer_name(to, handle);
    buffer_add_text(to, path);
    buffer_add(to, options.bytes, options.length);
    buffer_add(to, waiting.bytes, waiting.length);
    buffer_add(to, messages.bytes, messages.length);
    error = waiting.error ? waiting.error : to->error;
out:
    buffer_free(&waiting);
    buffer_free(&messages);
    buffer_free(&options);
    return error;
}

static int unix_save(struct saving *saving, const struct descriptor *descriptor)
{
    struct unix_record record = { .socket = descriptor->status.st_ino,
                                  .whole = (uint32_t)is_first_of_socket(saving, descriptor) };
    struct buffer payload = { 0 };
    int error = 0;

    descriptor_describe(descriptor, &record.descriptor);
    buffer_add(&payload, &record, sizeof record);
    if (record.whole)
        error = save_whole(saving, descriptor, &payload);
    if (!error)
        error = image_write_record(saving->writer, TAG_UNIX_SOCKET, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

const struct kind kind_unix_sockets = {
    .name = "unix socket",
    .tag = TAG_UNIX_SOCKET,
    .claim = unix_claim,
    .save = unix_save,
    .check = unix_check,
    .make = unix_make,
    .open = unix_open,
    .show = unix_show,
};
