/* SPDX-License-Identifier: MIT */
/* block SECONDS: blocks every signal behind libc's back for SECONDS, then opens them and goes on for two seconds more.
 * Makes <GUEST_READY>.open when the signals are open again. */
#include "guest.h"

static void set_mask(uint64_t mask)
{
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask))
        bad("rt_sigprocmask: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 1, 15);
    char open_name[4096];
    uint64_t hash = 1;
    const char *name = getenv("GUEST_READY");

    set_mask(~UINT64_C(0));
    ready();
    for (long tick = 0; tick < ticks + 2 * GUEST_TICKS_PER_SECOND; tick++) {
        if (tick == ticks) {
            set_mask(0);
            snprintf(open_name, sizeof open_name, "%s.open", name ? name : "");
            if (name && *name && setenv("GUEST_READY", open_name, 1) == 0)
                ready();
        }
        hash = mix(hash + (uint64_t)tick);
        tick_sleep();
    }
    printf("OK block %016llx\n", (unsigned long long)hash);
    return 0;
}
