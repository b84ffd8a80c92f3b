/* SPDX-License-Identifier: MIT */
/* How often `stasis run --resume` has brought a program back from one image: "<run> <generation> <count>" in
 * <job>.<step>.resumed beside it. A newer image is another generation, and counting begins again. */
#ifndef STASIS_ATTEMPTS_H
#define STASIS_ATTEMPTS_H

#include "../core/image/layout.h"

/* Counts one more. Exit status, said on stderr: EXIT_REFUSED when there were enough. */
int attempts_count(const char *image, const struct file_header *header);
/* The program has ended with 0: there is nothing left to count. */
void attempts_forget(const char *image, const struct file_header *header);

#endif
