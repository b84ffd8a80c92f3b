/* SPDX-License-Identifier: MIT */
/* contained COMMAND...: executes it under a filter of system calls as containers have: no clone3, which is answered as by an old kernel, and no
 * namespaces. */
#include "guest.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>

enum { SPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP };

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(number, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, skip)
#define ANSWER(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))

int main(int count, char **arguments)
{
    struct sock_filter filter[] = {
        LOAD(nr),
        UNLESS(SYS_clone3, 1), ANSWER(ENOSYS),
        UNLESS(SYS_unshare, 1), ANSWER(EPERM),
        UNLESS(SYS_setns, 1), ANSWER(EPERM),
        UNLESS(SYS_mount, 1), ANSWER(EPERM),
        UNLESS(SYS_clone, 3),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, SPACES, 0, 1), ANSWER(EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };

    if (count < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        bad("no filter: %s", strerror(errno));
    execvp(arguments[1], arguments + 1);
    bad("%s: %s", arguments[1], strerror(errno));
}
