/*
 * dump: what the files of `millrace dump` share. Nobody else's.
 *
 *   cmd_dump.c     the command, and every kind of file but
 *   dump_index.c   .index and .timeindex, also against their segment
 *   dump_side.c    .mrx, and which offsets of a sealed segment are lost
 */
#ifndef MILLRACE_CLI_DUMP_H
#define MILLRACE_CLI_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mr_dump_file {
    const char *path;
    const char *name; /* without directories */
    const uint8_t *bytes;
    size_t len;
};

/* Say what is wrong with a file; the command fails then. */
__attribute__((format(printf, 2, 3))) void mr_dump_wrong(const struct mr_dump_file *file,
                                                         const char *format, ...);

bool mr_dump_is_zero(const uint8_t *bytes, size_t len);

/* Map a regular file; false: why not is errno, 0 for something that is no file. */
bool mr_dump_map(const char *path, struct mr_dump_file *file);
void mr_dump_unmap(struct mr_dump_file *file);

void mr_dump_index_offset(const struct mr_dump_file *file, bool is_verifying);
void mr_dump_index_time(const struct mr_dump_file *file, bool is_verifying);
void mr_dump_side(const struct mr_dump_file *file, bool is_verifying);
/* Of a .log that another segment follows: the offsets that are lost, by its batches and its side-car, if that fits. */
void mr_dump_side_damage(const struct mr_dump_file *file);

#endif
