/*
 * check_kept: whether retention by size has removed what it had to.
 *
 * Of a log that nobody has written to for longer than the checks of retention take, the first segment goes as long as the
 * others have retention.bytes; the active one always stays. Sizes are those of the files, so for a directory as a clean
 * stop leaves it.
 */
#ifndef MILLRACE_TESTS_CHECK_KEPT_H
#define MILLRACE_TESTS_CHECK_KEPT_H

#include "sim_disk.h"

/* All partitions of the topic. False: `why` says which keeps too much. */
bool mr_check_kept_topic(const struct mr_sim_fs *fs, const char *log_dir, const char *topic, int64_t retention_bytes,
                         char *why, size_t why_size);

#endif
