/*
 * clean_txn: which transactions a cleaning pass is in the middle of, and so what becomes of their batches.
 *
 *   data of an aborted transaction   goes (its producer's last batch stays, empty)
 *   marker                           stays while data of its transaction was seen in this pass; after that it is over
 *                                    and goes when its delete horizon has passed
 *
 * A pass goes over decided transactions only, from the first segment of the log on. Which were aborted, the segments'
 * lists tell (txn_state.h); each transaction asks once. Source: behaviour of Kafka's CleanedTransactionMetadata (4.4).
 */
#ifndef MILLRACE_STORAGE_CLEAN_TXN_H
#define MILLRACE_STORAGE_CLEAN_TXN_H

#include "log/txn_state.h"

#include "millrace/base/map.h"

#define MR_CLEAN_TXNS_MAX 4096u /* open at one place of a log */

struct mr_clean_txn {
    struct mr_list link;
    int64_t        producer_id;
    bool           is_aborted;
};

struct mr_clean_txns {
    struct mr_pool pool;
    struct mr_map  by_producer;
    struct mr_list list;
};

size_t mr_clean_txns_bytes(void);
void   mr_clean_txns_init(struct mr_clean_txns *txns, struct mr_arena *arena);
void   mr_clean_txns_clear(struct mr_clean_txns *txns);

/* A transaction's data batch in `segment`. MR_ERR_NO_MEMORY: more transactions at once than there is room for. */
enum mr_err mr_clean_txn_data(struct mr_clean_txns *txns, const struct mr_segment *segment,
                              const struct mr_batch *batch, bool *is_aborted);
/* A control batch, whole. True: it is over. *aborted: what it aborted and is to be known on; NULL: nothing. */
bool mr_clean_txn_marker(struct mr_clean_txns *txns, const struct mr_segment *segment, const struct mr_batch *batch,
                         const uint8_t *bytes, const struct mr_aborted **aborted);

#endif
