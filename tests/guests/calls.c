/* SPDX-License-Identifier: MIT */
/* A program that knows of checkpoints: it includes stasis.h as any stranger does, and is linked with nothing. What it does is its
 * first argument, the file whose existence ends it the second: so no part of it depends on how long anything takes. */
#include "guest.h"

#include <pthread.h>
#include <stasis.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static char hook_calls[64];

static void note(char what)
{
    size_t length = strlen(hook_calls);
    if (length + 1 < sizeof hook_calls)
        hook_calls[length] = what;
}

static void before(void *context)
{
    note(*(const char *)context);
}

static void after(int result, void *context)
{
    note(result == STASIS_TAKEN ? 't' : result == STASIS_RESTARTED ? 'r' : result == STASIS_REFUSED ? 'x' : '?');
    note(*(const char *)context);
}

/* To the test, which waits for such files. */
static void say(const char *what)
{
    char path[512];
    int fd;

    snprintf(path, sizeof path, "%s.%s", getenv("GUEST_READY") ? getenv("GUEST_READY") : "calls", what);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || close(fd))
        bad("%s: %s", path, strerror(errno));
}

static int hears(const char *what)
{
    char path[512];

    snprintf(path, sizeof path, "%s.%s", getenv("GUEST_READY") ? getenv("GUEST_READY") : "calls", what);
    return !access(path, F_OK);
}

static void until(const char *what)
{
    while (!hears(what))
        tick_sleep();
}

static const char *name_of(int result)
{
    static const char *const names[] = { "absent", "refused", "nothing", "taken", "restarted" };
    return result >= STASIS_ABSENT && result <= STASIS_RESTARTED ? names[result + 2] : "?";
}

/* Three lives: the call returns once in the first, once more in each of the others. */
static void take(void)
{
    int result, life;

    if (stasis_hooks(before, after, "a") != STASIS_NOTHING || stasis_hooks(before, NULL, "b") != STASIS_NOTHING)
        bad("hooks: %s", stasis_reason());
    ready();
    until("go");
    result = stasis_checkpoint();
    life = stasis_restarts();
    if (result < 0)
        bad("refused: %s", stasis_reason());
    if ((result == STASIS_TAKEN) != (life == 0))
        bad("%s in life %d", name_of(result), life);
    if (strcmp(hook_calls, life ? "bara" : "bata"))
        bad("hooks: %s", hook_calls);
    say(life ? "restarted" : "taken");
    until("end");
}

/* The first call is refused, the second is not. */
static void refuse(void)
{
    stasis_hooks(before, after, "a");
    ready();
    until("go");
    if (stasis_checkpoint() != STASIS_REFUSED || !*stasis_reason() || strcmp(hook_calls, "axa"))
        bad("not refused: %s, %s", stasis_reason(), hook_calls);
    say("refused");
    until("again");
    if (stasis_checkpoint() < 0)
        bad("refused: %s", stasis_reason());
    say("taken");
    until("end");
}

/* Checkpoints are forbidden until the test has seen what comes of that. */
static void forbid(void)
{
    int result;

    if (stasis_allow() != STASIS_REFUSED)
        bad("not forbidden, and allowed");
    if (stasis_forbid() != 1 || stasis_forbid() != 2)
        bad("forbid does not count");
    if (stasis_allow() != STASIS_NOTHING || stasis_checkpoint() != STASIS_REFUSED || !strstr(stasis_reason(), "R-FORBIDDEN"))
        bad("it is not forbidden: %s", stasis_reason());
    ready();
    until("allow");
    result = stasis_allow();
    if (result < 0)
        bad("allow: %s", stasis_reason());
    say("allowed");
    until("end");
}

/* Forbidden all the time but at points. */
static void points(void)
{
    int taken = 0, restarted = 0;

    stasis_hooks(before, after, "a");
    stasis_forbid();
    ready();
    while (!hears("end")) {
        int result = stasis_point();
        taken += result == STASIS_TAKEN;
        restarted += result == STASIS_RESTARTED;
        if (result == STASIS_REFUSED)
            bad("point: %s", stasis_reason());
        if (taken)
            say("taken");
        if (restarted)
            say("restarted");
        tick_sleep();
    }
    if (stasis_restarts() && strstr(hook_calls, "ar") == NULL)
        bad("hooks: %s", hook_calls);
    for (const char *call = hook_calls; *call; call += 3)
        if (call[0] != 'a' || (call[1] != 't' && call[1] != 'r') || call[2] != 'a')
            bad("hooks: %s", hook_calls);
    if (stasis_allow() < 0)
        bad("allow: %s", stasis_reason());
}

/* The same in two processes at once. */
static void pair(void)
{
    pid_t child;
    int status;

    stasis_forbid();
    child = fork();
    if (child < 0)
        bad("fork: %s", strerror(errno));
    stasis_allow();
    points();
    if (!child)
        _exit(0);
    if (waitpid(child, &status, 0) != child || status)
        bad("child: %x", status);
}

/* A child that forbids it for the whole tree. */
static void tree(int child_forbids_first)
{
    pid_t child;
    int status;

    if (child_forbids_first)
        stasis_forbid();
    child = fork();
    if (child < 0)
        bad("fork: %s", strerror(errno));
    if (!child) {
        if (!child_forbids_first)
            stasis_forbid();
        ready();
        until("allow");
        if (stasis_allow() < 0)
            bad("child: %s", stasis_reason());
        say("allowed");
        until("end");
        _exit(0);
    }
    if (child_forbids_first && stasis_allow() != STASIS_NOTHING)
        bad("parent: %s", stasis_reason());
    if (waitpid(child, &status, 0) != child || status)
        bad("child: %x", status);
}

/* A child that dies, or becomes another program, while it forbids. */
static void die(int executes)
{
    pid_t child = fork();

    if (!child) {
        stasis_forbid();
        say("forbidden");
        until("die");
        if (executes)
            execl("/bin/sleep", "sleep", "1000", NULL);
        raise(SIGKILL);
    }
    until("forbidden");
    ready();
    until("die");
    if (executes) {
        until("end");
        kill(child, SIGKILL);
    }
    waitpid(child, NULL, 0);
    say("dead");
    until("end");
}

enum { RANGE_PAGES = 64, HEAP_PAGES = 16 /* malloc takes it from the heap */ };

static void check_range(const char *range, int first, int end, int is_zero)
{
    for (int i = first * GUEST_PAGE; i < end * GUEST_PAGE; i++)
        if (range[i] != (is_zero ? 0 : 'x'))
            bad("byte %d of page %d is %d", i % GUEST_PAGE, i / GUEST_PAGE, range[i]);
}

static void fill(char *range)
{
    memset(range, 'x', RANGE_PAGES * GUEST_PAGE);
}

/* Of each range the pages from 8 to 15 are excluded in the end. */
static void exclude(void)
{
    const size_t length = RANGE_PAGES * GUEST_PAGE;
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS, both = PROT_READ | PROT_WRITE;
    char *plain = map_of(-1, length, both, anonymous, 0), *wiped = map_of(-1, length, both, anonymous, 0);
    char *unshared = map_of(-1, length, both, anonymous, 0), *again = map_of(-1, length, both, anonymous, 0);
    char *shared = map_of(-1, length, both, MAP_SHARED | MAP_ANONYMOUS, 0), *heap = malloc((HEAP_PAGES + 2) * GUEST_PAGE);
    char *ranges[] = { plain, wiped, unshared }, *heap_page = (char *)(((uintptr_t)heap + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE);
    int fd = open("/proc/self/exe", O_RDONLY), result;

    if (stasis_exclude(shared, length) != STASIS_REFUSED || stasis_exclude(plain + 1, GUEST_PAGE) != STASIS_REFUSED ||
        stasis_exclude(map_of(fd, GUEST_PAGE, both, MAP_PRIVATE, 0), GUEST_PAGE) != STASIS_REFUSED)
        bad("excluded what cannot be: %s", stasis_reason());
    close(fd);
    madvise(wiped, length, MADV_WIPEONFORK);
    madvise(unshared, length, MADV_DONTFORK);
    for (int i = 0; i < 3; i++) {
        fill(ranges[i]);
        if (stasis_exclude(ranges[i] + 8 * GUEST_PAGE, 16 * GUEST_PAGE) || stasis_include(ranges[i] + 16 * GUEST_PAGE, 8 * GUEST_PAGE))
            bad("exclude: %s", stasis_reason());
    }
    memset(heap_page, 'x', HEAP_PAGES * GUEST_PAGE);
    if (stasis_exclude(heap_page, HEAP_PAGES * GUEST_PAGE))
        bad("exclude: %s", stasis_reason());
    if (stasis_exclude(again, length) || munmap(again, length) || mmap(again, length, both, anonymous | MAP_FIXED, -1, 0) != again)
        bad("exclude: %s", stasis_reason());
    fill(again);
    ready();
    until("go");
    result = stasis_checkpoint();
    if (result < 0)
        bad("refused: %s", stasis_reason());
    for (int i = 0; i < 3; i++) {
        check_range(ranges[i], 0, 8, 0);
        check_range(ranges[i], 8, 16, result == STASIS_RESTARTED);
        check_range(ranges[i], 16, RANGE_PAGES, 0);
    }
    check_range(heap_page, 0, HEAP_PAGES, result == STASIS_RESTARTED);
    check_range(again, 0, RANGE_PAGES, 0);
    say(name_of(result));
    if (result == STASIS_RESTARTED) { /* it still holds, and is undone */
        fill(plain);
        fill(wiped);
        stasis_include(wiped, length);
        result = stasis_checkpoint();
        check_range(plain, 8, 16, stasis_restarts() > 1);
        check_range(wiped, 0, RANGE_PAGES, 0);
        say(stasis_restarts() > 1 ? "restarted-again" : "taken-again");
    }
    until("end");
}

static void *thread(void *unused)
{
    (void)unused;
    for (int i = 0; i < 5; i++)
        if (stasis_checkpoint() < 0)
            bad("thread: %s", stasis_reason());
    return NULL;
}

/* Calls of four threads at the same time, one behind the other. */
static void threads(void)
{
    pthread_t made[4];

    ready();
    until("go");
    for (int i = 0; i < 4; i++)
        pthread_create(&made[i], NULL, thread, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(made[i], NULL);
    say("taken");
    until("end");
}

static void absent(void)
{
    static char page[2 * GUEST_PAGE];

    if (stasis_checkpoint() != STASIS_ABSENT || stasis_forbid() != STASIS_ABSENT || stasis_allow() != STASIS_ABSENT ||
        stasis_point() != STASIS_ABSENT || stasis_restarts() != STASIS_ABSENT || stasis_hooks(before, after, NULL) != STASIS_ABSENT ||
        stasis_exclude(page, sizeof page) != STASIS_ABSENT || stasis_include(page, sizeof page) != STASIS_ABSENT || !*stasis_reason())
        bad("somebody is there");
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";

    if (getenv("GUEST_SUBREAPER") && prctl(PR_SET_CHILD_SUBREAPER, 1))
        bad("prctl: %s", strerror(errno));
    if (!strcmp(what, "take"))
        take();
    else if (!strcmp(what, "refuse"))
        refuse();
    else if (!strcmp(what, "forbid"))
        forbid();
    else if (!strcmp(what, "points"))
        points();
    else if (!strcmp(what, "pair"))
        pair();
    else if (!strcmp(what, "tree") || !strcmp(what, "inherit"))
        tree(*what == 'i');
    else if (!strcmp(what, "die") || !strcmp(what, "exec"))
        die(*what == 'e');
    else if (!strcmp(what, "exclude"))
        exclude();
    else if (!strcmp(what, "threads"))
        threads();
    else
        absent();
    puts("OK");
    return 0;
}
