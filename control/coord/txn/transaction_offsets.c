/*
 * transaction_offsets: offsets of a group inside a transaction: AddOffsetsToTxn, and TxnOffsetCommit on its way to the
 * coordinator of groups.
 *
 *   TxnOffsetCommit --> is the group's partition part of the transaction, or add it (version 5 and later)
 *                   --> durable --> the group's coordinator writes the offsets in a batch of the transaction
 */
#include "coord/txn/transaction.h"

#include "millrace/base/bug.h"

#define IMPLICIT_FROM 5 /* TxnOffsetCommit versions that add the partition */

static const char offsets_topic[] = "__consumer_offsets";

/* The partition of __consumer_offsets that the group's offsets are in, into the transaction. */
static int16_t add(struct mr_control *control, struct mr_now now, struct mr_str id,
                   int64_t producer_id, int16_t producer_epoch, struct mr_str group_id,
                   bool is_verify, int16_t client_version, struct mr_coord_shard **shard)
{
    struct mr_coord *coord = control->txn_coord;
    struct mr_coord_out out;
    *shard = NULL;
    if (id.len <= 0) {
        return MR_KAFKA_INVALID_REQUEST;
    }
    if (control->coord->shard_count == 0) {
        return MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    }
    int16_t error = mr_coord_shard_of(coord, id, shard);
    if (*shard == NULL) {
        return error;
    }
    int32_t partition = (int32_t)mr_coord_partition_of(group_id, control->coord->shard_count);
    mr_transaction_topic topic = {
        .topic = mr_str(offsets_topic), .partition_ids = &partition, .partition_ids_count = 1};
    const struct mr_transaction_add added = {
        .id = id,
        .producer_id = producer_id,
        .producer_epoch = producer_epoch,
        .client_version = client_version,
        .is_verify = is_verify,
        .topics = &topic,
        .topics_count = 1,
    };
    const struct mr_transaction_shard *part = mr_transaction_shard_of(*shard);
    mr_arena_reset(&coord->scratch);
    mr_coord_out_init(&out, &coord->scratch, now);
    error = mr_transaction_add(part, &added, &out);
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    if (is_verify) {
        bool has = mr_transaction_has(mr_transaction_find(part, id), topic.topic, partition);
        return has ? MR_KAFKA_NONE : MR_KAFKA_TRANSACTION_ABORTABLE;
    }
    return mr_coord_apply(*shard, &out);
}

/* ---- AddOffsetsToTxn ---- */

void mr_transaction_add_offsets(struct mr_control *control, struct mr_now now,
                                struct mr_request *request)
{
    const struct mr_add_offsets_to_txn_request *in = request->message;
    struct mr_add_offsets_to_txn_response response;
    struct mr_coord_shard *shard = NULL;
    request->user = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    if (request->user == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    int16_t error = add(control, now, in->transactional_id, in->producer_id, in->producer_epoch,
                        in->group_id, false, 0, &shard);
    if (error == MR_KAFKA_CONCURRENT_TRANSACTIONS && mr_transaction_park(control, now, request)) {
        return;
    }
    MR_DEFAULTS(add_offsets_to_txn_response, &response);
    bool is_old = request->forward->api_version < 2;
    response.error_code = error == MR_KAFKA_PRODUCER_FENCED && is_old
                              ? (int16_t)MR_KAFKA_INVALID_PRODUCER_EPOCH
                              : error;
    mr_coord_finish_all(control->txn_coord, request, &response);
}

/* ---- TxnOffsetCommit ---- */

/* As a client of that version must hear it. */
static int16_t told(const struct mr_request *request, int16_t error)
{
    switch (error) {
    case MR_KAFKA_NOT_COORDINATOR:
    case MR_KAFKA_COORDINATOR_NOT_AVAILABLE:
        return MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS; /* of transactions, not of groups: it asks again here */
    case MR_KAFKA_CONCURRENT_TRANSACTIONS:
        return request->forward->api_version >= IMPLICIT_FROM
                   ? error
                   : (int16_t)MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
    case MR_KAFKA_PRODUCER_FENCED:
        return MR_KAFKA_INVALID_PRODUCER_EPOCH;
    case MR_KAFKA_TRANSACTION_ABORTABLE:
        return request->forward->api_version >= 4 ? error : (int16_t)MR_KAFKA_INVALID_TXN_STATE;
    default:
        return error;
    }
}

const void *mr_transaction_offsets_error(struct mr_control *control, struct mr_request *request,
                                         int16_t error)
{
    const struct mr_txn_offset_commit_request *in = request->message;
    struct mr_txn_offset_commit_response *response =
        MR_REQUEST_NEW(control, request, struct mr_txn_offset_commit_response, 1);
    struct mr_txn_offset_commit_response_topic *topics = MR_REQUEST_NEW(
        control, request, struct mr_txn_offset_commit_response_topic, in->topics_count + 1);
    if (response == NULL || topics == NULL) {
        return NULL;
    }
    MR_DEFAULTS(txn_offset_commit_response, response);
    for (int32_t at = 0; at < in->topics_count; at++) {
        int32_t count = in->topics[at].partitions_count;
        topics[at].name = in->topics[at].name;
        topics[at].topic_id = in->topics[at].topic_id;
        topics[at].partitions_count = count;
        topics[at].partitions = MR_REQUEST_NEW(
            control, request, struct mr_txn_offset_commit_response_partition, count + 1);
        if (topics[at].partitions == NULL) {
            return NULL;
        }
        for (int32_t index = 0; index < count; index++) {
            topics[at].partitions[index].partition_index =
                in->topics[at].partitions[index].partition_index;
            topics[at].partitions[index].error_code = error;
        }
    }
    response->topics = topics;
    response->topics_count = in->topics_count;
    return response;
}

static void refuse(struct mr_control *control, struct mr_request *request, int16_t error)
{
    mr_coord_prepare_error(control->coord, request, error);
    mr_control_reply_send(control, request);
}

/* The partition is durably part of the transaction: now the offsets. */
static void commit(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_txn_offset_commit_request *in = request->message;
    struct mr_coord *coord = control->coord;
    struct mr_coord_shard *shard = NULL;
    struct mr_coord_out out;
    *(struct mr_coord_wait *)request->user = (struct mr_coord_wait){0};
    /* It may have been ended meanwhile: behind its marker the offsets would wait for ever. */
    int16_t error = add(control, now, in->transactional_id, in->producer_id, in->producer_epoch,
                        in->group_id, true, 0, &shard);
    if (error != MR_KAFKA_NONE && !mr_bug("offsets-after-the-end")) {
        refuse(control, request, told(request, error));
        return;
    }
    error = mr_coord_shard_of(coord, in->group_id, &shard);
    if (shard == NULL) {
        refuse(control, request, error);
        return;
    }
    mr_arena_reset(&coord->scratch);
    mr_coord_out_init(&out, &coord->scratch, now);
    coord->env.image = mr_control_image(control);
    mr_offsets_commit_txn(&shard->groups, request, &out);
    mr_coord_apply(shard, &out);
}

void mr_transaction_commit_offsets(struct mr_control *control, struct mr_now now,
                                   struct mr_request *request)
{
    const struct mr_txn_offset_commit_request *in = request->message;
    struct mr_coord_shard *group_shard = NULL;
    struct mr_coord_shard *shard = NULL;
    bool is_implicit = request->forward->api_version >= IMPLICIT_FROM;
    request->user = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    if (request->user == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    int16_t error = mr_coord_shard_of(control->coord, in->group_id, &group_shard);
    if (group_shard == NULL) {
        refuse(control, request, error);
        return;
    }
    error = add(control, now, in->transactional_id, in->producer_id, in->producer_epoch,
                in->group_id, !is_implicit, 2, &shard);
    if (error == MR_KAFKA_CONCURRENT_TRANSACTIONS && mr_transaction_park(control, now, request)) {
        return;
    }
    if (error != MR_KAFKA_NONE) {
        refuse(control, request, told(request, error));
        return;
    }
    mr_coord_then(shard, request, commit);
}
