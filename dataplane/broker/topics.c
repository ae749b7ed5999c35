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

/* Heap sort: in place, and n log n at worst, for the names are strangers'. */
static void sift(struct mr_str *names, uint32_t at, uint32_t count)
{
    for (uint32_t child; (child = at * 2 + 1) < count; at = child) {
        child += child + 1 < count && mr_str_compare(names[child], names[child + 1]) < 0;
        if (mr_str_compare(names[at], names[child]) >= 0) {
            return;
        }
        struct mr_str held = names[at];
        names[at] = names[child];
        names[child] = held;
    }
}

uint32_t mr_topics_sort_names(struct mr_str *names, uint32_t count)
{
    for (uint32_t at = count / 2; at > 0; at--) {
        sift(names, at - 1, count);
    }
    for (uint32_t end = count; end > 1; end--) {
        struct mr_str held = names[0];
        names[0] = names[end - 1];
        names[end - 1] = held;
        sift(names, 0, end - 1);
    }
    uint32_t kept = 0;
    for (uint32_t at = 0; at < count; at++) {
        if (kept == 0 || !mr_str_equal(names[kept - 1], names[at])) {
            names[kept++] = names[at];
        }
    }
    return kept;
}
