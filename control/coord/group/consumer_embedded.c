/*
 * consumer_embedded: what consumers of the classic protocol carry inside its opaque bytes: their
 * subscription in JoinGroup, their assignment in SyncGroup. Only members that share a group with
 * those of the new protocol are looked into.
 *
 * Source: Kafka protocol guide, consumer embedded protocol; later versions only add fields at the end.
 */
#include "coord/group/consumer.h"

#define VERSION_MAX 3

static bool decode(const struct mr_msg *msg, struct mr_blob bytes, struct mr_arena *scratch,
                   void *message)
{
    struct mr_reader reader;
    int16_t version;
    mr_reader_init_bytes(&reader, bytes.data, bytes.len < 0 ? 0 : (uint32_t)bytes.len);
    return mr_reader_int16(&reader, &version) == MR_OK && version >= 0 &&
           mr_msg_decode(msg, version < VERSION_MAX ? version : VERSION_MAX, &reader, scratch,
                         message) == MR_OK;
}

/* Add the partitions of a topic that exists. */
static void add_parts(const struct mr_image *image, struct mr_str name, const int32_t *partitions,
                      int32_t count, struct mr_parts *set)
{
    const struct mr_image_topic *topic =
        image == NULL ? NULL : mr_image_topic_by_name(image, name);
    for (int32_t index = 0; topic != NULL && index < count; index++) {
        set->items[set->count++] =
            (struct mr_part){.topic_id = topic->id, .partition = partitions[index]};
    }
}

enum mr_consumer_embedded mr_consumer_read_subscription(
    const struct mr_image *image, struct mr_blob metadata, struct mr_arena *scratch,
    struct mr_consumer_subscription *subscription)
{
    struct mr_consumer_protocol_subscription message;
    if (!decode(&mr_msg_consumer_protocol_subscription, metadata, scratch, &message)) {
        return MR_CONSUMER_MALFORMED;
    }
    uint32_t count = 0;
    for (int32_t at = 0; at < message.owned_partitions_count; at++) {
        count += (uint32_t)message.owned_partitions[at].partitions_count;
    }
    if (!mr_parts_begin(&subscription->owned, count, scratch)) {
        return MR_CONSUMER_MALFORMED;
    }
    for (int32_t at = 0; at < message.owned_partitions_count; at++) {
        add_parts(image, message.owned_partitions[at].topic,
                  message.owned_partitions[at].partitions,
                  message.owned_partitions[at].partitions_count, &subscription->owned);
    }
    mr_parts_settle(&subscription->owned);
    subscription->topics = message.topics;
    subscription->topic_count = message.topics_count;
    subscription->rack_id = message.rack_id;
    return MR_CONSUMER_FINE;
}

enum mr_consumer_embedded mr_consumer_read_assignment(const struct mr_image *image,
                                                      struct mr_blob assignment,
                                                      struct mr_arena *scratch,
                                                      struct mr_parts *set)
{
    struct mr_consumer_protocol_assignment message = {.assigned_partitions_count = 0};
    if (assignment.len > 0 &&
        !decode(&mr_msg_consumer_protocol_assignment, assignment, scratch, &message)) {
        return MR_CONSUMER_MALFORMED;
    }
    uint32_t count = 0;
    for (int32_t at = 0; at < message.assigned_partitions_count; at++) {
        count += (uint32_t)message.assigned_partitions[at].partitions_count;
    }
    if (!mr_parts_begin(set, count, scratch)) {
        return MR_CONSUMER_MALFORMED;
    }
    for (int32_t at = 0; at < message.assigned_partitions_count; at++) {
        add_parts(image, message.assigned_partitions[at].topic,
                  message.assigned_partitions[at].partitions,
                  message.assigned_partitions[at].partitions_count, set);
    }
    mr_parts_settle(set);
    return assignment.len > 0 && message.user_data.len > 0 ? MR_CONSUMER_WITH_USER_DATA
                                                           : MR_CONSUMER_FINE;
}

/* In the version that the member's subscription has. */
static int16_t version_of(struct mr_blob metadata)
{
    struct mr_reader reader;
    int16_t version;
    mr_reader_init_bytes(&reader, metadata.data, metadata.len < 0 ? 0 : (uint32_t)metadata.len);
    if (mr_reader_int16(&reader, &version) != MR_OK || version < 0) {
        return 0;
    }
    return version < VERSION_MAX ? version : VERSION_MAX;
}

bool mr_consumer_write_assignment(const struct mr_group *group, const struct mr_parts *set,
                                  struct mr_blob metadata, struct mr_coord_out *out,
                                  struct mr_blob *assignment)
{
    const struct mr_image *image = group->shard->env->image;
    struct mr_consumer_protocol_assignment message = {.user_data = MR_BLOB_NULL};
    int32_t *numbers = mr_consumer_numbers(set, out);
    message.assigned_partitions = MR_COORD_NEW(
        out, struct mr_consumer_protocol_assignment_topic_partition, mr_parts_topics(set));
    if (numbers == NULL || message.assigned_partitions == NULL) {
        return false;
    }
    for (uint32_t at = 0; at < set->count;) {
        uint32_t end = mr_parts_run(set, at);
        const struct mr_image_topic *topic =
            image == NULL ? NULL : mr_image_topic_by_id(image, &set->items[at].topic_id);
        if (topic != NULL) { /* a deleted one has no name to say */
            message.assigned_partitions[message.assigned_partitions_count++] =
                (struct mr_consumer_protocol_assignment_topic_partition){
                    .topic = topic->name,
                    .partitions = &numbers[at],
                    .partitions_count = (int32_t)(end - at),
                };
        }
        at = end;
    }
    int16_t version = version_of(metadata);
    return mr_coord_out_encode(out, version, &mr_msg_consumer_protocol_assignment, version,
                               &message, assignment);
}
