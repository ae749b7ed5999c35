/*
 * handle_produce: check batches, append to many partitions, gather.
 *
 * One append operation goes to each storage core that owns one of the partitions; it points at an
 * array of entries in this request's memory. Everything the answer needs is reserved before the first
 * operation is sent, so an acknowledged append can always be answered.
 *
 * With one replica, acks=-1 means in the log of this broker: storage answers when the batch is
 * durable by its topic's mode, and nothing is left to wait for here.
 *
 * Source: Kafka protocol guide, Produce; KIP-951 (current leader); behaviour of Apache Kafka 4.4.
 */
#include "broker/dispatch.h"
#include "broker/produce.h"
#include "broker/reply.h"
#include "broker/topics.h"
#include "data_core.h"
#include "millrace/base/bug.h"

/* Where the batch goes, or why it may not, in Kafka's order. */
static int16_t find_one(const struct mr_request *request, const struct mr_produce *produce,
                        const struct mr_produce_request_topic_produce_data *topic_in, int32_t index,
                        const struct mr_image_topic **topic,
                        const struct mr_image_partition **partition)
{
    int16_t acks = produce->in.acks;
    if (acks < -1 || acks > 1) {
        return MR_KAFKA_INVALID_REQUIRED_ACKS;
    }
    int16_t error =
        mr_topics_find(request->core, request->header.version >= 13, topic_in->name,
                       &topic_in->topic_id, mr_bug("wrong-partition") && index == 3 ? 2 : index,
                       topic, partition);
    if (error != MR_KAFKA_NONE && error != MR_KAFKA_NOT_LEADER_OR_FOLLOWER) {
        return error;
    }
    if ((*topic)->is_internal &&
        !mr_str_equal(request->header.client_id, MR_STR("__admin_client"))) {
        return MR_KAFKA_INVALID_TOPIC_EXCEPTION;
    }
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    bool is_short = (int64_t)(*topic)->config.min_insync_replicas > (*partition)->isr_count;
    return acks == -1 && is_short ? MR_KAFKA_NOT_ENOUGH_REPLICAS : MR_KAFKA_NONE;
}

/* What is in the batch: the first reason not to append it. */
static int16_t check_one(struct mr_request *request, const struct mr_produce *produce,
                         const struct mr_log_config *config, const struct mr_chain *records,
                         struct mr_batch *batch, struct mr_produce_one *one)
{
    struct mr_data_core *core = request->core;
    const struct mr_batch_rules rules = {
        .config = config,
        .now_unix_ms = core->now.unix_ms,
        .produce_version = request->header.version,
    };
    struct mr_batch_refusal refusal = {0};
    mr_arena_reset(&core->check);
    enum mr_err err = mr_batch_check(records, &rules, &core->check, batch, &refusal);
    mr_trace(core->trace, MR_EVENT_batch_checked, records->bytes,
             err == MR_OK ? 0 : (uint16_t)mr_err_kafka(err));
    if (err != MR_OK) {
        one->message = refusal.message;
        if (refusal.record_error_count > 0) {
            one->refusal = MR_ARENA_TRY(&request->arena, struct mr_batch_refusal, 1);
            if (one->refusal != NULL) {
                *one->refusal = refusal;
            }
        }
        return err == MR_ERR_NO_MEMORY ? (int16_t)MR_KAFKA_INVALID_RECORD : mr_err_kafka(err);
    }
    if ((batch->attributes & MR_BATCH_TRANSACTIONAL) != 0 &&
        mr_str_is_null(produce->in.transactional_id)) {
        return MR_KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    }
    return MR_KAFKA_NONE;
}

/* A checked batch in the codec that its topic wants; in most topics the one that it has. */
static int16_t encode_one(struct mr_request *request, const struct mr_log_config *config,
                          struct mr_chain *records, struct mr_produce_one *one)
{
    if (!mr_batch_recode_is_due(config, records) || mr_bug("forget-topic-codec")) {
        return MR_KAFKA_NONE;
    }
    enum mr_err err = mr_encode_batch(request, config, records, records);
    if (err == MR_OK) {
        return MR_KAFKA_NONE;
    }
    if (err == MR_AGAIN) {
        return MR_KAFKA_NOT_ENOUGH_REPLICAS; /* for a moment: no memory */
    }
    one->message = "The record batch is larger than max.message.bytes in the topic's codec";
    return MR_KAFKA_MESSAGE_TOO_LARGE;
}

/* What the longest answer takes besides the structs: names are copied, messages are short. */
size_t mr_produce_answer_room(const struct mr_produce *produce, uint32_t core_count)
{
    size_t bytes =
        mr_scatter_room(produce->count, core_count, sizeof(struct mr_append_entry)) + 512;
    for (int32_t t = 0; t < produce->in.topic_data_count; t++) {
        const struct mr_produce_request_topic_produce_data *topic = &produce->in.topic_data[t];
        bytes += sizeof(struct mr_produce_response_topic_produce_response) + 32 +
                 (topic->name.len > 0 ? (size_t)topic->name.len : 0);
        bytes +=
            (size_t)topic->partition_data_count *
            (sizeof(struct mr_produce_one) + sizeof(struct mr_produce_response_partition_produce_response) +
             sizeof(struct mr_batch_refusal) + 192);
    }
    /* per-record errors: a bounded number of batches tells them, the others only that they failed */
    return bytes + sizeof(struct mr_batch_refusal) +
           MR_BATCH_RECORD_ERRORS *
               (sizeof(struct mr_produce_response_batch_index_and_error_message) + 128);
}

/* The next partition. False: it has to wait for a turn with time for its batch, nothing has happened. */
static bool put_one(struct mr_request *request, struct mr_produce *produce)
{
    const struct mr_produce_request_topic_produce_data *topic_in =
        &produce->in.topic_data[produce->put_topic];
    const struct mr_produce_request_partition_produce_data *in =
        &topic_in->partition_data[produce->put_partition];
    struct mr_produce_one *one = &produce->ones[produce->scatter.count];
    const struct mr_image_topic *topic = NULL;
    const struct mr_image_partition *partition = NULL;
    struct mr_chain records = in->records;
    struct mr_batch batch;
    int16_t error = find_one(request, produce, topic_in, in->index, &topic, &partition);
    if (error == MR_KAFKA_NONE && mr_encode_is_over(request->core, &topic->config, &records)) {
        return false;
    }
    if (error == MR_KAFKA_NONE) {
        error = check_one(request, produce, &topic->config, &records, &batch, one);
    }
    if (error == MR_KAFKA_NONE) {
        error = encode_one(request, &topic->config, &records, one);
    }
    if (error == MR_KAFKA_NONE && (batch.attributes & MR_BATCH_TRANSACTIONAL) != 0 &&
        !mr_produce_txn_note(request, produce, produce->put_topic, in->index, partition, &batch)) {
        error = MR_KAFKA_NOT_ENOUGH_REPLICAS; /* for a moment: no memory */
    }
    if (error != MR_KAFKA_NONE) {
        mr_scatter_refuse(&produce->scatter, error);
        return true;
    }
    struct mr_append_entry *entry = mr_scatter_put(&produce->scatter, partition->storage_core);
    *entry = (struct mr_append_entry){
        .log_id = partition->log_id,
        .batch = records,
        .leader_epoch = partition->leader_epoch,
        .origin = MR_APPEND_CLIENT,
        .base_offset = -1,
        .log_append_time_ms = -1,
    };
    return true;
}

static bool put_all(struct mr_request *request, struct mr_produce *produce)
{
    for (; produce->put_topic < produce->in.topic_data_count; produce->put_topic++) {
        int32_t count = produce->in.topic_data[produce->put_topic].partition_data_count;
        for (; produce->put_partition < count; produce->put_partition++) {
            if (!put_one(request, produce)) {
                return false;
            }
        }
        produce->put_partition = 0;
    }
    return true;
}

void mr_handle_produce_on(struct mr_request *request)
{
    struct mr_produce *produce = request->work;
    if (!put_all(request, produce)) {
        produce->phase = MR_PRODUCE_ENCODE;
        mr_encode_wait(request);
    } else if (produce->part_count > 0) {
        mr_produce_txn_begin(request);
    } else {
        mr_produce_append(request);
    }
}

enum mr_err mr_handle_produce(struct mr_request *request)
{
    uint32_t core_count = request->core->endpoints->storage_count;
    enum mr_err err = mr_request_more(request, sizeof(struct mr_produce) + 512);
    if (err != MR_OK) {
        return err;
    }
    struct mr_produce_request in;
    err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    struct mr_produce held = {.in = in};
    for (int32_t t = 0; t < in.topic_data_count; t++) {
        held.count += (uint32_t)in.topic_data[t].partition_data_count;
    }
    err = mr_request_more(request, sizeof held + 64 + mr_produce_answer_room(&held, core_count));
    if (err != MR_OK) {
        return err;
    }
    struct mr_produce *produce = MR_ARENA_TRY(&request->arena, struct mr_produce, 1);
    *produce = held;
    produce->ones = MR_ARENA_TRY(&request->arena, struct mr_produce_one, produce->count);
    mr_assert(produce->ones != NULL);
    memset(produce->ones, 0, sizeof *produce->ones * produce->count);
    mr_scatter_init(&produce->scatter, &request->arena, produce->count, core_count,
                    sizeof(struct mr_append_entry));
    request->work = produce;
    mr_handle_produce_on(request);
    return MR_OK;
}

void mr_produce_append(struct mr_request *request)
{
    struct mr_produce *produce = request->work;
    const union mr_scatter_op like = {
        .append = {.op.kind = MR_STORAGE_APPEND, .acks = produce->in.acks}};
    bool is_late = produce->phase != MR_PRODUCE_APPEND;
    produce->phase = MR_PRODUCE_APPEND;
    request->state = MR_REQUEST_HANDED;
    mr_scatter_send(&produce->scatter, request, &like);
    if (request->storage_pending == 0) {
        mr_handle_produce_done(request);
    } else if (is_late && request->session != NULL) {
        mr_session_wake(request->session); /* the next Produce may begin */
    }
}

static void fill_one(struct mr_request *request, const struct mr_produce *produce, uint32_t at_one,
                     int32_t index, const struct mr_uuid *topic_id, struct mr_str name,
                     struct mr_produce_response_partition_produce_response *out)
{
    const struct mr_produce_one *one = &produce->ones[at_one];
    const struct mr_append_entry *entry = mr_scatter_entry(&produce->scatter, at_one);
    MR_DEFAULTS(produce_response_partition_produce_response, out);
    out->index = index;
    out->base_offset = -1;
    if (entry == NULL) {
        out->error_code = produce->scatter.errors[at_one];
    } else if (entry->err != MR_OK) {
        out->error_code = mr_err_kafka(entry->err);
        if (out->error_code == -1) {
            out->error_message = mr_str(mr_err_text(entry->err));
        }
    } else {
        out->base_offset = mr_bug_each("zero-offset", 7) ? 0 : entry->base_offset;
        out->log_append_time_ms = entry->log_append_time_ms;
        out->log_start_offset = entry->log_start_offset;
    }
    if (mr_bug("wrong-error-code") && out->error_code != 0) {
        out->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    if (one->message != NULL) {
        out->error_message = mr_str(one->message);
    }
    const struct mr_batch_refusal *refusal = one->refusal;
    if (refusal != NULL && request->header.version >= 8) {
        uint32_t count = refusal->record_error_count < MR_BATCH_RECORD_ERRORS
                             ? refusal->record_error_count
                             : MR_BATCH_RECORD_ERRORS;
        out->record_errors = MR_ARENA_TRY(
            &request->arena, struct mr_produce_response_batch_index_and_error_message, count);
        for (uint32_t at = 0; out->record_errors != NULL && at < count; at++) {
            out->record_errors[at] = (struct mr_produce_response_batch_index_and_error_message){
                .batch_index = refusal->record_errors[at].batch_index,
                .batch_index_error_message = refusal->record_errors[at].message == NULL
                                                 ? MR_STR_NULL
                                                 : mr_str(refusal->record_errors[at].message),
            };
            out->record_errors_count = (int32_t)at + 1;
        }
    }
    if (out->error_code == MR_KAFKA_NOT_LEADER_OR_FOLLOWER && request->header.version >= 10) {
        const struct mr_image_partition *now = mr_topics_partition(
            request->core, request->header.version >= 13, name, topic_id, index);
        if (now != NULL) {
            out->current_leader.leader_id = now->leader;
            out->current_leader.leader_epoch = now->leader_epoch;
        }
    }
}

/* Where the leaders named in the answer can be reached. */
static void add_nodes(struct mr_request *request, struct mr_produce_response *out)
{
    if (request->header.version < 10) {
        return;
    }
    for (int32_t t = 0; t < out->responses_count; t++) {
        for (int32_t p = 0; p < out->responses[t].partition_responses_count; p++) {
            int32_t leader = out->responses[t].partition_responses[p].current_leader.leader_id;
            const struct mr_image_broker *broker =
                leader < 0 ? NULL : mr_topics_broker(request->core, leader);
            if (broker == NULL || out->node_endpoints_count > 0) {
                continue; /* one broker: there is at most one to tell */
            }
            struct mr_produce_response_node_endpoint *node =
                MR_ARENA_TRY(&request->arena, struct mr_produce_response_node_endpoint, 1);
            if (node != NULL) {
                *node = (struct mr_produce_response_node_endpoint){.node_id = broker->id,
                                                                   .host = broker->host,
                                                                   .port = broker->port,
                                                                   .rack = broker->rack};
                out->node_endpoints = node;
                out->node_endpoints_count = 1;
            }
        }
    }
}

void mr_handle_produce_done(struct mr_request *request)
{
    struct mr_produce *produce = request->work;
    if (produce->phase == MR_PRODUCE_CHECK) {
        mr_produce_txn_checked(request);
        return;
    }
    bool is_any_error = false;
    for (uint32_t index = 0; index < produce->count; index++) {
        const struct mr_append_entry *entry = mr_scatter_entry(&produce->scatter, index);
        is_any_error |= entry == NULL || entry->err != MR_OK;
    }
    if (produce->in.acks == 0 && !mr_bug("answer-acks-zero")) {
        /* Nothing is answered; that something failed is told by closing. */
        mr_request_release_frame(request);
        request->is_close_after = is_any_error;
        mr_session_answered(request);
        return;
    }
    struct mr_produce_response out;
    MR_DEFAULTS(produce_response, &out);
    uint32_t at = 0;
    enum mr_err err = mr_request_more(
        request, (size_t)produce->in.topic_data_count * sizeof *out.responses +
                     produce->count * sizeof(*out.responses->partition_responses) + 64);
    if (err != MR_OK) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
        return;
    }
    out.responses = MR_ARENA_TRY(&request->arena, struct mr_produce_response_topic_produce_response,
                                 produce->in.topic_data_count);
    struct mr_produce_response_partition_produce_response *partitions = MR_ARENA_TRY(
        &request->arena, struct mr_produce_response_partition_produce_response, produce->count);
    mr_assert(out.responses != NULL && partitions != NULL);
    out.responses_count = produce->in.topic_data_count;
    for (int32_t t = 0; t < produce->in.topic_data_count; t++) {
        const struct mr_produce_request_topic_produce_data *topic = &produce->in.topic_data[t];
        struct mr_produce_response_topic_produce_response *to = &out.responses[t];
        MR_DEFAULTS(produce_response_topic_produce_response, to);
        to->name = topic->name;
        to->topic_id = topic->topic_id;
        to->partition_responses = partitions + at;
        to->partition_responses_count = topic->partition_data_count;
        for (int32_t p = 0; p < topic->partition_data_count; p++, at++) {
            fill_one(request, produce, at, topic->partition_data[p].index, &topic->topic_id,
                     topic->name, &partitions[at]);
        }
    }
    add_nodes(request, &out);
    if (mr_reply_message(request, &out, 0, 0) != MR_OK) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
        return;
    }
    mr_request_release_frame(request);
}
