/* SPDX-License-Identifier: MIT */
/* openfiles WHAT DIRECTORY: holds files of one hard sort below DIRECTORY, and finds them as they must be at every tick. */
#include "sorts.h"

#include <dirent.h>
#include <dlfcn.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int fds[2048], flags[2048];

static const char *in(const char *name)
{
    static char full[4][4096];
    static int next;

    next = (next + 1) % 4;
    snprintf(full[next], sizeof full[next], "%s/%s", given, name);
    return full[next];
}

static int open_or_end(const char *name, int how)
{
    int fd = open(name, how, 0640);

    if (fd < 0)
        bad("open %s: %s", name, strerror(errno));
    return fd;
}

static int at(int fd, off_t wanted)
{
    return lseek(fd, 0, SEEK_CUR) == wanted;
}

static int put(int fd, const char *text)
{
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* A file of `pages` pages, each full of its number. */
static int make_pages(const char *name, int how, int pages)
{
    char page[GUEST_PAGE];
    int fd = open_or_end(name, how | O_CREAT);

    for (int i = 0; i < pages; i++) {
        memset(page, 'a' + i % 26, sizeof page);
        if (write(fd, page, sizeof page) != sizeof page)
            bad("write: %s", strerror(errno));
    }
    return fd;
}

static int has_pages(int fd, int pages)
{
    char page[GUEST_PAGE];

    for (int i = 0; i < pages; i++)
        if (pread(fd, page, sizeof page, (off_t)i * GUEST_PAGE) != GUEST_PAGE || page[0] != 'a' + i % 26 ||
            memcmp(page, page + 1, GUEST_PAGE - 1))
            return 0;
    return 1;
}

/* ---- flags and offsets ---- */

static const int ways[] = { O_RDONLY, O_WRONLY | O_APPEND, O_RDWR | O_NONBLOCK, O_RDWR | O_SYNC, O_WRONLY | O_DSYNC,
                            O_RDONLY | O_NOATIME, O_RDWR | O_CLOEXEC, O_RDWR | O_APPEND | O_CLOEXEC, O_RDONLY | O_NOFOLLOW };
enum { WAYS = sizeof ways / sizeof ways[0] };

static int make_flags(void)
{
    close(make_pages(in("flags"), O_WRONLY, 8));
    for (int i = 0; i < WAYS; i++) {
        fds[i] = open_or_end(in("flags"), ways[i]);
        lseek(fds[i], 100 * i, SEEK_SET);
        flags[i] = fcntl(fds[i], F_GETFL);
    }
    fds[WAYS] = dup(fds[2]);
    fds[WAYS + 1] = dup3(fds[WAYS], 200, O_CLOEXEC);
    fds[WAYS + 2] = open(in("flags"), O_RDONLY | O_DIRECT); /* not every file system has it */
    flags[WAYS + 2] = fcntl(fds[WAYS + 2], F_GETFL);
    return 1;
}

static int flags_are_there(void)
{
    static off_t step;

    for (int i = 0; i < WAYS; i++)
        if (fcntl(fds[i], F_GETFL) != flags[i] || (i != 2 && !at(fds[i], 100 * i)) ||
            fcntl(fds[i], F_GETFD) != (ways[i] & O_CLOEXEC ? FD_CLOEXEC : 0))
            return 0;
    if (!at(fds[2], 200 + step) || !at(fds[WAYS], 200 + step) || !at(200, 200 + step))
        return 0;
    lseek(step % 2 ? fds[WAYS] : 200, 1, SEEK_CUR);
    step++;
    return fcntl(200, F_GETFD) == FD_CLOEXEC && has_pages(fds[2], 8) &&
           (fds[WAYS + 2] < 0 || fcntl(fds[WAYS + 2], F_GETFL) == flags[WAYS + 2]);
}

/* ---- files without a name ---- */

enum { HOLE = 64 << 20, PAGES = 300 };

static int hold_nameless(int fd)
{
    char name[64];

    fds[0] = fd;
    fds[1] = dup(fd);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    fds[2] = open_or_end(name, O_RDWR | O_APPEND);
    fds[3] = open_or_end(name, O_RDONLY);
    lseek(fds[0], 1000, SEEK_SET);
    lseek(fds[3], 77, SEEK_SET);
    if (pwrite(fds[0], "end", 3, HOLE) != 3 || fchmod(fd, 0604))
        bad("hole: %s", strerror(errno));
    flags[2] = fcntl(fds[2], F_GETFL);
    return 1;
}

static int make_unlinked(void)
{
    int fd = make_pages(in("gone"), O_RDWR, PAGES);

    return !unlink(in("gone")) && hold_nameless(fd);
}

static int make_tmpfile(void)
{
    int fd = open(in("."), O_TMPFILE | O_RDWR, 0600), other = make_pages(in("model"), O_RDWR, PAGES);

    if (fd < 0) /* no such thing on this file system */
        return 0;
    for (int i = 0; i < PAGES; i++) {
        char page[GUEST_PAGE];
        if (pread(other, page, sizeof page, (off_t)i * GUEST_PAGE) != GUEST_PAGE || write(fd, page, sizeof page) != GUEST_PAGE)
            bad("copy");
    }
    close(other);
    return !unlink(in("model")) && hold_nameless(fd);
}

static int nameless_is_there(void)
{
    static off_t size = HOLE + 3;
    struct stat status, others;
    char text[4];

    if (fstat(fds[0], &status) || fstat(fds[3], &others) || status.st_ino != others.st_ino || status.st_size != size ||
        status.st_nlink || (status.st_mode & 07777) != 0604 || status.st_blocks * 512 > HOLE / 8)
        return 0;
    if (!at(fds[0], 1000) || !at(fds[1], 1000) || !at(fds[3], 77) || fcntl(fds[2], F_GETFL) != flags[2])
        return 0;
    if (!has_pages(fds[3], PAGES) || pread(fds[3], text, 4, HOLE - 1) < 4 || memcmp(text, "\0end", 4))
        return 0;
    if (!put(fds[2], "+"))
        return 0;
    return pread(fds[1], text, 2, size++) == 1 && text[0] == '+';
}

/* Private mappings of a file that is gone, one changed, one that is also open. */
static char *mapped, *changed;

static int make_mapped(void)
{
    fds[0] = make_pages(in("mapped"), O_RDWR, 16);
    mapped = mmap(NULL, 16 * GUEST_PAGE, PROT_READ, MAP_PRIVATE, fds[0], 0);
    changed = mmap(NULL, 8 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds[0], 4 * GUEST_PAGE);
    if (mapped == MAP_FAILED || changed == MAP_FAILED)
        return 0;
    strcpy(changed + GUEST_PAGE, "changed");
    return !unlink(in("mapped"));
}

static int mapped_is_there(void)
{
    for (int i = 0; i < 16 * GUEST_PAGE; i++)
        if (mapped[i] != 'a' + i / GUEST_PAGE)
            return 0;
    return !strcmp(changed + GUEST_PAGE, "changed") && changed[0] == 'e' && changed[7 * GUEST_PAGE] == 'l' && has_pages(fds[0], 16);
}

/* A private mapping, changed and with code in it, of a file that can be written and has a hole. */
static int make_code(void)
{
    fds[0] = make_pages(in("code"), O_RDWR, 16);
    if (ftruncate(fds[0], 64 * GUEST_PAGE) || pwrite(fds[0], "end", 3, 63 * GUEST_PAGE) != 3)
        return 0;
    changed = mmap(NULL, 64 * GUEST_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fds[0], 0);
    return changed != MAP_FAILED && strcpy(changed + 20 * GUEST_PAGE, "changed") && strcpy(changed, "beginning");
}

static int code_is_there(void)
{
    char byte = 1;

    return has_pages(fds[0], 16) && pread(fds[0], &byte, 1, 20 * GUEST_PAGE) == 1 && !byte &&
           !strcmp(changed + 20 * GUEST_PAGE, "changed") && !strcmp(changed, "beginning") && !strcmp(changed + 63 * GUEST_PAGE, "end");
}

/* Record locks on a file without a name and on one with a name. */
static int lock(int fd)
{
    struct flock whole = { .l_type = F_WRLCK };

    return !fcntl(fd, F_SETLK, &whole) && put(fd, "locked");
}

static int make_locked(void)
{
    fds[0] = open_or_end(in("gone"), O_RDWR | O_CREAT);
    fds[1] = open_or_end(in("locked"), O_RDWR | O_CREAT);
    return !unlink(in("gone")) && lock(fds[0]) && lock(fds[1]);
}

/* To an open file description a lock of its own process is another's. */
static int locks_are_held(void)
{
    for (int i = 0; i < 2; i++) {
        struct flock held = { .l_type = F_WRLCK };
        if (fcntl(fds[i], F_OFD_GETLK, &held) || held.l_type != F_WRLCK || held.l_pid != getpid() || !at(fds[i], 6))
            return 0;
    }
    return 1;
}

/* ---- names that change ---- */

static off_t written;

static int make_linked(void) /* one of two names is gone */
{
    fds[0] = open_or_end(in("first"), O_RDWR | O_CREAT | O_APPEND);
    return !link(in("first"), in("second")) && !unlink(in("first"));
}

static int make_renamed(void)
{
    fds[0] = open_or_end(in("before"), O_RDWR | O_CREAT | O_APPEND);
    return !rename(in("before"), in("second"));
}

/* What is written goes to the file that is now called so. */
static int second_follows(void)
{
    struct stat here, there;

    if (fstat(fds[0], &here) || stat(in("second"), &there) || here.st_ino != there.st_ino || here.st_size != written)
        return 0;
    written++;
    return put(fds[0], "x");
}

static int make_replaced(void)
{
    fds[0] = make_pages(in("name"), O_RDWR, 3);
    close(make_pages(in("new"), O_RDWR, 5));
    return !rename(in("new"), in("name"));
}

static int old_is_there(void)
{
    struct stat here, there;

    return !fstat(fds[0], &here) && !stat(in("name"), &there) && here.st_ino != there.st_ino && here.st_size == 3 * GUEST_PAGE &&
           there.st_size == 5 * GUEST_PAGE && !here.st_nlink && has_pages(fds[0], 3);
}

static const char *const names[] = { "a b", "new\nline", "back\\012slash", " leads and trails ", "name (deleted)",
                                     "gone (deleted)", "tab\tand\033escape", "\xff\xfe" };
enum { NAMES = sizeof names / sizeof names[0] };

static int make_names(void)
{
    for (int i = 0; i < NAMES; i++) {
        fds[i] = make_pages(in(names[i]), O_RDWR, i + 1);
        if (mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE, fds[i], 0) == MAP_FAILED)
            return 0;
    }
    fds[NAMES] = make_pages(in("gone"), O_RDWR, 20); /* gone, and called as one that is there */
    return !unlink(in("gone"));
}

static int names_are_there(void)
{
    struct stat here, there;

    for (int i = 0; i < NAMES; i++)
        if (fstat(fds[i], &here) || stat(in(names[i]), &there) || here.st_ino != there.st_ino || !has_pages(fds[i], i + 1) ||
            here.st_size != (i + 1) * GUEST_PAGE)
            return 0;
    return !fstat(fds[NAMES], &here) && !here.st_nlink && has_pages(fds[NAMES], 20);
}

enum { MANY = 1000 };

static int make_many(void)
{
    char name[32];

    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "many%d", i % 500); /* two descriptions of each */
        fds[i] = open_or_end(in(name), O_RDWR | O_CREAT | (i % 3 ? 0 : O_CLOEXEC));
        if (dprintf(fds[i], "%d", i) < 0 || lseek(fds[i], i * 10, SEEK_SET) < 0)
            return 0;
    }
    return 1;
}

static int many_are_there(void)
{
    for (int i = 0; i < MANY; i++)
        if (!at(fds[i], i * 10) || fcntl(fds[i], F_GETFD) != (i % 3 ? 0 : FD_CLOEXEC))
            return 0;
    return 1;
}

static int make_long(void) /* a path of almost 4096 bytes */
{
    char step[201];
    size_t length = strlen(in(""));
    int here = open_or_end(".", O_RDONLY), down = open_or_end(in("."), O_RDONLY | O_DIRECTORY);

    memset(step, 'd', 200);
    step[200] = 0;
    while (length + 201 + 100 < 4096) {
        if (mkdirat(down, step, 0755))
            return 0;
        int next = openat(down, step, O_RDONLY | O_DIRECTORY);
        close(down);
        down = next;
        length += 201;
    }
    memset(step, 'f', 200);
    step[4090 - length > 200 ? 200 : 4090 - length] = 0;
    fds[0] = openat(down, step, O_RDWR | O_CREAT, 0600);
    close(down);
    close(here);
    return fds[0] >= 0 && put(fds[0], "long");
}

static int long_is_there(void)
{
    char text[5] = "";

    return at(fds[0], 4) && pread(fds[0], text, 4, 0) == 4 && !strcmp(text, "long");
}

/* ---- directories ---- */

enum { ENTRIES = 700 };
static DIR *listing;
static char seen[ENTRIES];

/* Long enough that libc must ask the kernel several times. */
static const char *entry_name(int i)
{
    static char name[256];

    snprintf(name, sizeof name, "%d-%0180d", i, 0);
    return name;
}

static int make_listing(void)
{
    char name[300];

    if (mkdir(in("listing"), 0755))
        return 0;
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "listing/%s", entry_name(i));
        close(open_or_end(in(name), O_WRONLY | O_CREAT));
    }
    listing = opendir(in("listing"));
    fds[0] = open_or_end(in("listing"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return listing != NULL;
}

/* Some entries a tick; at the end each was there once. */
static int listing_goes_on(void)
{
    for (int i = 0; i < 25; i++) {
        struct dirent *entry = readdir(listing);
        if (!entry) {
            for (int j = 0; j < ENTRIES; j++)
                if (seen[j]-- != 1)
                    bad("entry %d was there %d times", j, seen[j] + 1);
            rewinddir(listing);
        } else if (entry->d_name[0] != '.') {
            seen[atoi(entry->d_name)]++;
        }
    }
    int file = openat(fds[0], entry_name(17), O_RDONLY);
    return file >= 0 && !close(file) && fcntl(fds[0], F_GETFD) == FD_CLOEXEC;
}

/* ---- /proc ---- */

static const char *const views[] = { "/proc/self/status", "/proc/self/stat", "/proc/self/maps", "/proc/meminfo", "/proc/stat",
                                     "/proc/self/mountinfo", "/proc/self/limits", "/proc/sys/kernel/ostype" };
enum { VIEWS = sizeof views / sizeof views[0] };

static int make_proc(void)
{
    char text[32];

    for (int i = 0; i < VIEWS; i++) {
        fds[i] = open_or_end(views[i], O_RDONLY);
        if (read(fds[i], text, 3) != 3)
            return 0;
    }
    snprintf(text, sizeof text, "/proc/self/task/%d/comm", getpid());
    fds[VIEWS] = open_or_end(text, O_RDWR);
    fds[VIEWS + 1] = open_or_end("/proc/self/fd", O_RDONLY | O_DIRECTORY);
    fds[VIEWS + 2] = open_or_end("/proc/self/mem", O_RDWR);
    fds[VIEWS + 3] = open_or_end("/proc/self/fdinfo/0", O_RDONLY);
    return 1;
}

static int proc_is_ours(void)
{
    static volatile int word = 1;
    static char text[1 << 16];
    char wanted[32];
    int value = word + 1;

    for (int i = 0; i < VIEWS; i++)
        if (!at(fds[i], 3) || pread(fds[i], text, 10, 0) <= 0)
            return 0;
    ssize_t length = pread(fds[0], text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = 0;
    snprintf(wanted, sizeof wanted, "\nPid:\t%d\n", getpid());
    if (!strstr(text, wanted) || strncmp(text, "Name:\topenfiles", 14))
        return 0;
    length = pread(fds[1], text, sizeof text - 1, 0);
    if (length <= 0 || atoi(text) != getpid() || pread(fds[VIEWS], text, 9, 0) != 9 || memcmp(text, "openfiles", 9))
        return 0;
    if (pwrite(fds[VIEWS + 2], &value, sizeof value, (off_t)(uintptr_t)&word) != sizeof value || word != value)
        return 0;
    snprintf(wanted, sizeof wanted, "%d", fds[VIEWS]);
    return readlinkat(fds[VIEWS + 1], wanted, text, sizeof text) > 0 && pread(fds[VIEWS + 3], text, 4, 0) == 4 && !memcmp(text, "pos:", 4);
}

/* ---- O_PATH ---- */

static int make_path(void)
{
    close(make_pages(in("target"), O_RDWR, 2));
    if (symlink("target", in("link")))
        return 0;
    fds[0] = open_or_end(in("."), O_PATH | O_DIRECTORY);
    fds[1] = open_or_end(in("link"), O_PATH | O_NOFOLLOW);
    fds[2] = open_or_end(in("target"), O_PATH | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        flags[i] = fcntl(fds[i], F_GETFL);
    return 1;
}

static int path_is_there(void)
{
    char text[64] = "", name[64];
    struct stat status;
    int file = openat(fds[0], "target", O_RDONLY), through, fine;

    snprintf(name, sizeof name, "/proc/self/fd/%d", fds[2]);
    through = open(name, O_RDONLY);
    fine = has_pages(file, 2) && has_pages(through, 2) && readlinkat(fds[1], "", text, sizeof text) == 6 && !strcmp(text, "target") &&
           !fstat(fds[1], &status) && S_ISLNK(status.st_mode) && fcntl(fds[2], F_GETFD) == FD_CLOEXEC;
    for (int i = 0; i < 3; i++)
        fine &= fcntl(fds[i], F_GETFL) == flags[i];
    close(file);
    close(through);
    return fine;
}

/* ---- code that is gone ---- */

static double (*cosine)(double);
static uint64_t own_hash;

static uint64_t hash_own_program(void)
{
    static unsigned char bytes[1 << 20];
    int fd = open_or_end("/proc/self/exe", O_RDONLY);
    ssize_t length = read(fd, bytes, sizeof bytes);
    uint64_t hash = 1;

    close(fd);
    for (ssize_t i = 0; i < length; i++)
        hash = hash * 31 + bytes[i];
    return length > 0 ? hash : 0;
}

/* DIRECTORY has a copy of libm.so.6, and this program is a copy, too. */
static int make_upgraded(void)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    void *library = dlopen(in("libcopy.so"), RTLD_LAZY);

    if (length < 0 || !library)
        bad("%s", dlerror());
    self[length] = 0;
    *(void **)&cosine = dlsym(library, "cos");
    own_hash = hash_own_program();
    return cosine && !unlink(in("libcopy.so")) && !unlink(self);
}

static int code_works(void)
{
    return cosine(0) == 1 && cosine(1) > 0.5403 && cosine(1) < 0.5404 && hash_own_program() == own_hash;
}

/* ---- what must be refused, and harms nobody ---- */

static int is_open(void)
{
    return fcntl(fds[0], F_GETFD) >= 0;
}

static int make_elsewhere(void)
{
    fds[0] = make_pages(in("here"), O_RDWR, 1);
    return !mkdir(in("other"), 0755) && !link(in("here"), in("other/name")) && !unlink(in("here"));
}

static int make_unreadable(void)
{
    fds[0] = open(in("unreadable"), O_WRONLY | O_CREAT, 0200);
    return fds[0] >= 0 && !unlink(in("unreadable"));
}

static int make_lost_directory(void)
{
    if (mkdir(in("lost"), 0755))
        return 0;
    fds[0] = open_or_end(in("lost"), O_RDONLY | O_DIRECTORY);
    return !rmdir(in("lost"));
}

static int make_lost_cwd(void)
{
    return !mkdir(in("lost"), 0755) && !chdir(in("lost")) && !rmdir(in("lost"));
}

static int make_lost_path(void)
{
    close(make_pages(in("lost"), O_RDWR, 1));
    fds[0] = open_or_end(in("lost"), O_PATH);
    return !unlink(in("lost"));
}

static int make_others(void)
{
    fds[0] = open_or_end("/proc/1/stat", O_RDONLY);
    return 1;
}

/* ---- pipes: with packets in it, and two that nobody holds the other end of ---- */

static int packets[2], ended[2], broken[2];

static int make_pipes(void)
{
    signal(SIGPIPE, SIG_IGN);
    return !pipe2(packets, O_DIRECT) && put(packets[1], "abc") && put(packets[1], "de") && !pipe(ended) && put(ended[1], "tail") &&
           !close(ended[1]) && !pipe(broken) && !close(broken[0]);
}

/* A read of a pipe of packets gives one. */
static int pipes_are_there(void)
{
    char got[8];
    struct pollfd end = { .fd = ended[0], .events = POLLIN };

    return read(packets[0], got, sizeof got) == 3 && put(packets[1], "abc") && read(packets[0], got, sizeof got) == 2 &&
           put(packets[1], "de") && poll(&end, 1, 0) == 1 && end.revents == (POLLIN | POLLHUP) && !put(broken[1], "x") &&
           errno == EPIPE;
}

/* ---- standard streams ---- */

static int make_streams(void)
{
    return dup2(1, 5) == 5;
}

static int streams_take_lines(void)
{
    return put(1, "out\n") && put(2, "err\n") && put(5, "five\n") && isatty(0) == isatty(1);
}

static const struct sort sorts[] = {
    { "flags", make_flags, flags_are_there, NULL },
    { "unlinked", make_unlinked, nameless_is_there, NULL },
    { "tmpfile", make_tmpfile, nameless_is_there, NULL },
    { "mapped", make_mapped, mapped_is_there, NULL },
    { "code", make_code, code_is_there, NULL },
    { "locked", make_locked, locks_are_held, NULL },
    { "linked", make_linked, second_follows, NULL },
    { "renamed", make_renamed, second_follows, NULL },
    { "replaced", make_replaced, old_is_there, NULL },
    { "names", make_names, names_are_there, NULL },
    { "many", make_many, many_are_there, NULL },
    { "long", make_long, long_is_there, NULL },
    { "listing", make_listing, listing_goes_on, NULL },
    { "proc", make_proc, proc_is_ours, NULL },
    { "path", make_path, path_is_there, NULL },
    { "upgraded", make_upgraded, code_works, NULL },
    { "elsewhere", make_elsewhere, is_open, NULL },
    { "unreadable", make_unreadable, is_open, NULL },
    { "lost-directory", make_lost_directory, is_open, NULL },
    { "lost-cwd", make_lost_cwd, is_open, NULL },
    { "lost-path", make_lost_path, is_open, NULL },
    { "others", make_others, is_open, NULL },
    { "pipes", make_pipes, pipes_are_there, NULL },
    { "streams", make_streams, streams_take_lines, NULL },
    { 0 },
};

int main(int argc, char **argv)
{
    return run_sort(sorts, argc, argv, 160);
}
