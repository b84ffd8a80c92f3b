/* SPDX-License-Identifier: MIT */
/* A program makes its page when it is asked to, for most never are: asked with the stop signal and VALUE_REGISTER. That
 * would kill a process without our handler, so it is sent only where /proc shows that the handler is there. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../floor/agent_page.h"
#include "../floor/syscalls.h"
#include "registry.h"

enum { LOOK_MILLISECONDS = 5, ASK_AGAIN_MILLISECONDS = 200 };

/* What /proc tells of a process that may be asked. */
struct state {
    int is_here;
    int handles;  /* has a handler for the stop signal, */
    int ignores;  /* or none and ignores it; */
    int blocks;   /* its main thread blocks it */
    int threads;
    int is_stopped;
    int is_headless; /* the main thread has ended, others run on */
};

static struct state look_at(pid_t pid)
{
    struct state state = { 0 };
    char path[64], line[256], letter = 0;
    unsigned long long caught = 0, blocked = 0, ignored = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "re");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "State: %c", &letter) != 1 && sscanf(line, "Threads: %d", &state.threads) != 1 &&
            sscanf(line, "SigBlk: %llx", &blocked) != 1 && sscanf(line, "SigIgn: %llx", &ignored) != 1)
            sscanf(line, "SigCgt: %llx", &caught);
    if (status)
        fclose(status);
    state.is_headless = letter == 'Z' && state.threads > 1;
    state.is_here = state.is_headless || (letter && letter != 'Z' && letter != 'X');
    state.is_stopped = letter == 'T';
    state.handles = caught >> (STOP_SIGNAL - 1) & 1;
    state.ignores = ignored >> (STOP_SIGNAL - 1) & 1;
    state.blocks = blocked >> (STOP_SIGNAL - 1) & 1;
    return state;
}

/* Does a file of /proc/PID hold the text? -EACCES and the like when it cannot be read; -ENODATA: it is empty. */
static int file_holds(pid_t pid, const char *name, const char *text)
{
    char path[64], *bytes = NULL;
    size_t room = 0;
    int found = -ENODATA;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    while (found != 1 && getdelim(&bytes, &room, *name == 'e' ? 0 : '\n', file) > 0)
        found = strstr(bytes, text) != NULL;
    if (ferror(file))
        found = -EACCES;
    free(bytes);
    fclose(file);
    return found;
}

/* A thread besides the main one, which has no memory any more. 0: there is none. */
static pid_t other_thread(pid_t pid)
{
    char path[64];
    struct dirent *entry;
    pid_t thread = 0;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    while (threads && (!thread || thread == pid) && (entry = readdir(threads)))
        thread = atoi(entry->d_name);
    if (threads)
        closedir(threads);
    return thread;
}

/* Whose maps may not be read has made itself undumpable; nothing but our handler is known to use that signal. */
static int can_be_asked(pid_t pid, const struct state *state)
{
    pid_t thread = state->is_headless ? other_thread(pid) : pid; /* /proc has threads, too, if it does not list them */
    int holds = state->is_here && state->handles ? file_holds(thread, "maps", "/" SHIM_NAME) : 0;
    return holds == 1 || holds == -EACCES || holds == -EPERM;
}

/* One that will not answer, or not yet. */
static int is_deaf(pid_t pid, const struct state *state)
{
    return state->is_here && state->ignores && file_holds(pid, "maps", "/" SHIM_NAME) == 1;
}

/* In exec, in whose middle the arguments are empty as well, or not yet in the shim's constructor. */
static int is_being_born(pid_t pid, const struct state *state)
{
    int holds = state->is_here && !state->handles ? file_holds(pid, "environ", SHIM_NAME) : 0;
    return holds == 1 || (holds == -ENODATA && file_holds(pid, "cmdline", SHIM_NAME) == -ENODATA);
}

/* Such a one has nobody who could answer. And in a child of posix_spawn, which has all signals blocked, the signal would wait
 * until our handler is gone, and then kill. */
static int is_closed(const struct state *state)
{
    return state->blocks && state->threads == 1;
}

static void ask(pid_t pid)
{
    sigqueue(pid, STOP_SIGNAL, (union sigval){ .sival_ptr = (void *)VALUE_REGISTER });
}

static int64_t now_milliseconds(void)
{
    return sys_clock(CLOCK_MONOTONIC) / 1000000;
}

static int is_among(pid_t pid, const struct program *programs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (programs[i].pid == pid)
            return 1;
    return 0;
}

static int has_page(pid_t pid)
{
    struct program *programs = NULL;
    size_t count = 0;
    int has = !programs_find(&programs, &count) && is_among(pid, programs, count);

    free(programs);
    return has;
}

/* A job-stopped one is woken to make its page, and stopped again. */
static enum summoned ask_until(pid_t pid, int64_t end)
{
    int64_t asked = -ASK_AGAIN_MILLISECONDS;
    int woken = 0, registered, spare = has_page(pid) ? -1 : spare_lay(pid);

    while (!(registered = has_page(pid)) && now_milliseconds() < end) {
        struct state state = look_at(pid);
        if (can_be_asked(pid, &state)) {
            if (!is_closed(&state) && now_milliseconds() - asked >= ASK_AGAIN_MILLISECONDS) {
                ask(pid);
                asked = now_milliseconds();
            }
            if (state.is_stopped && !kill(pid, SIGCONT))
                woken = 1;
        } else if (!is_being_born(pid, &state) && !is_deaf(pid, &state)) {
            spare_take_away(spare);
            return SUMMON_STRANGER;
        }
        poll(NULL, 0, LOOK_MILLISECONDS);
    }
    spare_take_away(spare);
    if (woken)
        kill(pid, SIGSTOP);
    return registered ? SUMMON_CAME : SUMMON_SILENT;
}

enum summoned summon(pid_t pid, int64_t milliseconds)
{
    int64_t now = now_milliseconds();
    return ask_until(pid, milliseconds < INT64_MAX - now ? now + milliseconds : INT64_MAX);
}

enum summoned summon_look(pid_t pid, int may_ask)
{
    struct state state = look_at(pid);

    if (can_be_asked(pid, &state)) {
        if (may_ask && !is_closed(&state))
            ask(pid);
        return SUMMON_SILENT;
    }
    return is_being_born(pid, &state) || is_deaf(pid, &state) ? SUMMON_SILENT : SUMMON_STRANGER;
}

int summon_is_ignored(pid_t pid)
{
    struct state state = look_at(pid);
    return state.is_here && state.ignores;
}

/* 0: root, who may ask everybody. */
static int is_owned_by(const char *process, uid_t owner)
{
    char path[64];
    struct stat status;

    snprintf(path, sizeof path, "/proc/%.32s", process);
    return isdigit((unsigned char)*process) && !stat(path, &status) && (!owner || status.st_uid == owner);
}

/* One that summon_all waits for. */
struct awaited {
    pid_t pid;
    int is_asked;
};

/* Whom to wait for: all that can be asked and have no page; how many. */
static size_t find_awaited(struct awaited **ret_awaited)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    struct program *programs = NULL;
    size_t count = 0, known = 0;

    if (programs_find(&programs, &known))
        known = 0;
    while (processes && (entry = readdir(processes))) {
        pid_t pid = atoi(entry->d_name);
        struct awaited *more;
        if (!is_owned_by(entry->d_name, geteuid()))
            continue;
        struct state state = look_at(pid);
        if (state.is_stopped || is_among(pid, programs, known) || !can_be_asked(pid, &state))
            continue;
        more = reallocarray(*ret_awaited, count + 1, sizeof *more);
        if (!more)
            break;
        *ret_awaited = more;
        more[count++] = (struct awaited){ .pid = pid };
    }
    if (processes)
        closedir(processes);
    free(programs);
    return count;
}

/* Asks who has not been asked and is open now. Who makes its page is closed meanwhile, for it is in our handler. How many
 * are still expected to come. */
static size_t ask_awaited(struct awaited *awaited, size_t count)
{
    struct program *programs = NULL;
    size_t left = 0, known = 0;

    if (count && programs_find(&programs, &known))
        return 0;
    for (size_t i = 0; i < count; i++) {
        struct awaited one = awaited[i];
        struct state state = look_at(one.pid);
        if (is_among(one.pid, programs, known) || !can_be_asked(one.pid, &state))
            continue;
        if (!one.is_asked && !is_closed(&state)) {
            ask(one.pid);
            one.is_asked = 1;
        }
        awaited[left++] = one;
    }
    free(programs);
    return left;
}

size_t summon_all(int64_t milliseconds)
{
    int64_t end = now_milliseconds() + milliseconds;
    struct awaited *awaited = NULL;
    size_t count = find_awaited(&awaited);

    while ((count = ask_awaited(awaited, count)) && now_milliseconds() < end)
        poll(NULL, 0, LOOK_MILLISECONDS);
    free(awaited);
    return count;
}
