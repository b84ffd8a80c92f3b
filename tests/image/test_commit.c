/* SPDX-License-Identifier: MIT */
/* Committing: what stands in the directory afterwards, and at every moment on the way.
 *
 * This program has its own linkat, renameat, unlinkat, fsync and openat, which take precedence over libc's in core/image, too:
 * they look at the image before each change, fail when told, and play file systems that lack something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../core/image/commit.h"
#include "../../core/image/read.h"
#include "sample.h"

enum { OURS = 0x11, OTHERS = 0x22, NEVER = -1 };

#define NAME "7.0.ckpt"

static char *directory;

/* --- the floor that gives way --- */

static struct {
    int calls;         /* changes of the directory so far */
    int fail_at;       /* the number of the one that fails, or NEVER */
    int fail_on;       /* and all after it: as if we were dead */
    int no_links;      /* file system without hard links */
    int no_tmpfile;    /* and without O_TMPFILE */
    const char *watch; /* must open before every change; NULL: nothing */
} floor_is;

static void look(void)
{
    struct image image;

    if (!floor_is.watch)
        return;
    int error = image_open(&image, floor_is.watch);
    image_close(&image);
    if (error)
        fail_msg("at change %d %s is not there and whole: %s", floor_is.calls, floor_is.watch, image.reason);
}

static int gives_way(void)
{
    int now = floor_is.calls++;

    look();
    if (floor_is.fail_at == NEVER || now < floor_is.fail_at || (now > floor_is.fail_at && !floor_is.fail_on))
        return 0;
    errno = EIO;
    return 1;
}

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    if (gives_way())
        return -1;
    if (floor_is.no_links) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    return gives_way() ? -1 : (int)syscall(SYS_renameat, from_directory, from, to_directory, to);
}

int unlinkat(int from_directory, const char *name, int flags)
{
    return gives_way() ? -1 : (int)syscall(SYS_unlinkat, from_directory, name, flags);
}

int fsync(int descriptor)
{
    return gives_way() ? -1 : (int)syscall(SYS_fsync, descriptor);
}

int openat(int from_directory, const char *name, int flags, ...)
{
    va_list arguments;

    va_start(arguments, flags);
    int nameless = (flags & O_TMPFILE) == O_TMPFILE;
    mode_t mode = nameless || (flags & O_CREAT) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (floor_is.no_tmpfile && nameless) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, from_directory, name, flags, mode);
}

static void floor_holds(void)
{
    memset(&floor_is, 0, sizeof floor_is);
    floor_is.fail_at = NEVER;
}

/* --- what is in the directory --- */

static int setup(void **state)
{
    (void)state;
    floor_holds();
    directory = sample_directory();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    floor_holds();
    sample_remove(directory);
    return 0;
}

static const char *path_of(const char *name)
{
    static char path[MAX_PATH];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* "<name>=<run><generation> ...", for what is no image "<name>=?", for a link "<name>=@". */
static const char *listing(void)
{
    static char text[8192];
    struct dirent **entries;
    int count = scandir(directory, &entries, not_dots, by_bytes);
    size_t at = 0;

    assert_true(count >= 0);
    text[0] = 0;
    for (int i = 0; i < count; i++) {
        struct image image;
        const char *shown = strncmp(entries[i]->d_name, NAME, strlen(NAME)) ? entries[i]->d_name
                                                                             : entries[i]->d_name + strlen(NAME);
        int error = image_open(&image, path_of(entries[i]->d_name));
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s=", i ? " " : "", *shown ? shown : "ckpt");
        if (!error)
            at += (size_t)snprintf(text + at, sizeof text - at, "%c%u", image.header.run[0] == OURS ? 'o' : 'x',
                                   (unsigned)image.header.generation);
        else
            at += (size_t)snprintf(text + at, sizeof text - at, "%s", strstr(image.reason, "link") ? "@" : "?");
        image_close(&image);
        free(entries[i]);
    }
    free(entries);
    return text;
}

#define LISTING(expected) assert_string_equal(listing(), expected)

static int commit_as(const char *name, uint8_t run, unsigned generation, unsigned keep)
{
    return sample_write(directory, name, run, generation, keep);
}

static void commit_well(uint8_t run, unsigned generation, unsigned keep)
{
    int error = commit_as(NAME, run, generation, keep);
    if (error)
        fail_msg("generation %u: %s", generation, strerror(-error));
}

static void damage(const char *name)
{
    assert_int_equal(truncate(path_of(name), 6000), 0);
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* --- generations --- */

static void generations_move_up(void **state)
{
    (void)state;
    commit_well(OURS, 1, 2);
    LISTING("ckpt=o1");
    commit_well(OURS, 2, 2);
    LISTING("ckpt=o2 .1=o1");
    commit_well(OURS, 3, 2);
    LISTING("ckpt=o3 .1=o2 .2=o1");
    commit_well(OURS, 4, 2);
    LISTING("ckpt=o4 .1=o3 .2=o2");
}

static void keep_may_change(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 12; i++)
        commit_well(OURS, i, 11);
    LISTING("ckpt=o12 .1=o11 .10=o2 .11=o1 .2=o10 .3=o9 .4=o8 .5=o7 .6=o6 .7=o5 .8=o4 .9=o3");
    commit_well(OURS, 13, 1);
    LISTING("ckpt=o13 .1=o12");
    commit_well(OURS, 14, 0);
    LISTING("ckpt=o14");
    commit_well(OURS, 15, 0);
    LISTING("ckpt=o15");
}

static void gaps_are_filled(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 4; i++)
        commit_well(OURS, i, 3);
    assert_int_equal(unlink(path_of(NAME ".1")), 0);
    commit_well(OURS, 5, 3);
    LISTING("ckpt=o5 .1=o4 .2=o2 .3=o1");
    assert_int_equal(unlink(path_of(NAME)), 0);
    commit_well(OURS, 6, 3);
    LISTING("ckpt=o6 .1=o4 .2=o2 .3=o1");
}

static void other_names_are_left_alone(void **state)
{
    (void)state;
    commit_well(OURS, 1, 0);
    commit_as("7.00.ckpt", OTHERS, 1, 0);
    put("7.0.ckpt.01", "a");
    put("7.0.ckpt.1x", "a");
    put("7.0.ckpt.", "a");
    put("7.0.ckpt.d", "a");
    put("7.0.ckpt.1234567890", "a");
    commit_well(OURS, 2, 0);
    LISTING("ckpt=o2 .=? .01=? .1234567890=? .1x=? .d=? 7.00.ckpt=x1");
}

/* --- what is not ours --- */

static void another_run_is_set_aside_whole(void **state)
{
    (void)state;
    commit_well(OTHERS, 1, 2);
    commit_well(OTHERS, 2, 2);
    commit_well(OTHERS, 3, 2);
    commit_well(OURS, 1, 2);
    LISTING("ckpt=o1 .run-22222222=x3 .run-22222222.1=x2 .run-22222222.2=x1");
    /* Never rotated, never removed. */
    commit_well(OURS, 2, 0);
    commit_well(OURS, 3, 0);
    LISTING("ckpt=o3 .run-22222222=x3 .run-22222222.1=x2 .run-22222222.2=x1");
    /* And back: each is as much another to the other. */
    commit_well(OTHERS, 4, 2);
    LISTING("ckpt=x4 .run-11111111=o3 .run-22222222=x3 .run-22222222.1=x2 .run-22222222.2=x1");
    commit_well(OURS, 4, 2);
    LISTING("ckpt=o4 .run-11111111=o3 .run-22222222=x3 .run-22222222.1=x2 .run-22222222.2=x1 .run-22222222.3=x4");
}

static void another_runs_generation_is_not_rotated(void **state)
{
    (void)state;
    commit_well(OURS, 1, 2);
    commit_well(OURS, 2, 2);
    commit_as("8.0.ckpt", OTHERS, 9, 0);
    char from[MAX_PATH];
    strcpy(from, path_of("8.0.ckpt"));
    assert_int_equal(rename(from, path_of(NAME ".2")), 0);
    commit_well(OURS, 3, 2);
    LISTING("ckpt=o3 .1=o2 .2=o1 .run-22222222=x9");
}

static void damaged_ones_are_set_aside(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 3; i++)
        commit_well(OURS, i, 2);
    damage(NAME);
    damage(NAME ".2");
    commit_well(OURS, 4, 2);
    LISTING("ckpt=o4 .1=o2 .run-damaged=? .run-damaged.1=?");
    put(NAME, "what is no image at all is not thrown away either");
    commit_well(OURS, 5, 2);
    LISTING("ckpt=o5 .1=o2 .run-damaged=? .run-damaged.1=? .run-damaged.2=?");
}

static void planted_links_are_replaced_not_followed(void **state)
{
    char target[MAX_PATH];

    (void)state;
    put("precious", "mine");
    strcpy(target, path_of("precious"));
    assert_int_equal(symlink(target, path_of(NAME)), 0);
    commit_well(OURS, 1, 2);
    LISTING("ckpt=o1 precious=?");
    assert_int_equal(symlink("/nonexistent/x", path_of(NAME ".1")), 0);
    commit_well(OURS, 2, 2);
    LISTING("ckpt=o2 .1=o1 .run-damaged=@ precious=?");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    strcpy(target, path_of("fifo"));
    assert_int_equal(rename(target, path_of(NAME)), 0);
    commit_well(OURS, 3, 2);
    LISTING("ckpt=o3 .1=o1 .run-damaged=@ precious=?");

    struct stat file;
    assert_int_equal(stat(path_of("precious"), &file), 0);
    assert_int_equal(file.st_size, 4);
}

static void a_link_to_an_image_is_not_an_image(void **state)
{
    char target[MAX_PATH];

    (void)state;
    commit_as("8.0.ckpt", OURS, 1, 2);
    strcpy(target, path_of("8.0.ckpt"));
    assert_int_equal(symlink(target, path_of(NAME)), 0);
    commit_well(OURS, 2, 2);
    LISTING("ckpt=o2 8.0.ckpt=o1");
}

static void a_directory_in_the_way_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_of(NAME), 0700), 0);
    assert_int_equal(commit_as(NAME, OURS, 1, 2), -EISDIR);
    LISTING("ckpt=?");
}

static void bad_names_are_refused(void **state)
{
    static const char *const bad[] = { "", ".hidden.ckpt", "../7.0.ckpt", "a/b.ckpt" };
    struct image_writer writer;
    char long_name[300], path[MAX_PATH];

    (void)state;
    assert_int_equal(image_writer_open(&writer, directory, NAME), 0);
    assert_int_equal(image_write_end(&writer), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(image_commit(&writer, bad[i], 0, path), -EINVAL);
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    assert_int_equal(image_commit(&writer, long_name, 0, path), -ENAMETOOLONG);
    image_writer_close(&writer);
    LISTING("");
}

/* --- failures --- */

/* The sets that stand before a commit of generation 9 of our run, keep 2; and what stands after it. */
static void before_nothing(void)
{
}

static void before_ours(void)
{
    for (unsigned i = 1; i <= 3; i++)
        commit_well(OURS, i, 2);
}

static void before_others(void)
{
    for (unsigned i = 1; i <= 3; i++)
        commit_well(OTHERS, i, 2);
}

static void before_mixed(void)
{
    char from[MAX_PATH];

    before_ours();
    commit_as("8.0.ckpt", OTHERS, 7, 0);
    strcpy(from, path_of("8.0.ckpt"));
    assert_int_equal(rename(from, path_of(NAME ".1")), 0);
}

static const struct before {
    void (*make)(void);
    const char *old;    /* found before; NULL: none */
    const char *after;
} befores[] = {
    { before_nothing, NULL, "ckpt=o9" },
    { before_ours, "o3", "ckpt=o9 .1=o3 .2=o2" },
    { before_others, "x3", "ckpt=o9 .run-22222222=x3 .run-22222222.1=x2 .run-22222222.2=x1" },
    { before_mixed, "o3", "ckpt=o9 .1=o3 .2=o1 .run-22222222=x7" },
};

/* "<run><generation>" of what image_find finds, or its error. */
static const char *found(void)
{
    static char text[32];
    char path[MAX_PATH];
    struct image image;
    int error = image_find(directory, "7", "0", path, NULL);

    if (error)
        return error == -ENOENT ? NULL : strerror(-error);
    assert_int_equal(image_open(&image, path), 0);
    snprintf(text, sizeof text, "%c%u", image.header.run[0] == OURS ? 'o' : 'x', (unsigned)image.header.generation);
    image_close(&image);
    return text;
}

static int is_found(const char *wanted)
{
    const char *now = found();
    return now && wanted ? !strcmp(now, wanted) : now == wanted;
}

static void no_temporary_is_left(void)
{
    assert_null(strstr(listing(), ".tmp"));
}

/* One commit whose change number fail_at fails. Returns 1 while there is such a change. */
static int commit_that_fails(const struct before *before, int fail_at, int fail_on, int bare)
{
    char watched[MAX_PATH];

    setup(NULL);
    before->make();
    strcpy(watched, path_of(NAME));
    floor_is.no_links = floor_is.no_tmpfile = bare;
    floor_is.calls = 0;
    floor_is.fail_at = fail_at;
    floor_is.fail_on = fail_on;
    floor_is.watch = before->old && !bare ? watched : NULL;
    int error = commit_as(NAME, OURS, 9, 2), more = floor_is.calls > fail_at;

    floor_holds();
    floor_is.no_links = floor_is.no_tmpfile = bare;
    /* The old one or the new one; after an error the old one, but when only the last sync failed. Dead between two renames on a
     * file system without links, the old one is there under a name that generations or a person find. */
    if (!error && !is_found("o9"))
        fail_msg("change %d: success, but %s is found", fail_at, found());
    if (error && !(is_found(before->old) || is_found("o9") || (bare && fail_on)))
        fail_msg("change %d: %s is found after %s", fail_at, found(), strerror(-error));
    if (!fail_on)
        no_temporary_is_left();
    if (before->old && !strstr(listing(), before->old))
        fail_msg("change %d: %s is lost", fail_at, before->old);

    image_sweep(directory, NAME);
    no_temporary_is_left();
    teardown(NULL);
    return more;
}

/* The next commit after one that failed leaves what it would have left. */
static int commit_after_a_failure(const struct before *before, int fail_at, int bare)
{
    setup(NULL);
    before->make();
    floor_is.no_links = floor_is.no_tmpfile = bare;
    floor_is.calls = 0;
    floor_is.fail_at = fail_at;
    floor_is.fail_on = 1;
    int error = commit_as(NAME, OURS, 9, 2), more = floor_is.calls > fail_at, taken = is_found("o9");

    floor_holds();
    floor_is.no_links = floor_is.no_tmpfile = bare;
    image_sweep(directory, NAME);
    if (error && !taken) {
        commit_well(OURS, 9, 2);
        /* Between two renames the old one has another number or name, but no image is gone and none is there twice. */
        if (!bare && strcmp(listing(), before->after))
            fail_msg("change %d, then again: %s", fail_at, listing());
        if (!is_found("o9") || (before->old && !strstr(listing(), before->old)))
            fail_msg("change %d, then again: %s", fail_at, listing());
    }
    teardown(NULL);
    return more;
}

static void every_change_may_fail(void **state)
{
    unsigned tried = 0;

    teardown(state);
    for (size_t i = 0; i < sizeof befores / sizeof *befores; i++)
        for (int bare = 0; bare < 2; bare++) {
            for (int fail_on = 0; fail_on < 2; fail_on++)
                for (int at = 0; commit_that_fails(&befores[i], at, fail_on, bare); at++)
                    tried++;
            for (int at = 0; commit_after_a_failure(&befores[i], at, bare); at++)
                tried++;
        }
    assert_true(tried > 50);
    setup(state);
}

static void the_same_without_links_and_nameless_files(void **state)
{
    for (size_t i = 0; i < sizeof befores / sizeof *befores; i++) {
        teardown(state);
        setup(state);
        floor_is.no_links = floor_is.no_tmpfile = 1;
        befores[i].make();
        commit_well(OURS, 9, 2);
        LISTING(befores[i].after);
    }
}

static void a_writer_that_is_not_committed_leaves_nothing(void **state)
{
    struct image_writer writer;

    (void)state;
    for (int bare = 0; bare < 2; bare++) {
        floor_is.no_tmpfile = bare;
        assert_int_equal(image_writer_open(&writer, directory, NAME), 0);
        assert_int_equal(sample_fill(&writer), 0);
        if (bare)
            assert_non_null(strstr(listing(), ".tmp"));
        image_writer_close(&writer);
        LISTING("");
    }
}

static void fill_up(int expected, int alternative)
{
    struct image_writer writer;
    struct block_record block = { 0 };
    static uint8_t bytes[BLOCK_BYTES];
    int error = image_writer_open(&writer, directory, NAME);

    for (int i = 0; i < 64 && !error; i++)
        error = image_write_block(&writer, bytes, sizeof bytes, &block);
    if (error != expected && error != alternative)
        fail_msg("%s", strerror(-error));
    image_writer_close(&writer);
}

static void a_file_size_limit_leaves_the_old_image(void **state)
{
    const struct rlimit small = { 100000, RLIM_INFINITY };
    struct rlimit old;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    commit_well(OURS, 1, 2);
    getrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    fill_up(-EFBIG, -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
    LISTING("ckpt=o1");
}

static void a_full_disk_leaves_the_old_image(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("stasis-test", directory, "tmpfs", 0, "size=2m,mode=700")) {
        print_message("skipped: may not mount a small tmpfs: %s\n", strerror(errno));
        skip();
    }
    commit_well(OURS, 1, 2);
    fill_up(-ENOSPC, -ENOSPC);
    LISTING("ckpt=o1");
    commit_well(OURS, 2, 2); /* what the failure took is free again */
    LISTING("ckpt=o2 .1=o1");
    assert_int_equal(umount2(directory, MNT_DETACH), 0);
}

static void sweeping_takes_only_temporary_files_of_this_image(void **state)
{
    (void)state;
    put(".7.0.ckpt.0123abcd.tmp", "a");
    put(".7.0.ckpt.ffffffff.tmp", "a");
    put(".7.0.ckpt.0123abc.tmp", "a");
    put(".7.0.ckpt.0123abcde.tmp", "a");
    put(".7.0.ckpt.0123abcg.tmp", "a");
    put(".7.0.ckpt.0123abcd.tmpx", "a");
    put(".7.00.ckpt.0123abcd.tmp", "a");
    put(".8.0.ckpt.0123abcd.tmp", "a");
    image_sweep(directory, NAME);
    LISTING(".7.0.ckpt.0123abc.tmp=? .7.0.ckpt.0123abcd.tmpx=? .7.0.ckpt.0123abcde.tmp=? .7.0.ckpt.0123abcg.tmp=? "
            ".7.00.ckpt.0123abcd.tmp=? .8.0.ckpt.0123abcd.tmp=?");
    image_sweep("/nonexistent", NAME);
}

/* --- finding --- */

static void names_are_made(void **state)
{
    char name[64];

    (void)state;
    assert_int_equal(image_name(name, sizeof name, "1234", "0"), 0);
    assert_string_equal(name, "1234.0.ckpt");
    assert_int_equal(image_name(name, sizeof name, "a.b_1", "batch"), 0);
    assert_string_equal(name, "a.b_1.batch.ckpt");
    assert_int_equal(image_name(name, sizeof name, "1234", "batch"), 0);
    assert_string_equal(name, "1234.ckpt");
    assert_int_equal(image_name(name, 11, "1234", "0"), -ENAMETOOLONG);
    assert_int_equal(image_name(name, 12, "1234", "0"), 0);
    assert_int_equal(image_name(name, sizeof name, "", "0"), -EINVAL);
    assert_int_equal(image_name(name, sizeof name, "1", ""), -EINVAL);
    assert_int_equal(image_name(name, sizeof name, "../1", "0"), -EINVAL);
    assert_int_equal(image_name(name, sizeof name, "..", "0"), -EINVAL);
    assert_int_equal(image_name(name, sizeof name, "1", "0/1"), -EINVAL);
    assert_int_equal(image_name(name, sizeof name, "1\n", "0"), -EINVAL);
    assert_int_equal(image_name(name, sizeof name, "1", "0.1"), -EINVAL);
}

/* image_find, and compares what it gives; wanted: the name found, or NULL. */
static void find(const char *job, const char *step, int error, const char *wanted, const char *candidates)
{
    struct buffer lines = { 0 };
    char path[MAX_PATH] = "";

    assert_int_equal(image_find(directory, job, step, path, &lines), error);
    if (wanted)
        assert_string_equal(path, path_of(wanted));
    assert_string_equal(lines.bytes ? (const char *)lines.bytes : "", candidates);
    assert_int_equal(lines.length, strlen(candidates));
    assert_int_equal(image_find(directory, job, step, path, NULL), error);
    buffer_free(&lines);
}

static void the_only_image_is_found(void **state)
{
    (void)state;
    find(NULL, NULL, -ENOENT, NULL, "");
    put("notes.txt", "a");
    put("7.0.ckpt.run-22222222", "a");
    put("7.0.ckpt.d", "a");
    put(".7.0.ckpt.0123abcd.tmp", "a");
    put("ckpt", "a");
    put(".ckpt", "a");
    put("7..ckpt", "a");
    put("7.0.ckpt.01", "a");
    put("7.0.ckpt.0", "a");
    put(".7.0.ckpt", "a");
    find(NULL, NULL, -ENOENT, NULL, "");
    commit_well(OURS, 1, 2);
    commit_well(OURS, 2, 2);
    find(NULL, NULL, 0, NAME, "");
    find("7", NULL, 0, NAME, "");
    find(NULL, "0", 0, NAME, "");
    find("7", "0", 0, NAME, "");
    find("70", NULL, -ENOENT, NULL, "");
    find("7", "00", -ENOENT, NULL, "");
    find("", NULL, -ENOENT, NULL, "");
    commit_as("7.ckpt", OURS, 1, 2); /* the whole batch job's */
    find("7", NULL, 0, NAME, "");
    find("7", "batch", 0, "7.ckpt", "");
    find(NULL, "batch", 0, "7.ckpt", "");
    assert_int_equal(unlink(path_of(NAME)) | unlink(path_of(NAME ".1")), 0);
    find("7", NULL, 0, "7.ckpt", "");
    find(NULL, "7", -ENOENT, NULL, "");
    assert_int_equal(image_find("/nonexistent", NULL, NULL, (char[MAX_PATH]){ "" }, NULL), -ENOENT);
}

static void several_jobs_are_not_chosen_from(void **state)
{
    (void)state;
    commit_well(OURS, 1, 2);
    commit_well(OURS, 2, 2);
    commit_as("7.1.ckpt", OURS, 1, 2);
    commit_as("10.0.ckpt", OURS, 1, 2);
    commit_as("a.b.0.ckpt", OURS, 1, 2);
    find(NULL, NULL, -ENOTUNIQ, NULL, "10.0.ckpt\n7.0.ckpt\n7.1.ckpt\na.b.0.ckpt\n");
    find("7", NULL, -ENOTUNIQ, NULL, "7.0.ckpt\n7.1.ckpt\n");
    find("7", "1", 0, "7.1.ckpt", "");
    find("10", NULL, 0, "10.0.ckpt", "");
    find("a.b", "0", 0, "a.b.0.ckpt", "");
    find("a", NULL, -ENOENT, NULL, "");
}

static void a_damaged_newest_is_passed_over(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 11; i++)
        commit_well(OURS, i, 10);
    damage(NAME);
    find("7", "0", 0, NAME ".1", "7.0.ckpt: it has 6000 bytes and should have 12464\n");
    put(NAME ".1", "");
    assert_int_equal(unlink(path_of(NAME ".2")), 0);
    find("7", "0", 0, NAME ".3",
         "7.0.ckpt: it has 6000 bytes and should have 12464\n"
         "7.0.ckpt.1: it is cut off in its header, after 0 bytes\n");
    assert_int_equal(unlink(path_of(NAME)), 0);
    find("7", "0", 0, NAME ".3", "7.0.ckpt.1: it is cut off in its header, after 0 bytes\n");
    for (unsigned i = 3; i <= 9; i++) {
        char name[32];
        snprintf(name, sizeof name, NAME ".%u", i);
        assert_int_equal(unlink(path_of(name)), 0);
    }
    find("7", "0", 0, NAME ".10", "7.0.ckpt.1: it is cut off in its header, after 0 bytes\n");
    assert_int_equal(unlink(path_of(NAME ".10")), 0);
    find("7", "0", -EBADMSG, NULL, "7.0.ckpt.1: it is cut off in its header, after 0 bytes\n");
}

static void planted_links_are_not_found(void **state)
{
    char target[MAX_PATH];

    (void)state;
    commit_well(OURS, 1, 2);
    strcpy(target, path_of(NAME));
    assert_int_equal(symlink(target, path_of("8.0.ckpt")), 0);
    find("8", "0", -EPERM, NULL, "8.0.ckpt: it is a symbolic link\n");
}

static void paths_are_absolute(void **state)
{
    char path[MAX_PATH], *here = getcwd(NULL, 0), *absolute = directory;

    (void)state;
    assert_int_equal(chdir(directory), 0);
    commit_well(OURS, 1, 2);
    assert_int_equal(image_find(".", NULL, NULL, path, NULL), 0);
    assert_string_equal(path, path_of(NAME));
    assert_int_equal(mkdir("below", 0700), 0);

    directory = (char[]){ "below" };
    commit_well(OURS, 1, 2);
    assert_int_equal(image_find("below", NULL, NULL, path, NULL), 0);
    directory = absolute;
    assert_string_equal(path, path_of("below/" NAME));
    assert_int_equal(chdir(here), 0);
    free(here);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(generations_move_up),
        TEST(keep_may_change),
        TEST(gaps_are_filled),
        TEST(other_names_are_left_alone),
        TEST(another_run_is_set_aside_whole),
        TEST(another_runs_generation_is_not_rotated),
        TEST(damaged_ones_are_set_aside),
        TEST(planted_links_are_replaced_not_followed),
        TEST(a_link_to_an_image_is_not_an_image),
        TEST(a_directory_in_the_way_is_an_error),
        TEST(bad_names_are_refused),
        TEST(every_change_may_fail),
        TEST(the_same_without_links_and_nameless_files),
        TEST(a_writer_that_is_not_committed_leaves_nothing),
        TEST(a_file_size_limit_leaves_the_old_image),
        TEST(a_full_disk_leaves_the_old_image),
        TEST(sweeping_takes_only_temporary_files_of_this_image),
        TEST(names_are_made),
        TEST(the_only_image_is_found),
        TEST(several_jobs_are_not_chosen_from),
        TEST(a_damaged_newest_is_passed_over),
        TEST(planted_links_are_not_found),
        TEST(paths_are_absolute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
