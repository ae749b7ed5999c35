/*
 * transaction_init: InitProducerId with a transactional id: the id gets a producer id and an epoch; whoever had an
 * earlier epoch is fenced, and what it left open is aborted first.
 */
#include "coord/txn/transaction.h"

#include "millrace/base/bug.h"

static void answer(const struct mr_transaction_shard *shard, struct mr_request *request,
                   enum mr_coord_when when, int16_t error,
                   const struct mr_transaction_values *values, struct mr_coord_out *out)
{
    struct mr_init_producer_id_response *response =
        MR_COORD_NEW(out, struct mr_init_producer_id_response, 1);
    if (response == NULL) {
        mr_coord_out_forget_records(out);
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    MR_DEFAULTS(init_producer_id_response, response);
    bool is_old = request->forward->api_version < 4;
    response->error_code = error == MR_KAFKA_PRODUCER_FENCED && is_old
                               ? (int16_t)MR_KAFKA_INVALID_PRODUCER_EPOCH
                               : error;
    response->producer_id = error == MR_KAFKA_NONE ? values->producer_id : -1;
    response->producer_epoch = error == MR_KAFKA_NONE ? values->producer_epoch : -1;
    mr_coord_out_answer(out, request, shard->index, when, response);
}

static void refuse(const struct mr_transaction_shard *shard, struct mr_request *request,
                   int16_t error, struct mr_coord_out *out)
{
    answer(shard, request, MR_COORD_NOW, error, NULL, out);
}

static int16_t check_request(const struct mr_transaction_shard *shard,
                             const struct mr_init_producer_id_request *in)
{
    bool is_half = (in->producer_id == -1) != (in->producer_epoch == -1);
    if (in->transactional_id.len <= 0 || is_half) {
        return MR_KAFKA_INVALID_REQUEST;
    }
    if (in->transaction_timeout_ms <= 0 ||
        in->transaction_timeout_ms > shard->env->control->config->transaction_max_timeout_ms) {
        return MR_KAFKA_INVALID_TRANSACTION_TIMEOUT;
    }
    return MR_KAFKA_NONE;
}

/*
 *   epoch that the producer says it has     the epoch it gets
 *   none                                    the next
 *   the current one                         the next; the current one becomes the last
 *   the last one                            the current one: it repeats what it did not hear the answer to
 *   any other                               fenced
 *
 * An exhausted epoch: a new producer id, with epoch 0.
 */
static int16_t next_epoch(const struct mr_transaction *transaction,
                          const struct mr_init_producer_id_request *in, int64_t fresh_id,
                          bool *is_used, struct mr_transaction_values *values, int16_t *last_epoch)
{
    int16_t epoch = transaction->now.producer_epoch;
    int16_t given = in->producer_epoch;
    *last_epoch = -1;
    if (epoch >= MR_TRANSACTION_EPOCH_LAST && (given == -1 || given == epoch)) {
        if (fresh_id < 0) {
            return MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
        }
        *is_used = true;
        values->producer_id = fresh_id;
        values->producer_epoch = 0;
        *last_epoch = given == -1 ? -1 : epoch;
        return MR_KAFKA_NONE;
    }
    if (given == -1 || given == epoch) {
        values->producer_epoch = (int16_t)(epoch + !mr_bug("begin-unfenced"));
        *last_epoch = given == -1 ? -1 : epoch;
        return MR_KAFKA_NONE;
    }
    if (given == transaction->last_epoch) {
        *last_epoch = given;
        return MR_KAFKA_NONE;
    }
    return MR_KAFKA_PRODUCER_FENCED;
}

static bool is_owner(const struct mr_transaction *transaction,
                     const struct mr_init_producer_id_request *in)
{
    return in->producer_id == -1 || in->producer_id == transaction->now.producer_id ||
           (in->producer_id == transaction->now.previous_producer_id &&
            in->producer_epoch >= MR_TRANSACTION_EPOCH_LAST);
}

static void init_known(const struct mr_transaction *transaction, struct mr_request *request,
                       int64_t fresh_id, bool *is_used, struct mr_coord_out *out)
{
    const struct mr_transaction_shard *shard = transaction->shard;
    const struct mr_init_producer_id_request *in = request->message;
    if (!is_owner(transaction, in)) {
        refuse(shard, request, MR_KAFKA_PRODUCER_FENCED, out);
        return;
    }
    if (mr_transaction_is_prepared(transaction)) {
        refuse(shard, request, MR_KAFKA_CONCURRENT_TRANSACTIONS, out);
        return;
    }
    if (transaction->now.state == MR_TRANSACTION_ONGOING && !mr_bug("forget-what-is-open")) {
        int16_t error = mr_transaction_fence(transaction, fresh_id, is_used, out);
        refuse(shard, request, error != 0 ? error : (int16_t)MR_KAFKA_CONCURRENT_TRANSACTIONS, out);
        return;
    }
    struct mr_transaction_values values = transaction->now;
    int16_t last_epoch = -1;
    int16_t error = next_epoch(transaction, in, fresh_id, is_used, &values, &last_epoch);
    if (error != MR_KAFKA_NONE) {
        refuse(shard, request, error, out);
        return;
    }
    values.state = MR_TRANSACTION_EMPTY;
    values.previous_producer_id = transaction->now.producer_id;
    values.next_producer_id = -1;
    values.timeout_ms = in->transaction_timeout_ms;
    values.topics_count = 0;
    values.start_ms = -1;
    values.update_ms = out->now.unix_ms;
    if (!mr_transaction_record(shard, transaction->id, &values, out)) {
        refuse(shard, request, MR_KAFKA_UNKNOWN_SERVER_ERROR, out);
        return;
    }
    mr_transaction_give_last_epoch(transaction, last_epoch);
    answer(shard, request, MR_COORD_DURABLE, MR_KAFKA_NONE, &values, out);
}

/* What there is goes on to work. */
static bool is_full(const struct mr_transaction_shard *shard, struct mr_now now)
{
    struct mr_control *control = shard->env->control;
    const struct mr_heap *heap = &control->heap;
    bool is_used_up = heap->used_bytes > heap->size / 16 * 15;
    if (is_used_up && mr_log_may(&shard->env->full_brake, now.mono_ns, MR_NS_PER_S)) {
        mr_log(control->log, MR_LOG_WARN, "no room for more transactional ids limit=millrace.control.bytes");
    }
    return is_used_up;
}

void mr_transaction_init(const struct mr_transaction_shard *shard, struct mr_request *request,
                         int64_t fresh_id, bool *is_used, struct mr_coord_out *out)
{
    const struct mr_init_producer_id_request *in = request->message;
    int16_t error = check_request(shard, in);
    *is_used = false;
    if (error != MR_KAFKA_NONE) {
        refuse(shard, request, error, out);
        return;
    }
    const struct mr_transaction *transaction = mr_transaction_find(shard, in->transactional_id);
    if (transaction != NULL) {
        init_known(transaction, request, fresh_id, is_used, out);
        return;
    }
    if (fresh_id < 0 || is_full(shard, out->now)) {
        refuse(shard, request,
               fresh_id < 0 ? MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS
                            : MR_KAFKA_COORDINATOR_NOT_AVAILABLE,
               out);
        return;
    }
    struct mr_transaction_values values = {
        .state = MR_TRANSACTION_EMPTY,
        .producer_id = fresh_id,
        .previous_producer_id = fresh_id,
        .next_producer_id = -1,
        .timeout_ms = in->transaction_timeout_ms,
        .start_ms = -1,
        .update_ms = out->now.unix_ms,
    };
    *is_used = true;
    if (!mr_transaction_record(shard, in->transactional_id, &values, out)) {
        refuse(shard, request, MR_KAFKA_UNKNOWN_SERVER_ERROR, out);
        return;
    }
    answer(shard, request, MR_COORD_DURABLE, MR_KAFKA_NONE, &values, out);
}
