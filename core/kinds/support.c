/* SPDX-License-Identifier: MIT */
/* What several kinds need: refusing, /proc, identities of files, mappings. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "kind.h"

const struct descriptor *step_find(const struct saving *saving, int (*is)(const struct descriptor *descriptor, const void *wanted),
                                   const void *wanted)
{
    for (const struct saving *process = saving->first; process; process = process->next)
        for (size_t i = 0; i < process->descriptor_count; i++)
            if (is(&process->descriptors[i], wanted))
                return &process->descriptors[i];
    return NULL;
}

static int by_pid(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void born_sort(struct born *born)
{
    qsort(born->pids, born->count, sizeof *born->pids, by_pid);
}

int born_has(const struct born *born, int pid)
{
    return bsearch(&pid, born->pids, born->count, sizeof pid, by_pid) != NULL;
}

static int compare_file(const struct stat *a, const struct stat *b)
{
    if (a->st_dev != b->st_dev)
        return a->st_dev < b->st_dev ? -1 : 1;
    return a->st_ino == b->st_ino ? 0 : a->st_ino < b->st_ino ? -1 : 1;
}

static int compare_by_file(const void *a, const void *b)
{
    const struct descriptor *one = *(const struct descriptor *const *)a, *other = *(const struct descriptor *const *)b;
    int order = compare_file(&one->status, &other->status);

    order = order ? order : (int)one->holder->index - (int)other->holder->index;
    return order ? order : one->number - other->number;
}

int descriptors_sort(struct saving *first)
{
    size_t count = 0;

    for (const struct saving *process = first; process; process = process->next)
        count += process->descriptor_count;
    first->by_file = calloc(count + 1, sizeof *first->by_file);
    if (!first->by_file)
        return -ENOMEM;
    for (const struct saving *process = first; process; process = process->next)
        for (size_t i = 0; i < process->descriptor_count; i++)
            first->by_file[first->by_file_count++] = &process->descriptors[i];
    qsort(first->by_file, count, sizeof *first->by_file, compare_by_file);
    return 0;
}

const struct descriptor *step_find_file(const struct saving *saving, const struct stat *file,
                                        int (*is)(const struct descriptor *descriptor, const void *wanted), const void *wanted)
{
    const struct descriptor **all = saving->first->by_file;
    size_t low = 0, count = saving->first->by_file_count, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_file(&all[middle]->status, file) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < count && !compare_file(&all[low]->status, file); low++)
        if (is(all[low], wanted))
            return all[low];
    return NULL;
}

int refuse(struct saving *saving, const char *name, const char *format, ...)
{
    va_list arguments;
    size_t at;

    if (saving->refusal[0])
        return -ENOTSUP;
    at = (size_t)snprintf(saving->refusal, sizeof saving->refusal, "%s: ", name);
    va_start(arguments, format);
    vsnprintf(saving->refusal + at, sizeof saving->refusal - at, format, arguments);
    va_end(arguments);
    return -ENOTSUP;
}

int save_record(struct saving *saving, uint16_t tag, const void *record, size_t length)
{
    return save_record_with_text(saving, tag, record, length, NULL);
}

int save_record_with_text(struct saving *saving, uint16_t tag, const void *record, size_t length, const char *text)
{
    struct buffer payload = { 0 };
    int error;

    buffer_add(&payload, record, length);
    if (text)
        buffer_add_text(&payload, text);
    error = image_write_record(saving->writer, tag, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&payload);
    return error;
}

/* Once: several records may be of one file. */
static void add_line(struct buffer *lines, const char *format, va_list arguments)
{
    char line[MAX_PATH + 512];

    vsnprintf(line, sizeof line - 1, format, arguments);
    strcat(line, "\n");
    if (!lines->length || !memmem(lines->bytes, lines->length, line, strlen(line)))
        buffer_add(lines, line, strlen(line));
}

int missing(struct restoring *restoring, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add_line(&restoring->missing, format, arguments);
    va_end(arguments);
    return 0;
}

int adapted(struct restoring *restoring, const char *name, const char *format, ...)
{
    char sentence[MAX_PATH + 256];
    va_list arguments;

    va_start(arguments, format);
    if (restoring->policy.strict) {
        vsnprintf(sentence, sizeof sentence, format, arguments);
        missing(restoring, "%s: %s, and --strict forbids that", name, sentence);
    } else
        add_line(&restoring->adapted, format, arguments);
    va_end(arguments);
    return 0;
}

void needs_bubble(struct restoring *restoring, const char *what)
{
    if (!restoring->bubble_for)
        restoring->bubble_for = what;
}

char *read_all(int fd, size_t *ret_length)
{
    size_t length = 0, room = 1 << 16;
    char *text = malloc(room);

    while (text) {
        ssize_t got = read(fd, text + length, room - length - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(text);
            return NULL;
        }
        length += (size_t)got;
        if (!got)
            break;
        if (room - length < 1 << 15) {
            char *larger = realloc(text, room *= 2);
            if (!larger)
                free(text);
            text = larger;
        }
    }
    if (text)
        text[length] = 0;
    if (ret_length)
        *ret_length = length;
    return text;
}

char *proc_read(int pid, const char *name, size_t *ret_length)
{
    char path[128];
    char *text;
    int fd, error;

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    text = read_all(fd, ret_length);
    error = errno;
    close(fd);
    errno = error;
    return text;
}

char *proc_variable(int pid, const char *name)
{
    size_t length = 0, at = 0, of_name = strlen(name);
    char *text = proc_read(pid, "environ", &length), *value = NULL;

    for (; text && !value && at < length; at += strlen(text + at) + 1)
        if (!strncmp(text + at, name, of_name) && text[at + of_name] == '=')
            value = strdup(text + at + of_name + 1);
    free(text);
    return value;
}

char *proc_link(int pid, const char *name)
{
    char path[128], target[MAX_PATH];
    ssize_t length;

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    length = readlink(path, target, sizeof target - 1);
    if (length < 0)
        return NULL;
    target[length] = 0;
    return strdup(target);
}

const char *status_field(const char *status, const char *key)
{
    size_t length = strlen(key);

    for (const char *line = status; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, length) && line[length] == ':') {
            line += length + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

int proc_stat(int pid, uint64_t fields[STAT_FIELDS])
{
    char *text = proc_read(pid, "stat", NULL), *at = text ? strrchr(text, ')') : NULL;

    memset(fields, 0, STAT_FIELDS * sizeof *fields);
    if (!at) {
        free(text);
        return -ESRCH;
    }
    fields[STAT_STATE] = (uint64_t)at[2];
    at += 3;
    for (int i = STAT_PARENT; i < STAT_FIELDS; i++)
        fields[i] = strtoull(at, &at, 10);
    free(text);
    return 0;
}

int proc_state(int pid)
{
    uint64_t fields[STAT_FIELDS];
    return proc_stat(pid, fields) ? 0 : (int)fields[STAT_STATE];
}

int proc_has_ended(int pid)
{
    int state = proc_state(pid);
    return !state || state == 'Z' || state == 'X';
}

int proc_is_named(int pid, const char *name)
{
    char *comm = proc_read(pid, "comm", NULL);
    size_t length = strlen(name);
    int is = comm && !strncmp(comm, name, length) && comm[length] == '\n';

    free(comm);
    return is;
}

static void children_of_thread(int pid, const char *thread, void (*each)(void *context, int child), void *context)
{
    char path[64], *list;

    snprintf(path, sizeof path, "task/%.16s/children", thread);
    list = proc_read(pid, path, NULL);
    for (char *at = list; at && *at; at += strspn(at, " \n"))
        each(context, (int)strtol(at, &at, 10));
    free(list);
}

int proc_threads(int pid)
{
    char path[64];
    struct stat status;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    return stat(path, &status) ? 0 : (int)status.st_nlink - 2;
}

void proc_children(int pid, void (*each)(void *context, int child), void *context)
{
    char path[64];
    struct dirent *task;
    DIR *tasks;

    if (proc_threads(pid) == 1) {
        snprintf(path, sizeof path, "%d", pid);
        children_of_thread(pid, path, each, context);
        return;
    }
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    tasks = opendir(path);
    while (tasks && (task = readdir(tasks)))
        if (task->d_name[0] != '.')
            children_of_thread(pid, task->d_name, each, context);
    if (tasks)
        closedir(tasks);
}

/* Content by a mapping: the kernel's readahead is then the only copy. */
static int hash_file(int fd, uint64_t size, uint64_t *ret_hash)
{
    void *bytes;

    *ret_hash = 1;
    if (!size)
        return 0;
    bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    *ret_hash = XXH3_64bits(bytes, size);
    munmap(bytes, size);
    if (!*ret_hash)
        *ret_hash = 1;
    return 0;
}

/* The processes of a step have many files in common, and a large one takes long to read. */
static int hash_once(int fd, const struct stat *file, uint64_t *ret_hash)
{
    enum { KNOWN = 64 };
    static struct {
        struct stat file;
        uint64_t hash;
    } known[KNOWN];
    static unsigned next;
    int error;

    for (int i = 0; i < KNOWN; i++) {
        const struct stat *other = &known[i].file;
        if (other->st_ino == file->st_ino && other->st_dev == file->st_dev && other->st_size == file->st_size &&
            !memcmp(&other->st_mtim, &file->st_mtim, sizeof file->st_mtim) && !memcmp(&other->st_ctim, &file->st_ctim, sizeof file->st_ctim)) {
            *ret_hash = known[i].hash;
            return 0;
        }
    }
    error = hash_file(fd, (uint64_t)file->st_size, ret_hash);
    if (!error) {
        known[next].file = *file;
        known[next].hash = *ret_hash;
        next = (next + 1) % KNOWN;
    }
    return error;
}

int file_identity_take(const char *path, int with_hash, struct file_identity *identity)
{
    struct stat status;
    int fd = -1, error = 0;

    memset(identity, 0, sizeof *identity);
    if (with_hash && (fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
        return -errno;
    if (fd >= 0 ? fstat(fd, &status) : stat(path, &status))
        error = -errno;
    else if (!S_ISREG(status.st_mode))
        error = -EINVAL;
    if (!error) {
        identity->size = (uint64_t)status.st_size;
        identity->mtime_seconds = status.st_mtim.tv_sec;
        identity->mtime_nanoseconds = status.st_mtim.tv_nsec;
        if (with_hash)
            error = hash_once(fd, &status, &identity->hash);
    }
    if (fd >= 0)
        close(fd);
    return error;
}

int file_identity_check(struct restoring *restoring, const char *path, const struct file_identity *then)
{
    struct file_identity now;
    int error = file_identity_take(path, then->hash != 0, &now);

    if (error) {
        missing(restoring, "R-FILE-MISSING: %s: %s; put the file back", path, strerror(-error));
        return 0;
    }
    if (now.size != then->size) {
        missing(restoring, "R-FILE-CHANGED: %s: its size was %" PRIu64 " at the checkpoint and is %" PRIu64 " now", path,
                then->size, now.size);
        return 0;
    }
    if (then->hash ? now.hash != then->hash
                   : now.mtime_seconds != then->mtime_seconds || now.mtime_nanoseconds != then->mtime_nanoseconds) {
        missing(restoring, "R-FILE-CHANGED: %s: its %s is not that of the checkpoint", path,
                then->hash ? "content" : "modification time");
        return 0;
    }
    return 1;
}

void proc_clock_offsets(int pid, int64_t offsets[2])
{
    static const char *const names[2] = { "monotonic", "boottime" };
    char *text = proc_read(pid, "timens_offsets", NULL);

    for (int i = 0; i < 2; i++) {
        const char *line = text ? strstr(text, names[i]) : NULL;
        int64_t seconds = 0, nanoseconds = 0;
        if (line)
            sscanf(line + strlen(names[i]), "%" SCNd64 " %" SCNd64, &seconds, &nanoseconds);
        offsets[i] = seconds * 1000000000 + nanoseconds;
    }
    free(text);
}

int64_t clock_now(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void clocks_look(struct saving *saving)
{
    static int64_t own[2];
    static int is_known;

    if (!is_known)
        proc_clock_offsets(getpid(), own);
    is_known = 1;
    proc_clock_offsets(saving->pid, saving->clocks_ahead);
    for (int i = 0; i < 2; i++)
        saving->clocks_ahead[i] -= own[i];
}

int64_t clock_ahead(const struct saving *saving, clockid_t clock)
{
    return clock == CLOCK_MONOTONIC ? saving->clocks_ahead[0] : clock == CLOCK_BOOTTIME ? saving->clocks_ahead[1] : 0;
}

static int compare_number(const void *number, const void *descriptor)
{
    return *(const int *)number - ((const struct descriptor *)descriptor)->number;
}

const struct descriptor *descriptor_numbered(const struct saving *saving, int number)
{
    return bsearch(&number, saving->descriptors, saving->descriptor_count, sizeof *saving->descriptors, compare_number);
}

char *descriptor_info(const struct descriptor *descriptor)
{
    char name[32];

    snprintf(name, sizeof name, "fdinfo/%d", descriptor->number);
    return proc_read(descriptor->holder->look, name, NULL);
}

void descriptor_describe(const struct descriptor *descriptor, struct descriptor_record *record)
{
    *record = (struct descriptor_record){ .number = descriptor->number, .flags = descriptor->flags,
                                          .position = descriptor->position, .same_as = descriptor->same_as };
}

static int duplicate_to(int fd, const struct descriptor_record *record)
{
    return dup3(fd, record->number, record->flags & O_CLOEXEC) < 0 ? -errno : 0;
}

int descriptor_place(const struct descriptor_record *record, int fd)
{
    int error;

    if (fd == record->number)
        return fcntl(fd, F_SETFD, record->flags & O_CLOEXEC ? FD_CLOEXEC : 0) ? -errno : 0;
    error = duplicate_to(fd, record);
    close(fd);
    return error;
}

int descriptor_lift(const struct restoring *restoring, int fd)
{
    int high;

    if (fd < 0)
        return fd;
    high = fcntl(fd, F_DUPFD_CLOEXEC, restoring->highest + 1);
    if (high < 0)
        high = -errno;
    close(fd);
    return high;
}

int descriptor_share(const struct descriptor_record *record)
{
    return duplicate_to(record->same_as, record);
}

int descriptor_take(struct reader *reader, void *record, size_t length)
{
    const struct descriptor_record *descriptor = record;
    int error = reader_take(reader, record, length);

    if (error || descriptor->same_as == descriptor->number)
        return error;
    error = descriptor_share(descriptor);
    return error ? error : 1;
}

int descriptor_is_first(const struct descriptor *descriptor)
{
    return descriptor->same_as == descriptor->number && !descriptor->shares;
}

int descriptor_is_at_target(const struct descriptor *descriptor)
{
    struct stat there;

    return descriptor->target[0] == '/' && !lstat(descriptor->target, &there) && there.st_dev == descriptor->status.st_dev &&
           there.st_ino == descriptor->status.st_ino;
}

int descriptor_open(const struct descriptor_record *record, const char *path)
{
    int fd;

    if (record->same_as != record->number)
        return descriptor_share(record);
    fd = open(path, (record->flags & ~(O_CLOEXEC | O_CREAT | O_EXCL | O_TRUNC)) | O_NOCTTY);
    return fd < 0 ? -errno : descriptor_place(record, fd);
}

void show_text(const char *what, FILE *out)
{
    for (; *what; what++)
        fputc((unsigned char)*what < ' ' || *what == 0x7f ? '?' : *what, out);
}

void descriptor_show(const struct descriptor_record *record, const char *what, FILE *out)
{
    static const char *const modes[] = { "read", "write", "read-write", "path" };

    fprintf(out, "  %d: ", record->number);
    show_text(what, out);
    fprintf(out, ", %s%s", modes[record->flags & O_ACCMODE], record->flags & O_APPEND ? ", append" : "");
    if (record->same_as != record->number)
        fprintf(out, ", shared with %d", record->same_as);
    fputc('\n', out);
}

/* maps writes a newline in a name as \\012, and nothing else in this way (proc(5)). */
static void unescape(char *name)
{
    for (char *at = name; (at = strstr(at, "\\012")); at++) {
        *at = '\n';
        memmove(at + 1, at + 4, strlen(at + 4) + 1);
    }
}

/* A number and the character behind it, as proc_pid_maps(5) has them; what does not fit makes *at NULL. */
static uint64_t take_number(char **at, int base, char behind)
{
    char *end = *at;
    uint64_t number = end ? strtoull(end, &end, base) : 0;

    *at = end && end != *at && *end == behind ? end + 1 : NULL;
    return number;
}

static int parse_line(char *line, struct mapping *mapping)
{
    uint64_t major;

    memset(mapping, 0, sizeof *mapping);
    mapping->start = take_number(&line, 16, '-');
    mapping->end = take_number(&line, 16, ' ');
    if (!line || strnlen(line, 5) < 5)
        return -EPROTO;
    mapping->readable = line[0] == 'r';
    mapping->writable = line[1] == 'w';
    mapping->executable = line[2] == 'x';
    mapping->shared = line[3] == 's';
    line += 5;
    mapping->offset = take_number(&line, 16, ' ');
    major = take_number(&line, 16, ':');
    mapping->device = major << 32 | take_number(&line, 16, ' ');
    mapping->inode = take_number(&line, 10, ' ');
    if (!line)
        return -EPROTO;
    mapping->name = strdup(line + strspn(line, " "));
    if (mapping->name)
        unescape(mapping->name);
    return mapping->name ? 0 : -ENOMEM;
}

int mappings_parse(const char *maps, struct mappings *mappings)
{
    char *copy = strdup(maps), *rest = copy, *line;
    size_t room = 0;
    int error = copy ? 0 : -ENOMEM;

    memset(mappings, 0, sizeof *mappings);
    while (!error && (line = strsep(&rest, "\n")) && *line) {
        if (mappings->count == room) {
            room = room ? room * 2 : 256;
            struct mapping *items = realloc(mappings->items, room * sizeof *items);
            if (!items) {
                error = -ENOMEM;
                break;
            }
            mappings->items = items;
        }
        error = parse_line(line, &mappings->items[mappings->count]);
        mappings->count += !error;
    }
    free(copy);
    return error;
}

static uint32_t flag_bits(const char *words)
{
    static const struct {
        char word[3];
        uint32_t flag;
    } known[] = {
        { "gd", MAPPING_GROWS_DOWN }, { "nr", MAPPING_NO_RESERVE }, { "lo", MAPPING_LOCKED },
        { "hg", MAPPING_HUGE },       { "nh", MAPPING_NO_HUGE },    { "dc", MAPPING_DONT_FORK },
        { "wf", MAPPING_WIPE_ON_FORK }, { "dd", MAPPING_DONT_DUMP }, { "mg", MAPPING_MERGEABLE },
        { "sl", MAPPING_SEALED },     { "lf", MAPPING_LOCKED_ON_FAULT }, { "sr", MAPPING_SEQUENTIAL },
        { "rr", MAPPING_RANDOM },     { "ac", MAPPING_ACCOUNTED },  { "dp", MAPPING_DROPPABLE },
        { "mw", MAPPING_MAY_WRITE },  { "ht", MAPPING_POOL },       { "ss", MAPPING_SHADOW_STACK },
    };
    uint32_t flags = 0;

    for (; words[0] && words[0] != '\n'; words += words[2] == ' ' ? 3 : 2)
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (!strncmp(words, known[i].word, 2))
                flags |= known[i].flag;
    return flags;
}

/* Both lists are sorted; smaps may lack mappings that a twin does not have. */
void mappings_add_flags(struct mappings *mappings, const char *smaps)
{
    size_t at = 0;
    uint64_t start = 0;

    for (const char *line = smaps; line && *line; line = strchr(line, '\n'), line += line && *line) {
        if (*line >= 'A' && *line <= 'Z') {
            int flags = !strncmp(line, "VmFlags: ", 9), key = !strncmp(line, "ProtectionKey: ", 15);
            if (!flags && !key)
                continue;
            while (at < mappings->count && mappings->items[at].start < start)
                at++;
            if (at == mappings->count || mappings->items[at].start != start)
                continue;
            if (flags)
                mappings->items[at].flags |= flag_bits(line + 9);
            else
                mappings->items[at].key = (uint32_t)strtoul(line + 15, NULL, 10);
        } else
            start = strtoull(line, NULL, 16); /* sscanf would measure all that is left of the text, each time */
    }
}

void mappings_free(struct mappings *mappings)
{
    for (size_t i = 0; i < mappings->count; i++)
        free(mappings->items[i].name);
    free(mappings->items);
    memset(mappings, 0, sizeof *mappings);
}
