/* SPDX-License-Identifier: MIT */
/* The process itself: who it is, its program, the layout of its address space, and the machine it ran on. */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../floor/names.h"
#include "kind.h"

struct process_record {
    uint32_t pid, parent, group, session;
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
    uint64_t arg_start, arg_end, env_start, env_end;
    uint64_t restart_note;
    uint64_t generation;
    uint64_t xcr0;          /* state components the CPU had switched on: Intel SDM 1, 13.3 */
    uint32_t features[4];   /* CPUID 1 ecx, 7.0 ebx, ecx, edx: what libraries may have chosen code by */
    struct file_identity executable;
    struct kept_file kept;  /* a program whose file was deleted or replaced: its bytes */
    uint32_t auxv_length;
    uint32_t has_terminal;  /* 1: a controlling one */
    uint32_t exit_signal;   /* that its parent gets when it ends */
    uint32_t reserved;
    /* then: the path of the executable as a text, auxv */
};

/* Bits that differ between equal CPUs or say nothing of instructions: OSXSAVE and hypervisor (leaf 1), OSPKE. */
static const uint32_t feature_mask[4] = { ~(1U << 27 | 1U << 31), ~0U, ~(1U << 4), 0 };

static uint64_t read_xcr0(void)
{
    uint32_t low, high, a, b, c = 0, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1U << 27))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static void read_features(uint32_t features[4])
{
    uint32_t a, b, c, d;

    memset(features, 0, 4 * sizeof *features);
    if (__get_cpuid(1, &a, &b, &c, &d))
        features[0] = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        features[1] = b;
        features[2] = c;
        features[3] = d;
    }
    for (int i = 0; i < 4; i++)
        features[i] &= feature_mask[i];
}

/* Asked once for all processes: in a virtual machine each question costs as much as reading a file of /proc. */
static void note_machine(struct process_record *record)
{
    static struct process_record here;

    if (!here.features[0]) {
        here.xcr0 = read_xcr0();
        read_features(here.features);
    }
    record->xcr0 = here.xcr0;
    memcpy(record->features, here.features, sizeof here.features);
}

/* A program that has come back without a bubble has the restorer's file for its own (restorer/host.c). Its true one is where its
 * code lies. NULL: it is no such program. */
static const struct mapping *code_of_restored(const struct saving *saving, const char *executable, uint64_t code)
{
    const char *slash = strrchr(executable, '/');

    for (size_t i = 0; slash && !strcmp(slash + 1, RESTORER_NAME) && i < saving->mappings.count; i++)
        if (saving->mappings.items[i].start <= code && code < saving->mappings.items[i].end)
            return &saving->mappings.items[i];
    return NULL;
}

static int save_restored(struct saving *saving, const struct mapping *code, struct process_record *record)
{
    struct stat there;

    if (stat(code->name, &there) || there.st_ino != code->inode)
        return refuse(saving, "R-UNREADABLE-PROGRAM", "the program's file %s is gone or another one", code->name);
    return file_identity_take(code->name, 1, &record->executable);
}

/* The program's file by its path, or, when that is gone or another one, with its bytes. */
static int save_executable(struct saving *saving, const char *path, const struct mapping *restored, struct process_record *record)
{
    char name[64];
    struct stat status, there;
    int error;

    if (restored)
        return save_restored(saving, restored, record);
    snprintf(name, sizeof name, "/proc/%d/exe", saving->view);
    if (stat(name, &status))
        return -errno;
    if (!stat(path, &there) && there.st_dev == status.st_dev && there.st_ino == status.st_ino)
        error = file_identity_take(path, 1, &record->executable);
    else
        error = contents_save(saving, name, &status, &record->kept);
    return error == -EACCES ? refuse(saving, "R-UNREADABLE-PROGRAM", "the program's file %s cannot be read", path) : error;
}

/* As long as the programs can be asked. */
static int note_terminal(struct saving *saving)
{
    const uint64_t *own = saving->stat;

    saving->has_terminal = own[STAT_TERMINAL] && !terminals_control_inside(saving, own[STAT_TERMINAL], (int32_t)own[STAT_SESSION]);
    return 0;
}

static int process_save(struct saving *saving, const struct descriptor *none)
{
    struct process_record record = { .pid = saving->page->pid, .restart_note = saving->page->restart_note };
    char *executable = proc_link(saving->view, "exe"), *auxv = NULL;
    struct buffer payload = { 0 };
    const struct mapping *restored = NULL;
    const uint64_t *own = saving->stat;
    uint64_t view[STAT_FIELDS];
    size_t length = 0;
    int error = 0;

    (void)none;
    memcpy(view, own, sizeof view);
    if (!own[28])
        error = proc_stat(saving->view, view); /* of one that is not dumpable it is not told where its memory lies */
    auxv = proc_read(saving->view, "auxv", &length);
    if (!error && (!executable || !auxv))
        error = -errno;
    if (!error) {
        restored = code_of_restored(saving, executable, view[26]);
        error = save_executable(saving, executable, restored, &record);
    }
    if (!error) {
        record.parent = (uint32_t)own[STAT_PARENT], record.group = (uint32_t)own[STAT_GROUP];
        record.session = (uint32_t)own[STAT_SESSION], record.exit_signal = (uint32_t)own[STAT_EXIT_SIGNAL];
        record.has_terminal = (uint32_t)saving->has_terminal;
        record.start_code = view[26], record.end_code = view[27], record.start_stack = view[28];
        record.start_data = view[45], record.end_data = view[46], record.start_brk = view[47];
        record.arg_start = view[48], record.arg_end = view[49], record.env_start = view[50], record.env_end = view[51];
        record.brk = saving->page->brk;
        record.generation = saving->writer->header.generation;
        note_machine(&record);
        record.auxv_length = (uint32_t)length;
        buffer_add(&payload, &record, sizeof record);
        buffer_add_text(&payload, restored ? restored->name : executable);
        buffer_add(&payload, auxv, length);
        error = image_write_record(saving->writer, TAG_PROCESS, RECORD_REQUIRED, saving->index, &payload);
    }
    buffer_free(&payload);
    free(executable);
    free(auxv);
    return error;
}

static void check_cpu(struct restoring *restoring, const struct process_record *record)
{
    uint32_t features[4];

    read_features(features);
    if ((record->xcr0 & read_xcr0()) != record->xcr0)
        missing(restoring, "R-CPU: this CPU lacks register state of the old one (xcr0 %#" PRIx64 ", here %#" PRIx64 ")",
                record->xcr0, read_xcr0());
    for (int i = 0; i < 4; i++)
        if ((features[i] & record->features[i]) != record->features[i]) {
            missing(restoring, "R-CPU: this CPU lacks instructions of the old one (CPUID word %d: %#x, here %#x); "
                               "restart on a node of the same or a newer type", i, record->features[i], features[i]);
            return;
        }
}

static int process_check(struct restoring *restoring, struct reader *reader)
{
    struct process_record record;
    char *executable = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));

    if (!executable)
        return reader->error;
    restoring->pid = (int)record.pid;
    restoring->session = (int)record.session;
    restoring->group = (int)record.group;
    restoring->has_terminal = (int)record.has_terminal;
    restoring->parent = (int)record.parent;
    restoring->exit_signal = (int)record.exit_signal;
    check_cpu(restoring, &record);
    if (record.kept.content)
        needs_bubble(restoring, "a program file that was deleted");
    else
        file_identity_check(restoring, executable, &record.executable);
    free(executable);
    return 0;
}

/* A file in memory, as its directory may not be ours; nobody may have it open for writing when it becomes the
 * process's executable (ETXTBSY). -errno. */
static int make_executable(struct restoring *restoring, const char *path, const struct kept_file *kept)
{
    const char *slash = strrchr(path, '/');
    char name[64];
    int writable = memfd_create(slash ? slash + 1 : path, MFD_CLOEXEC), fd, error;

    if (writable < 0)
        return -errno;
    error = contents_restore(restoring, kept, writable);
    snprintf(name, sizeof name, "/proc/self/fd/%d", writable);
    fd = error ? error : open(name, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        fd = -errno;
    close(writable);
    return fd;
}

static int process_open(struct restoring *restoring, struct reader *reader)
{
    struct process_record record;
    char *executable = path_read(restoring, reader, reader_take_text(reader, &record, sizeof record));
    int fd;

    if (!executable)
        return reader->error;
    if (record.kept.content)
        fd = make_executable(restoring, executable, &record.kept);
    else if ((fd = open(executable, O_RDONLY | O_CLOEXEC)) < 0)
        fd = -errno;
    free(executable);
    restoring->executable = descriptor_lift(restoring, fd);
    return restoring->executable < 0 ? restoring->executable : 0;
}

static int process_last(struct restoring *restoring, struct reader *reader)
{
    struct last_plan *plan = restoring->plan;
    struct process_record record;
    const void *auxv;

    free(reader_take_text(reader, &record, sizeof record));
    auxv = reader_view(reader, record.auxv_length);
    if (reader->error || record.auxv_length > sizeof plan->auxv)
        return -EBADMSG;
    memcpy(plan->auxv, auxv, record.auxv_length);
    plan->mm = (struct last_mm_map){
        .start_code = record.start_code, .end_code = record.end_code, .start_data = record.start_data,
        .end_data = record.end_data, .start_brk = record.start_brk, .brk = record.brk,
        .start_stack = record.start_stack, .arg_start = record.arg_start, .arg_end = record.arg_end,
        .env_start = record.env_start, .env_end = record.env_end, .auxv = (uint64_t)plan->auxv,
        .auxv_size = record.auxv_length, .exe_fd = (uint32_t)restoring->executable,
    };
    plan->note_address = record.restart_note;
    plan->note.generation = record.generation;
    plan->note.roll = restoring->policy.roll;
    plan->note.restarts = record.generation; /* differs from restart to restart, as each has a newer image */
    return 0;
}

static void process_show(struct reader *reader, FILE *out)
{
    struct process_record record;
    char *executable = reader_take_text(reader, &record, sizeof record);

    if (executable)
        fprintf(out, "  pid %u, parent %u, group %u, session %u\n  program %s%s\n", record.pid, record.parent, record.group,
                record.session, executable, record.kept.content ? ", its bytes saved" : "");
    free(executable);
}

const struct kind kind_process = {
    .name = "process",
    .tag = TAG_PROCESS,
    .late = 1,
    .hold = note_terminal,
    .save = process_save,
    .check = process_check,
    .open = process_open,
    .last = process_last,
    .show = process_show,
};
