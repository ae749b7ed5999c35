/*
 * producer_state: what a log remembers of each idempotent producer: its epoch and its last five
 * batches, so that a retry is answered with the offset it got before and a gap is refused.
 *
 * One mr_producers per storage core holds the entries of all its logs: a pool, a hash by (log, id)
 * and a list from the longest unused. When the pool is exhausted the longest unused entry
 * without an open transaction goes: its producer, should it come back, is accepted like a new one, as after Kafka's expiry.
 *
 * Snapshot files are Kafka's: version i16 = 1 | CRC-32C u32 of what follows | count i32 | entries of
 * 46 bytes. Kafka writes one entry per producer, its last batch; ours has one for each batch of the window, oldest
 * first, and Kafka, which reads them into a map by id, is left with the last. So retries of several
 * batches in flight are still known as duplicates after a clean stop, where Kafka answers
 * OUT_OF_ORDER_SEQUENCE_NUMBER. Source: behaviour of Apache Kafka 4.4.
 */
#ifndef MILLRACE_STORAGE_PRODUCER_STATE_H
#define MILLRACE_STORAGE_PRODUCER_STATE_H

#include "millrace/base/arena.h"
#include "millrace/base/hash.h"
#include "millrace/base/list.h"
#include "millrace/base/pool.h"
#include "millrace/batch.h"

#define MR_PRODUCER_WINDOW         5
#define MR_PRODUCER_SNAPSHOT_HEAD  10
#define MR_PRODUCER_SNAPSHOT_ENTRY 46

/* A log remembers this many at most; then its longest unused gives way. So that a snapshot is written from 1 MiB and a
 * log's state fits a block of the state file, whatever clients do. */
#define MR_PRODUCERS_PER_LOG 4500u

struct mr_producer_batch {
    int64_t last_offset;
    int64_t timestamp;
    int32_t offset_delta; /* last offset - first offset */
    int32_t last_sequence;
};

struct mr_producer {
    struct mr_list           of_log; /* in mr_producer_set.list, longest unused first */
    struct mr_list           by_age; /* in mr_producers.by_age, longest unused first */
    struct mr_producer      *next;   /* in the bucket */
    struct mr_producer_set  *set;
    int64_t                  id;
    int64_t                  last_timestamp;
    int64_t                  txn_first_offset; /* -1: no open transaction */
    int32_t                  coordinator_epoch;
    int16_t                  epoch;
    uint8_t                  batch_count;
    struct mr_producer_batch batches[MR_PRODUCER_WINDOW]; /* oldest first */
};

/* A log's producers. */
struct mr_producer_set {
    struct mr_list list;
    uint64_t       log_id;
    int64_t        expire_ms; /* producer.id.expiration.ms */
    uint32_t       count;
};

struct mr_producers {
    struct mr_pool       pool;
    struct mr_producer **buckets;
    uint32_t             mask;
    struct mr_list       by_age;
    uint64_t             evicted; /* entries dropped because the pool was exhausted */
};

size_t mr_producers_bytes(uint32_t capacity);
void   mr_producers_init(struct mr_producers *producers, struct mr_arena *arena, uint32_t capacity);

void mr_producer_set_init(struct mr_producer_set *set, uint64_t log_id);
/* Forget all of a log's producers. */
void mr_producer_set_clear(struct mr_producers *producers, struct mr_producer_set *set);

/* NULL when the log does not know the id. */
struct mr_producer *mr_producer_find(const struct mr_producers *producers, const struct mr_producer_set *set,
                                     int64_t id);

/* Sequence of the last of `count` records that begin at `base`: counts on from 0 after 2^31 - 1. */
int32_t mr_producer_last_sequence(int32_t base, int32_t count);

/* The same, made when the log does not know it. */
struct mr_producer *mr_producer_get(struct mr_producers *producers, struct mr_producer_set *set, int64_t id);

/*
 * Whether a client's batch may be appended. MR_OK, and *duplicate is the batch stored before or
 * NULL; or MR_ERR_INVALID_PRODUCER_EPOCH, MR_ERR_OUT_OF_ORDER_SEQUENCE; MR_ERR_INVALID_TXN_STATE: not transactional,
 * though its transaction is open. What a transactional batch must have beside, txn_state.h checks.
 */
enum mr_err mr_producer_check(const struct mr_producers *producers, const struct mr_producer_set *set,
                              const struct mr_batch *batch, const struct mr_producer_batch **duplicate);

/* Remember an appended batch; batch->base_offset is the assigned one. Also the way of recovery. */
void mr_producer_update(struct mr_producers *producers, struct mr_producer_set *set,
                        const struct mr_batch *batch);

/* A marker: the producer's transaction is over. Returns its first offset; -1: none was open. */
int64_t mr_producer_end_txn(struct mr_producers *producers, struct mr_producer_set *set, const struct mr_batch *batch,
                            int32_t coordinator_epoch);

/* Add what another core remembers of the same log. */
void mr_producer_set_copy(struct mr_producers *producers, struct mr_producer_set *set,
                          const struct mr_producer_set *from);

/* Drop producers whose last timestamp is their log's expire_ms ago and who have no open transaction; the `max`
 * longest unused are looked at. True: some went and there are more to look at. */
bool mr_producers_expire(struct mr_producers *producers, int64_t now_unix_ms, uint32_t max);

/* Bytes of the snapshot file. Cost: O(producers of the log). */
uint32_t mr_producer_snapshot_bytes(const struct mr_producer_set *set);

/* Write the snapshot file's content; `out` has mr_producer_snapshot_bytes. Returns the length. */
uint32_t mr_producer_snapshot_store(const struct mr_producer_set *set, uint8_t *out);

/* Add the entries of a snapshot file to the set, beside what was read from the log itself; MR_ERR_CORRUPT changes
 * nothing. */
enum mr_err mr_producer_snapshot_load(struct mr_producers *producers, struct mr_producer_set *set,
                                      const uint8_t *bytes, uint32_t len);

/* Whether the bytes are a snapshot file's. */
bool mr_producer_snapshot_is_whole(const uint8_t *bytes, uint32_t len);
/* Where the transaction that is open of an entry's producer begins; -1: none. */
int64_t mr_producer_snapshot_txn(const uint8_t entry[MR_PRODUCER_SNAPSHOT_ENTRY], int64_t *producer_id);

#endif
