/* SPDX-License-Identifier: MIT */
/* What a thread can only be asked for by itself, and what the kernel shows of it to nobody else, or too slowly. Each question
 * is one system call and changes nothing. Island: no libc. */
#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>

#include "../../core/floor/syscalls.h"
#include "shim.h"

static uint32_t prctl_number(int option, uint64_t argument)
{
    long value = sys_prctl(option, argument, 0, 0, 0);
    return value > 0 ? (uint32_t)value : 0;
}

static void note_ids(struct agent_traits *traits)
{
    SYS_CALL(getresuid, &traits->ids[0], &traits->ids[1], &traits->ids[2], 0, 0, 0);
    SYS_CALL(getresgid, &traits->ids[3], &traits->ids[4], &traits->ids[5], 0, 0, 0);
}

static void note_capabilities(struct agent_traits *traits)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { 0 };

    SYS_CALL(capget, &header, data, 0, 0, 0, 0);
    traits->capabilities[0] = (uint64_t)data[1].effective << 32 | data[0].effective;
    traits->capabilities[1] = (uint64_t)data[1].permitted << 32 | data[0].permitted;
    traits->capabilities[2] = (uint64_t)data[1].inheritable << 32 | data[0].inheritable;
    traits->capabilities[3] = 0;
    for (int bit = 0; bit < 64; bit++) /* ambient ones are permitted and inheritable: capabilities(7) */
        if ((traits->capabilities[1] & traits->capabilities[2]) >> bit & 1 &&
            sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, (uint64_t)bit, 0, 0) == 1)
            traits->capabilities[3] |= UINT64_C(1) << bit;
}

/* A keyring that is not there is not made: the second argument of KEYCTL_GET_KEYRING_ID is 0. */
static uint32_t has_keyring(void)
{
    return SYS_CALL(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0, 0, 0, 0) > 0 ||
           SYS_CALL(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0, 0, 0) > 0;
}

static uint32_t has_core_cookie(void)
{
    uint64_t cookie = 0;

    return !sys_prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, (uint64_t)&cookie) && cookie;
}

void traits_note(struct agent_traits *traits)
{
    long value;

    note_ids(traits);
    note_capabilities(traits);
    traits->personality = (uint32_t)SYS_CALL(personality, ~0U /* only asks */, 0, 0, 0, 0, 0);
    traits->secure_bits = prctl_number(PR_GET_SECUREBITS, 0);
    traits->no_new_privileges = prctl_number(PR_GET_NO_NEW_PRIVS, 0);
    traits->parent_death = traits->tsc = 0;
    sys_prctl(PR_GET_PDEATHSIG, (uint64_t)&traits->parent_death, 0, 0, 0);
    sys_prctl(PR_GET_TSC, (uint64_t)&traits->tsc, 0, 0, 0);
    value = SYS_CALL(arch_prctl, ARCH_GET_CPUID, 0, 0, 0, 0, 0);
    traits->cpuid = value < 0 ? 0 : 1 + (uint32_t)value;
    for (uint64_t i = 0; i < AGENT_SPECULATIONS; i++)
        traits->speculation[i] = prctl_number(PR_GET_SPECULATION_CTRL, i);
    traits->io_flusher = prctl_number(PR_GET_IO_FLUSHER, 0);
    traits->machine_check = prctl_number(PR_MCE_KILL_GET, 0);
    traits->keyrings = has_keyring();
    traits->has_core_cookie = has_core_cookie();
    traits->memory_policy = 0;
    SYS_CALL(get_mempolicy, &traits->memory_policy, traits->nodes, sizeof traits->nodes * 8 + 1, 0, 0, 0);
}

/* The twin's own: what its /proc shows of memory policies is then that of mappings alone; and it may try out which CPUs its
 * cpuset has. */
void traits_of_twin(struct agent_page *page)
{
    uint64_t all[AGENT_MASK_WORDS];

    SYS_CALL(set_mempolicy, 0, 0, 0, 0, 0, 0);
    for (int i = 0; i < AGENT_MASK_WORDS; i++)
        all[i] = ~UINT64_C(0);
    SYS_CALL(sched_setaffinity, 0, sizeof all, all, 0, 0, 0);
    SYS_CALL(sched_getaffinity, 0, sizeof page->widest_cpus, page->widest_cpus, 0, 0, 0);
}
