/* SPDX-License-Identifier: MIT */
/* Images that are whole, and all the ways in which one is not. argv[1]: small-v1.ckpt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../core/image/checksum.h"
#include "../../core/image/commit.h"
#include "../../core/image/entry.h"
#include "../../core/image/read.h"
#include "sample.h"

enum { SAMPLE_TABLE_RECORDS = 2, NOBODY_UID = 65534 };

static const char *small_path = "tests/image/small-v1.ckpt";
static char *directory;
static char path[MAX_PATH]; /* of the small image in it */

static int setup(void **state)
{
    (void)state;
    directory = sample_directory();
    snprintf(path, sizeof path, "%s/7.0.ckpt", directory);
    return sample_write(directory, "7.0.ckpt", 0x11, 4, 0);
}

static int teardown(void **state)
{
    (void)state;
    sample_remove(directory);
    return 0;
}

/* What image_open says, or else image_verify. */
static int whole(const char *where)
{
    struct image image;
    int error = image_open(&image, where);

    if (!error)
        error = image_verify(&image);
    if (error && !*image.reason)
        fail_msg("no reason given for %s", strerror(-error));
    image_close(&image);
    image_close(&image);
    return error;
}

static void *slurp(const char *where, size_t *ret_length)
{
    struct stat file;
    int descriptor = open(where, O_RDONLY | O_CLOEXEC);

    assert_true(descriptor >= 0);
    assert_int_equal(fstat(descriptor, &file), 0);
    *ret_length = (size_t)file.st_size;
    void *bytes = malloc(*ret_length + 1);
    assert_int_equal(read(descriptor, bytes, *ret_length), file.st_size);
    close(descriptor);
    return bytes;
}

static void spill(const char *where, const void *bytes, size_t length)
{
    int descriptor = open(where, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, bytes, length), length);
    close(descriptor);
}

/* --- round trip --- */

enum { THREADS = 2, BLOCKS_EACH = 40, GAP_PAGES = 3 };

struct writing {
    struct image_writer *writer;
    unsigned thread;
    struct buffer table;
    int error;
};

/* Block `i` of a thread has 1 + i * 7 pages (256 at most), in runs of 1, 2, 3 ... pages with gaps between them. */
static unsigned pages_of(unsigned i)
{
    unsigned pages = 1 + i * 7;
    return pages < BLOCK_PAGES ? pages : BLOCK_PAGES;
}

static uint64_t address_of(unsigned thread, unsigned i)
{
    return ((uint64_t)thread << 40) + ((uint64_t)(i + 1) << 24);
}

static uint16_t add_runs(struct buffer *runs, uint64_t address, unsigned pages)
{
    uint16_t count = 0;

    while (pages) {
        unsigned now = count + 1u < pages ? count + 1u : pages;
        struct run_record run = { address, now };
        buffer_add(runs, &run, sizeof run);
        address += (now + GAP_PAGES) * (uint64_t)PAGE_BYTES;
        pages -= now;
        count++;
    }
    return count;
}

static void *write_blocks(void *context)
{
    struct writing *writing = context;
    uint8_t *bytes = malloc(BLOCK_BYTES);

    for (unsigned i = 0; i < BLOCKS_EACH && !writing->error; i++) {
        struct block_record block = { 0 };
        struct buffer runs = { 0 };
        for (unsigned page = 0; page < pages_of(i); page++)
            sample_page(writing->thread * 1000 + i + page, bytes + page * PAGE_BYTES);
        block.run_count = add_runs(&runs, address_of(writing->thread, i), pages_of(i));
        writing->error = image_write_block(writing->writer, bytes, pages_of(i) * (size_t)PAGE_BYTES, &block);
        buffer_add(&writing->table, &block, sizeof block);
        buffer_add(&writing->table, runs.bytes, runs.length);
        buffer_free(&runs);
    }
    free(bytes);
    return NULL;
}

/* Memory as of a restart: the gaps stay as they are. */
static void *place_in_memory(void *context, uint64_t address, uint64_t pages)
{
    (void)pages;
    return (uint8_t *)context + (address & 0xffffff);
}

static void check_memory(const uint8_t *memory, unsigned thread, unsigned i)
{
    uint8_t expected[PAGE_BYTES];
    unsigned page = 0, run = 1;

    while (page < pages_of(i)) {
        for (unsigned in_run = 0; in_run < run && page < pages_of(i); in_run++, page++, memory += PAGE_BYTES) {
            sample_page(thread * 1000 + i + page, expected);
            assert_memory_equal(memory, expected, PAGE_BYTES);
        }
        for (unsigned gap = 0; gap < GAP_PAGES * PAGE_BYTES; gap++)
            assert_int_equal(memory[gap], 0xee);
        memory += GAP_PAGES * PAGE_BYTES;
        run++;
    }
}

static void write_big(const char *name)
{
    struct image_writer writer;
    struct writing writing[THREADS] = { 0 };
    pthread_t threads[THREADS];
    char where[MAX_PATH];

    assert_int_equal(image_writer_open(&writer, directory, name), 0);
    sample_header(&writer, 0x22, 1);
    for (unsigned i = 0; i < THREADS; i++) {
        writing[i].writer = &writer;
        writing[i].thread = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_blocks, &writing[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(writing[i].error, 0);
        assert_int_equal(image_write_record(&writer, TAG_BLOCKS, RECORD_REQUIRED, i, &writing[i].table), 0);
        buffer_free(&writing[i].table);
    }
    assert_int_equal(image_write_end(&writer), 0);
    assert_int_equal(image_commit(&writer, name, 0, where), 0);
    image_writer_close(&writer);
    image_writer_close(&writer);
}

static void many_blocks_from_two_threads_come_back(void **state)
{
    struct image image;
    const size_t bytes = 2u << 20;
    uint8_t *memory = malloc(bytes + GAP_PAGES * PAGE_BYTES);
    char where[MAX_PATH];

    (void)state;
    write_big("8.0.ckpt");
    snprintf(where, sizeof where, "%s/8.0.ckpt", directory);
    assert_int_equal(image_open(&image, where), 0);
    assert_int_equal(image.block_count, THREADS * BLOCKS_EACH);
    for (size_t at = 0; at < image.block_count; at++) {
        const struct image_block *block = &image.blocks[at];
        unsigned i = (unsigned)(at % BLOCKS_EACH);
        assert_int_equal(block->process, at / BLOCKS_EACH);
        assert_int_equal(block->runs[0].address, address_of(block->process, i));
        memset(memory, 0xee, bytes + GAP_PAGES * PAGE_BYTES);
        assert_int_equal(image_read_block(&image, block, place_in_memory, memory), 0);
        check_memory(memory, block->process, i);
    }
    assert_int_equal(image_verify(&image), 0);
    image_close(&image);
    free(memory);
}

static void *place_nowhere(void *context, uint64_t address, uint64_t pages)
{
    (void)context, (void)address, (void)pages;
    return NULL;
}

static void a_block_without_a_place_is_a_fault(void **state)
{
    struct image image;

    (void)state;
    assert_int_equal(image_open(&image, path), 0);
    assert_int_equal(image_read_block(&image, &image.blocks[0], place_nowhere, NULL), -EFAULT);
    image_close(&image);
}

static void an_image_of_nothing_is_whole(void **state)
{
    struct image_writer writer;
    struct image image;
    char where[MAX_PATH];

    (void)state;
    assert_int_equal(image_writer_open(&writer, directory, "9.0.ckpt"), 0);
    memset(writer.header.command, 'x', sizeof writer.header.command); /* too long: is cut */
    assert_int_equal(image_write_end(&writer), 0);
    assert_int_equal(image_commit(&writer, "9.0.ckpt", 0, where), 0);
    image_writer_close(&writer);
    assert_int_equal(image_open(&image, where), 0);
    assert_int_equal(image.block_count, 0);
    assert_int_equal(strlen(image.header.command), sizeof image.header.command - 1);
    image_close(&image);
}

static void images_are_private(void **state)
{
    struct stat file;
    mode_t old = umask(0777);

    (void)state;
    assert_int_equal(sample_write(directory, "7.0.ckpt", 0x11, 4, 0), 0);
    umask(old);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode, S_IFREG | 0600);
    assert_int_equal(file.st_nlink, 1);
}

/* --- damage --- */

static void every_flipped_byte_is_found(void **state)
{
    static const uint8_t flips[] = { 0x01, 0x80, 0xff };
    size_t length;
    uint8_t *bytes = slurp(path, &length);
    int descriptor = open(path, O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(whole(path), 0);
    for (size_t at = 0; at < length; at++) {
        uint8_t flipped = bytes[at] ^ flips[at % sizeof flips];
        assert_int_equal(pwrite(descriptor, &flipped, 1, (off_t)at), 1);
        int error = whole(path);
        if (error != -EBADMSG && !(error == -ENOEXEC && at < sizeof(uint64_t)))
            fail_msg("byte %zu flipped: %s", at, error ? strerror(-error) : "not seen");
        assert_int_equal(pwrite(descriptor, &bytes[at], 1, (off_t)at), 1);
    }
    assert_int_equal(whole(path), 0);
    close(descriptor);
    free(bytes);
}

static void every_cut_is_found(void **state)
{
    size_t length;
    uint8_t *bytes = slurp(path, &length);

    (void)state;
    bytes[length] = 0;
    spill(path, bytes, length + 1);
    assert_int_equal(whole(path), -EBADMSG);
    for (size_t cut = length; cut-- > 0;) {
        assert_int_equal(truncate(path, (off_t)cut), 0);
        int error = whole(path);
        if (error != -EBADMSG)
            fail_msg("cut to %zu bytes: %s", cut, error ? strerror(-error) : "not seen");
    }
    free(bytes);
}

/* --- forged: wrong, but every checksum is right --- */

struct forged {
    uint8_t *bytes;
    size_t length;
    struct file_header *header;
    uint8_t *index;
    struct record_header *records[SAMPLE_TABLE_RECORDS]; /* the process, the table of blocks */
    struct block_record *blocks[SAMPLE_BLOCKS];
    struct run_record *runs[SAMPLE_BLOCKS];
    int bad_record, bad_index; /* leave these checksums as they are */
};

static void forged_load(struct forged *forged)
{
    memset(forged, 0, sizeof *forged);
    forged->bytes = slurp(path, &forged->length);
    forged->header = (struct file_header *)forged->bytes;
    forged->index = forged->bytes + forged->header->index_offset;
    forged->records[0] = (struct record_header *)forged->index;
    size_t first = sizeof(struct record_header) + (forged->records[0]->length + 7) / 8 * 8;
    forged->records[1] = (struct record_header *)(forged->index + first);
    uint8_t *table = (uint8_t *)(forged->records[1] + 1);
    for (unsigned i = 0; i < SAMPLE_BLOCKS; i++) {
        forged->blocks[i] = (struct block_record *)table;
        forged->runs[i] = (struct run_record *)(forged->blocks[i] + 1);
        table = (uint8_t *)(forged->runs[i] + 1);
    }
}

static void sign_record(struct record_header *record, uint64_t length)
{
    const struct iovec parts[2] = { { record, offsetof(struct record_header, checksum) }, { record + 1, length } };
    assert_int_equal(checksum_parts(parts, 2, &record->checksum), 0);
}

/* Makes all checksums right again, and says what image_open does, which must not leave it to whoever reads blocks. */
static int forged_verdict(struct forged *forged)
{
    struct file_header *header = forged->header;
    uint8_t *end = forged->bytes + forged->length;
    struct image image;

    for (unsigned i = 0; i < SAMPLE_TABLE_RECORDS && !forged->bad_record; i++)
        if (forged->records[i]->length <= (size_t)(end - (uint8_t *)(forged->records[i] + 1)))
            sign_record(forged->records[i], forged->records[i]->length);
    if (!forged->bad_index)
        header->index_checksum = checksum_of(forged->index, (size_t)(end - forged->index));
    header->checksum = checksum_of(header, offsetof(struct file_header, checksum));
    spill(path, forged->bytes, forged->length);
    free(forged->bytes);
    int error = image_open(&image, path);
    image_close(&image);
    return error;
}

/* Loads the good image, lets one statement spoil it, and wants to hear that error; then brings the good one back. */
#define FORGED(error, spoil)                                                                                           \
    do {                                                                                                               \
        struct forged forged;                                                                                          \
        forged_load(&forged);                                                                                          \
        uint8_t *good = malloc(forged.length);                                                                         \
        size_t good_length = forged.length;                                                                            \
        memcpy(good, forged.bytes, good_length);                                                                       \
        spoil;                                                                                                         \
        int verdict = forged_verdict(&forged);                                                                         \
        spill(path, good, good_length);                                                                                \
        free(good);                                                                                                    \
        if (verdict != (error))                                                                                        \
            fail_msg("%s: %s", #spoil, verdict ? strerror(-verdict) : "not seen");                                     \
    } while (0)

static void forged_headers_are_refused(void **state)
{
    (void)state;
    FORGED(0, (void)0);
    FORGED(-EPROTO, forged.header->version++);
    FORGED(-EPROTO, forged.header->version = 0);
    FORGED(-ENOEXEC, forged.header->machine = 183);
    FORGED(-ENOEXEC, forged.header->magic++);
    FORGED(-EBADMSG, forged.header->file_size++);
    FORGED(-EBADMSG, forged.header->index_offset = 0);
    FORGED(-EBADMSG, forged.header->index_offset = HEADER_BYTES - 8);
    FORGED(-EBADMSG, forged.header->index_offset = UINT64_MAX);
    FORGED(-EBADMSG, forged.header->index_length = UINT64_MAX);
    FORGED(-EBADMSG, forged.header->index_length -= 8);
    FORGED(-EBADMSG, forged.header->index_offset += 8);
    FORGED(-EBADMSG, (forged.header->index_offset += 8, forged.header->index_length -= 8));
    FORGED(-EBADMSG, (forged.header->index_offset -= 4, forged.header->index_length += 4));
    FORGED(-EBADMSG, memset(forged.header->job, 'x', MAX_ID));
    FORGED(-EBADMSG, memset(forged.header->step, 'x', MAX_ID));
    FORGED(-EBADMSG, memset(forged.header->host, 'x', MAX_ID));
    FORGED(-EBADMSG, memset(forged.header->command, 'x', sizeof forged.header->command));
}

static void forged_records_are_refused(void **state)
{
    (void)state;
    FORGED(-EBADMSG, forged.records[0]->length = UINT64_MAX);
    FORGED(-EBADMSG, forged.records[0]->length = UINT64_MAX - 6);
    FORGED(-EBADMSG, forged.records[1]->length++);
    FORGED(-EBADMSG, forged.records[1]->length = forged.header->index_length);
    FORGED(-EBADMSG, forged.records[1]->length -= 8);
    FORGED(-EBADMSG, forged.records[1]->length -= 24); /* the bytes left look like one more record */
    FORGED(-EBADMSG, ((uint8_t *)(forged.records[0] + 1))[forged.records[0]->length] = 1); /* padding */
    FORGED(-EBADMSG, (forged.records[0]->checksum++, forged.bad_record = 1));
    FORGED(-EBADMSG, (forged.header->index_checksum++, forged.bad_index = 1));
    FORGED(-EPROTO, forged.records[0]->tag = 60000);
    FORGED(-EPROTO, forged.records[0]->tag = TAG_PARENT);
    FORGED(-EPROTO, forged.records[0]->tag = TAG_END);
    FORGED(-EPROTO, forged.records[0]->tag = 0);
    FORGED(0, (forged.records[0]->tag = 60000, forged.records[0]->flags = 0));
    FORGED(-EBADMSG, forged.records[0]->tag = TAG_BLOCKS); /* what is no table */
    /* Without its table the data is not covered. */
    FORGED(-EBADMSG, (forged.records[1]->tag = 60000, forged.records[1]->flags = 0));
}

static void forged_blocks_are_refused(void **state)
{
    (void)state;
    FORGED(-EPROTO, forged.blocks[0]->codec = CODEC_LZ4);
    FORGED(-EPROTO, forged.blocks[1]->codec = 9);
    FORGED(-EBADMSG, forged.blocks[1]->offset = forged.blocks[0]->offset);
    FORGED(-EBADMSG, forged.blocks[1]->offset = UINT64_MAX - PAGE_BYTES + 1);
    FORGED(-EBADMSG, forged.blocks[0]->offset = 0);
    FORGED(-EBADMSG, forged.blocks[0]->offset++);
    FORGED(-EBADMSG, forged.blocks[0]->stored--);
    FORGED(-EBADMSG, forged.blocks[0]->raw *= 2);
    FORGED(-EBADMSG, forged.blocks[0]->raw = forged.blocks[0]->stored = 0);
    FORGED(-EBADMSG, (forged.blocks[0]->raw = forged.blocks[0]->stored = 2 * PAGE_BYTES, forged.runs[0]->pages = 2));
    FORGED(-EBADMSG, forged.blocks[0]->run_count = 0);
    FORGED(-EBADMSG, forged.blocks[1]->run_count = 2);
    FORGED(-EBADMSG, forged.blocks[1]->run_count = UINT16_MAX);
    FORGED(0, forged.blocks[0]->checksum++); /* is for who reads the block */
    FORGED(-EBADMSG, forged.runs[0]->pages = 0);
    FORGED(-EBADMSG, forged.runs[0]->pages = 2);
    FORGED(-EBADMSG, forged.runs[0]->pages = (UINT64_C(1) << 52) + 1); /* times a page: 2^64 and one page */
    FORGED(-EBADMSG, forged.runs[0]->pages = UINT64_MAX);
    FORGED(-EBADMSG, forged.runs[0]->address++);
    FORGED(-EBADMSG, forged.runs[0]->address = UINT64_MAX - PAGE_BYTES + 1);
}

/* --- what is no image of ours --- */

static void foreign_files_are_refused(void **state)
{
    struct image image;

    (void)state;
    assert_int_equal(image_open(&image, "/nonexistent/7.0.ckpt"), -ENOENT);
    spill(path, "#!/bin/sh\n", 10);
    assert_int_equal(whole(path), -ENOEXEC);
    spill(path, "s", 1);
    assert_int_equal(whole(path), -EBADMSG);
    spill(path, "", 0);
    assert_int_equal(whole(path), -EBADMSG);
    spill(path, "stasis\x1a\n and no more", 20);
    assert_int_equal(whole(path), -EBADMSG);
}

static void what_is_no_file_is_refused(void **state)
{
    char where[MAX_PATH + 8];
    struct image image;

    (void)state;
    snprintf(where, sizeof where, "%s.link", path);
    assert_int_equal(symlink(path, where), 0);
    assert_int_equal(whole(where), -EPERM);
    snprintf(where, sizeof where, "%s.fifo", path);
    assert_int_equal(mkfifo(where, 0600), 0);
    assert_int_equal(whole(where), -EPERM); /* and does not hang */
    assert_int_equal(whole(directory), -EPERM);
    assert_int_equal(whole("/dev/null"), -EPERM);
    assert_int_equal(image_open(&image, path), 0);
    image_close(&image);
}

/* Whatever user runs this: root's file is somebody else's for one who is not root. */
static void other_peoples_files_are_refused(void **state)
{
    int status;
    pid_t child = fork();

    (void)state;
    if (!child) {
        struct image image;
        if (!geteuid() && setresuid(NOBODY_UID, NOBODY_UID, NOBODY_UID))
            _exit(2);
        _exit(image_open(&image, "/etc/passwd") == -EPERM && strstr(image.reason, "another user") ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void root_reads_anybodys(void **state)
{
    (void)state;
    if (geteuid()) {
        print_message("skipped: only root can give a file away\n");
        skip();
    }
    assert_int_equal(chown(path, NOBODY_UID, NOBODY_UID), 0);
    assert_int_equal(whole(path), 0);
}

/* --- records --- */

static void records_are_walked_and_found(void **state)
{
    struct image image;
    struct record_header header;
    struct reader payload;
    size_t at = 0;

    (void)state;
    assert_int_equal(image_open(&image, path), 0);
    assert_int_equal(image_next_record(&image, &at, &header, &payload), 1);
    assert_int_equal(header.tag, TAG_PROCESS);
    assert_int_equal(image_next_record(&image, &at, &header, &payload), 1);
    assert_int_equal(header.tag, TAG_BLOCKS);
    assert_int_equal((uintptr_t)payload.bytes % 8, 0);
    assert_int_equal(image_next_record(&image, &at, &header, &payload), 0);
    assert_int_equal(image_next_record(&image, &at, &header, &payload), 0);

    assert_int_equal(image_find_record(&image, TAG_PROCESS, SAMPLE_PROCESS, &payload), 0);
    assert_int_equal(payload.length, strlen(SAMPLE_PAYLOAD));
    assert_int_equal(image_find_record(&image, TAG_PROCESS, 0, &payload), -ENOENT);
    assert_int_equal(image_find_record(&image, TAG_MEMORY, SAMPLE_PROCESS, &payload), -ENOENT);
    image_close(&image);
}

static void tags_and_exit_statuses(void **state)
{
    (void)state;
    assert_int_equal(image_known_tag(TAG_BLOCKS), 1);
    assert_int_equal(image_known_tag(TAG_PROCESS), 1);
    assert_int_equal(image_known_tag(TAG_CLOCKS), 1);
    assert_int_equal(image_known_tag(TAG_PARENT), 0);
    assert_int_equal(image_known_tag(0), 0);
    assert_int_equal(image_known_tag(UINT16_MAX), 0);
    assert_int_equal(image_exit_status(0), 0);
    assert_int_equal(image_exit_status(-EBADMSG), EXIT_DAMAGED);
    assert_int_equal(image_exit_status(-ENOEXEC), EXIT_DAMAGED);
    assert_int_equal(image_exit_status(-ENOENT), EXIT_NO_IMAGE);
    assert_int_equal(image_exit_status(-EPROTO), EXIT_REFUSED);
    assert_int_equal(image_exit_status(-EPERM), EXIT_NOT_ALLOWED);
    assert_int_equal(image_exit_status(-ENOMEM), EXIT_SYSTEM);
}

/* --- a writer that fails --- */

static void bad_lengths_are_refused(void **state)
{
    struct image_writer writer;
    struct block_record block = { 0 };
    static uint8_t bytes[BLOCK_BYTES + PAGE_BYTES];

    (void)state;
    assert_int_equal(image_writer_open(&writer, directory, "9.0.ckpt"), 0);
    assert_int_equal(image_write_block(&writer, bytes, 0, &block), -EINVAL);
    assert_int_equal(image_write_block(&writer, bytes, 100, &block), -EINVAL);
    assert_int_equal(image_write_block(&writer, bytes, sizeof bytes, &block), -EINVAL);
    assert_int_equal(image_write_block(&writer, bytes, BLOCK_BYTES, &block), 0);
    image_writer_close(&writer);
}

static void a_failed_write_ends_the_writer(void **state)
{
    const struct rlimit small = { 3 * PAGE_BYTES, RLIM_INFINITY };
    struct rlimit old;
    struct image_writer writer;
    struct block_record block = { 0 };
    struct buffer payload = { 0 };
    static uint8_t page[2 * PAGE_BYTES];
    char where[MAX_PATH];

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(image_writer_open(&writer, directory, "9.0.ckpt"), 0);
    getrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(image_write_block(&writer, page, PAGE_BYTES, &block), 0);
    int error = image_write_block(&writer, page, sizeof page, &block); /* one page of it fits */
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(error, -EFBIG);
    assert_int_equal(image_write_block(&writer, page, PAGE_BYTES, &block), -EFBIG);
    assert_int_equal(image_write_record(&writer, TAG_PROCESS, 0, 0, &payload), -EFBIG);
    assert_int_equal(image_write_end(&writer), -EFBIG);
    assert_int_equal(image_commit(&writer, "9.0.ckpt", 0, where), -EFBIG);
    image_writer_close(&writer);
    snprintf(where, sizeof where, "%s/9.0.ckpt", directory);
    assert_int_equal(access(where, F_OK), -1);
}

static void a_failed_payload_ends_the_writer(void **state)
{
    struct image_writer writer;
    struct buffer payload = { .error = -ENOMEM };

    (void)state;
    assert_int_equal(image_writer_open(&writer, directory, "9.0.ckpt"), 0);
    assert_int_equal(image_write_record(&writer, TAG_PROCESS, 0, 0, &payload), -ENOMEM);
    assert_int_equal(image_write_end(&writer), -ENOMEM);
    image_writer_close(&writer);
    assert_int_equal(image_writer_open(&writer, "/nonexistent", "9.0.ckpt"), -ENOENT);
    image_writer_close(&writer);
}

/* --- for ever --- */

static void *place_here(void *context, uint64_t address, uint64_t pages)
{
    (void)address, (void)pages;
    return context;
}

static void check_small(const struct image *image)
{
    const struct file_header *header = &image->header;
    struct reader payload;

    for (unsigned i = 0; i < UUID_BYTES; i++)
        assert_int_equal(header->run[i], 0x5a);
    assert_int_equal(header->generation, 1);
    assert_int_equal(header->taken_seconds, 1700000000);
    assert_int_equal(header->taken_nanoseconds, 5);
    assert_int_equal(header->owner, 1000);
    assert_int_equal(header->process_count, 4);
    assert_string_equal(header->job, "7");
    assert_string_equal(header->step, "0");
    assert_string_equal(header->host, "node1");
    assert_string_equal(header->command, "./sample --small");
    assert_int_equal(image_find_record(image, TAG_PROCESS, 3, &payload), 0);
    assert_int_equal(payload.length, 29);
    assert_memory_equal(payload.bytes, "this payload has 29 bytes now", 29);
    assert_int_equal(image->block_count, 2);
}

static void the_first_versions_image_is_read_for_ever(void **state)
{
    size_t length;
    uint8_t *bytes = slurp(small_path, &length), page[PAGE_BYTES];
    struct image image;

    (void)state;
    spill(path, bytes, length); /* a copy: the one in the sources may belong to another user */
    free(bytes);
    assert_int_equal(image_open(&image, path), 0);
    check_small(&image);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(image.blocks[i].process, 3);
        assert_int_equal(image.blocks[i].runs[0].address, UINT64_C(0x7f0000000000) + i * UINT64_C(0x100000));
        memset(page, 0, sizeof page);
        assert_int_equal(image_read_block(&image, &image.blocks[i], place_here, page), 0);
        for (unsigned at = 0; at < PAGE_BYTES; at++)
            assert_int_equal(page[at], (uint8_t)(at * 31 + (at >> 8) * 7 + i * 101 + 1));
    }
    image_close(&image);
}

/* While version 1 is what we write, it is the same bytes: a change of the format must not come unseen. */
static void what_is_written_today_is_the_same(void **state)
{
    size_t length, now_length;
    uint8_t *bytes = slurp(small_path, &length);

    (void)state;
    assert_int_equal(sample_write(directory, "7.0.ckpt", 0x5a, 1, 0), 0);
    uint8_t *now = slurp(path, &now_length);
    assert_int_equal(now_length, length);
    assert_memory_equal(now, bytes, length);
    free(now);
    free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        TEST(many_blocks_from_two_threads_come_back),
        TEST(a_block_without_a_place_is_a_fault),
        TEST(an_image_of_nothing_is_whole),
        TEST(images_are_private),
        TEST(every_flipped_byte_is_found),
        TEST(every_cut_is_found),
        TEST(forged_headers_are_refused),
        TEST(forged_records_are_refused),
        TEST(forged_blocks_are_refused),
        TEST(foreign_files_are_refused),
        TEST(what_is_no_file_is_refused),
        TEST(other_peoples_files_are_refused),
        TEST(root_reads_anybodys),
        TEST(records_are_walked_and_found),
        TEST(tags_and_exit_statuses),
        TEST(bad_lengths_are_refused),
        TEST(a_failed_write_ends_the_writer),
        TEST(a_failed_payload_ends_the_writer),
        TEST(the_first_versions_image_is_read_for_ever),
        TEST(what_is_written_today_is_the_same),
    };
    if (count > 1)
        small_path = arguments[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
