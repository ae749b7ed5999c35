/*
 * offset_index: Kafka's .index file: which batch is where, sparsely.
 *
 *     entry, 8 bytes, big-endian:  relative offset i32 | file position i32
 *
 * The relative offset is that of a batch's LAST record, counted from the segment's base; the position is
 * where that batch starts. Entries rise strictly in the offset. Pure; the files are read and
 * written by segment.c.
 */
#ifndef MILLRACE_STORAGE_OFFSET_INDEX_H
#define MILLRACE_STORAGE_OFFSET_INDEX_H

#include "millrace/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_OFFSET_INDEX_ENTRY 8

struct mr_offset_index_entry {
    int32_t  relative;
    uint32_t pos;
};

static inline void mr_offset_index_store(uint8_t *at, struct mr_offset_index_entry entry)
{
    mr_store_be32(at, (uint32_t)entry.relative);
    mr_store_be32(at + 4, entry.pos);
}

static inline struct mr_offset_index_entry mr_offset_index_load(const uint8_t *at)
{
    return (struct mr_offset_index_entry){.relative = (int32_t)mr_load_be32(at),
                                          .pos = mr_load_be32(at + 4)};
}

/*
 * The last entry of `count` whose offset is <= relative: a scan for that offset may begin at its
 * position. False when there is none: begin at 0. Cost: O(log count).
 */
bool mr_offset_index_find(const uint8_t *entries, uint32_t count, int32_t relative,
                          struct mr_offset_index_entry *entry);

/*
 * How many entries from the start may be believed: offsets rise and are at most `relative_max`,
 * positions rise and lie below `size`. Zeros are no entry, not even as the first one. `before` is the entry before these, or {-1, 0} at the start.
 */
uint32_t mr_offset_index_check(const uint8_t *entries, uint32_t count, struct mr_offset_index_entry before,
                               int64_t relative_max, uint64_t size);

#endif
