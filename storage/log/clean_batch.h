/*
 * clean_batch: what compaction leaves of one batch.
 *
 *   kept as it was    every record stays and no delete horizon is to be noted
 *   made anew         fewer records, or a horizon: offsets, sequence, producer and epochs as before
 *   empty             a header without records, where the producer's last sequence or the log's end would be lost
 *   nothing
 *
 * A record stays when it is above what the map has seen, or the newest of its key; a tombstone among those until the
 * batch's delete horizon, which is set when compaction first meets it: bit 6 of the attributes, and the horizon is the
 * base timestamp, from which the records' deltas count. Records without a key go.
 *
 * Pure. Source: behaviour of Kafka's Cleaner and MemoryRecords.filterTo (4.4), KIP-534.
 */
#ifndef MILLRACE_STORAGE_CLEAN_BATCH_H
#define MILLRACE_STORAGE_CLEAN_BATCH_H

#include "log/clean_map.h"

#include "millrace/batch.h"

struct mr_clean_rules {
    const struct mr_clean_map *map;
    int64_t                    map_end; /* records from here on are not in the map: they stay */
    int64_t                    now_ms;
    int64_t                    delete_retention_ms;
};

/* What is known of the batch from elsewhere. */
struct mr_clean_batch {
    bool is_discarded; /* none of its records stays: an aborted transaction's, or a marker that has had its time */
    bool is_marker_over; /* a marker without a transaction: it goes after its horizon */
    bool is_kept; /* if only as an empty batch */
};

/* The records of a batch, in the order of the log. False: enough, the walk ends. */
typedef bool mr_clean_record_found(void *context, const struct mr_record *record);

/* Walk over a data batch's records. MR_ERR_NO_MEMORY: it does not decompress into scratch. */
enum mr_err mr_clean_batch_walk(const uint8_t *bytes, uint32_t len, struct mr_arena *scratch,
                                mr_clean_record_found *found, void *context);

/*
 * Write what stays of the batch to `out`; *out_len may be 0. MR_ERR_TOO_LARGE: it does not fit `room`;
 * MR_ERR_NO_MEMORY: not into scratch; MR_ERR_INVALID_RECORD: its records are not what its header says.
 */
enum mr_err mr_clean_batch(const struct mr_clean_rules *rules, const struct mr_clean_batch *known, const uint8_t *bytes,
                           uint32_t len, struct mr_arena *scratch, uint8_t *out, uint32_t room, uint32_t *out_len);

#endif
