/*
 * produce_txn: before the batches of a transaction are appended.
 *
 * Storage knows in which of its logs the producer's transaction is open. For the others the coordinator is asked:
 * whether the partition is part of the transaction (Produce up to version 11, whose clients have added it before),
 * or to add it (version 12 and later). Meanwhile storage keeps a guard: a marker in between takes it back, and the
 * append is refused. The next Produce of the connection waits until this one is appended.
 *
 * Source: KIP-890; behaviour of Apache Kafka 4.4.
 */
#include "broker/produce.h"

#include "broker/forward.h"
#include "broker/topics.h"
#include "data_core.h"

#include "millrace/base/bug.h"

#define ADD_VERSION   5
#define IMPLICIT_FROM 12 /* Produce versions whose clients let the broker add partitions */

static bool is_implicit(const struct mr_request *request)
{
    return request->header.version >= IMPLICIT_FROM;
}

/* All that is asked and answered later comes out of what is reserved here. */
static size_t room(const struct mr_request *request, const struct mr_produce *produce)
{
    uint32_t core_count = request->core->endpoints->storage_count;
    size_t id_len = (size_t)produce->in.transactional_id.len;
    size_t part = sizeof(struct mr_produce_txn_part);
    size_t question = sizeof(int32_t) + MR_TOPIC_NAME_MAX + 64 +
                      sizeof(struct mr_add_partitions_to_txn_request_add_partitions_to_txn_topic);
    size_t reply =
        sizeof(struct mr_add_partitions_to_txn_response_add_partitions_to_txn_topic_result) +
        sizeof(struct mr_add_partitions_to_txn_response_add_partitions_to_txn_partition_result) + 64;
    return (part + question + reply) * produce->count + id_len + 2048 +
           mr_scatter_room(produce->count, core_count, sizeof(struct mr_txn_check_entry)) +
           mr_produce_answer_room(produce, core_count);
}

bool mr_produce_txn_note(struct mr_request *request, struct mr_produce *produce, int32_t topic,
                         int32_t partition, const struct mr_image_partition *found,
                         const struct mr_batch *batch)
{
    if (produce->parts == NULL) {
        if (mr_request_more(request, room(request, produce)) != MR_OK) {
            return false;
        }
        produce->parts = MR_ARENA_TRY(&request->arena, struct mr_produce_txn_part, produce->count);
    }
    produce->parts[produce->part_count++] = (struct mr_produce_txn_part){
        .at = produce->scatter.count,
        .topic = topic,
        .partition = partition,
        .producer_id = batch->producer_id,
        .producer_epoch = batch->producer_epoch,
        .base_sequence = batch->base_sequence,
        .storage_core = found->storage_core,
        .log_id = found->log_id,
    };
    return true;
}

void mr_produce_txn_begin(struct mr_request *request)
{
    struct mr_produce *produce = request->work;
    uint32_t core_count = request->core->endpoints->storage_count;
    mr_scatter_init(&produce->checks, &request->arena, produce->part_count, core_count,
                    sizeof(struct mr_txn_check_entry));
    for (uint32_t index = 0; index < produce->part_count; index++) {
        const struct mr_produce_txn_part *part = &produce->parts[index];
        struct mr_txn_check_entry *entry = mr_scatter_put(&produce->checks, part->storage_core);
        *entry = (struct mr_txn_check_entry){
            .log_id = part->log_id,
            .producer_id = part->producer_id,
            .producer_epoch = part->producer_epoch,
            .base_sequence = part->base_sequence,
            .is_strict = is_implicit(request),
        };
    }
    const union mr_scatter_op like = {.op.kind = MR_STORAGE_TXN_CHECK};
    produce->phase = MR_PRODUCE_CHECK;
    mr_scatter_send(&produce->checks, request, &like);
}

/* ---- the coordinator ---- */

static struct mr_txn_check_entry *check_of(struct mr_produce *produce, uint32_t index)
{
    return mr_scatter_entry(&produce->checks, index);
}

/* Whether the part must be asked for. */
static bool is_asked(struct mr_request *request, struct mr_produce *produce, uint32_t index)
{
    const struct mr_txn_check_entry *check = check_of(produce, index);
    bool is_wanted = is_implicit(request) ||
                     request->core->config->transaction_partition_verification_enable;
    return check->err == MR_OK && check->guard != 0 && is_wanted &&
           produce->scatter.places[produce->parts[index].at] != MR_SCATTER_NONE;
}

static void refuse_asked(struct mr_request *request, struct mr_produce *produce, int16_t error)
{
    for (uint32_t index = 0; index < produce->part_count; index++) {
        if (is_asked(request, produce, index)) {
            mr_scatter_withdraw(&produce->scatter, produce->parts[index].at, error);
        }
    }
}

static struct mr_str name_of(struct mr_request *request, const struct mr_produce *produce,
                             int32_t topic)
{
    const struct mr_produce_request_topic_produce_data *data = &produce->in.topic_data[topic];
    const struct mr_image_topic *found = NULL;
    const struct mr_image_partition *partition = NULL;
    if (request->header.version < 13) {
        return data->name;
    }
    (void)mr_topics_find(request->core, true, data->name, &data->topic_id, 0, &found, &partition);
    return found == NULL ? MR_STR_NULL : found->name;
}

/* The topics of the question, each with its partitions. False: no memory. */
static bool add_topics(struct mr_request *request, struct mr_produce *produce,
                       struct mr_add_partitions_to_txn_request_add_partitions_to_txn_transaction *to)
{
    typedef struct mr_add_partitions_to_txn_request_add_partitions_to_txn_topic topic_t;
    int32_t *indexes = MR_ARENA_TRY(&request->arena, int32_t, produce->part_count);
    to->topics = MR_ARENA_TRY(&request->arena, topic_t, produce->part_count);
    if (indexes == NULL || to->topics == NULL) {
        return false;
    }
    int32_t last = -1;
    for (uint32_t index = 0; index < produce->part_count; index++) {
        const struct mr_produce_txn_part *part = &produce->parts[index];
        if (!is_asked(request, produce, index)) {
            continue;
        }
        struct mr_str name = name_of(request, produce, part->topic);
        if (mr_str_is_null(name)) {
            mr_scatter_withdraw(&produce->scatter, part->at, MR_KAFKA_UNKNOWN_TOPIC_ID);
            continue;
        }
        if (part->topic != last) {
            to->topics[to->topics_count++] = (topic_t){.name = name, .partitions = indexes};
            last = part->topic;
        }
        to->topics[to->topics_count - 1].partitions_count++;
        *indexes++ = part->partition;
    }
    return true;
}

static enum mr_err ask(struct mr_request *request)
{
    struct mr_produce *produce = request->work;
    struct mr_add_partitions_to_txn_request in;
    struct mr_add_partitions_to_txn_request_add_partitions_to_txn_transaction one;
    MR_DEFAULTS(add_partitions_to_txn_request, &in);
    MR_DEFAULTS(add_partitions_to_txn_request_add_partitions_to_txn_transaction, &one);
    one.transactional_id = produce->in.transactional_id;
    one.producer_id = produce->parts[0].producer_id;
    one.producer_epoch = produce->parts[0].producer_epoch;
    one.verify_only = !is_implicit(request);
    in.transactions = &one;
    in.transactions_count = 1;
    if (!add_topics(request, produce, &one)) {
        return MR_ERR_NO_MEMORY;
    }
    if (one.topics_count == 0) {
        return MR_ERR_NOT_FOUND;
    }
    produce->phase = MR_PRODUCE_ASK;
    return mr_forward_ask(request, MR_API_ADD_PARTITIONS_TO_TXN, ADD_VERSION,
                          &mr_msg_add_partitions_to_txn_request, &in);
}

void mr_produce_txn_checked(struct mr_request *request)
{
    struct mr_produce *produce = request->work;
    uint32_t count = 0;
    for (uint32_t index = 0; index < produce->part_count; index++) {
        const struct mr_produce_txn_part *part = &produce->parts[index];
        const struct mr_txn_check_entry *check = check_of(produce, index);
        if (check->err != MR_OK) {
            mr_scatter_withdraw(&produce->scatter, part->at, mr_err_kafka(check->err));
            continue;
        }
        bool is_one_producer = part->producer_id == produce->parts[0].producer_id &&
                               part->producer_epoch == produce->parts[0].producer_epoch;
        if (!is_one_producer) {
            mr_scatter_withdraw(&produce->scatter, part->at, MR_KAFKA_INVALID_PRODUCER_ID_MAPPING);
            continue;
        }
        struct mr_append_entry *entry = mr_scatter_entry(&produce->scatter, part->at);
        entry->guard = check->guard;
        count += is_asked(request, produce, index);
    }
    enum mr_err err = count == 0 ? MR_ERR_NOT_FOUND : ask(request);
    if (err == MR_OK) {
        return;
    }
    if (err != MR_ERR_NOT_FOUND) {
        refuse_asked(request, produce, MR_KAFKA_NOT_ENOUGH_REPLICAS); /* for a moment: no memory */
    }
    mr_produce_append(request);
}

/* ---- its answer ---- */

/* As a producer of that version must hear it. */
static int16_t told(const struct mr_request *request, int16_t error)
{
    switch (error) {
    case MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS:
    case MR_KAFKA_COORDINATOR_NOT_AVAILABLE:
    case MR_KAFKA_NOT_COORDINATOR:
        return MR_KAFKA_NOT_ENOUGH_REPLICAS; /* it tries again */
    case MR_KAFKA_CONCURRENT_TRANSACTIONS:
        return is_implicit(request) ? error : MR_KAFKA_NOT_ENOUGH_REPLICAS;
    case MR_KAFKA_PRODUCER_FENCED:
        return MR_KAFKA_INVALID_PRODUCER_EPOCH;
    case MR_KAFKA_TRANSACTION_ABORTABLE:
        return request->header.version >= 11 ? error : MR_KAFKA_INVALID_TXN_STATE;
    default:
        return error;
    }
}

static int16_t error_of(const struct mr_add_partitions_to_txn_response *out, struct mr_str name,
                        int32_t partition)
{
    typedef struct mr_add_partitions_to_txn_response_add_partitions_to_txn_result result_t;
    typedef struct mr_add_partitions_to_txn_response_add_partitions_to_txn_topic_result topic_t;
    const result_t *result = out->results_by_transaction_count > 0 ? out->results_by_transaction : NULL;
    for (int32_t t = 0; result != NULL && t < result->topic_results_count; t++) {
        const topic_t *topic = &result->topic_results[t];
        for (int32_t p = 0; mr_str_equal(topic->name, name) && p < topic->results_by_partition_count;
             p++) {
            if (topic->results_by_partition[p].partition_index == partition) {
                return topic->results_by_partition[p].partition_error_code;
            }
        }
    }
    return out->error_code != 0 ? out->error_code : (int16_t)MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
}

void mr_produce_txn_answered(struct mr_request *request, const struct mr_chain *reply)
{
    struct mr_produce *produce = request->work;
    struct mr_add_partitions_to_txn_response out;
    struct mr_reader reader;
    mr_reader_init(&reader, reply);
    bool is_read = mr_msg_decode(&mr_msg_add_partitions_to_txn_response, ADD_VERSION, &reader,
                                 &request->arena, &out) == MR_OK;
    if (!is_read) {
        refuse_asked(request, produce, MR_KAFKA_NOT_ENOUGH_REPLICAS);
    }
    for (uint32_t index = 0; is_read && index < produce->part_count; index++) {
        const struct mr_produce_txn_part *part = &produce->parts[index];
        if (!is_asked(request, produce, index)) {
            continue;
        }
        struct mr_str name = name_of(request, produce, part->topic);
        int16_t error = mr_str_is_null(name) ? (int16_t)MR_KAFKA_UNKNOWN_TOPIC_ID
                                             : error_of(&out, name, part->partition);
        if (error != MR_KAFKA_NONE) {
            mr_scatter_withdraw(&produce->scatter, part->at, told(request, error));
        }
    }
    mr_produce_append(request);
}
