/*
 * load_txn: the transactions of one producer: each request is one, by transaction version 2 (KIP-890): Produce 12 adds its
 * partitions itself, EndTxn 5 commits and answers with the epoch of the next one.
 *
 *   Produce sent  >  acknowledged  >  EndTxn sent  >  acknowledged: the request is done
 *
 * CONCURRENT_TRANSACTIONS, the answer while the markers of the one before are still being written, is asked again after a
 * millisecond. One thread, the worker's.
 */
#ifndef MILLRACE_PERF_LOAD_TXN_H
#define MILLRACE_PERF_LOAD_TXN_H

#include "load_call.h"

struct mr_load_producer;

struct mr_load_txn {
    struct mr_load_caller    caller; /* of the coordinator */
    struct mr_load_producer *producer;
    char                     id[40];
    bool                     is_ending; /* the produce is acknowledged */
    bool                     is_again;  /* what is under way is asked again when the producer is due */
};

/* A producer id for the transactional id of producer `index`, and a connection to its coordinator. False: worker->error
 * says why. */
bool mr_load_txn_open(struct mr_load_txn *txn, struct mr_load_producer *producer, uint32_t index,
                      struct mr_load_image_params *params);

/* The request's records are acknowledged: commit them. */
void mr_load_txn_end(struct mr_load_txn *txn);

/* The coordinator or the leader is not done with the one before: ask once more, a little later. */
void mr_load_txn_wait(struct mr_load_txn *txn);

/* The producer is due, and is_again: true when it has to send its request again. */
bool mr_load_txn_again(struct mr_load_txn *txn);

void mr_load_txn_close(struct mr_load_txn *txn);

#endif
