/* SPDX-License-Identifier: MIT */
/* memfds SECONDS: memory files in every state: open several times, mapped shared and private, closed but still mapped,
 * sealed, sparse, executable or not. Everything is looked at and changed at every tick. */
#include "guest.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum { PAGES = 5, SPARSE = 1000, SIZE = 4 * GUEST_PAGE + 100 };

static int first, second, shared_number, for_reading, not_mapped, sealed, future, only_read, not_executable;
static char *one, *other, *private, *closed, *closed_too, *future_map, *sealed_map, *large;
static char before[8], private_before[8];

static int make(const char *name, unsigned flags)
{
    int fd = memfd_create(name, flags);

    if (fd < 0)
        bad("memfd_create %s: %s", name, strerror(errno));
    return fd;
}

static int again(int fd, int flags)
{
    char path[64];
    int got;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    got = open(path, flags);
    if (got < 0)
        bad("open again: %s", strerror(errno));
    return got;
}

static void begin_open(void)
{
    first = make("a name", 0);
    if (ftruncate(first, SIZE) || pwrite(first, "begin", 5, 0) != 5 || pwrite(first, "end", 3, SIZE - 3) != 3 ||
        lseek(first, 11, SEEK_SET) != 11)
        bad("memfd: %s", strerror(errno));
    second = again(first, O_RDWR | O_APPEND);
    for_reading = again(first, O_RDONLY | O_CLOEXEC);
    lseek(for_reading, 33, SEEK_SET);
    shared_number = dup(first);
    one = map_of(first, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    other = map_of(for_reading, GUEST_PAGE, PROT_READ, MAP_SHARED, GUEST_PAGE);
    private = map_of(first, 2 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    memcpy(private + GUEST_PAGE, "private", 8);
    not_mapped = make("not mapped", MFD_CLOEXEC);
    fchmod(not_mapped, 0640);
    if (ftruncate(not_mapped, SPARSE * GUEST_PAGE) || pwrite(not_mapped, "far", 3, 900L * GUEST_PAGE + 7) != 3)
        bad("sparse memfd: %s", strerror(errno));
}

static void begin_closed(void)
{
    int fd = make("closed", 0);

    ftruncate(fd, 3 * GUEST_PAGE);
    closed = map_of(fd, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0); /* its last page is behind the end */
    closed_too = map_of(fd, GUEST_PAGE, PROT_READ, MAP_SHARED, 2 * GUEST_PAGE);
    memcpy(closed + 2 * GUEST_PAGE, "third", 6);
    close(fd);
    fd = make("large", 0);
    ftruncate(fd, 4 << 20);
    large = map_of(fd, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    close(fd);
    for (int i = 0; i < 1024; i += 3)
        *(uint64_t *)(large + i * GUEST_PAGE) = mix((uint64_t)i);
}

static void begin_sealed(void)
{
    sealed = make("sealed", MFD_ALLOW_SEALING);
    if (write(sealed, "sealed", 6) != 6 || fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW))
        bad("seal: %s", strerror(errno));
    sealed_map = map_of(again(sealed, O_RDONLY), GUEST_PAGE, PROT_READ, MAP_SHARED, 0);
    future = make("future", MFD_ALLOW_SEALING);
    ftruncate(future, GUEST_PAGE);
    future_map = map_of(future, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    if (fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))
        bad("seal the future: %s", strerror(errno));
    not_executable = memfd_create("not executable", 8 /* MFD_NOEXEC_SEAL */);
    only_read = make("", 0);
}

static const char *link_of(int fd)
{
    static char target[256];
    char path[64];
    ssize_t length;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
    return target;
}

static void must_be(int right, const char *what)
{
    if (!right)
        bad("%s", what);
}

static int seals_are(int fd, int seals)
{
    return fcntl(fd, F_GET_SEALS) == seals;
}

static void look_open(void)
{
    struct stat status, same;
    char got[8] = "";

    must_be(!fstat(first, &status) && status.st_size == SIZE && !fstat(second, &same) && same.st_ino == status.st_ino,
            "size, or another file");
    must_be(lseek(first, 0, SEEK_CUR) == 11 && lseek(shared_number, 0, SEEK_CUR) == 11 &&
                lseek(for_reading, 0, SEEK_CUR) == 33,
            "positions");
    must_be(lseek(shared_number, 1, SEEK_CUR) == 12 && lseek(first, -1, SEEK_CUR) == 11, "a shared position");
    must_be(fcntl(second, F_GETFL) & O_APPEND && (fcntl(for_reading, F_GETFL) & O_ACCMODE) == O_RDONLY, "flags");
    must_be(fcntl(for_reading, F_GETFD) == FD_CLOEXEC && !fcntl(first, F_GETFD), "close-on-exec");
    must_be(!strcmp(link_of(first), "/memfd:a name (deleted)"), "name");
    must_be(pread(first, got, 3, SIZE - 3) == 3 && !memcmp(got, "end", 3), "content");
    must_be(!fstat(not_mapped, &status) && status.st_size == SPARSE * GUEST_PAGE && status.st_blocks < 100 &&
                (status.st_mode & 0777) == 0640,
            "a sparse memfd");
    must_be(pread(not_mapped, got, 3, 900L * GUEST_PAGE + 7) == 3 && !memcmp(got, "far", 3),
            "content of a sparse memfd");
    must_be(!memcmp(one, before, sizeof before) && !memcmp(private, private_before, sizeof private_before),
            "what is mapped");
    must_be(!strcmp(private + GUEST_PAGE, "private"), "a private page");
    must_be(mprotect(other, GUEST_PAGE, PROT_READ | PROT_WRITE) == -1, "a mapping for reading becomes writable");
}

static void look_closed(void)
{
    int pipes[2];

    must_be(!strcmp(closed + 2 * GUEST_PAGE, "third"), "mapped and closed");
    closed[2 * GUEST_PAGE + 10]++;
    must_be(closed[2 * GUEST_PAGE + 10] == closed_too[10], "two mappings of a closed one");
    must_be(!pipe(pipes) && write(pipes[1], closed + 3 * GUEST_PAGE, 1) == -1 && errno == EFAULT,
            "a page behind the end");
    close(pipes[0]);
    close(pipes[1]);
    for (int i = 0; i < 1024; i++)
        must_be(*(uint64_t *)(large + i * GUEST_PAGE) == (i % 3 ? 0 : mix((uint64_t)i)), "a large one");
}

static void look_sealed(void)
{
    must_be(seals_are(sealed, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) && write(sealed, "x", 1) == -1 &&
                errno == EPERM,
            "a sealed one");
    must_be(!strcmp(sealed_map, "sealed"), "a sealed one, mapped");
    must_be(seals_are(future, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) && write(future, "x", 1) == -1,
            "the future write seal");
    future_map[1]++;
    must_be(mmap(NULL, GUEST_PAGE, PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED,
            "a sealed one is mapped for writing");
    must_be(not_executable < 0 || (seals_are(not_executable, 0x20) && fchmod(not_executable, 0777) == -1),
            "one that is not executable");
    must_be(seals_are(only_read, F_SEAL_SEAL) && !strcmp(link_of(only_read), "/memfd: (deleted)"),
            "one without a name");
}

static void change(long tick)
{
    char got[sizeof before];

    snprintf(one, 8, "%06ld", tick % 1000000);
    must_be(pread(second, got, sizeof got, 0) == sizeof got && !strcmp(got, one),
            "a write to memory is not in the file");
    one[GUEST_PAGE] = (char)tick;
    must_be(other[0] == (char)tick, "two mappings");
    snprintf(private, 8, "%06ld", (tick * 7) % 1000000);
    memcpy(before, one, sizeof before);
    memcpy(private_before, private, sizeof private_before);
}

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 1);

    begin_open();
    begin_closed();
    begin_sealed();
    memcpy(before, one, sizeof before);
    memcpy(private_before, private, sizeof private_before);
    ready();
    for (long tick = 0; tick < ticks || is_held(); tick++) {
        look_open();
        look_closed();
        look_sealed();
        change(tick);
        tick_sleep();
    }
    puts("OK memfds");
    return 0;
}
