/* SPDX-License-Identifier: MIT */
/* All unix sockets of the network namespace, as unix_diag tells of them: read once while the program is stopped. */
#include "unix_table.h"

#include <errno.h>
#include <linux/unix_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sock_diag.h"

struct unix_table {
    struct unix_entry *entries;
    size_t count, room;
    int error;
};

static const void *attribute(const struct nlmsghdr *message, unsigned short type, size_t least, size_t *ret_length)
{
    const void *value = sock_diag_attribute(message, sizeof(struct unix_diag_msg), type, ret_length);
    return value && *ret_length >= least ? value : NULL;
}

static void take_name(const struct nlmsghdr *message, struct unix_entry *entry)
{
    size_t length;
    const void *name = attribute(message, UNIX_DIAG_NAME, 1, &length);

    if (name && length <= sizeof entry->name.bytes) {
        memcpy(entry->name.bytes, name, length);
        entry->name.length = (uint32_t)length;
    }
}

static int take_waiting(const struct nlmsghdr *message, struct unix_entry *entry)
{
    size_t length;
    const void *inodes = attribute(message, UNIX_DIAG_ICONS, sizeof(uint32_t), &length);

    if (!inodes)
        return 0;
    entry->waiting = malloc(length);
    if (!entry->waiting)
        return -ENOMEM;
    memcpy(entry->waiting, inodes, length);
    entry->waiting_count = (uint32_t)(length / sizeof *entry->waiting);
    return 0;
}

static struct unix_entry *next_entry(struct unix_table *table)
{
    if (table->count == table->room) {
        size_t room = table->room ? table->room * 2 : 256;
        struct unix_entry *entries = realloc(table->entries, room * sizeof *entries);
        if (!entries)
            return NULL;
        table->entries = entries;
        table->room = room;
    }
    return memset(&table->entries[table->count++], 0, sizeof *table->entries);
}

static int take_entry(void *context, const struct nlmsghdr *message)
{
    const struct unix_diag_msg *head = NLMSG_DATA(message);
    struct unix_entry *entry = next_entry(context);
    size_t length;
    const uint32_t *words;
    const uint8_t *shutdown;

    if (!entry)
        return -ENOMEM;
    entry->inode = head->udiag_ino;
    entry->type = head->udiag_type;
    entry->state = head->udiag_state;
    take_name(message, entry);
    if ((shutdown = attribute(message, UNIX_DIAG_SHUTDOWN, 1, &length)))
        entry->shutdown = *shutdown;
    if ((words = attribute(message, UNIX_DIAG_PEER, sizeof *words, &length))) {
        entry->has_peer = 1;
        entry->peer = words[0];
    }
    if ((words = attribute(message, UNIX_DIAG_VFS, 2 * sizeof *words, &length))) {
        entry->has_file = 1;
        entry->file_inode = words[0];
        entry->file_device = words[1];
    }
    if ((words = attribute(message, UNIX_DIAG_RQLEN, 2 * sizeof *words, &length)))
        entry->backlog = words[1];
    return take_waiting(message, entry);
}

static int by_inode(const void *a, const void *b)
{
    const struct unix_entry *one = a, *other = b;
    return one->inode < other->inode ? -1 : one->inode > other->inode;
}

static void read_table(struct unix_table *table)
{
    struct unix_diag_req request = { .sdiag_family = AF_UNIX,
                                     .udiag_states = ~0U,
                                     .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER |
                                                   UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN };

    table->error = sock_diag_dump(&request, sizeof request, take_entry, table);
    qsort(table->entries, table->count, sizeof *table->entries, by_inode);
}

static struct unix_table *table_of(const struct saving *saving)
{
    struct saving *first = saving->first;

    if (!first->unix_sockets && (first->unix_sockets = calloc(1, sizeof *first->unix_sockets)))
        read_table(first->unix_sockets);
    return first->unix_sockets;
}

int unix_find(const struct saving *saving, uint64_t inode, const struct unix_entry **ret_entry)
{
    const struct unix_table *table = table_of(saving);
    struct unix_entry wanted = { .inode = inode };

    if (!table || table->error)
        return table ? table->error : -ENOMEM;
    *ret_entry = bsearch(&wanted, table->entries, table->count, sizeof *table->entries, by_inode);
    return *ret_entry ? 0 : -ENOENT;
}

uint64_t unix_listener_of(const struct saving *saving, uint64_t inode)
{
    const struct unix_table *table = table_of(saving);

    for (size_t i = 0; table && i < table->count; i++)
        for (uint32_t w = 0; w < table->entries[i].waiting_count; w++)
            if (table->entries[i].waiting[w] == inode)
                return table->entries[i].inode;
    return 0;
}

void unix_forget(struct saving *saving)
{
    struct unix_table *table = saving->unix_sockets;

    for (size_t i = 0; table && i < table->count; i++)
        free(table->entries[i].waiting);
    if (table)
        free(table->entries);
    free(table);
    saving->unix_sockets = NULL;
}
