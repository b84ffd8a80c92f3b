/* SPDX-License-Identifier: MIT */
/* files DIRECTORY SECONDS [RECORDS]: reads DIRECTORY/input1 and input2 (made by the test, at least 64 kB each) to and fro, writes
 * output.txt, append.log and records.bin there. What it leaves behind is the same in every run.
 * records.bin is written over from its beginning after RECORDS ticks; with that argument it stops after a third of its way,
 * makes DIRECTORY/at1, and waits for go1, and so again after two thirds. */
#include "guest.h"

#include <sys/stat.h>

enum { HIGH = 63, RECORD = 512 };

static long rounds = 64;
static int output, twin, append, records, input1, input2, null, zero, randoms;
static FILE *stream;

static int must_open(const char *directory, const char *name, int flags)
{
    char path[4096];
    int descriptor;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    descriptor = open(path, flags, 0640);
    if (descriptor < 0)
        bad("%s: %s", path, strerror(errno));
    return descriptor;
}

static void put(int descriptor, const char *text)
{
    size_t length = strlen(text);

    if (write(descriptor, text, length) != (ssize_t)length)
        bad("write to %d: %s", descriptor, strerror(errno));
}

/* `output` and `twin` are one open file with one offset. */
static void write_output(long tick, uint64_t hash)
{
    char line[64];
    off_t at = lseek(output, 0, SEEK_CUR);

    if (at != lseek(twin, 0, SEEK_CUR))
        bad("the copy of a descriptor has its own offset");
    snprintf(line, sizeof line, "%ld %016llx\n", tick, (unsigned long long)hash);
    put(tick % 2 ? output : twin, line);
    if (lseek(output, 0, SEEK_CUR) != at + (off_t)strlen(line))
        bad("offset of the output");
    put(append, line);
    if (fputs(line, stream) < 0)
        bad("stream");
}

static void exercise_records(long tick)
{
    unsigned char record[RECORD];
    off_t at = tick % rounds * RECORD;

    if (tick >= rounds) {
        if (pread(records, record, RECORD, at) != RECORD)
            bad("record %ld: %s", tick, strerror(errno));
        for (int i = 0; i < RECORD; i++)
            if (record[i] != (unsigned char)mix((uint64_t)(tick - rounds) * RECORD + (uint64_t)i))
                bad("record %ld byte %d", tick, i);
    }
    for (int i = 0; i < RECORD; i++)
        record[i] = (unsigned char)mix((uint64_t)tick * RECORD + (uint64_t)i);
    if (pwrite(records, record, RECORD, at) != RECORD)
        bad("record %ld: %s", tick, strerror(errno));
}

/* The next bytes of an input, from its beginning again at its end. */
static uint64_t read_some(int descriptor, uint64_t hash)
{
    unsigned char bytes[700];
    ssize_t count = read(descriptor, bytes, sizeof bytes);

    if (count < 0)
        bad("read: %s", strerror(errno));
    if (count == 0 && lseek(descriptor, 0, SEEK_SET) != 0)
        bad("seek");
    for (ssize_t i = 0; i < count; i++)
        hash = hash * 31 + bytes[i];
    return mix(hash);
}

static void check_flags(void)
{
    if ((fcntl(append, F_GETFL) & (O_APPEND | O_ACCMODE)) != (O_APPEND | O_WRONLY) ||
        (fcntl(records, F_GETFL) & O_ACCMODE) != O_RDWR || (fcntl(input1, F_GETFL) & O_ACCMODE) != O_RDONLY)
        bad("open flags");
    if (fcntl(HIGH, F_GETFD) != FD_CLOEXEC || fcntl(output, F_GETFD) != 0 || fcntl(append, F_GETFD) != FD_CLOEXEC)
        bad("descriptor flags");
    if (fcntl(50, F_GETFD) != -1 || errno != EBADF)
        bad("a descriptor that nobody opened");
}

static void check_devices(void)
{
    unsigned char bytes[64], none[64] = { 0 };

    if (write(null, "x", 1) != 1 || read(null, bytes, 1) != 0)
        bad("/dev/null");
    memset(bytes, 1, sizeof bytes);
    if (read(zero, bytes, sizeof bytes) != sizeof bytes || memcmp(bytes, none, sizeof none))
        bad("/dev/zero");
    if (read(randoms, bytes, sizeof bytes) != sizeof bytes || !memcmp(bytes, none, sizeof none))
        bad("/dev/urandom");
}

static void wait_at(const char *directory, const char *here, const char *go)
{
    char path[4096];

    close(must_open(directory, here, O_WRONLY | O_CREAT));
    snprintf(path, sizeof path, "%s/%s", directory, go);
    while (access(path, F_OK))
        tick_sleep();
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : ".";
    long ticks = ticks_wanted(argc, argv, 2, 5);
    uint64_t hash = 1;

    if (argc > 3)
        rounds = atol(argv[3]);
    output = must_open(directory, "output.txt", O_WRONLY | O_CREAT | O_TRUNC);
    twin = dup(output);
    append = must_open(directory, "append.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC);
    records = must_open(directory, "records.bin", O_RDWR | O_CREAT);
    input1 = must_open(directory, "input1", O_RDONLY);
    input2 = dup3(must_open(directory, "input2", O_RDONLY), HIGH, O_CLOEXEC);
    stream = fdopen(must_open(directory, "stream.txt", O_WRONLY | O_CREAT | O_TRUNC), "w");
    null = must_open("/dev", "null", O_RDWR);
    zero = must_open("/dev", "zero", O_RDONLY);
    randoms = must_open("/dev", "urandom", O_RDONLY);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        if (argc > 3 && tick == ticks / 3)
            wait_at(directory, "at1", "go1");
        if (argc > 3 && tick == ticks * 2 / 3)
            wait_at(directory, "at2", "go2");
        hash = read_some(input1, hash);
        hash = read_some(input2, hash);
        write_output(tick, hash);
        exercise_records(tick);
        check_flags();
        check_devices();
        tick_sleep();
    }
    if (fclose(stream) || close(output) || close(twin) || close(append) || close(records))
        bad("close: %s", strerror(errno));
    printf("OK files %016llx\n", (unsigned long long)hash);
    return 0;
}
