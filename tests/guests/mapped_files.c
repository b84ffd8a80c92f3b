/* SPDX-License-Identifier: MIT */
/* mapped_files SECONDS [deleted]: files that are written to by writing to memory; or such files that are deleted. Each has the number of the
 * tick in it, by the mapping only, and must have that of the last tick at the next. */
#include "guest.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum { SIZE = 6 * GUEST_PAGE + 50, FILES = 3 };

static struct file {
    const char *name;
    int keep_open;
    int fd;
    char *bytes, *other, *reading, *private;
} files[FILES] = { { "mapped-open", 1, -1, NULL, NULL, NULL, NULL },
                   { "mapped-closed", 0, -1, NULL, NULL, NULL, NULL },
                   { "mapped-private", 0, -1, NULL, NULL, NULL, NULL } };
static int deleted;

static void begin(struct file *file)
{
    file->fd = open(file->name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file->fd < 0 || ftruncate(file->fd, SIZE) || pwrite(file->fd, "middle", 6, 3 * GUEST_PAGE) != 6)
        bad("%s: %s", file->name, strerror(errno));
    file->bytes = map_of(file->fd, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    file->other = map_of(file->fd, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 5 * GUEST_PAGE);
    file->reading = map_of(file->fd, GUEST_PAGE, PROT_READ, MAP_SHARED, 5 * GUEST_PAGE);
    if (!strcmp(file->name, "mapped-private")) {
        file->private = map_of(file->fd, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
        strcpy(file->private, "own");
    }
    if (deleted && unlink(file->name))
        bad("unlink: %s", strerror(errno));
    if (!file->keep_open)
        close(file->fd);
}

static long last(const struct file *file, int fd)
{
    long in_file;
    struct stat status;

    if (fstat(fd, &status) || status.st_size != SIZE || pread(fd, &in_file, sizeof in_file, 5 * GUEST_PAGE + 8) != sizeof in_file)
        bad("%s: its size is %ld", file->name, (long)status.st_size);
    return in_file;
}

static void look(struct file *file, long tick)
{
    long in_memory = *(long *)(file->bytes + 5 * GUEST_PAGE + 8);
    int fd = deleted ? -1 : open(file->name, O_RDONLY | O_CLOEXEC);

    if (in_memory != tick || *(long *)(file->other + 8) != tick || *(long *)(file->reading + 8) != tick)
        bad("%s: %ld in memory instead of %ld", file->name, in_memory, tick);
    if (!deleted && (fd < 0 || last(file, fd) != tick))
        bad("%s: not in the file", file->name);
    if (file->keep_open && last(file, file->fd) != tick)
        bad("%s: not in the file that is open", file->name);
    if (memcmp(file->bytes + 3 * GUEST_PAGE, "middle", 6) || (file->private && strcmp(file->private, "own")))
        bad("%s: other content", file->name);
    if (file->private && !deleted && *(long *)(file->private + 5 * GUEST_PAGE + 8) != tick)
        bad("%s: what is private does not follow the file", file->name);
    close(fd);
    (*(long *)(file->other + 8))++;
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 1);

    deleted = count > 2;
    for (int i = 0; i < FILES; i++)
        begin(&files[i]);
    ready();
    for (long tick = 0; tick < ticks || is_held(); tick++) {
        for (int i = 0; i < FILES; i++)
            look(&files[i], tick);
        tick_sleep();
    }
    puts("OK mapped_files");
    return 0;
}
