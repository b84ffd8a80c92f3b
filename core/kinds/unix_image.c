/* SPDX-License-Identifier: MIT */
/* Records of unix sockets: taken apart, checked before a restart, shown. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../floor/text.h"
#include "sockets.h"
#include "unix_format.h"

static void take_name(struct reader *reader, struct unix_name *name)
{
    memset(name, 0, sizeof *name);
    reader_take(reader, &name->length, sizeof name->length);
    if (name->length > sizeof name->bytes)
        reader->error = -EBADMSG;
    if (!reader->error)
        reader_take(reader, name->bytes, name->length);
}

int unix_next_message(struct reader *messages, struct unix_message_record *ret_message, struct unix_name *ret_sender,
                      const void **ret_bytes)
{
    reader_take(messages, ret_message, sizeof *ret_message);
    take_name(messages, ret_sender);
    *ret_bytes = reader_view(messages, ret_message->length);
    return messages->error;
}

static int is_sound(const struct unix_state_record *state)
{
    return (state->type == SOCK_STREAM || state->type == SOCK_DGRAM || state->type == SOCK_SEQPACKET) &&
           state->state >= UNIX_FREE && state->state <= UNIX_CONNECTED && state->end <= END_OUTSIDE &&
           state->shutdown <= 3;
}

int unix_parse(const struct restoring *restoring, struct reader *reader, struct unix_socket *parsed)
{
    struct unix_message_record message;
    struct unix_name sender;
    const void *bytes;
    int error;

    memset(parsed, 0, sizeof *parsed);
    parsed->fd = parsed->other_end = -1;
    if (reader_take(reader, &parsed->record, sizeof parsed->record) || !parsed->record.whole)
        return reader->error;
    reader_take(reader, &parsed->state, sizeof parsed->state);
    take_name(reader, &parsed->name);
    take_name(reader, &parsed->other_name);
    parsed->file = reader_text(reader);
    if (restoring && parsed->file)
        parsed->file = path_now(restoring, parsed->file);
    if (reader->error || !parsed->file || !is_sound(&parsed->state))
        return reader->error ? reader->error : parsed->file ? -EBADMSG : -ENOMEM;
    parsed->options = *reader;
    if ((error = socket_options_pass(socket_options, reader)) ||
        (error = socket_options_pass(socket_late_options, reader)))
        return error;
    parsed->waiting = reader_view(reader, (size_t)parsed->state.waiting_count * sizeof(uint64_t));
    parsed->messages = *reader;
    for (uint32_t i = 0; !reader->error && i < parsed->state.message_count; i++)
        unix_next_message(reader, &message, &sender, &bytes);
    return reader_end(reader);
}

/* Connecting to a socket of another type tells whether somebody has it, and disturbs nobody: a datagram socket only
 * notes the address. */
static int is_in_use(const char *bytes, size_t length)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd, used;

    if (length > sizeof address.sun_path)
        return 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, bytes, length);
    used = fd >= 0 &&
           (!connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) ||
            errno == EPROTOTYPE || errno == EPERM);
    if (fd >= 0)
        close(fd);
    return used;
}

static void check_file(struct restoring *restoring, const struct unix_socket *is)
{
    int number = is->record.descriptor.number;
    char *directory = strdup(is->file);
    struct stat status;

    if (directory)
        strrchr(directory, '/')[directory == strrchr(directory, '/')] = 0;
    if (text_starts(is->file, "/dev/shm/"))
        ; /* which is a new one, see restorer/keeper.c */
    else if (!directory || access(directory, W_OK | X_OK))
        missing(restoring, "R-SOCKET-PATH: %s: the unix socket of descriptor %d cannot be made there: %s", is->file,
                number, strerror(errno));
    else if (lstat(is->file, &status))
        ;
    else if (!S_ISSOCK(status.st_mode) || (status.st_uid != geteuid() && geteuid()))
        missing(restoring, "R-SOCKET-PATH: %s: something else is where the unix socket of descriptor %d was", is->file,
                number);
    else if (is_in_use(is->file, strlen(is->file) + 1))
        missing(restoring, "R-SOCKET-IN-USE: %s: a living program has the unix socket that descriptor %d was", is->file,
                number);
    free(directory);
}

static void show_name(const struct unix_name *name, char *to, size_t size)
{
    size_t at = 0;

    for (uint32_t i = 0; i < name->length && at + 2 < size; i++)
        if (name->bytes[i] || i == 0)
            to[at++] = name->bytes[i] ? name->bytes[i] : '@';
    to[at] = 0;
}

static int largest_backlog(void)
{
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
    int largest = -1;

    if (file && fscanf(file, "%d", &largest) != 1)
        largest = -1;
    if (file)
        fclose(file);
    return largest;
}

static void check_state(struct restoring *restoring, const struct unix_socket *is)
{
    int number = is->record.descriptor.number;
    char name[128], other[128];

    show_name(&is->name, name, sizeof name);
    show_name(&is->other_name, other, sizeof other);
    if (*is->file)
        check_file(restoring, is);
    else if (is->name.length && !is->name.bytes[0] && is_in_use(is->name.bytes, is->name.length))
        missing(restoring, "R-SOCKET-IN-USE: %s: a living program has the abstract address that descriptor %d had",
                name, number);
    if (is->state.end == END_OUTSIDE && is->state.type == SOCK_DGRAM && unix_name_is_for_all(&is->other_name) &&
        is_in_use(is->other_name.bytes, is->other_name.length))
        return; /* messages go there again */
    if (is->state.end == END_OUTSIDE)
        adapted(restoring, "R-SOCKET-OUTSIDE",
                "descriptor %d, a unix socket that was connected to another program%s%s, is cut off", number,
                *other ? " at " : "", other);
    if (is->state.state == UNIX_LISTENS && largest_backlog() >= 0 && is->state.backlog > (uint32_t)largest_backlog())
        missing(restoring,
                "R-SOCKET-OPTION: the backlog of descriptor %d, a socket, was %u; net.core.somaxconn is lower here",
                number, is->state.backlog);
}

/* Made by others, or with names in scratch directories: see unix_actor.c. */
static void check_needs(struct restoring *restoring, const struct unix_socket *is)
{
    struct reader messages = is->messages;
    struct unix_message_record message;
    struct unix_name sender;
    const void *bytes;
    int needs = is->name.length || is->other_name.length || (is->state.pid && is->state.pid != restoring->pid);

    for (uint32_t i = 0; !needs && i < is->state.message_count && !unix_next_message(&messages, &message, &sender, &bytes); i++)
        needs = sender.length || (message.pid && message.pid != restoring->pid);
    if (needs)
        needs_bubble(restoring, "unix sockets with names, or with what other processes have made or sent");
}

int unix_check(struct restoring *restoring, struct reader *reader)
{
    struct unix_socket is;
    int error = unix_parse(restoring, reader, &is);

    if (!error && is.record.whole) {
        check_state(restoring, &is);
        check_needs(restoring, &is);
        socket_options_check(restoring, socket_options, &is.options, AF_UNIX, (int)is.state.type, 0,
                             is.record.descriptor.number);
        socket_options_check(restoring, socket_late_options, &is.options, AF_UNIX, (int)is.state.type, 0,
                             is.record.descriptor.number);
    }
    free(is.file);
    return error;
}

static const char *type_word(uint32_t type)
{
    return type == SOCK_STREAM ? "stream" : type == SOCK_DGRAM ? "datagram" : "packet";
}

static const char *state_words(const struct unix_state_record *state)
{
    static const char *const connected[] = { "", "connected in the program", "not accepted yet",
                                             "the other end is closed", "connected to another program" };
    return state->state == UNIX_LISTENS ? "listens" : connected[state->end];
}

void unix_show(struct reader *reader, FILE *out)
{
    struct unix_socket is;
    char name[128], what[384];

    if (!unix_parse(NULL, reader, &is)) {
        show_name(&is.name, name, sizeof name);
        if (is.record.whole)
            snprintf(what, sizeof what, "unix %s socket %" PRIu64 "%s%s%s%s, %u messages in it",
                     type_word(is.state.type), is.record.socket, *name ? ", " : "", name,
                     *state_words(&is.state) ? ", " : "", state_words(&is.state), is.state.message_count);
        else
            snprintf(what, sizeof what, "unix socket %" PRIu64, is.record.socket);
        descriptor_show(&is.record.descriptor, what, out);
    }
    free(is.file);
}
