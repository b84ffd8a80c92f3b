/* SPDX-License-Identifier: MIT */
/* early SECONDS: becomes itself once, so that it has been through exec; then the thread that a constructor has made, and
 * main(), both go on for so many seconds. */
#include "guest.h"

unsigned long early_turns(void);

int main(int count, char **arguments)
{
    long ticks = ticks_wanted(count, arguments, 1, 2);
    unsigned long before;

    if (count < 3) {
        execl(arguments[0], arguments[0], count > 1 ? arguments[1] : "2", "again", (char *)NULL);
        bad("exec: %s", strerror(errno));
    }
    before = early_turns();
    ready();
    for (long tick = 0; tick < ticks; tick++)
        tick_sleep();
    for (int tick = 0; early_turns() <= before; tick++) {
        if (tick > 60 * GUEST_TICKS_PER_SECOND)
            bad("the early thread is gone");
        tick_sleep();
    }
    printf("OK early\n");
    return 0;
}
