/*
 * clean_map: of each key the offset of its newest record, for compaction.
 *
 *   slots   hash of the key (128 bits) | offset + 1, 0: free; linear probing
 *
 * Keys themselves are not kept: two with the same hash would be taken for one, and the older record lost. The hash is
 * keyed with random bits, so nobody can look for such pairs, and by chance there is none: 2^-128 for each pair.
 * Memory is the caller's and touched as far as it is used: a small log clears and fills a small part.
 *
 * Pure. Kafka's is SkimpyOffsetMap, with MD5.
 */
#ifndef MILLRACE_STORAGE_CLEAN_MAP_H
#define MILLRACE_STORAGE_CLEAN_MAP_H

#include "millrace/base/hash.h"
#include "millrace/base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CLEAN_SLOT_BYTES 24u

struct mr_clean_slot {
    uint64_t hash[2];
    int64_t  offset_1; /* offset + 1; 0: free */
};

struct mr_clean_map {
    struct mr_clean_slot *slots;
    uint64_t              slot_max;
    uint64_t              slot_count; /* in use by this round */
    uint64_t              used;
    uint64_t              used_max;
    uint64_t              dirty; /* slots from the start that may not be free */
    double                load;  /* how full it may become */
    struct mr_hash_key    keys[2];
};

/* `memory` is all zero. */
void mr_clean_map_init(struct mr_clean_map *map, void *memory, uint64_t bytes, double load, uint64_t seed);

/* Free the slots, `max` at a time; true: all are. */
bool mr_clean_map_clear(struct mr_clean_map *map, uint64_t max);
/* Room for so many keys, or as many as fit. The map is clear. */
void mr_clean_map_begin(struct mr_clean_map *map, uint64_t key_count);

/* Offsets of a key only rise. False: it is full, nothing changed. */
bool mr_clean_map_put(struct mr_clean_map *map, struct mr_blob key, int64_t offset);
/* -1: not in it. */
int64_t mr_clean_map_get(const struct mr_clean_map *map, struct mr_blob key);

#endif
