/*
 * log_writer: takes lines out of the threads' log rings and writes them to stderr.
 *
 *   2026-11-23T09:47:03.123Z INFO  core-0     serving listener=PLAINTEXT port=9092
 *
 * Thread: the chore thread; at the end of the process whoever is last (mr_log_writer_drain locks).
 */
#ifndef MILLRACE_CONTROL_LOG_WRITER_H
#define MILLRACE_CONTROL_LOG_WRITER_H

#include "millrace/base/log.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_LOG_WRITER_LOGS 72

/* Start-up only, before the chore thread runs. */
void mr_log_writer_add(struct mr_log *log);

/* Write everything that is there. Returns the number of lines; 0 when another thread is at it. */
uint32_t mr_log_writer_drain(void);

/* Whether there is something to write. */
bool mr_log_writer_has_lines(void);

/* One line as text, with its final newline; returns the length. */
uint32_t mr_log_writer_format(const char *thread, const struct mr_log_line *line, char *out,
                              uint32_t size);

#endif
