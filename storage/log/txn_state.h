/*
 * txn_state: the transactions of a log: which are undecided, which were aborted, and so where its stable part ends.
 *
 *   undecided   by first offset; one that a marker has decided stays until the marker is flushed. The first of them
 *               begins where the stable part ends (LSO); without one that is the high watermark.
 *   aborted     of each segment, by the offset of the marker that lies in it: what readers of committed records are
 *               to leave out. All of them are in memory; the segment's .txnindex has them too, written behind the
 *               journal: an ABORTED entry tells recovery what the file may not have yet.
 *   guards      what a producer has been allowed to begin: the coordinator is asked between the check and the
 *               append, and a marker that comes in between takes the permission back (KIP-890)
 *
 * Which producer has which transaction is in producer_state. Pools are the core's.
 * .txnindex is Kafka's: entries of 34 bytes: version i16 = 0 | producer id | first | last | stable offset, i64 each.
 * Source: behaviour of Apache Kafka 4.4; KIP-98, KIP-890.
 */
#ifndef MILLRACE_STORAGE_TXN_STATE_H
#define MILLRACE_STORAGE_TXN_STATE_H

#include "log/producer_state.h"

#include "millrace/batch.h"
#include "millrace/storage.h"

#define MR_ABORTED_ENTRY      34u
#define MR_TXN_GUARDS_MAX     4096u /* of a core; the oldest gives way */

struct mr_storage_core;
struct mr_partition;
struct mr_segment;

struct mr_txn {
    struct mr_list link; /* in mr_txns.undecided */
    int64_t        producer_id;
    int64_t        first_offset;
    int64_t        last_offset; /* of its marker; -1: open */
};

struct mr_txn_guard {
    struct mr_list link;   /* in mr_txns.guards */
    struct mr_list by_age; /* in mr_txn_pools.guards */
    uint64_t       token;
    int64_t        producer_id;
    int32_t        lowest_sequence; /* that asked for it: the first batch must be that one */
    int16_t        epoch;
    bool           is_strict; /* a producer that is not known here begins at sequence 0 */
};

struct mr_aborted {
    struct mr_list link; /* in mr_segment.aborted, by last_offset */
    int64_t        producer_id;
    int64_t        first_offset;
    int64_t        last_offset;   /* of the marker */
    int64_t        stable_offset; /* the end of the stable part when it was decided */
};

/* Of a log. */
struct mr_txns {
    struct mr_list undecided;
    struct mr_list guards;
    uint32_t       undecided_count;
    uint32_t       aborted_count;     /* of all segments */
    uint32_t       aborted_unwritten; /* of them not in a .txnindex yet */
    bool           is_index_busy;     /* some are being written */
};

/* Of a core. */
struct mr_txn_pools {
    struct mr_pool      txns;
    struct mr_pool      guards;
    struct mr_pool      aborted;
    struct mr_list      guards_by_age;
    uint64_t            token;
    uint32_t            open_max; /* in one log */
    struct mr_log_brake brake;
};

size_t mr_txn_pools_bytes(const struct mr_storage_plan *plan);
void   mr_txn_pools_init(struct mr_txn_pools *pools, struct mr_arena *arena, const struct mr_storage_plan *plan);

void mr_txns_init(struct mr_txns *txns);
/* Forget what is undecided and allowed; the aborted ones go with their segments. */
void mr_txns_clear(struct mr_storage_core *core, struct mr_partition *partition);
/* After a load: what is undecided, from the log's producers. False: no memory. */
bool mr_txns_rebuild(struct mr_storage_core *core, struct mr_partition *partition);

/* By first offset; what begins now is the last. False: no memory. */
bool mr_txn_begin(struct mr_storage_core *core, struct mr_txns *txns, int64_t producer_id, int64_t first_offset);
void mr_txn_end(struct mr_storage_core *core, struct mr_txns *txns, struct mr_txn *txn);

/* The end of the stable part, at most the high watermark. */
int64_t mr_txn_stable(const struct mr_partition *partition);
/* The high watermark has moved: decided transactions whose marker it has passed are over. */
void mr_txn_seen(struct mr_storage_core *core, struct mr_partition *partition);

/* ---- append ---- */

/* Whether a batch of a transaction may begin it here: a guard to append it with, or 0 when it is open already. */
enum mr_err mr_txn_allow(struct mr_storage_core *core, struct mr_partition *partition,
                         struct mr_txn_check_entry *entry);
/* Whether the guard still allows the client's batch, and nothing else about it speaks against it. */
enum mr_err mr_txn_check_data(struct mr_storage_core *core, struct mr_partition *partition,
                              const struct mr_append_entry *entry, const struct mr_batch *batch);
/* Whether a marker may be appended (kept when a client's batch is no marker). */
enum mr_err mr_txn_check_marker(struct mr_storage_core *core, struct mr_partition *partition,
                                const struct mr_append_entry *entry, const struct mr_batch *batch);
/* Whether there is room for what the copy of a batch, or of a marker, begins or aborts: it was allowed once. */
enum mr_err mr_txn_check_copy(struct mr_storage_core *core, struct mr_partition *partition,
                              const struct mr_append_entry *entry, const struct mr_batch *batch);
/* Before a marker: journal what it aborts, if anything. MR_AGAIN: no room. */
enum mr_err mr_txn_journal(struct mr_storage_core *core, struct mr_partition *partition,
                           const struct mr_append_entry *entry, const struct mr_batch *batch);
/* A batch of a transaction, or a marker, has its offset. */
void mr_txn_appended(struct mr_storage_core *core, struct mr_partition *partition,
                     const struct mr_append_entry *entry, const struct mr_batch *batch);

/* ---- read ---- */

/* How far a read from `offset` may go so that at most `room` aborted transactions concern it. */
int64_t mr_txn_bound(const struct mr_partition *partition, int64_t offset, int64_t limit, uint32_t room);
/* Those with records in [offset, end), in the operation's list. */
void mr_txn_list_aborted(const struct mr_partition *partition, struct mr_read_op *op, struct mr_read_entry *entry,
                         int64_t end);

/* ---- recovery and files ---- */

/* Read back a batch: what it says of producers and transactions, `bytes` its whole when it is a control batch. True:
 * it aborted what is in *aborted. */
bool mr_txn_replay(struct mr_storage_core *core, struct mr_partition *partition, const struct mr_batch *batch,
                   const uint8_t *bytes, struct mr_aborted *aborted);
/* Add to a segment, in order, each marker once. */
enum mr_err mr_aborted_add(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_aborted *aborted);
void mr_aborted_store(const struct mr_aborted *aborted, uint8_t entry[MR_ABORTED_ENTRY]);
void mr_aborted_load(const uint8_t entry[MR_ABORTED_ENTRY], struct mr_aborted *aborted);
/* Entries of a .txnindex that are read from the file's start; how many of the bytes are believed. */
uint32_t mr_aborted_read(struct mr_storage_core *core, struct mr_segment *segment, const uint8_t *bytes, uint32_t len,
                         enum mr_err *err);
void mr_aborted_clear(struct mr_storage_core *core, struct mr_segment *segment);
/* Those whose markers are not in the log. */
void mr_aborted_cut(struct mr_storage_core *core, struct mr_partition *partition);
enum mr_err mr_aborted_copy(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_segment *from);

/* Write what the .txnindex files do not have: a slice of it by a task. False: they have all. */
bool mr_txn_index_flush(struct mr_storage_core *core, struct mr_partition *partition);
/* The same, all of it, blocking. */
enum mr_err mr_txn_index_write(struct mr_storage_core *core, struct mr_partition *partition);

/* txn_mend.c: after a crash, what is_aborted_lost segments had in their .txnindex, from their batches. Blocking. */
enum mr_err mr_txn_mend(struct mr_storage_core *core, struct mr_partition *partition);

#endif
