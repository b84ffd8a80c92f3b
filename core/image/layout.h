/* SPDX-License-Identifier: MIT */
/* The image on disk. All numbers little-endian, all offsets from the start of the file, in bytes.
 *
 *   0            file_header, HEADER_BYTES, its last 8 bytes the XXH3-64 of all before them
 *   4096         data: blocks, one behind the other without a gap; each has its XXH3-64 in the index
 *   index_offset index: records, each a record_header and its payload, padded with zeros to 8 bytes
 *   file_size    end
 *
 * Every byte is covered: the header by its own checksum, data by the block table, the index by index_checksum and by
 * each record's own. The first version is 1; a reader refuses a higher `version`, passes over unknown records without
 * RECORD_REQUIRED, and refuses unknown ones with it. */
#ifndef STASIS_LAYOUT_H
#define STASIS_LAYOUT_H

#include <assert.h>
#include <stdint.h>

#include "../floor/names.h"

#define IMAGE_MAGIC UINT64_C(0x0a1a736973617473) /* "stasis", ^Z, newline */

enum {
    IMAGE_VERSION = 1,
    IMAGE_X86_64 = 62, /* ELF's EM_ number of the machine */
    HEADER_BYTES = 4096,
    BLOCK_PAGES = 256,
    BLOCK_BYTES = BLOCK_PAGES * PAGE_BYTES, /* raw bytes of a block at most */
};

struct file_header {
    uint64_t magic;
    uint32_t version;
    uint32_t machine;
    uint8_t run[UUID_BYTES];  /* the run this image belongs to; kept over restarts */
    uint64_t generation;      /* 1 for the first image of a run, one more each time */
    uint64_t file_size;
    uint64_t index_offset;
    uint64_t index_length;
    uint64_t index_checksum;
    uint64_t taken_seconds;   /* wall clock (CLOCK_REALTIME) of the moment */
    uint64_t taken_nanoseconds;
    uint32_t owner;           /* uid of the program */
    uint32_t process_count;
    char job[MAX_ID];
    char step[MAX_ID];
    char host[MAX_ID];        /* nodename where it was taken */
    char command[256];        /* for people: the name of the first process */
    uint8_t zero[HEADER_BYTES - 8 * 10 - 8 - UUID_BYTES - 3 * MAX_ID - 256];
    uint64_t checksum;
};
static_assert(sizeof(struct file_header) == HEADER_BYTES, "header");

enum record_flag { RECORD_REQUIRED = 1 };

/* Tags of records; a number is never used twice. Kinds own theirs: see kinds/list.c. */
enum record_tag {
    TAG_BLOCKS = 1,        /* block_record and its run_records, repeated */
    TAG_PARENT = 2,        /* reserved: uuid and generation of the image that CODEC_PARENT blocks are in */
    TAG_TASKS = 3,         /* task_list and its task_records (tasks.h): where the parts of a step of several tasks are */
    TAG_FILES = 4,         /* content_record, then as TAG_BLOCKS: the content of a file */
    TAG_PROCESS = 16,      /* one for each process: pid, parent and what the restart needs first */
    TAG_MEMORY = 17,
    TAG_THREADS = 18,
    TAG_SIGNALS = 19,
    TAG_REGULAR_FILE = 20,
    TAG_STANDARD_STREAM = 21,
    TAG_DEVICE = 22,
    TAG_CREDENTIALS = 23,
    TAG_LIMITS = 24,
    TAG_WORKING_DIRECTORY = 25,
    TAG_ATTRIBUTES = 26,   /* umask, dumpable, ... */
    TAG_CLOCKS = 27,
    TAG_PIPE = 28,
    TAG_TIMERS = 29,
    TAG_WAITING_SIGNALS = 30,
    TAG_DIRECTORY = 31,
    TAG_PATH_DESCRIPTOR = 32,
    TAG_PROC_FILE = 33,
    TAG_LOCK = 34,
    TAG_EVENTFD = 35,
    TAG_TIMERFD = 36,
    TAG_SIGNALFD = 37,
    TAG_EPOLL = 38,
    TAG_INOTIFY = 39,
    TAG_PIDFD = 40,
    TAG_UNIX_SOCKET = 41,
    TAG_TCP = 42,
    TAG_UDP = 43,
    TAG_SHARED_MEMORY = 44,
    TAG_SHARED_DESCRIPTOR = 45,
    TAG_SEGMENT = 46,
    TAG_SEMAPHORES = 47,
    TAG_MESSAGE_QUEUE = 48,
    TAG_POSIX_QUEUE = 49,
    TAG_POSIX_MESSAGES = 50,
    TAG_TERMINAL = 51,
    TAG_FIFO = 53,
    TAG_OWNERS = 54,
    TAG_SCHEDULING = 55,
    TAG_TRAITS = 56,
    TAG_SHARING = 60,
    TAG_ENDED_CHILDREN = 61,
    TAG_JOBS = 62,
    TAG_END,               /* one behind the last: a build knows all from TAG_PROCESS to here */
};

struct record_header {
    uint16_t tag;
    uint16_t flags;
    uint32_t process;   /* index of the process, from 0 */
    uint64_t length;    /* of the payload, without padding */
    uint64_t checksum;  /* XXH3-64 of the 16 bytes before it, and the payload */
};
static_assert(sizeof(struct record_header) == 24, "record header");

enum codec {
    CODEC_RAW = 0,
    CODEC_LZ4 = 1,     /* reserved */
    CODEC_ZSTD = 2,    /* reserved */
    CODEC_PARENT = 3,  /* reserved: the bytes are in the parent image */
};

/* A block: up to BLOCK_PAGES pages of one process's memory, those of its runs one behind the other. */
struct block_record {
    uint64_t offset;
    uint32_t stored;    /* bytes in the file */
    uint32_t raw;       /* bytes of memory */
    uint16_t codec;
    uint16_t run_count; /* run_records that follow */
    uint32_t reserved;
    uint64_t checksum;  /* XXH3-64 of the raw bytes; equal to that of the stored ones for CODEC_RAW */
};
static_assert(sizeof(struct block_record) == 32, "block");

struct run_record {
    uint64_t address;   /* of a file: offset in it */
    uint64_t pages;
};
static_assert(sizeof(struct run_record) == 16, "run");

/* Stands before the blocks of a file's content. What is in no block is zeros. */
struct content_record {
    uint32_t number;    /* from 1; other records name the content by it */
    uint32_t reserved;
};
static_assert(sizeof(struct content_record) == 8, "content");

#endif
