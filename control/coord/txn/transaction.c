/*
 * transaction: the shard's ids, and what a record does to them.
 */
#include "coord/txn/transaction.h"

#include "millrace/base/bytes.h"

bool mr_transaction_shard_init(struct mr_transaction_shard *shard, struct mr_transaction_env *env,
                               struct mr_coord_shard *runtime)
{
    *shard = (struct mr_transaction_shard){
        .env = env, .runtime = runtime, .index = runtime->index};
    mr_list_init(&shard->deciding);
    return mr_table_init(&shard->ids, &env->control->heap);
}

static void topics_free(struct mr_transaction *transaction)
{
    mr_heap_free(&transaction->shard->env->control->heap, transaction->topics_block,
                 transaction->topics_bytes);
    transaction->topics_block = NULL;
    transaction->topics_bytes = 0;
    transaction->now.topics = NULL;
    transaction->now.topics_count = 0;
}

static void transaction_free(struct mr_transaction *transaction)
{
    struct mr_heap *heap = &transaction->shard->env->control->heap;
    topics_free(transaction);
    mr_list_remove(&transaction->deciding);
    mr_table_remove(&transaction->shard->ids, &transaction->node);
    mr_heap_str_free(heap, &transaction->id);
    MR_HEAP_DELETE(heap, transaction);
}

void mr_transaction_shard_deinit(struct mr_transaction_shard *shard)
{
    if (shard->ids.buckets == NULL) {
        return;
    }
    mr_transaction_marks_forget(shard);
    struct mr_table_node *node;
    while ((node = mr_table_walk(&shard->ids, NULL)) != NULL) {
        transaction_free(MR_TABLE_ENTRY(node, struct mr_transaction, node));
    }
    mr_table_deinit(&shard->ids);
}

struct mr_transaction *mr_transaction_find(const struct mr_transaction_shard *shard,
                                           struct mr_str id)
{
    uint64_t hash = mr_hash_str(&shard->env->control->hash_key, id);
    for (struct mr_table_node *node = mr_table_first(&shard->ids, hash); node != NULL;
         node = mr_table_next(node)) {
        struct mr_transaction *transaction = MR_TABLE_ENTRY(node, struct mr_transaction, node);
        if (mr_str_equal(transaction->id, id)) {
            return transaction;
        }
    }
    return NULL;
}

static struct mr_transaction *get_or_make(struct mr_transaction_shard *shard, struct mr_str id)
{
    struct mr_heap *heap = &shard->env->control->heap;
    struct mr_transaction *transaction = mr_transaction_find(shard, id);
    if (transaction != NULL) {
        return transaction;
    }
    transaction = MR_HEAP_NEW(heap, struct mr_transaction);
    if (transaction == NULL || !mr_heap_str(heap, id, &transaction->id)) {
        mr_heap_free(heap, transaction, sizeof *transaction);
        return NULL;
    }
    transaction->shard = shard;
    transaction->last_epoch = -1;
    transaction->given_last_epoch = -1;
    mr_list_init(&transaction->deciding);
    mr_table_add(&shard->ids, &transaction->node,
                 mr_hash_str(&shard->env->control->hash_key, id));
    return transaction;
}

/* ---- records ---- */

/* Topics, their partitions and their names. */
static size_t bytes_of(const mr_transaction_topic *topics, int32_t count)
{
    size_t bytes = sizeof *topics * (size_t)count;
    for (int32_t index = 0; index < count; index++) {
        bytes += sizeof(int32_t) * (size_t)topics[index].partition_ids_count;
        bytes += (size_t)topics[index].topic.len;
    }
    return bytes;
}

/* Into one block. Kafka writes no topic without a name or partitions, but it may be read. */
static void copy_topics(mr_transaction_topic *to, const mr_transaction_topic *from, int32_t count)
{
    int32_t *ids = (int32_t *)(void *)(to + count);
    for (int32_t index = 0; index < count; index++) {
        int32_t ids_count = from[index].partition_ids_count;
        to[index] = from[index];
        to[index].partition_ids = ids;
        for (int32_t at = 0; at < ids_count; at++) {
            ids[at] = from[index].partition_ids[at];
        }
        ids += ids_count;
    }
    char *names = (char *)ids;
    for (int32_t index = 0; index < count; index++) {
        int32_t len = from[index].topic.len;
        if (len > 0) {
            memcpy(names, from[index].topic.data, (size_t)len);
        }
        to[index].topic.data = names;
        names += len;
    }
}

/* Copies of the topics in memory of our own. False: there is none. */
static bool keep_topics(struct mr_transaction *transaction, const mr_transaction_topic *from,
                        int32_t count, struct mr_transaction_values *values)
{
    size_t bytes = bytes_of(from, count);
    if (count == 0) {
        topics_free(transaction);
        return true;
    }
    mr_transaction_topic *topics = mr_heap_try(&transaction->shard->env->control->heap, bytes);
    if (topics == NULL) {
        return false;
    }
    copy_topics(topics, from, count);
    topics_free(transaction);
    transaction->topics_block = topics;
    transaction->topics_bytes = bytes;
    values->topics = topics;
    values->topics_count = count;
    return true;
}

static enum mr_err set(struct mr_transaction_shard *shard, struct mr_str id,
                       const struct mr_transaction_log_value *value)
{
    struct mr_transaction *transaction = get_or_make(shard, id);
    int32_t count = value->transaction_partitions_count < 0 ? 0 : value->transaction_partitions_count;
    struct mr_transaction_values values = {
        .state = (enum mr_transaction_state)value->transaction_status,
        .producer_id = value->producer_id,
        .previous_producer_id = value->previous_producer_id,
        .next_producer_id = value->next_producer_id,
        .producer_epoch = value->producer_epoch,
        .client_version = value->client_transaction_version,
        .timeout_ms = value->transaction_timeout_ms,
        .start_ms = value->transaction_start_timestamp_ms,
        .update_ms = value->transaction_last_update_timestamp_ms,
    };
    if (transaction == NULL || !keep_topics(transaction, value->transaction_partitions, count, &values)) {
        return MR_ERR_NO_MEMORY;
    }
    if (values.state == MR_TRANSACTION_ONGOING && transaction->now.state != MR_TRANSACTION_ONGOING) {
        transaction->begun_ns = shard->env->control->now.mono_ns;
    }
    transaction->now = values;
    transaction->last_epoch = transaction->given_last_epoch;
    transaction->given_last_epoch = -1;
    transaction->sequence = shard->runtime->sealed + 1;
    mr_list_remove(&transaction->deciding);
    if (mr_transaction_is_prepared(transaction)) {
        mr_list_add_tail(&shard->deciding, &transaction->deciding);
    }
    return MR_OK;
}

static enum mr_err decode(struct mr_arena *scratch, const struct mr_msg *msg, int16_t version,
                          struct mr_blob bytes, void *out)
{
    struct mr_reader reader;
    mr_reader_init_bytes(&reader, bytes.data + 2, (uint32_t)bytes.len - 2);
    return mr_msg_decode(msg, version, &reader, scratch, out);
}

enum mr_err mr_transaction_replay(struct mr_transaction_shard *shard, struct mr_blob key_bytes,
                                  struct mr_blob value_bytes)
{
    struct mr_arena *scratch = &shard->env->decode;
    struct mr_transaction_log_key key;
    struct mr_transaction_log_value value;
    if (key_bytes.len < 2 || (value_bytes.len >= 0 && value_bytes.len < 2)) {
        return MR_ERR_MALFORMED;
    }
    if (mr_load_be16(key_bytes.data) != MR_KEY_transaction_log_key) {
        return MR_OK; /* a later Kafka's: it stays in the log, unread */
    }
    mr_arena_reset(scratch);
    enum mr_err err = decode(scratch, &mr_msg_transaction_log_key, 0, key_bytes, &key);
    if (err != MR_OK) {
        return err;
    }
    if (value_bytes.len < 0) {
        struct mr_transaction *transaction = mr_transaction_find(shard, key.transactional_id);
        if (transaction != NULL) {
            transaction_free(transaction);
        }
        return MR_OK;
    }
    int16_t version = (int16_t)mr_load_be16(value_bytes.data);
    if (!mr_msg_has_version(&mr_msg_transaction_log_value, version)) {
        return MR_ERR_MALFORMED;
    }
    err = decode(scratch, &mr_msg_transaction_log_value, version, value_bytes, &value);
    bool is_known = err == MR_OK && value.transaction_status >= MR_TRANSACTION_EMPTY &&
                    value.transaction_status <= MR_TRANSACTION_DEAD;
    return err != MR_OK ? err : is_known ? set(shard, key.transactional_id, &value) : MR_ERR_MALFORMED;
}

bool mr_transaction_record(const struct mr_transaction_shard *shard, struct mr_str id,
                           const struct mr_transaction_values *values, struct mr_coord_out *out)
{
    struct mr_transaction_log_key key = {.transactional_id = id};
    struct mr_transaction_log_value value;
    MR_DEFAULTS(transaction_log_value, &value);
    int16_t version = shard->env->version > 0 ? 1 : 0;
    value.producer_id = values->producer_id;
    value.producer_epoch = values->producer_epoch;
    value.transaction_timeout_ms = values->timeout_ms;
    value.transaction_status = (int8_t)values->state;
    value.transaction_last_update_timestamp_ms = values->update_ms;
    value.transaction_start_timestamp_ms = values->start_ms;
    if (version > 0) {
        value.previous_producer_id = values->previous_producer_id;
        value.next_producer_id = values->next_producer_id;
        value.client_transaction_version = values->client_version;
    }
    value.transaction_partitions_count = -1; /* null: Empty has none */
    if (values->state != MR_TRANSACTION_EMPTY) {
        value.transaction_partitions =
            MR_COORD_NEW(out, mr_transaction_topic, values->topics_count + 1);
        if (value.transaction_partitions == NULL) {
            return false;
        }
        for (int32_t index = 0; index < values->topics_count; index++) {
            value.transaction_partitions[index] = values->topics[index];
        }
        value.transaction_partitions_count = values->topics_count;
    }
    return mr_coord_out_record(out, shard->index, &mr_msg_transaction_log_key, &key,
                               &mr_msg_transaction_log_value, version, &value);
}

bool mr_transaction_record_tombstone(const struct mr_transaction *transaction,
                                     struct mr_coord_out *out)
{
    struct mr_transaction_log_key key = {.transactional_id = transaction->id};
    return mr_coord_out_record(out, transaction->shard->index, &mr_msg_transaction_log_key, &key,
                               NULL, 0, NULL);
}

void mr_transaction_give_last_epoch(const struct mr_transaction *transaction, int16_t epoch)
{
    ((struct mr_transaction *)(uintptr_t)transaction)->given_last_epoch = epoch;
}

struct mr_str mr_transaction_state_name(enum mr_transaction_state state)
{
    switch (state) {
    case MR_TRANSACTION_EMPTY:
        return MR_STR("Empty");
    case MR_TRANSACTION_ONGOING:
        return MR_STR("Ongoing");
    case MR_TRANSACTION_PREPARE_COMMIT:
        return MR_STR("PrepareCommit");
    case MR_TRANSACTION_PREPARE_ABORT:
        return MR_STR("PrepareAbort");
    case MR_TRANSACTION_COMPLETE_COMMIT:
        return MR_STR("CompleteCommit");
    case MR_TRANSACTION_COMPLETE_ABORT:
        return MR_STR("CompleteAbort");
    case MR_TRANSACTION_DEAD:
        return MR_STR("Dead");
    }
    mr_unreachable("no such state");
}
