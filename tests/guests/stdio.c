/* SPDX-License-Identifier: MIT */
/* stdio SECONDS: a line with a running hash every tick, as a program does that writes its results as it goes. */
#include "guest.h"

int main(int argc, char **argv)
{
    long ticks = ticks_wanted(argc, argv, 1, 5);
    uint64_t hash = 1;

    setvbuf(stdout, NULL, _IOLBF, 0);
    ready();
    for (long tick = 0; tick < ticks; tick++) {
        hash = mix(hash + (uint64_t)tick);
        if (printf("line %ld %016llx\n", tick, (unsigned long long)hash) < 0)
            return 1;
        tick_sleep();
    }
    printf("OK stdio %016llx\n", (unsigned long long)hash);
    return 0;
}
