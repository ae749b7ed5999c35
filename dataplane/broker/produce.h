/*
 * produce: a Produce under way, shared by its handler and by what a transaction asks for before.
 *
 *   handle_produce.c   check > (another codec: encode.c) > put > append > answer
 *   produce_txn.c            put > TXN_CHECK > (coordinator) > append: batches of a transaction
 *
 * Memory: the request's arena. Thread: the data core.
 */
#ifndef MILLRACE_PRODUCE_H
#define MILLRACE_PRODUCE_H

#include "broker/request.h"
#include "broker/scatter.h"
#include "millrace/batch.h"
#include "millrace/metadata.h"

struct mr_produce_one { /* what is to be told of a partition beside its code, in request order */
    const char *message;
    struct mr_batch_refusal *refusal;
};

enum mr_produce_phase {
    MR_PRODUCE_APPEND, /* the batches are with storage */
    MR_PRODUCE_ENCODE, /* some have to be put into another codec, in later turns */
    MR_PRODUCE_CHECK,  /* storage says which partitions the transaction is not open in */
    MR_PRODUCE_ASK,    /* the coordinator is asked for those */
};

/* A partition whose batch belongs to a transaction. */
struct mr_produce_txn_part {
    uint32_t at; /* in request order */
    int32_t topic; /* index in the request */
    int32_t partition;
    int64_t producer_id;
    int32_t base_sequence;
    int16_t producer_epoch;
    uint32_t storage_core;
    uint64_t log_id;
};

struct mr_produce {
    struct mr_produce_request in;
    struct mr_scatter scatter; /* of struct mr_append_entry */
    struct mr_produce_one *ones;
    uint32_t count; /* partitions */
    int32_t put_topic; /* the next one to be checked and put */
    int32_t put_partition;

    enum mr_produce_phase phase;
    struct mr_produce_txn_part *parts; /* NULL: no batch of a transaction has come yet */
    uint32_t part_count;
    struct mr_scatter checks; /* of struct mr_txn_check_entry, one per part */
};

/* Note that the batch of the partition put next belongs to a transaction. False: no memory. */
bool mr_produce_txn_note(struct mr_request *request, struct mr_produce *produce, int32_t topic,
                         int32_t partition, const struct mr_image_partition *found,
                         const struct mr_batch *batch);

/* Everything is put: ask storage. */
void mr_produce_txn_begin(struct mr_request *request);
/* Storage has answered. */
void mr_produce_txn_checked(struct mr_request *request);
/* The coordinator has answered: a whole AddPartitionsToTxn response. */
void mr_produce_txn_answered(struct mr_request *request, const struct mr_chain *reply);

/* handle_produce.c: everything is settled, append. */
void mr_produce_append(struct mr_request *request);
/* What the longest answer takes of the arena. */
size_t mr_produce_answer_room(const struct mr_produce *produce, uint32_t core_count);

#endif
