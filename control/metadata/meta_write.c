#include "metadata/meta_write.h"

#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

/* Each part adds one record, or none when it is over. */
typedef bool write_one(const struct mr_meta *meta, struct mr_meta_cursor *cursor,
                       struct mr_meta_records *records);

static void add_feature(const struct mr_meta_feature *feature, struct mr_meta_records *records)
{
    struct mr_feature_level_record record;
    mr_msg_defaults(&mr_msg_feature_level_record, &record);
    record.name = feature->name;
    record.feature_level = feature->level;
    mr_meta_records_add(records, &mr_msg_feature_level_record, 0, &record);
}

static bool is_version(const struct mr_meta_feature *feature)
{
    return mr_str_equal(feature->name, MR_STR("metadata.version"));
}

/* What all that follows is read by. */
static bool write_version(const struct mr_meta *meta, struct mr_meta_cursor *cursor,
                          struct mr_meta_records *records)
{
    for (; cursor->index < meta->feature_count; cursor->index++) {
        if (is_version(&meta->features[cursor->index])) {
            add_feature(&meta->features[cursor->index], records);
            cursor->index = meta->feature_count;
            return true;
        }
    }
    return false;
}

static bool write_feature(const struct mr_meta *meta, struct mr_meta_cursor *cursor,
                          struct mr_meta_records *records)
{
    for (; cursor->index < meta->feature_count; cursor->index++) {
        if (!is_version(&meta->features[cursor->index])) {
            add_feature(&meta->features[cursor->index++], records);
            return true;
        }
    }
    return false;
}

static bool write_broker(const struct mr_meta *meta, struct mr_meta_cursor *cursor,
                         struct mr_meta_records *records)
{
    if (cursor->index == meta->broker_count) {
        return false;
    }
    const struct mr_meta_broker *broker = &meta->brokers[cursor->index++];
    int16_t version = mr_meta_register_broker_version(meta->metadata_version);
    size_t  bytes = sizeof(struct mr_register_broker_record_broker_endpoint) * (size_t)broker->endpoint_count +
                   sizeof(struct mr_register_broker_record_broker_feature) * (size_t)broker->range_count;
    void   *memory = mr_heap_try(meta->heap, bytes + 1);
    struct mr_register_broker_record_broker_endpoint *ends = memory;
    if (memory == NULL) {
        records->is_failed = true;
        return true;
    }
    struct mr_register_broker_record_broker_feature *ranges = (void *)(ends + broker->endpoint_count);
    struct mr_register_broker_record                 record;
    mr_msg_defaults(&mr_msg_register_broker_record, &record);
    record.broker_id = broker->id;
    record.incarnation_id = broker->incarnation;
    record.broker_epoch = broker->epoch;
    record.rack = broker->rack;
    record.fenced = broker->is_fenced;
    record.in_controlled_shutdown = broker->is_in_shutdown;
    record.end_points = ends;
    record.end_points_count = broker->endpoint_count;
    record.features = ranges;
    record.features_count = broker->range_count;
    for (int32_t index = 0; index < broker->endpoint_count; index++) {
        const struct mr_meta_endpoint *from = &broker->endpoints[index];
        ends[index] = (struct mr_register_broker_record_broker_endpoint){
            .name = from->name, .host = from->host, .port = from->port, .security_protocol = from->security_protocol};
    }
    for (int32_t index = 0; index < broker->range_count; index++) {
        const struct mr_meta_range *from = &broker->ranges[index];
        ranges[index] = (struct mr_register_broker_record_broker_feature){
            .name = from->name, .min_supported_version = from->min, .max_supported_version = from->max};
    }
    if (version >= 3) {
        record.log_dirs = broker->directories;
        record.log_dirs_count = broker->directory_count;
    }
    mr_meta_records_add(records, &mr_msg_register_broker_record, version, &record);
    mr_heap_free(meta->heap, memory, bytes + 1);
    return true;
}

static void add_partition(const struct mr_meta *meta, const struct mr_meta_topic *topic, uint32_t index,
                          struct mr_meta_records *records)
{
    const struct mr_meta_partition *partition = &topic->partitions[index];
    int16_t                         version = mr_meta_partition_record_version(meta->metadata_version);
    struct mr_partition_record      record;
    mr_msg_defaults(&mr_msg_partition_record, &record);
    record.partition_id = (int32_t)index;
    record.topic_id = topic->id;
    record.replicas = partition->replicas.ids;
    record.replicas_count = partition->replicas.count;
    record.isr = partition->isr.ids;
    record.isr_count = partition->isr.count;
    record.removing_replicas = partition->removing.ids;
    record.removing_replicas_count = partition->removing.count;
    record.adding_replicas = partition->adding.ids;
    record.adding_replicas_count = partition->adding.count;
    record.leader = partition->leader;
    record.leader_recovery_state = partition->recovery_state;
    record.leader_epoch = partition->leader_epoch;
    record.partition_epoch = partition->partition_epoch;
    if (version >= 1) {
        record.directories = partition->directories;
        record.directories_count = partition->directory_count;
    }
    if (version >= 2 && partition->eligible.count > 0) {
        record.eligible_leader_replicas = partition->eligible.ids;
        record.eligible_leader_replicas_count = partition->eligible.count;
    }
    if (version >= 2 && partition->last_known.count > 0) {
        record.last_known_elr = partition->last_known.ids;
        record.last_known_elr_count = partition->last_known.count;
    }
    mr_meta_records_add(records, &mr_msg_partition_record, version, &record);
}

/* The topic itself is number 0, its partitions follow. */
static bool write_topic(const struct mr_meta *meta, struct mr_meta_cursor *cursor, struct mr_meta_records *records)
{
    if (cursor->topic == NULL) {
        cursor->topic = mr_meta_topic_walk(meta, NULL);
    }
    while (cursor->topic != NULL) {
        const struct mr_meta_topic *topic = cursor->topic;
        uint32_t                    number = cursor->index++;
        if (number == 0) {
            struct mr_topic_record record;
            mr_msg_defaults(&mr_msg_topic_record, &record);
            record.name = topic->name;
            record.topic_id = topic->id;
            mr_meta_records_add(records, &mr_msg_topic_record, 0, &record);
            return true;
        }
        if (number > topic->partition_count) {
            cursor->index = 0;
            cursor->topic = mr_meta_topic_walk(meta, cursor->topic);
        } else if (topic->partitions[number - 1].is_present) {
            add_partition(meta, topic, number - 1, records);
            return true;
        }
    }
    return false;
}

static bool write_config(const struct mr_meta *meta, struct mr_meta_cursor *cursor, struct mr_meta_records *records)
{
    if (cursor->resource == NULL) {
        cursor->resource = mr_meta_resource_walk(meta, NULL);
    }
    while (cursor->resource != NULL && cursor->index == cursor->resource->count) {
        cursor->resource = mr_meta_resource_walk(meta, cursor->resource);
        cursor->index = 0;
    }
    if (cursor->resource == NULL || mr_bug("checkpoint-without-configs")) {
        return false;
    }
    const struct mr_meta_config *config = &cursor->resource->entries[cursor->index++];
    struct mr_config_record      record;
    mr_msg_defaults(&mr_msg_config_record, &record);
    record.resource_type = cursor->resource->type;
    record.resource_name = cursor->resource->name;
    record.name = config->name;
    record.value = config->value;
    mr_meta_records_add(records, &mr_msg_config_record, 0, &record);
    return true;
}

static bool write_producer_ids(const struct mr_meta *meta, struct mr_meta_cursor *cursor,
                               struct mr_meta_records *records)
{
    if (cursor->index > 0 || meta->next_producer_id <= 0) {
        return false;
    }
    struct mr_producer_ids_record record;
    mr_msg_defaults(&mr_msg_producer_ids_record, &record);
    record.broker_id = -1;
    record.next_producer_id = meta->next_producer_id;
    mr_meta_records_add(records, &mr_msg_producer_ids_record, 0, &record);
    cursor->index++;
    return true;
}

bool mr_meta_write(const struct mr_meta *meta, struct mr_meta_cursor *cursor, uint32_t max,
                   struct mr_meta_records *records)
{
    static write_one *const parts[] = {write_version, write_feature, write_broker,
                                       write_topic,   write_config,  write_producer_ids};
    const int               count = sizeof parts / sizeof parts[0];
    while (cursor->part < count && records->count < max && !records->is_failed) {
        if (!parts[cursor->part](meta, cursor, records)) {
            *cursor = (struct mr_meta_cursor){.part = cursor->part + 1};
        }
    }
    return cursor->part < count;
}
