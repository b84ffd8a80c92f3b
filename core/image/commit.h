/* SPDX-License-Identifier: MIT */
/* Names of images, and the one rename by which an image appears. */
#ifndef STASIS_COMMIT_H
#define STASIS_COMMIT_H

#include "write.h"

/* "<job>.<step>.ckpt" into name[size]; of BATCH_STEP "<job>.ckpt". -ENAMETOOLONG; -EINVAL when an id is empty, starts with '.', or has a '/' or control
 * character in it, or when the step has a '.' (image_find could not tell it from the job). */
int image_name(char *name, size_t size, const char *job, const char *step);

/* Gives the finished image its name in writer->directory: first a temporary link, then
 * 1. if the image of that name is another run's (or unreadable as an image), it stays whole under
 *    "<name>.run-<first 8 hex digits of its run>" (a number behind it when that exists; "damaged" instead of the digits when
 *    unreadable), its older generations that belong to it likewise;
 * 2. if it is this run's, generations move up: .1 -> .2 ... (only this run's; others are set aside), and the newest
 *    becomes .1 (keep 0: is replaced). A link, FIFO or the like of that name is just replaced;
 * 3. rename over <name>; sync of the directory; only then those beyond `keep` are removed.
 * <name> itself is there and whole at every moment (hard links; where the file system has none, renames).
 * ret_path[MAX_PATH] gets the absolute path. -errno; the old image is in place then (save when the very last step, the sync of
 * the directory, fails: then the new one is, but may not outlive the machine's fall). */
int image_commit(struct image_writer *writer, const char *name, unsigned keep, char *ret_path);

/* Removes what a killed saver may have left in directory: temporary files of image `name`. Call only with the run locked. */
void image_sweep(const char *directory, const char *name);

/* Removes all generations of the image <job>.<step>.ckpt in directory `path` that belong to the run; those of others, and what
 * was set aside, stay. -errno. */
int image_remove(const char *path, const char *job, const char *step, const uint8_t run[UUID_BYTES]);

/* The newest whole image in `directory` for job/step (either may be NULL: any; that of a whole batch job is one
 * of any step only where there is no other). When more than one job and step fits, nothing
 * is chosen and -ENOTUNIQ is returned with their names in candidates. "Newest whole": <name>, or when that does not open,
 * <name>.1, .2 ... in order of their numbers; skipped ones stand in candidates as "<name>: <reason>". Candidates (may be NULL)
 * is text, one a line, each ended by a newline, and a NUL behind its length. ret_path[MAX_PATH]: absolute.
 * -ENOENT none; when there are some and none is good, the error of the first. */
int image_find(const char *directory, const char *job, const char *step, char *ret_path, struct buffer *candidates);

#endif
