/*
 * time_index: Kafka's .timeindex file: the largest timestamp so far, sparsely.
 *
 *     entry, 12 bytes, big-endian:  timestamp i64 | relative offset i32
 *
 * An entry says: the largest timestamp up to here is `timestamp`, and a batch that ends at this offset
 * has it. Both rise. An entry with the timestamp of the one before is not added. Pure.
 */
#ifndef MILLRACE_STORAGE_TIME_INDEX_H
#define MILLRACE_STORAGE_TIME_INDEX_H

#include "millrace/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_TIME_INDEX_ENTRY 12

struct mr_time_index_entry {
    int64_t timestamp;
    int32_t relative;
};

static inline void mr_time_index_store(uint8_t *at, struct mr_time_index_entry entry)
{
    mr_store_be64(at, (uint64_t)entry.timestamp);
    mr_store_be32(at + 8, (uint32_t)entry.relative);
}

static inline struct mr_time_index_entry mr_time_index_load(const uint8_t *at)
{
    return (struct mr_time_index_entry){.timestamp = (int64_t)mr_load_be64(at),
                                        .relative = (int32_t)mr_load_be32(at + 8)};
}

/* The last entry whose timestamp is < timestamp: everything up to its offset is older. */
bool mr_time_index_find_before(const uint8_t *entries, uint32_t count, int64_t timestamp,
                               struct mr_time_index_entry *entry);

/* How many entries from the start may be believed: both columns rise, offsets at most relative_max. An
 * entry of zeros is what a torn file has at its start, not believed as the first one either. */
uint32_t mr_time_index_check(const uint8_t *entries, uint32_t count, struct mr_time_index_entry before,
                             int64_t relative_max);

#endif
