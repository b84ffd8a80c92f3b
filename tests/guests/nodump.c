/* SPDX-License-Identifier: MIT */
/* nodump SECONDS: a program that forbids others to look into it (PR_SET_DUMPABLE 0), as an ssh-agent does. */
#include "guest.h"

#include <sys/prctl.h>

enum { WORDS = 1 << 17 };

int main(int argc, char **argv)
{
    static uint64_t table[WORDS];
    long ticks = ticks_wanted(argc, argv, 1, 5);

    if (prctl(PR_SET_DUMPABLE, 0))
        bad("PR_SET_DUMPABLE: %s", strerror(errno));
    ready();
    for (uint64_t tick = 0; tick < (uint64_t)ticks; tick++) {
        for (uint64_t word = 0; word < WORDS; word++) {
            if (tick && table[word] != mix(word ^ (tick - 1)))
                bad("word %llu", (unsigned long long)word);
            table[word] = mix(word ^ tick);
        }
        if (prctl(PR_GET_DUMPABLE) != 0)
            bad("dumpable is %d", prctl(PR_GET_DUMPABLE));
        tick_sleep();
    }
    printf("OK nodump\n");
    return 0;
}
