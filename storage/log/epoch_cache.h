/*
 * epoch_cache: which leader epoch begins at which offset, and where each one ends.
 *
 * Both columns rise strictly. The entries of a log live in the log itself while they are few and in
 * memory that the owner provides beyond that. Source: Kafka's leader-epoch-checkpoint, KIP-101, KIP-320.
 */
#ifndef MILLRACE_STORAGE_EPOCH_CACHE_H
#define MILLRACE_STORAGE_EPOCH_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#define MR_EPOCH_INLINE 4

struct mr_epoch_entry {
    int64_t start_offset;
    int32_t epoch;
};

struct mr_epoch_cache {
    uint32_t               count;
    uint32_t               capacity;
    struct mr_epoch_entry *entries; /* `few`, or the owner's memory */
    struct mr_epoch_entry  few[MR_EPOCH_INLINE];
};

void mr_epoch_cache_init(struct mr_epoch_cache *cache);

/* Whether the next assign needs more room than there is; then grow first. */
static inline bool mr_epoch_cache_is_full(const struct mr_epoch_cache *cache)
{
    return cache->count == cache->capacity;
}

/* Move to larger memory; returns the old memory, NULL when it was inline. */
void *mr_epoch_cache_grow(struct mr_epoch_cache *cache, void *memory, uint32_t capacity);

/* Epoch `epoch` begins at `start_offset`. Nothing happens when it is the latest already; contradicting
 * entries give way. When the cache is full the oldest entry is lost (grow first to avoid that). Returns whether
 * something changed. */
bool mr_epoch_cache_assign(struct mr_epoch_cache *cache, int32_t epoch, int64_t start_offset);

/* -1 when there is none. */
int32_t mr_epoch_cache_latest(const struct mr_epoch_cache *cache);

/* The epoch of the record at `offset`, -1 unknown. */
int32_t mr_epoch_cache_at(const struct mr_epoch_cache *cache, int64_t offset);

/* Where `epoch` ends: (-1, -1) when unknown. `log_end` ends the latest epoch. */
void mr_epoch_cache_end(const struct mr_epoch_cache *cache, int32_t epoch, int64_t log_end,
                        int32_t *end_epoch, int64_t *end_offset);

/* The log now begins at `offset`. Returns whether something changed. */
bool mr_epoch_cache_trim_start(struct mr_epoch_cache *cache, int64_t offset);

/* The log now ends at `offset`: entries that begin there or later go. */
bool mr_epoch_cache_trim_end(struct mr_epoch_cache *cache, int64_t offset);

#endif
