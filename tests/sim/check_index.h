/*
 * check_index: whether the indexes that a log directory holds are what its segments say.
 *
 *   .index       every entry is the position and the last offset of a batch, in order
 *   .timeindex   every entry is the largest timestamp so far, and the offset of the batch that has it, in order;
 *                of a segment that has a successor the last one is the largest of all
 *
 * For directories at rest: after a recovery, after a clean stop.
 */
#ifndef MILLRACE_TESTS_CHECK_INDEX_H
#define MILLRACE_TESTS_CHECK_INDEX_H

#include "sim_disk.h"

/* The partition directory `dir`, but for segments wholly below the log start, which wait to be removed. False: `why`
 * says what is wrong. */
bool mr_check_index_dir(const struct mr_sim_fs *fs, const char *dir, int64_t log_start, char *why, size_t why_size);

#endif
