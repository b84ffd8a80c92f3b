/* SPDX-License-Identifier: MIT */
/* execer SECONDS: becomes itself again and again (exec), a few milliseconds apart. A signal that comes between exec and
 * the first instruction of the new program finds no handler; a checkpointer must not kill it there. */
#include "guest.h"

enum { EXECS_PER_SECOND = 400 };

int main(int argc, char **argv)
{
    long total = (long)((argc > 1 ? atof(argv[1]) : 5) * EXECS_PER_SECOND);
    long turn = argc > 2 ? atol(argv[2]) : 0;
    pid_t first = argc > 3 ? (pid_t)atol(argv[3]) : getpid();
    char turn_text[24], first_text[24];
    uint64_t hash = argc > 4 ? strtoull(argv[4], NULL, 16) : 1;
    char hash_text[24];
    sigset_t blocked;

    if (getpid() != first)
        bad("process id changed over exec");
    if (sigprocmask(SIG_BLOCK, NULL, &blocked) || sigismember(&blocked, 63))
        bad("a signal is blocked that nobody blocked");
    if (turn == 0)
        ready();
    if (turn >= total) {
        printf("OK execer %ld %016llx\n", turn, (unsigned long long)hash);
        return 0;
    }
    for (int i = 0; i < 200000; i++)
        hash = mix(hash + (uint64_t)i);
    snprintf(turn_text, sizeof turn_text, "%ld", turn + 1);
    snprintf(first_text, sizeof first_text, "%ld", (long)first);
    snprintf(hash_text, sizeof hash_text, "%llx", (unsigned long long)hash);
    execl(argv[0], argv[0], argc > 1 ? argv[1] : "5", turn_text, first_text, hash_text, (char *)NULL);
    bad("exec: %s", strerror(errno));
}
