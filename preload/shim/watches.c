/* SPDX-License-Identifier: MIT */
/* The paths that the program watches with inotify: the kernel tells an inode, and what leads to it is needed to watch it again. A
 * table in memory of its own, which the saver gets as it is; see struct agent_watches. Island: no libc. */
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../../core/floor/syscalls.h"
#include "../../core/floor/text.h"
#include "shim.h"

enum { FIRST_ROOM = 65536 };

static struct agent_watches *table NEAR_THE_SHIM;
static uint64_t room;
static uint32_t locked NEAR_THE_SHIM;

static struct agent_watch *entry_at(struct agent_watches *of, uint32_t offset)
{
    return (struct agent_watch *)((uint8_t *)of + offset);
}

static uint32_t *head_of(struct agent_watches *of, int32_t number, uint64_t inode)
{
    return &of->heads[(inode * 31 + (uint32_t)number) % AGENT_WATCH_HEADS];
}

static struct agent_watches *map(uint64_t bytes)
{
    struct agent_watches *made = sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (sys_mmap_failed(made))
        return NULL;
    made->used = sizeof *made;
    return made;
}

/* There is room for it. */
static void append(struct agent_watches *to, const struct agent_watch *watch, const char *path)
{
    struct agent_watch *entry = entry_at(to, (uint32_t)to->used);
    uint32_t *head = head_of(to, watch->number, watch->inode);

    *entry = *watch;
    __builtin_memcpy(entry->path, path, watch->length + 1);
    entry->next = *head;
    *head = (uint32_t)to->used;
    to->used += agent_watch_bytes(watch->length);
}

static int still_leads_there(const struct agent_watch *watch)
{
    struct stat status;

    return watch->watch && !sys_fstatat(AT_FDCWD, watch->path, &status, AT_SYMLINK_NOFOLLOW) && status.st_dev == watch->device &&
           status.st_ino == watch->inode;
}

/* Into a larger one; without those that are of no use any more. 1 when there is room for so many bytes. */
static int make_room(uint64_t bytes)
{
    struct agent_watches *old = table, *made;
    uint64_t old_room = room, kept = sizeof *table;

    if (table && table->used + bytes <= room)
        return 1;
    for (uint64_t at = sizeof *old; old && at < old->used; at += agent_watch_bytes(entry_at(old, (uint32_t)at)->length)) {
        struct agent_watch *entry = entry_at(old, (uint32_t)at);
        entry->watch = still_leads_there(entry) ? entry->watch : 0;
        kept += entry->watch ? agent_watch_bytes(entry->length) : 0;
    }
    room = !old ? FIRST_ROOM : kept + bytes > old_room / 2 ? 2 * old_room : old_room;
    made = room <= UINT32_MAX ? map(room) : NULL;
    if (!made) {
        room = old_room;
        return 0;
    }
    for (uint64_t at = sizeof *old; old && at < old->used; at += agent_watch_bytes(entry_at(old, (uint32_t)at)->length))
        if (entry_at(old, (uint32_t)at)->watch)
            append(made, entry_at(old, (uint32_t)at), entry_at(old, (uint32_t)at)->path);
    table = made;
    if (old)
        sys_munmap(old, old_room);
    return 1;
}

/* An instance watches an inode once: what was noted of the same pair is of the past. */
static void forget_former(const struct agent_watch *watch, uint32_t *ret_flags)
{
    for (uint32_t at = table ? *head_of(table, watch->number, watch->inode) : 0; at; at = entry_at(table, at)->next) {
        struct agent_watch *entry = entry_at(table, at);
        if (entry->number != watch->number || entry->inode != watch->inode || entry->device != watch->device)
            continue;
        if (entry->watch == watch->watch)
            *ret_flags = entry->flags;
        entry->watch = 0;
    }
}

/* The path as it is without links, and what is there. 0 or -errno. */
static long resolve(const char *path, uint32_t mask, struct agent_watch *watch, char to[MAX_PATH])
{
    char name[32];
    struct stat status;
    long fd = sys_openat(AT_FDCWD, path, O_PATH | O_CLOEXEC | (mask & IN_DONT_FOLLOW ? O_NOFOLLOW : 0), 0), length;

    if (fd < 0)
        return fd;
    text_add_number(name, sizeof name, text_add(name, sizeof name, 0, "/proc/self/fd/"), (uint64_t)fd);
    length = SYS_CALL(readlink, name, to, MAX_PATH - 1, 0, 0, 0);
    if (length >= 0)
        length = SYS_CALL(fstat, fd, &status, 0, 0, 0, 0) ?: length;
    sys_close((int)fd);
    if (length < 0)
        return length;
    to[length] = 0;
    watch->device = status.st_dev;
    watch->inode = status.st_ino;
    watch->length = (uint32_t)length;
    return 0;
}

/* All signals are blocked meanwhile: a stop finds the table whole. */
void watches_note(int number, int id, const char *path, uint32_t mask)
{
    struct agent_watch watch = { .number = number, .watch = id, .flags = mask & (IN_ONESHOT | IN_EXCL_UNLINK) };
    char resolved[MAX_PATH];
    uint32_t flags = 0;
    uint64_t old;

    if ((uint32_t)sys_getpid() != shim.pid || resolve(path, mask, &watch, resolved))
        return; /* not noted, it will be refused by name */
    old = stop_keep_out(&locked);
    forget_former(&watch, &flags);
    if (mask & IN_MASK_ADD)
        watch.flags |= flags;
    if (make_room(agent_watch_bytes(watch.length)))
        append(table, &watch, resolved);
    stop_let_in(&locked, old);
}

void watches_describe(struct agent_page *page)
{
    page->watches = (struct agent_range){ (uint64_t)table, (uint64_t)table + (table ? table->used : 0) };
}

/* In a fork child: another thread may have been in the middle of it. */
void watches_enter_child(void)
{
    if (!locked)
        return;
    table = NULL;
    locked = 0;
}
