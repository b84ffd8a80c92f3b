/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/image/commit.h"

char *sample_directory(void)
{
    const char *root = getenv("TMPDIR");
    char *path;

    if (asprintf(&path, "%s/stasis-test-XXXXXX", root && *root ? root : "/tmp") < 0 || !mkdtemp(path)) {
        perror("a directory for the test");
        exit(1);
    }
    return path;
}

static int remove_one(const char *path, const struct stat *file, int type, struct FTW *where)
{
    (void)file, (void)type, (void)where;
    return remove(path);
}

void sample_remove(char *directory)
{
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    free(directory);
}

static uint8_t byte_at(unsigned page, unsigned at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + page * 101 + 1);
}

void sample_page(unsigned page, uint8_t *to)
{
    for (unsigned at = 0; at < PAGE_BYTES; at++)
        to[at] = byte_at(page, at);
}

void sample_header(struct image_writer *writer, uint8_t run, uint64_t generation)
{
    struct file_header *header = &writer->header;

    memset(header->run, run, sizeof header->run);
    header->generation = generation;
    header->taken_seconds = SAMPLE_SECONDS;
    header->taken_nanoseconds = 5;
    header->owner = 1000;
    header->process_count = SAMPLE_PROCESS + 1;
    strcpy(header->job, "7");
    strcpy(header->step, "0");
    strcpy(header->host, "node1");
    strcpy(header->command, "./sample --small");
}

int sample_fill(struct image_writer *writer)
{
    struct buffer table = { 0 }, payload = { 0 };
    uint8_t page[PAGE_BYTES];
    int error = 0;

    for (unsigned i = 0; i < SAMPLE_BLOCKS && !error; i++) {
        struct block_record block = { .run_count = 1 };
        struct run_record run = { SAMPLE_ADDRESS + i * UINT64_C(0x100000), 1 };
        sample_page(i, page);
        error = image_write_block(writer, page, sizeof page, &block);
        buffer_add(&table, &block, sizeof block);
        buffer_add(&table, &run, sizeof run);
    }
    buffer_add(&payload, SAMPLE_PAYLOAD, strlen(SAMPLE_PAYLOAD));
    if (!error)
        error = image_write_record(writer, TAG_PROCESS, RECORD_REQUIRED, SAMPLE_PROCESS, &payload);
    if (!error)
        error = image_write_record(writer, TAG_BLOCKS, RECORD_REQUIRED, SAMPLE_PROCESS, &table);
    buffer_free(&table);
    buffer_free(&payload);
    return error;
}

int sample_write(const char *directory, const char *name, uint8_t run, uint64_t generation, unsigned keep)
{
    struct image_writer writer;
    char path[MAX_PATH];
    int error = image_writer_open(&writer, directory, name);

    if (error)
        return error;
    sample_header(&writer, run, generation);
    error = sample_fill(&writer);
    if (!error)
        error = image_write_end(&writer);
    if (!error)
        error = image_commit(&writer, name, keep, path);
    image_writer_close(&writer);
    return error;
}
