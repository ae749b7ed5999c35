/*
 * sim_txn_send: the requests of a client that writes in transactions.
 */
#include "sim_txn.h"

#include "millrace/batch.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"
#include "sim_ask.h"

#define PARTITIONS MR_CHECK_TXN_PARTITIONS
#define HALF       (MR_SIM_ACTOR_HALF / 2) /* of the lower half of the scratch: a batch for each partition */

static const struct mr_str ids[] = {{.data = "sim-a", .len = 5}, {.data = "sim-b", .len = 5}, {.data = "sim-pipe", .len = 8}};

static struct mr_str id_of(const struct mr_sim_txn *t)
{
    return ids[t->id];
}

static void send(struct mr_sim_txn *t, int16_t key, int16_t version, const void *request, struct mr_now now)
{
    mr_sim_actor_send(&t->actor, key, version, request, 0, true, now);
}

static void send_find(struct mr_sim_txn *t, struct mr_now now)
{
    bool is_of_group = t->found > 0; /* the pipeline's second */
    mr_sim_ask_coordinator(&t->actor, is_of_group ? mr_sim_txn_group : id_of(t), is_of_group ? 0 : 1, now);
}

static void send_create(struct mr_sim_txn *t, struct mr_now now)
{
    struct mr_create_topics_request                 request;
    struct mr_create_topics_request_creatable_topic topics[2];
    MR_DEFAULTS(create_topics_request, &request);
    for (uint32_t index = 0; index < 2; index++) {
        MR_DEFAULTS(create_topics_request_creatable_topic, &topics[index]);
        topics[index].name = mr_sim_txn_topics[index];
        topics[index].num_partitions = PARTITIONS;
        topics[index].replication_factor = 1;
    }
    request.topics = topics;
    request.topics_count = 2;
    send(t, MR_API_CREATE_TOPICS, 7, &request, now);
}

static void send_init(struct mr_sim_txn *t, struct mr_now now)
{
    struct mr_init_producer_id_request request;
    MR_DEFAULTS(init_producer_id_request, &request);
    request.transactional_id = id_of(t);
    request.transaction_timeout_ms = 500 + (int32_t)mr_prng_below(&t->actor.prng, MR_SIM_TXN_TIMEOUT_MS - 499);
    request.producer_id = t->producer_id;
    request.producer_epoch = t->producer_id < 0 ? -1 : t->producer_epoch;
    send(t, MR_API_INIT_PRODUCER_ID, 4, &request, now);
}

static void send_add(struct mr_sim_txn *t, struct mr_now now)
{
    struct mr_add_partitions_to_txn_request                             request;
    struct mr_add_partitions_to_txn_request_add_partitions_to_txn_topic topic;
    int32_t                                                             partitions[PARTITIONS];
    MR_DEFAULTS(add_partitions_to_txn_request, &request);
    MR_DEFAULTS(add_partitions_to_txn_request_add_partitions_to_txn_topic, &topic);
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        if (t->parts[partition].count > 0) {
            partitions[topic.partitions_count++] = (int32_t)partition;
        }
    }
    topic.name = mr_sim_txn_topics[t->is_pipe];
    topic.partitions = partitions;
    request.v3_and_below_transactional_id = id_of(t);
    request.v3_and_below_producer_id = t->producer_id;
    request.v3_and_below_producer_epoch = t->producer_epoch;
    request.v3_and_below_topics = &topic;
    request.v3_and_below_topics_count = 1;
    send(t, MR_API_ADD_PARTITIONS_TO_TXN, 3, &request, now);
}

static void send_add_offsets(struct mr_sim_txn *t, struct mr_now now)
{
    struct mr_add_offsets_to_txn_request request;
    MR_DEFAULTS(add_offsets_to_txn_request, &request);
    request.transactional_id = id_of(t);
    request.producer_id = t->producer_id;
    request.producer_epoch = t->producer_epoch;
    request.group_id = mr_sim_txn_group;
    send(t, MR_API_ADD_OFFSETS_TO_TXN, 3, &request, now);
}

/* The batch of a partition; its bytes. */
static uint32_t build(struct mr_sim_txn *t, uint32_t partition, struct mr_now now)
{
    const struct mr_sim_txn_part *part = &t->parts[partition];
    struct mr_batch_builder       builder;
    mr_batch_begin(&builder, t->actor.scratch + (size_t)partition * HALF, HALF, 0, MR_BATCH_TRANSACTIONAL);
    for (uint32_t index = 0; index < part->count; index++) {
        uint8_t value[16];
        mr_store_be64(value, part->values[index]);
        mr_store_be64(value + 8, t->txn);
        bool fits = mr_batch_add(&builder, now.unix_ms, MR_BLOB_NULL, (struct mr_blob){.data = value, .len = 16});
        mr_assert(fits);
    }
    builder.batch.producer_id = t->producer_id;
    builder.batch.producer_epoch = t->producer_epoch;
    builder.batch.base_sequence = t->sequences[partition];
    return mr_batch_end(&builder);
}

/* What was not acknowledged yet. */
static void send_produce(struct mr_sim_txn *t, struct mr_now now)
{
    struct mr_produce_request                        request;
    struct mr_produce_request_topic_produce_data     topic;
    struct mr_produce_request_partition_produce_data partitions[PARTITIONS];
    struct mr_span                                   spans[PARTITIONS];
    MR_DEFAULTS(produce_request, &request);
    MR_DEFAULTS(produce_request_topic_produce_data, &topic);
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        struct mr_produce_request_partition_produce_data *to = &partitions[topic.partition_data_count];
        if (t->parts[partition].count == 0 || t->parts[partition].is_acked) {
            continue;
        }
        MR_DEFAULTS(produce_request_partition_produce_data, to);
        spans[partition] = (struct mr_span){.data = t->actor.scratch + (size_t)partition * HALF,
                                            .len = build(t, partition, now)};
        to->index = (int32_t)partition;
        to->records = (struct mr_chain){.spans = &spans[partition], .span_count = 1, .bytes = spans[partition].len};
        topic.partition_data_count++;
    }
    topic.name = mr_sim_txn_topics[t->is_pipe];
    topic.partition_data = partitions;
    request.transactional_id = id_of(t);
    request.acks = -1;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.topic_data_count = 1;
    send(t, MR_API_PRODUCE, t->is_version_2 ? 12 : 11, &request, now);
}

static void send_commit(struct mr_sim_txn *t, struct mr_now now)
{
    struct mr_txn_offset_commit_request           request;
    struct mr_txn_offset_commit_request_topic     topic;
    struct mr_txn_offset_commit_request_partition partitions[PARTITIONS];
    MR_DEFAULTS(txn_offset_commit_request, &request);
    MR_DEFAULTS(txn_offset_commit_request_topic, &topic);
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        MR_DEFAULTS(txn_offset_commit_request_partition, &partitions[partition]);
        partitions[partition].partition_index = (int32_t)partition;
        partitions[partition].committed_offset = t->positions[partition];
    }
    topic.name = mr_sim_txn_topics[0];
    topic.partitions = partitions;
    topic.partitions_count = PARTITIONS;
    request.transactional_id = id_of(t);
    request.group_id = mr_sim_txn_group;
    request.producer_id = t->producer_id;
    request.producer_epoch = t->producer_epoch;
    request.topics = &topic;
    request.topics_count = 1;
    send(t, MR_API_TXN_OFFSET_COMMIT, t->is_version_2 ? 5 : 4, &request, now);
}

static void send_end(struct mr_sim_txn *t, struct mr_now now)
{
    struct mr_end_txn_request request;
    MR_DEFAULTS(end_txn_request, &request);
    request.transactional_id = id_of(t);
    request.producer_id = t->producer_id;
    request.producer_epoch = t->producer_epoch;
    request.committed = t->is_commit;
    t->end_sent++;
    if (t->is_commit) {
        mr_check_txn_commit_asked(&t->all->check, t->txn);
    }
    send(t, MR_API_END_TXN, t->is_version_2 ? 5 : 4, &request, now);
}

void mr_sim_txn_send(struct mr_sim_txn *t, struct mr_now now)
{
    switch (t->step) {
    case MR_SIM_TXN_FIND:
        send_find(t, now);
        break;
    case MR_SIM_TXN_CREATE:
        send_create(t, now);
        break;
    case MR_SIM_TXN_INIT:
        send_init(t, now);
        break;
    case MR_SIM_TXN_OFFSETS:
    case MR_SIM_TXN_LOOK:
        mr_sim_txn_send_offsets(&t->actor, now);
        break;
    case MR_SIM_TXN_ADD:
        send_add(t, now);
        break;
    case MR_SIM_TXN_ADD_OFFSETS:
        send_add_offsets(t, now);
        break;
    case MR_SIM_TXN_PRODUCE:
        send_produce(t, now);
        break;
    case MR_SIM_TXN_COMMIT:
        send_commit(t, now);
        break;
    case MR_SIM_TXN_END:
        send_end(t, now);
        break;
    case MR_SIM_TXN_READY:
        mr_unreachable("what comes next is the caller's");
    }
}
