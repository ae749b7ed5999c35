/*
 * transaction_add: partitions join a transaction, and it begins with the first of them.
 */
#include "coord/txn/transaction.h"

#include "millrace/base/bug.h"

bool mr_transaction_has(const struct mr_transaction *transaction, struct mr_str topic,
                        int32_t partition)
{
    for (int32_t at = 0; at < transaction->now.topics_count; at++) {
        const mr_transaction_topic *held = &transaction->now.topics[at];
        for (int32_t index = 0;
             mr_str_equal(held->topic, topic) && index < held->partition_ids_count; index++) {
            if (held->partition_ids[index] == partition) {
                return true;
            }
        }
    }
    return false;
}

static bool has_all(const struct mr_transaction *transaction, const struct mr_transaction_add *add)
{
    for (int32_t at = 0; at < add->topics_count; at++) {
        for (int32_t index = 0; index < add->topics[at].partition_ids_count; index++) {
            if (!mr_transaction_has(transaction, add->topics[at].topic,
                                    add->topics[at].partition_ids[index])) {
                return false;
            }
        }
    }
    return true;
}

static bool is_among(const mr_transaction_topic *topic, int32_t partition)
{
    for (int32_t index = 0; index < topic->partition_ids_count; index++) {
        if (topic->partition_ids[index] == partition) {
            return true;
        }
    }
    return false;
}

/* The topic in the list, made at its end when absent; with room for `more` partitions. NULL: no scratch. */
static mr_transaction_topic *topic_in(mr_transaction_topic *topics, int32_t *count,
                                      struct mr_str name, int32_t more, struct mr_coord_out *out)
{
    mr_transaction_topic *topic = NULL;
    for (int32_t index = 0; index < *count && topic == NULL; index++) {
        topic = mr_str_equal(topics[index].topic, name) ? &topics[index] : NULL;
    }
    if (topic == NULL) {
        topic = &topics[(*count)++];
        *topic = (mr_transaction_topic){.topic = name};
    }
    int32_t *ids = MR_COORD_NEW(out, int32_t, topic->partition_ids_count + more);
    if (ids == NULL) {
        return NULL;
    }
    for (int32_t index = 0; index < topic->partition_ids_count; index++) {
        ids[index] = topic->partition_ids[index];
    }
    topic->partition_ids = ids;
    return topic;
}

/* What is there and what comes, each once. False: no scratch. */
static bool unite(const struct mr_transaction *transaction, const struct mr_transaction_add *add,
                  bool is_begun, struct mr_transaction_values *values, struct mr_coord_out *out)
{
    int32_t held = is_begun && !mr_bug("last-partition-only") ? transaction->now.topics_count : 0;
    int32_t count = held;
    mr_transaction_topic *topics =
        MR_COORD_NEW(out, mr_transaction_topic, held + add->topics_count + 1);
    if (topics == NULL) {
        return false;
    }
    for (int32_t index = 0; index < held; index++) {
        topics[index] = transaction->now.topics[index];
    }
    for (int32_t at = 0; at < add->topics_count; at++) {
        const mr_transaction_topic *from = &add->topics[at];
        mr_transaction_topic *to =
            topic_in(topics, &count, from->topic, from->partition_ids_count, out);
        if (to == NULL) {
            return false;
        }
        for (int32_t index = 0; index < from->partition_ids_count; index++) {
            if (!is_among(to, from->partition_ids[index])) {
                to->partition_ids[to->partition_ids_count++] = from->partition_ids[index];
            }
        }
    }
    values->topics = topics;
    values->topics_count = count;
    return true;
}

int16_t mr_transaction_add(const struct mr_transaction_shard *shard,
                           const struct mr_transaction_add *add, struct mr_coord_out *out)
{
    const struct mr_transaction *transaction = mr_transaction_find(shard, add->id);
    if (transaction == NULL || transaction->now.producer_id != add->producer_id) {
        return MR_KAFKA_INVALID_PRODUCER_ID_MAPPING;
    }
    if (transaction->now.producer_epoch != add->producer_epoch && !mr_bug("serve-zombies")) {
        return MR_KAFKA_PRODUCER_FENCED;
    }
    if (mr_transaction_is_prepared(transaction) && !mr_bug("add-to-the-decided")) {
        return MR_KAFKA_CONCURRENT_TRANSACTIONS;
    }
    bool is_begun = transaction->now.state == MR_TRANSACTION_ONGOING;
    if (add->is_verify || (is_begun && has_all(transaction, add))) {
        return MR_KAFKA_NONE; /* what is not there the caller says, partition by partition */
    }
    struct mr_transaction_values values = transaction->now;
    values.state = MR_TRANSACTION_ONGOING;
    values.previous_producer_id = transaction->now.producer_id;
    values.client_version = add->client_version;
    values.start_ms = is_begun ? transaction->now.start_ms : out->now.unix_ms;
    values.update_ms = out->now.unix_ms;
    if (!unite(transaction, add, is_begun, &values, out) ||
        !mr_transaction_record(shard, transaction->id, &values, out)) {
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    mr_transaction_give_last_epoch(transaction, transaction->last_epoch);
    return MR_KAFKA_NONE;
}
