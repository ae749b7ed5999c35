/*
 * meta_replay: one record of __cluster_metadata becomes a change of the state. This is the only way
 * the state changes, while the broker runs and when it recovers.
 *
 *   value = uvarint frame version (1) | uvarint record id | uvarint version | fields
 *
 * Records between BeginTransaction and EndTransaction take effect at the end or, after
 * AbortTransaction, not at all (KIP-868). Records of kinds that this broker does not serve yet
 * (quotas, access rules, credentials, tokens) are counted and left in the log, where a later
 * version finds them.
 *
 * Source: Apache Kafka 4.4, the record types of the metadata log; kraft-broker facts, section 5.
 */
#include "metadata/meta.h"
#include "millrace/base/assert.h"
#include "millrace/kafka/messages.h"

#define FRAME_VERSION 1

static bool set_ranges(struct mr_meta *meta, struct mr_meta_broker *broker,
                       const struct mr_register_broker_record *record)
{
    if (record->features_count <= 0) {
        return true;
    }
    broker->ranges = MR_HEAP_ARRAY(meta->heap, struct mr_meta_range, record->features_count);
    if (broker->ranges == NULL) {
        return false;
    }
    broker->range_count = record->features_count;
    for (int32_t index = 0; index < record->features_count; index++) {
        struct mr_meta_range *range = &broker->ranges[index];
        range->min = record->features[index].min_supported_version;
        range->max = record->features[index].max_supported_version;
        if (!mr_heap_str(meta->heap, record->features[index].name, &range->name)) {
            return false;
        }
    }
    return true;
}

static enum mr_err replay_register_broker(struct mr_meta                         *meta,
                                          const struct mr_register_broker_record *record)
{
    struct mr_meta_broker *broker = mr_meta_broker_make(meta, record->broker_id);
    if (broker == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    broker->epoch = record->broker_epoch;
    broker->incarnation = record->incarnation_id;
    broker->is_fenced = record->fenced;
    broker->is_in_shutdown = record->in_controlled_shutdown;
    if (!mr_heap_str(meta->heap, record->rack, &broker->rack)) {
        return MR_ERR_NO_MEMORY;
    }
    if (record->end_points_count > 0) {
        broker->endpoints =
            MR_HEAP_ARRAY(meta->heap, struct mr_meta_endpoint, record->end_points_count);
        if (broker->endpoints == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        broker->endpoint_count = record->end_points_count;
        for (int32_t index = 0; index < record->end_points_count; index++) {
            struct mr_meta_endpoint *endpoint = &broker->endpoints[index];
            endpoint->port = record->end_points[index].port;
            endpoint->security_protocol = record->end_points[index].security_protocol;
            if (!mr_heap_str(meta->heap, record->end_points[index].name, &endpoint->name) ||
                !mr_heap_str(meta->heap, record->end_points[index].host, &endpoint->host)) {
                return MR_ERR_NO_MEMORY;
            }
        }
    }
    if (!set_ranges(meta, broker, record)) {
        return MR_ERR_NO_MEMORY;
    }
    if (record->log_dirs_count > 0) {
        broker->directories = MR_HEAP_ARRAY(meta->heap, struct mr_uuid, record->log_dirs_count);
        if (broker->directories == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        broker->directory_count = record->log_dirs_count;
        memcpy(broker->directories, record->log_dirs,
               sizeof *broker->directories * (size_t)record->log_dirs_count);
    }
    return MR_OK;
}

static struct mr_meta_broker *broker_of(struct mr_meta *meta, int32_t id, int64_t epoch)
{
    for (uint32_t index = 0; index < meta->broker_count; index++) {
        if (meta->brokers[index].id == id && meta->brokers[index].epoch == epoch) {
            meta->is_brokers_changed = true;
            return &meta->brokers[index];
        }
    }
    return NULL;
}

static enum mr_err replay_fence(struct mr_meta *meta, int32_t id, int64_t epoch, bool is_fenced)
{
    struct mr_meta_broker *broker = broker_of(meta, id, epoch);
    if (broker == NULL) {
        return MR_ERR_CORRUPT;
    }
    broker->is_fenced = is_fenced;
    return MR_OK;
}

static enum mr_err replay_registration_change(
    struct mr_meta *meta, const struct mr_broker_registration_change_record *record)
{
    struct mr_meta_broker *broker = broker_of(meta, record->broker_id, record->broker_epoch);
    if (broker == NULL) {
        return MR_ERR_CORRUPT;
    }
    if (record->fenced != 0) {
        broker->is_fenced = record->fenced > 0;
    }
    if (record->in_controlled_shutdown != 0) {
        broker->is_in_shutdown = true;
    }
    if (record->log_dirs_count > 0) {
        struct mr_uuid *copy = MR_HEAP_ARRAY(meta->heap, struct mr_uuid, record->log_dirs_count);
        if (copy == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        memcpy(copy, record->log_dirs, sizeof *copy * (size_t)record->log_dirs_count);
        MR_HEAP_ARRAY_FREE(meta->heap, broker->directories, broker->directory_count);
        broker->directories = copy;
        broker->directory_count = record->log_dirs_count;
    }
    return MR_OK;
}

static enum mr_err replay_topic(struct mr_meta *meta, const struct mr_topic_record *record)
{
    if (record->name.len <= 0 || record->name.len > MR_TOPIC_NAME_MAX ||
        mr_meta_topic_by_name(meta, record->name) != NULL ||
        mr_meta_topic_by_id(meta, &record->topic_id) != NULL) {
        return MR_ERR_CORRUPT;
    }
    return mr_meta_topic_add(meta, record->name, &record->topic_id) == NULL ? MR_ERR_NO_MEMORY
                                                                            : MR_OK;
}

static enum mr_err directories_set(struct mr_meta *meta, struct mr_meta_partition *partition,
                                   const struct mr_uuid *from, int32_t count)
{
    return mr_meta_directories_set(meta, partition, from, count) ? MR_OK : MR_ERR_NO_MEMORY;
}

struct id_list {
    struct mr_meta_ids *to;
    const int32_t      *from;
    int32_t             count; /* below 0: null, as it was */
};

/* More partitions than any topic has: a number above it is a lie that must not size an array. */
#define PARTITION_MAX 1000000

static enum mr_err replay_partition(struct mr_meta *meta, const struct mr_partition_record *record)
{
    struct mr_meta_topic *topic = mr_meta_topic_by_id(meta, &record->topic_id);
    if (topic == NULL || record->partition_id < 0 || record->partition_id >= PARTITION_MAX) {
        return MR_ERR_CORRUPT;
    }
    struct mr_meta_partition *partition = mr_meta_partition_make(meta, topic, record->partition_id);
    if (partition == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    const struct id_list lists[] = {
        {&partition->replicas, record->replicas, record->replicas_count},
        {&partition->isr, record->isr, record->isr_count},
        {&partition->removing, record->removing_replicas, record->removing_replicas_count},
        {&partition->adding, record->adding_replicas, record->adding_replicas_count},
        {&partition->eligible, record->eligible_leader_replicas,
         record->eligible_leader_replicas_count},
        {&partition->last_known, record->last_known_elr, record->last_known_elr_count},
    };
    for (size_t index = 0; index < sizeof lists / sizeof lists[0]; index++) {
        int32_t count = lists[index].count > 0 ? lists[index].count : 0;
        if (!mr_meta_ids_set(meta, lists[index].to, lists[index].from, count)) {
            return MR_ERR_NO_MEMORY;
        }
    }
    if (!partition->is_present) {
        meta->partition_count++;
    }
    partition->is_present = true;
    partition->leader = record->leader;
    partition->leader_epoch = record->leader_epoch;
    partition->partition_epoch = record->partition_epoch;
    partition->recovery_state = record->leader_recovery_state;
    mr_meta_topic_changed(meta, topic);
    return directories_set(meta, partition, record->directories, record->directories_count);
}

/* An epoch at the end of its range stays there: only a damaged log gets that far. */
static void epoch_next(int32_t *epoch)
{
    *epoch += *epoch < INT32_MAX;
}

static enum mr_err replay_partition_change(struct mr_meta                          *meta,
                                           const struct mr_partition_change_record *record)
{
    struct mr_meta_topic *topic = mr_meta_topic_by_id(meta, &record->topic_id);
    if (topic == NULL || record->partition_id < 0 ||
        (uint32_t)record->partition_id >= topic->partition_count ||
        !topic->partitions[record->partition_id].is_present) {
        return MR_ERR_CORRUPT;
    }
    struct mr_meta_partition *partition = &topic->partitions[record->partition_id];
    const struct id_list      lists[] = {
             {&partition->isr, record->isr, record->isr_count},
             {&partition->replicas, record->replicas, record->replicas_count},
             {&partition->removing, record->removing_replicas, record->removing_replicas_count},
             {&partition->adding, record->adding_replicas, record->adding_replicas_count},
             {&partition->eligible, record->eligible_leader_replicas,
              record->eligible_leader_replicas_count},
             {&partition->last_known, record->last_known_elr, record->last_known_elr_count},
    };
    for (size_t index = 0; index < sizeof lists / sizeof lists[0]; index++) {
        if (lists[index].count >= 0 &&
            !mr_meta_ids_set(meta, lists[index].to, lists[index].from, lists[index].count)) {
            return MR_ERR_NO_MEMORY;
        }
    }
    if (record->leader != -2) {
        /* Any leader named, the same one too, begins a new leader epoch. */
        partition->leader = record->leader;
        epoch_next(&partition->leader_epoch);
    }
    if (record->leader_recovery_state >= 0) {
        partition->recovery_state = record->leader_recovery_state;
    }
    epoch_next(&partition->partition_epoch);
    mr_meta_topic_changed(meta, topic);
    return record->directories_count >= 0
               ? directories_set(meta, partition, record->directories, record->directories_count)
               : MR_OK;
}

/* ClearElr: of one topic, or of all; a partition that has any gets a new partition epoch. */
static void clear_eligible(struct mr_meta *meta, struct mr_meta_topic *topic)
{
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        struct mr_meta_partition *partition = &topic->partitions[index];
        if (partition->eligible.count > 0 || partition->last_known.count > 0) {
            (void)mr_meta_ids_set(meta, &partition->eligible, NULL, 0);
            (void)mr_meta_ids_set(meta, &partition->last_known, NULL, 0);
            epoch_next(&partition->partition_epoch);
            mr_meta_topic_changed(meta, topic);
        }
    }
}

static enum mr_err replay_clear_elr(struct mr_meta *meta, const struct mr_clear_elr_record *record)
{
    if (record->topic_name.len > 0) {
        struct mr_meta_topic *topic = mr_meta_topic_by_name(meta, record->topic_name);
        if (topic == NULL) {
            return MR_ERR_CORRUPT;
        }
        clear_eligible(meta, topic);
        return MR_OK;
    }
    for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
         topic = mr_meta_topic_walk(meta, topic)) {
        clear_eligible(meta, topic);
    }
    return MR_OK;
}

static enum mr_err replay_config(struct mr_meta *meta, const struct mr_config_record *record)
{
    if (record->resource_type == MR_META_TOPIC) {
        struct mr_meta_topic *topic = mr_meta_topic_by_name(meta, record->resource_name);
        if (topic != NULL) {
            mr_meta_topic_changed(meta, topic);
        }
    } else if (record->resource_type == MR_META_BROKER) {
        meta->is_defaults_changed = true;
        meta->is_brokers_changed = true; /* limits of connections are in the image, not in a topic */
    }
    return mr_meta_config_set(meta, record->resource_type, record->resource_name, record->name,
                              record->value)
               ? MR_OK
               : MR_ERR_NO_MEMORY;
}

static enum mr_err replay_remove_topic(struct mr_meta                      *meta,
                                       const struct mr_remove_topic_record *record)
{
    struct mr_meta_topic *topic = mr_meta_topic_by_id(meta, &record->topic_id);
    if (topic == NULL) {
        return MR_ERR_CORRUPT;
    }
    return mr_meta_topic_remove(meta, topic) ? MR_OK : MR_ERR_NO_MEMORY;
}

/* ---- one record ---- */

union any_record {
    struct mr_register_broker_record            register_broker;
    struct mr_unregister_broker_record          unregister_broker;
    struct mr_topic_record                      topic;
    struct mr_partition_record                  partition;
    struct mr_config_record                     config;
    struct mr_partition_change_record           partition_change;
    struct mr_fence_broker_record               fence;
    struct mr_unfence_broker_record             unfence;
    struct mr_remove_topic_record               remove_topic;
    struct mr_feature_level_record              feature;
    struct mr_producer_ids_record               producer_ids;
    struct mr_broker_registration_change_record registration_change;
    struct mr_clear_elr_record                  clear_elr;
};

static enum mr_err value_head(struct mr_blob value, struct mr_reader *reader, int16_t *id,
                              int16_t *version)
{
    uint32_t    numbers[3] = {0};
    enum mr_err err = MR_OK;
    if (value.len <= 0) {
        return MR_ERR_MALFORMED;
    }
    mr_reader_init_bytes(reader, value.data, (uint32_t)value.len);
    for (int index = 0; index < 3 && err == MR_OK; index++) {
        err = mr_reader_uvarint(reader, &numbers[index]);
    }
    if (err != MR_OK) {
        return err;
    }
    if (numbers[0] != FRAME_VERSION || numbers[1] > INT16_MAX || numbers[2] > INT16_MAX) {
        return MR_ERR_UNSUPPORTED_VERSION;
    }
    *id = (int16_t)numbers[1];
    *version = (int16_t)numbers[2];
    return MR_OK;
}

static enum mr_err replay_now(struct mr_meta *meta, int16_t id, int16_t version,
                              struct mr_reader *reader)
{
    const struct mr_msg *msg = mr_msg_find(MR_MSG_METADATA_RECORD, id);
    union any_record     record;
    if (msg == NULL) {
        return MR_ERR_UNSUPPORTED_VERSION;
    }
    if (msg->root->size > sizeof record) {
        meta->ignored++;
        return MR_OK;
    }
    mr_arena_reset(&meta->scratch);
    enum mr_err err = mr_msg_decode(msg, version, reader, &meta->scratch, &record);
    if (err != MR_OK) {
        return err;
    }
    if (mr_reader_left(reader) > 0) {
        return MR_ERR_MALFORMED;
    }
    switch (id) {
    case MR_KEY_register_broker_record:
        return replay_register_broker(meta, &record.register_broker);
    case MR_KEY_unregister_broker_record:
        mr_meta_broker_remove(meta, record.unregister_broker.broker_id);
        return MR_OK;
    case MR_KEY_topic_record:
        return replay_topic(meta, &record.topic);
    case MR_KEY_partition_record:
        return replay_partition(meta, &record.partition);
    case MR_KEY_config_record:
        return replay_config(meta, &record.config);
    case MR_KEY_partition_change_record:
        return replay_partition_change(meta, &record.partition_change);
    case MR_KEY_fence_broker_record:
        return replay_fence(meta, record.fence.id, record.fence.epoch, true);
    case MR_KEY_unfence_broker_record:
        return replay_fence(meta, record.unfence.id, record.unfence.epoch, false);
    case MR_KEY_remove_topic_record:
        return replay_remove_topic(meta, &record.remove_topic);
    case MR_KEY_feature_level_record:
        return mr_meta_feature_set(meta, record.feature.name, record.feature.feature_level)
                   ? MR_OK
                   : MR_ERR_NO_MEMORY;
    case MR_KEY_producer_ids_record:
        meta->next_producer_id = record.producer_ids.next_producer_id;
        return MR_OK;
    case MR_KEY_broker_registration_change_record:
        return replay_registration_change(meta, &record.registration_change);
    case MR_KEY_clear_elr_record:
        return replay_clear_elr(meta, &record.clear_elr);
    case MR_KEY_no_op_record:
    case MR_KEY_register_controller_record:
        return MR_OK;
    default:
        meta->ignored++;
        return MR_OK;
    }
}

/* ---- transactions ---- */

static enum mr_err hold(struct mr_meta *meta, int64_t offset, struct mr_blob value)
{
    struct mr_meta_held *held = mr_heap_try(meta->heap, sizeof *held + (size_t)value.len);
    if (held == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    held->offset = offset;
    held->len = value.len;
    memcpy(held->bytes, value.data, (size_t)value.len);
    mr_list_init(&held->link);
    mr_list_add_tail(&meta->held, &held->link);
    return MR_OK;
}

static enum mr_err end_transaction(struct mr_meta *meta, bool is_commit)
{
    enum mr_err     err = meta->is_in_transaction ? MR_OK : MR_ERR_CORRUPT;
    struct mr_list *link;
    meta->is_in_transaction = false;
    while ((link = mr_list_pop(&meta->held)) != NULL) {
        struct mr_meta_held *held = MR_LIST_ENTRY(link, struct mr_meta_held, link);
        if (is_commit && err == MR_OK) {
            struct mr_reader reader;
            int16_t          id = 0;
            int16_t          version = 0;
            err = value_head((struct mr_blob){.data = held->bytes, .len = held->len}, &reader, &id,
                             &version);
            if (err == MR_OK) {
                err = replay_now(meta, id, version, &reader);
            }
        }
        mr_heap_free(meta->heap, held, sizeof *held + (size_t)held->len);
    }
    return err;
}

enum mr_err mr_meta_replay(struct mr_meta *meta, int64_t offset, struct mr_blob value)
{
    struct mr_reader reader;
    int16_t          id = 0;
    int16_t          version = 0;
    enum mr_err      err = value_head(value, &reader, &id, &version);
    if (err != MR_OK) {
        return err;
    }
    meta->offset = offset;
    if (id == MR_KEY_begin_transaction_record) {
        if (meta->is_in_transaction) {
            return MR_ERR_CORRUPT;
        }
        meta->is_in_transaction = true;
        return MR_OK;
    }
    if (id == MR_KEY_end_transaction_record || id == MR_KEY_abort_transaction_record) {
        return end_transaction(meta, id == MR_KEY_end_transaction_record);
    }
    return meta->is_in_transaction ? hold(meta, offset, value)
                                   : replay_now(meta, id, version, &reader);
}
