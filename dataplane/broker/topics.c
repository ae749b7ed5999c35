/*
 * topics: partitions in the image.
 */
#include "broker/topics.h"

#include "data_core.h"
#include "millrace/kafka/errors.h"

static const struct mr_image_topic *find_topic(const struct mr_data_core *core, bool is_by_id,
                                               struct mr_str name, const struct mr_uuid *id)
{
    return is_by_id ? mr_image_topic_by_id(core->image, id)
                    : mr_image_topic_by_name(core->image, name);
}

int16_t mr_topics_find(const struct mr_data_core *core, bool is_by_id, struct mr_str name,
                       const struct mr_uuid *id, int32_t index, const struct mr_image_topic **topic,
                       const struct mr_image_partition **partition)
{
    *topic = find_topic(core, is_by_id, name, id);
    *partition = NULL;
    if (*topic == NULL) {
        return is_by_id ? MR_KAFKA_UNKNOWN_TOPIC_ID : MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if (index < 0 || (uint32_t)index >= (*topic)->partition_count) {
        return MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    }
    *partition = &(*topic)->partitions[index];
    if ((*partition)->leader != core->image->node_id || (*partition)->log_id == 0) {
        return MR_KAFKA_NOT_LEADER_OR_FOLLOWER;
    }
    mr_assert((*partition)->storage_core < core->endpoints->storage_count);
    return MR_KAFKA_NONE;
}

const struct mr_image_partition *mr_topics_partition(const struct mr_data_core *core, bool is_by_id,
                                                     struct mr_str name, const struct mr_uuid *id,
                                                     int32_t index)
{
    const struct mr_image_topic *topic = find_topic(core, is_by_id, name, id);
    bool is_there = topic != NULL && index >= 0 && (uint32_t)index < topic->partition_count;
    return is_there ? &topic->partitions[index] : NULL;
}

const struct mr_image_broker *mr_topics_broker(const struct mr_data_core *core, int32_t id)
{
    for (uint32_t index = 0; index < core->image->broker_count; index++) {
        if (core->image->brokers[index].id == id) {
            return &core->image->brokers[index];
        }
    }
    return NULL;
}

bool mr_topics_is_name(struct mr_str name)
{
    if (name.len < 1 || name.len > MR_TOPIC_NAME_MAX || mr_str_equal(name, MR_STR(".")) ||
        mr_str_equal(name, MR_STR(".."))) {
        return false;
    }
    for (int32_t at = 0; at < name.len; at++) {
        char c = name.data[at];
        bool is_legal = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!is_legal) {
            return false;
        }
    }
    return true;
}
