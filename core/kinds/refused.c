/* SPDX-License-Identifier: MIT */
/* The names by which is refused what no kind knows: by what the kernel calls a descriptor or a mapping, and devices by their
 * numbers, too, since their nodes may be anywhere. */
#include <sys/sysmacros.h>

#include "../floor/text.h"
#include "kind.h"

const char *refusal_of_target(const char *target)
{
    static const struct {
        const char *start, *name;
    } names[] = {
        { "socket:", "R-SOCKET" },
        { "pipe:", "R-PIPE" },
        { "/memfd:", "R-HUGETLB" },
        { "/secretmem", "R-SECRET-MEMORY" },
        { "anon_inode:[io_uring]", "R-IO-URING" },
        { "anon_inode:[userfaultfd]", "R-USERFAULTFD" },
        { "/dev/userfaultfd", "R-USERFAULTFD" },
        { "anon_inode:[fanotify]", "R-FANOTIFY" },
        { "anon_inode:[perf_event]", "R-PERF-EVENT" },
        { "anon_inode:bpf", "R-BPF" }, /* maps, programs, links */
        { "anon_inode:[bpf", "R-BPF" },
        { "anon_inode:btf", "R-BPF" },
        { "anon_inode:kvm-", "R-KVM" },
        { "/dev/kvm", "R-KVM" },
        { "/dev/nvidia", "R-GPU" },
        { "/dev/dri/", "R-GPU" },
        { "/dev/kfd", "R-GPU" },
        { "/dev/infiniband/", "R-INFINIBAND" },
        { "anon_inode:[infiniband", "R-INFINIBAND" }, /* queues of events */
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (text_starts(target, names[i].start))
            return names[i].name;
    return NULL;
}

/* Documentation/admin-guide/devices.txt */
static const char *refusal_of_device(dev_t device)
{
    enum { MISC = 10, MISC_KVM = 232, NVIDIA = 195, DRM = 226, INFINIBAND_VERBS = 231 };

    switch (major(device)) {
    case MISC:
        return minor(device) == MISC_KVM ? "R-KVM" : "R-DEVICE";
    case NVIDIA:
    case DRM:
        return "R-GPU";
    case INFINIBAND_VERBS:
        return "R-INFINIBAND";
    default:
        return "R-DEVICE";
    }
}

const char *refusal_of_descriptor(const struct descriptor *descriptor)
{
    const char *name = refusal_of_target(descriptor->target);

    if (name)
        return name;
    if (S_ISFIFO(descriptor->status.st_mode))
        return "R-PIPE";
    return S_ISCHR(descriptor->status.st_mode) ? refusal_of_device(descriptor->status.st_rdev) : "R-DESCRIPTOR";
}
