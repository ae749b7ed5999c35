/*
 * load_verify: every record that was acknowledged is read once, in order, byte for byte.
 *
 * The stamp in each value (load_image.h) says which producer wrote it and the how manieth it is in its
 * partition. A reader expects each number of each producer and partition in turn.
 *
 * Memory: the verifier's (malloc). A reader belongs to one thread; readers that share partitions at
 * different times (a group) are one reader.
 */
#ifndef MILLRACE_PERF_LOAD_VERIFY_H
#define MILLRACE_PERF_LOAD_VERIFY_H

#include "load_options.h"
#include "millrace/base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mr_load_reader {
    uint64_t *next;       /* the number expected, of each producer and partition */
    uint64_t  right;      /* records as they should be                           */
    uint64_t  missing;    /* numbers that were skipped                           */
    uint64_t  repeated;   /* numbers that came again or too late                 */
    uint64_t  damaged;    /* records that nobody wrote like this                 */
    char      first[256]; /* the first thing that was wrong                      */
};

struct mr_load_verify {
    const struct mr_load_options *options;
    uint32_t                      producers;
    uint32_t                      partitions;
    struct mr_load_reader        *readers;
    uint32_t                      reader_count;
    uint64_t                     *acked; /* acknowledged records of each producer and partition */
    uint8_t                      *key;
};

/* False: out of memory, or more than 2^26 streams. */
bool mr_load_verify_init(struct mr_load_verify *verify, const struct mr_load_options *options, uint32_t producers,
                         uint32_t partitions, uint32_t readers);
void mr_load_verify_free(struct mr_load_verify *verify);

/* Hold one record against what was written. */
void mr_load_verify_record(const struct mr_load_verify *verify, struct mr_load_reader *reader, uint32_t partition,
                           int64_t offset, struct mr_blob key, struct mr_blob value);

/* `acked` is set: what a reader has not seen of it is missing too. Returns true when all readers saw all. */
bool mr_load_verify_end(struct mr_load_verify *verify);

/* `acked` as a text file, and back (init is done by load). False: `why` says why. */
bool mr_load_verify_store(const struct mr_load_verify *verify, const char *path, char *why, size_t why_size);
bool mr_load_verify_load(struct mr_load_verify *verify, const struct mr_load_options *options, uint32_t partitions,
                         const char *path, char *why, size_t why_size);

#endif
