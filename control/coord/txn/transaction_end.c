/*
 * transaction_end: EndTxn of both protocols, aborts by the coordinator, and the end when all markers are written.
 *
 * Version 2 (EndTxn 5 and later): the Prepare record has the next epoch, which the markers carry, and the answer says
 * what producer id and epoch come next; so nobody who speaks with the old epoch can join the next transaction.
 */
#include "coord/txn/transaction.h"

#include "millrace/base/bug.h"

#define VERSION_2_FROM 5

/* What a client says that it ends. */
struct ending {
    const struct mr_transaction *transaction;
    int64_t producer_id;
    int16_t producer_epoch;
    bool is_commit;
    bool is_version_2;
};

static bool is_complete(enum mr_transaction_state state)
{
    return state == MR_TRANSACTION_COMPLETE_COMMIT || state == MR_TRANSACTION_COMPLETE_ABORT;
}

static enum mr_transaction_state prepared(bool is_commit)
{
    return is_commit ? MR_TRANSACTION_PREPARE_COMMIT : MR_TRANSACTION_PREPARE_ABORT;
}

static enum mr_transaction_state completed(bool is_commit)
{
    return is_commit ? MR_TRANSACTION_COMPLETE_COMMIT : MR_TRANSACTION_COMPLETE_ABORT;
}

/* The verdict on a request. */
enum verdict {
    END_PREPARE,  /* go on */
    END_REPEATED, /* it was done, the answer was not heard */
    END_REFUSED,
};

static enum verdict refuse(int16_t *error, int16_t code)
{
    *error = code;
    return END_REFUSED;
}

static enum verdict judge_1(const struct ending *e, int16_t *error)
{
    enum mr_transaction_state state = e->transaction->now.state;
    if (e->producer_id != e->transaction->now.producer_id) {
        return refuse(error, MR_KAFKA_INVALID_PRODUCER_ID_MAPPING);
    }
    if (e->producer_epoch != e->transaction->now.producer_epoch && !mr_bug("end-as-anybody")) {
        return refuse(error, MR_KAFKA_PRODUCER_FENCED);
    }
    if (state == MR_TRANSACTION_ONGOING) {
        return END_PREPARE;
    }
    if (state == completed(e->is_commit)) {
        return END_REPEATED;
    }
    return refuse(error, state == prepared(e->is_commit) ? MR_KAFKA_CONCURRENT_TRANSACTIONS
                                                         : MR_KAFKA_INVALID_TXN_STATE);
}

/* Kafka takes any end at the epoch before for a repetition, also when it was another client's, of version 1: whoever was
 * fenced by that one had its identity, and each ended the transactions of the other. */
static enum verdict judge_2(const struct ending *e, int16_t *error)
{
    const struct mr_transaction_values *now = &e->transaction->now;
    bool was_version_2 = now->client_version >= 2;
    bool is_overflown = was_version_2 && now->previous_producer_id == e->producer_id &&
                        e->producer_epoch == MR_TRANSACTION_EPOCH_LAST && now->producer_epoch == 0;
    bool is_bumped = was_version_2 && now->producer_epoch == e->producer_epoch + 1;
    bool is_repeated = is_bumped || is_overflown;
    bool is_same = now->producer_epoch == e->producer_epoch;
    if (e->producer_id != now->producer_id && !is_overflown) {
        return refuse(error, MR_KAFKA_INVALID_PRODUCER_ID_MAPPING);
    }
    bool is_valid = mr_transaction_is_prepared(e->transaction) ? is_bumped
                    : is_complete(now->state)                  ? is_repeated || is_same
                                                               : is_same;
    if (!is_valid) {
        return refuse(error, MR_KAFKA_PRODUCER_FENCED);
    }
    switch (now->state) {
    case MR_TRANSACTION_ONGOING:
        return END_PREPARE;
    case MR_TRANSACTION_EMPTY:
        return e->is_commit ? refuse(error, MR_KAFKA_INVALID_TXN_STATE) : END_PREPARE;
    case MR_TRANSACTION_COMPLETE_COMMIT:
        if (e->is_commit) {
            return is_repeated ? END_REPEATED : refuse(error, MR_KAFKA_INVALID_TXN_STATE);
        }
        return is_repeated ? refuse(error, MR_KAFKA_INVALID_TXN_STATE) : END_PREPARE;
    case MR_TRANSACTION_COMPLETE_ABORT:
        if (e->is_commit) {
            return refuse(error, MR_KAFKA_INVALID_TXN_STATE);
        }
        return is_repeated ? END_REPEATED : END_PREPARE;
    case MR_TRANSACTION_PREPARE_COMMIT:
    case MR_TRANSACTION_PREPARE_ABORT:
        return refuse(error, now->state == prepared(e->is_commit) ? MR_KAFKA_CONCURRENT_TRANSACTIONS
                                                                  : MR_KAFKA_INVALID_TXN_STATE);
    case MR_TRANSACTION_DEAD:
        break;
    }
    return refuse(error, MR_KAFKA_INVALID_PRODUCER_ID_MAPPING);
}

/* The Prepare record. `epoch`: the producer's, or the fenced one. Kafka's error, 0: written. */
static int16_t prepare(const struct mr_transaction *transaction, bool is_commit, bool is_bumped,
                       int16_t epoch, int64_t fresh_id, bool *is_used, struct mr_coord_out *out)
{
    struct mr_transaction_values values = transaction->now;
    bool is_fenced = epoch != values.producer_epoch;
    int16_t last_epoch = (int16_t)(is_fenced ? -1 : transaction->last_epoch);
    values.producer_epoch = epoch;
    if (is_bumped && epoch < INT16_MAX && !mr_bug("same-epoch-again")) {
        if (epoch == MR_TRANSACTION_EPOCH_LAST) {
            if (fresh_id < 0) {
                return MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
            }
            *is_used = true;
            values.next_producer_id = fresh_id;
        }
        last_epoch = epoch;
        values.producer_epoch = (int16_t)(epoch + 1);
    }
    /* Version 2: an abort of nothing, for the epoch's sake. */
    if (values.state != MR_TRANSACTION_ONGOING || mr_bug("decide-nothing")) {
        values.topics_count = 0;
        values.start_ms = out->now.unix_ms;
    }
    values.state = prepared(is_commit);
    values.previous_producer_id = transaction->now.producer_id;
    values.client_version = is_bumped ? 2 : 0; /* what the markers are judged by: they have the epoch of their end */
    values.update_ms = out->now.unix_ms;
    if (!mr_transaction_record(transaction->shard, transaction->id, &values, out)) {
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    mr_transaction_give_last_epoch(transaction, last_epoch);
    return MR_KAFKA_NONE;
}

int16_t mr_transaction_fence(const struct mr_transaction *transaction, int64_t fresh_id,
                             bool *is_used, struct mr_coord_out *out)
{
    int16_t epoch = transaction->now.producer_epoch;
    bool is_bumped = transaction->shard->env->version >= 2;
    epoch = (int16_t)(epoch < INT16_MAX ? epoch + 1 : epoch);
    return prepare(transaction, mr_bug("commit-the-late"), is_bumped, epoch, fresh_id, is_used, out);
}

bool mr_transaction_complete(const struct mr_transaction *transaction, struct mr_coord_out *out)
{
    struct mr_transaction_values values = transaction->now;
    int16_t last_epoch = transaction->last_epoch;
    values.state = completed(values.state == MR_TRANSACTION_PREPARE_COMMIT);
    values.previous_producer_id = values.producer_id;
    if (values.next_producer_id >= 0) {
        last_epoch = MR_TRANSACTION_EPOCH_LAST;
        values.producer_id = values.next_producer_id;
        values.producer_epoch = 0;
        values.next_producer_id = -1;
    }
    values.topics_count = 0;
    values.update_ms = out->now.unix_ms;
    if (!mr_transaction_record(transaction->shard, transaction->id, &values, out)) {
        return false;
    }
    mr_transaction_give_last_epoch(transaction, last_epoch);
    return true;
}

static void answer(const struct mr_transaction_shard *shard, struct mr_request *request,
                   enum mr_coord_when when, int16_t error, int64_t producer_id,
                   int16_t producer_epoch, struct mr_coord_out *out)
{
    struct mr_end_txn_response *response = MR_COORD_NEW(out, struct mr_end_txn_response, 1);
    if (response == NULL) {
        mr_coord_out_forget_records(out);
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    MR_DEFAULTS(end_txn_response, response);
    bool is_old = request->forward->api_version < 2;
    response->error_code = error == MR_KAFKA_PRODUCER_FENCED && is_old
                               ? (int16_t)MR_KAFKA_INVALID_PRODUCER_EPOCH
                               : error;
    if (request->forward->api_version >= VERSION_2_FROM && error == MR_KAFKA_NONE) {
        response->producer_id = producer_id;
        response->producer_epoch = producer_epoch;
    }
    mr_coord_out_answer(out, request, shard->index, when, response);
}

void mr_transaction_end(const struct mr_transaction_shard *shard, struct mr_request *request,
                        int64_t fresh_id, bool *is_used, struct mr_coord_out *out)
{
    const struct mr_end_txn_request *in = request->message;
    struct ending e = {
        .transaction = mr_transaction_find(shard, in->transactional_id),
        .producer_id = in->producer_id,
        .producer_epoch = in->producer_epoch,
        .is_commit = in->committed,
        .is_version_2 = request->forward->api_version >= VERSION_2_FROM,
    };
    int16_t error = in->transactional_id.len <= 0 ? (int16_t)MR_KAFKA_INVALID_REQUEST
                    : e.transaction == NULL       ? (int16_t)MR_KAFKA_INVALID_PRODUCER_ID_MAPPING
                                                  : (int16_t)MR_KAFKA_NONE;
    *is_used = false;
    if (error != MR_KAFKA_NONE) {
        answer(shard, request, MR_COORD_NOW, error, -1, -1, out);
        return;
    }
    const struct mr_transaction_values *now = &e.transaction->now;
    switch (e.is_version_2 ? judge_2(&e, &error) : judge_1(&e, &error)) {
    case END_REFUSED:
        answer(shard, request, MR_COORD_NOW, error, -1, -1, out);
        return;
    case END_REPEATED:
        answer(shard, request, MR_COORD_DURABLE, MR_KAFKA_NONE, now->producer_id,
               now->producer_epoch, out);
        return;
    case END_PREPARE:
        break;
    }
    error = prepare(e.transaction, e.is_commit, e.is_version_2, now->producer_epoch, fresh_id,
                    is_used, out);
    bool is_next = *is_used;
    bool is_parked = error == MR_KAFKA_NONE && !mr_bug("answer-ends-early");
    answer(shard, request, is_parked ? MR_COORD_DURABLE : MR_COORD_NOW, error,
           is_next ? fresh_id : now->producer_id,
           (int16_t)(is_next ? 0 : now->producer_epoch + !mr_bug("same-epoch-again")), out);
}
