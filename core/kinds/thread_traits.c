/* SPDX-License-Identifier: MIT */
/* What each thread has for itself beside its registers: personality, capabilities and secure bits, memory policy, what it may
 * read of the CPU. And the memory policies of ranges, which numa_maps tells. */
#include <asm/prctl.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <linux/prctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kind.h"

struct traits_record {
    uint32_t thread_count;
    uint32_t policy_count;
    /* then: thread_count trait_records, policy_count last_memory_policies */
};

struct trait_record {
    uint32_t tid;
    uint32_t reserved;
    struct agent_traits traits;
};
static_assert(sizeof(struct trait_record) == 248, "trait record");
static_assert(sizeof(struct last_memory_policy) == 152, "memory policy");

enum { NODE_BITS = AGENT_MASK_WORDS * 64 };

static void add_nodes(const char *text, uint64_t nodes[AGENT_MASK_WORDS])
{
    while (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = *end == '-' ? strtoul(end + 1, &end, 10) : first;
        for (; first <= last && first < NODE_BITS; first++)
            nodes[first / 64] |= UINT64_C(1) << first % 64;
        text = end + (*end == ',');
    }
}

/* "prefer=static:0-3,7", as the kernel's mpol_to_str() writes it. 0: nothing was set, or not understood. */
static int parse_policy(const char *text, struct last_memory_policy *policy)
{
    static const struct {
        const char *name;
        uint32_t mode;
    } modes[] = {
        { "prefer (many)", MPOL_PREFERRED_MANY }, { "prefer", MPOL_PREFERRED }, { "bind", MPOL_BIND },
        { "interleave", MPOL_INTERLEAVE },        { "local", MPOL_LOCAL },      { "weighted interleave", 6 },
    };

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        size_t length = strlen(modes[i].name);
        if (strncmp(text, modes[i].name, length))
            continue;
        text += length;
        policy->policy = modes[i].mode;
        size_t flags = *text == '=' ? strcspn(text, ": ") : 0;
        policy->policy |= (memmem(text, flags, "static", 6) ? MPOL_F_STATIC_NODES : 0) |
                          (memmem(text, flags, "relative", 8) ? MPOL_F_RELATIVE_NODES : 0) |
                          (memmem(text, flags, "balancing", 9) ? MPOL_F_NUMA_BALANCING : 0);
        if (text[flags] == ':')
            add_nodes(text + flags + 1, policy->nodes);
        return 1;
    }
    return 0;
}

static uint64_t end_of(const struct saving *saving, uint64_t start)
{
    for (size_t i = 0; i < saving->mappings.count; i++)
        if (saving->mappings.items[i].start == start)
            return saving->mappings.items[i].end;
    return 0;
}

/* A line for each mapping; the twin has no policy of its own that would stand in for one that is not there. Without a twin,
 * what is also the main thread's counts as that. */
static int add_ranges(struct saving *saving, const char *text, struct buffer *ranges, uint32_t *ret_count)
{
    const struct agent_traits *first = &saving->page->traits[0];

    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        struct last_memory_policy policy = { .start = strtoull(line, NULL, 16) };
        const char *words = strchr(line, ' ');
        if (!words || !parse_policy(words + 1, &policy))
            continue;
        if (saving->view == saving->pid && policy.policy == first->memory_policy && !memcmp(policy.nodes, first->nodes, sizeof policy.nodes))
            continue;
        policy.end = end_of(saving, policy.start);
        if (!policy.end)
            continue;
        if (policy.policy & MPOL_F_RELATIVE_NODES) /* it tells the nodes that are meant now, not those that were said */
            return refuse(saving, "R-MEMORY-POLICY", "memory at %#" PRIx64 " has a policy of relative nodes", policy.start);
        buffer_add(ranges, &policy, sizeof policy);
        ++*ret_count;
    }
    return 0;
}

static int traits_save(struct saving *saving, const struct descriptor *none)
{
    struct traits_record head = { .thread_count = saving->thread_count };
    struct buffer payload = { 0 }, ranges = { 0 };
    char *maps = proc_read(saving->view, "numa_maps", NULL); /* NULL: a kernel without */
    int error = add_ranges(saving, maps, &ranges, &head.policy_count);

    (void)none;
    free(maps);
    buffer_add(&payload, &head, sizeof head);
    for (uint32_t i = 0; i < saving->thread_count; i++) {
        struct trait_record record = { .tid = saving->page->threads[i].tid, .traits = saving->page->traits[i] };
        buffer_add(&payload, &record, sizeof record);
    }
    buffer_add(&payload, ranges.bytes, ranges.length);
    if (!error)
        error = ranges.error ? ranges.error : image_write_record(saving->writer, TAG_TRAITS, RECORD_REQUIRED, saving->index, &payload);
    buffer_free(&ranges);
    buffer_free(&payload);
    return error;
}

/* Speculation that a thread had switched off, and that cannot be switched off here: prctl(2), PR_SET_SPECULATION_CTRL. */
static int is_exposed(const struct agent_traits *traits)
{
    for (unsigned i = 0; i < AGENT_SPECULATIONS; i++) {
        const uint32_t off = PR_SPEC_DISABLE | PR_SPEC_FORCE_DISABLE | PR_SPEC_DISABLE_NOEXEC;
        int here = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
        if (traits->speculation[i] & off && here > 0 && !(here & (int)(PR_SPEC_PRCTL | off)))
            return 1;
    }
    return 0;
}

static void check_nodes(struct restoring *restoring, const uint64_t nodes[AGENT_MASK_WORDS])
{
    uint64_t here[AGENT_MASK_WORDS] = { 0 };
    int lacks = 0;

    if (syscall(SYS_get_mempolicy, NULL, here, sizeof here * 8 + 1, NULL, MPOL_F_MEMS_ALLOWED))
        here[0] = 1; /* without such policies there is one node */
    for (int i = 0; i < AGENT_MASK_WORDS; i++)
        lacks |= (nodes[i] & ~here[i]) != 0;
    if (lacks)
        adapted(restoring, "R-MEMORY-POLICY", "the program's memory was bound to nodes that are not here; it takes those that are");
}

static uint64_t own_capabilities(uint64_t *ret_inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { 0 };

    syscall(SYS_capget, &header, data);
    *ret_inheritable = (uint64_t)data[1].inheritable << 32 | data[0].inheritable;
    return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

static void check_one(struct restoring *restoring, const struct agent_traits *traits)
{
    uint64_t inheritable, own = own_capabilities(&inheritable);

    if (traits->capabilities[1] & ~own)
        missing(restoring, "R-CREDENTIALS: the program had capabilities that this restart has not (%#" PRIx64 ")",
                traits->capabilities[1] & ~own);
    if (traits->capabilities[2] & ~(own | inheritable) || traits->secure_bits != (uint32_t)prctl(PR_GET_SECUREBITS, 0, 0, 0, 0))
        needs_bubble(restoring, "inheritable capabilities or secure bits that this command has not");
    if (traits->cpuid == 1 && syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0) < 0)
        missing(restoring, "R-CPU: the program had taken the CPUID instruction from itself, which this CPU cannot");
    if (is_exposed(traits))
        missing(restoring, "R-CPU: the program had switched speculation off, which this machine does not let it");
    if (traits->io_flusher && prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) < 0)
        adapted(restoring, "R-SCHEDULING", "threads were marked as flushers of I/O, which this restart may not do");
    check_nodes(restoring, traits->nodes);
}

static int traits_check(struct restoring *restoring, struct reader *reader)
{
    struct traits_record head;
    struct trait_record record;
    struct last_memory_policy policy;

    reader_take(reader, &head, sizeof head);
    for (uint32_t i = 0; i < head.thread_count && !reader_take(reader, &record, sizeof record); i++)
        check_one(restoring, &record.traits);
    for (uint32_t i = 0; i < head.policy_count && !reader_take(reader, &policy, sizeof policy); i++)
        check_nodes(restoring, policy.nodes);
    return reader->error;
}

/* The memory that is read now shall lie where the main thread's policy would have put it. */
static int traits_open(struct restoring *restoring, struct reader *reader)
{
    struct traits_record head;
    struct trait_record record;

    reader_take(reader, &head, sizeof head);
    for (uint32_t i = 0; i < head.thread_count && !reader_take(reader, &record, sizeof record); i++)
        if ((int)record.tid == restoring->pid && record.traits.memory_policy)
            syscall(SYS_set_mempolicy, record.traits.memory_policy, record.traits.nodes, sizeof record.traits.nodes * 8 + 1);
    return reader->error;
}

uint32_t traits_policy_count(const struct reader *record)
{
    struct reader reader = *record;
    struct traits_record head;

    return reader_take(&reader, &head, sizeof head) || head.policy_count > reader.length / sizeof(struct last_memory_policy)
               ? 0 : head.policy_count;
}

static int traits_last(struct restoring *restoring, struct reader *reader)
{
    struct last_plan *plan = restoring->plan;
    struct traits_record head;
    struct trait_record record;
    uint32_t hint = 0;

    reader_take(reader, &head, sizeof head);
    for (uint32_t i = 0; i < head.thread_count && !reader_take(reader, &record, sizeof record); i++) {
        struct last_thread *thread = threads_find(plan, record.tid, &hint);
        if (!thread)
            return -EBADMSG;
        thread->traits = record.traits;
        thread->has_traits = 1;
    }
    if (head.policy_count != plan->memory_policy_count)
        return -EBADMSG;
    for (uint32_t i = 0; i < head.policy_count; i++)
        reader_take(reader, &plan->memory_policies[i], sizeof plan->memory_policies[i]);
    return reader->error;
}

static void traits_show(struct reader *reader, FILE *out)
{
    struct traits_record head;
    struct trait_record record;

    reader_take(reader, &head, sizeof head);
    for (uint32_t i = 0; i < head.thread_count && !reader_take(reader, &record, sizeof record); i++)
        if (record.traits.personality || record.traits.secure_bits || record.traits.capabilities[3] || record.traits.memory_policy)
            fprintf(out, "  tid %u: personality %#x, secure bits %#x, ambient capabilities %#" PRIx64 ", memory policy %#x\n", record.tid,
                    record.traits.personality, record.traits.secure_bits, record.traits.capabilities[3], record.traits.memory_policy);
    if (!reader->error && head.policy_count)
        fprintf(out, "  %u ranges of memory with a policy\n", head.policy_count);
}

const struct kind kind_thread_traits = {
    .name = "thread traits",
    .tag = TAG_TRAITS,
    .late = 1,
    .save = traits_save,
    .check = traits_check,
    .open = traits_open,
    .last = traits_last,
    .show = traits_show,
};
