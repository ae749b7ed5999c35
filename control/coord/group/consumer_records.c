/*
 * consumer_records: the records of __consumer_offsets that a group of the new protocol writes.
 * All values are of version 0, as Apache Kafka 4.4 writes them.
 */
#include "coord/group/consumer.h"

#define RECORD(out_, shard_, name_, key_, value_)                                                  \
    mr_coord_out_record((out_), (shard_), &mr_msg_consumer_group_##name_##_key, (key_),            \
                        &mr_msg_consumer_group_##name_##_value, 0, (value_))
#define TOMBSTONE(out_, shard_, name_, key_)                                                       \
    mr_coord_out_record((out_), (shard_), &mr_msg_consumer_group_##name_##_key, (key_), NULL, 0,   \
                        NULL)

bool mr_consumer_record_epoch(uint32_t shard, struct mr_str group, int32_t epoch, int64_t hash,
                              struct mr_coord_out *out)
{
    const struct mr_consumer_group_metadata_key key = {.group_id = group};
    const struct mr_consumer_group_metadata_value value = {.epoch = epoch, .metadata_hash = hash};
    return RECORD(out, shard, metadata, &key, &value);
}

/* The old protocol's part of a member that speaks it. NULL: no scratch. */
static struct mr_consumer_group_member_metadata_value_classic_member_metadata *classic_metadata(
    const struct mr_consumer_profile *profile, struct mr_coord_out *out)
{
    struct mr_consumer_group_member_metadata_value_classic_member_metadata *classic = MR_COORD_NEW(
        out, struct mr_consumer_group_member_metadata_value_classic_member_metadata, 1);
    struct mr_consumer_group_member_metadata_value_classic_protocol *protocols =
        MR_COORD_NEW(out, struct mr_consumer_group_member_metadata_value_classic_protocol,
                     profile->classic->count);
    if (classic == NULL || protocols == NULL) {
        return NULL;
    }
    for (uint32_t index = 0; index < profile->classic->count; index++) {
        protocols[index].name = profile->classic->items[index].name;
        protocols[index].metadata = profile->classic->items[index].metadata;
    }
    classic->session_timeout_ms = profile->classic_session_ms;
    classic->supported_protocols = protocols;
    classic->supported_protocols_count = (int32_t)profile->classic->count;
    return classic;
}

bool mr_consumer_record_member(uint32_t shard, struct mr_str group,
                               const struct mr_consumer_profile *profile, struct mr_coord_out *out)
{
    const struct mr_consumer_group_member_metadata_key key = {
        .group_id = group,
        .member_id = profile->id,
    };
    struct mr_consumer_group_member_metadata_value value = {
        .instance_id = profile->instance_id,
        .rack_id = profile->rack_id,
        .client_id = profile->client_id,
        .client_host = profile->client_host,
        .subscribed_topic_names = (struct mr_str *)(uintptr_t)profile->wish.names,
        .subscribed_topic_names_count = (int32_t)profile->wish.count,
        .subscribed_topic_regex = profile->wish.regex,
        .rebalance_timeout_ms = profile->rebalance_ms,
        .server_assignor = profile->assignor,
    };
    if (profile->classic != NULL) {
        value.classic_member_metadata = classic_metadata(profile, out);
        if (value.classic_member_metadata == NULL) {
            return false;
        }
    }
    return RECORD(out, shard, member_metadata, &key, &value);
}

struct mr_consumer_profile mr_consumer_profile(const struct mr_consumer_member *member)
{
    return (struct mr_consumer_profile){
        .id = member->id,
        .instance_id = member->instance_id,
        .rack_id = member->rack_id,
        .client_id = member->client_id,
        .client_host = member->client_host,
        .assignor = member->assignor,
        .wish =
            {
                .names = member->names == NULL ? NULL : member->names->items,
                .count = member->names == NULL ? 0 : member->names->count,
                .regex = member->regex,
            },
        .rebalance_ms = member->rebalance_ms,
        .classic = member->classic,
        .classic_session_ms = member->classic_session_ms,
    };
}

int32_t *mr_consumer_numbers(const struct mr_parts *set, struct mr_coord_out *out)
{
    int32_t *numbers = MR_COORD_NEW(out, int32_t, set->count);
    for (uint32_t at = 0; numbers != NULL && at < set->count; at++) {
        numbers[at] = set->items[at].partition;
    }
    return numbers;
}

bool mr_consumer_record_target(const struct mr_group *group, struct mr_str member_id,
                               const struct mr_parts *target, struct mr_coord_out *out)
{
    const struct mr_consumer_group_target_assignment_member_key key = {
        .group_id = group->id,
        .member_id = member_id,
    };
    struct mr_consumer_group_target_assignment_member_value value = {
        .topic_partitions =
            MR_COORD_NEW(out, struct mr_consumer_group_target_assignment_member_value_topic_partition,
                         mr_parts_topics(target)),
    };
    int32_t *numbers = mr_consumer_numbers(target, out);
    if (value.topic_partitions == NULL || numbers == NULL) {
        return false;
    }
    for (uint32_t at = 0; at < target->count;) {
        uint32_t end = mr_parts_run(target, at);
        value.topic_partitions[value.topic_partitions_count++] =
            (struct mr_consumer_group_target_assignment_member_value_topic_partition){
                .topic_id = target->items[at].topic_id,
                .partitions = &numbers[at],
                .partitions_count = (int32_t)(end - at),
            };
        at = end;
    }
    return RECORD(out, group->shard->index, target_assignment_member, &key, &value);
}

bool mr_consumer_record_assigned(const struct mr_group *group, int32_t epoch, int64_t when_ms,
                                 struct mr_coord_out *out)
{
    const struct mr_consumer_group_target_assignment_metadata_key key = {.group_id = group->id};
    const struct mr_consumer_group_target_assignment_metadata_value value = {
        .assignment_epoch = epoch,
        .assignment_timestamp = when_ms,
    };
    return RECORD(out, group->shard->index, target_assignment_metadata, &key, &value);
}

static bool current_parts(const struct mr_parts *set, struct mr_coord_out *out,
                          struct mr_consumer_group_current_member_assignment_value_topic_partitions
                              **topics,
                          int32_t *count)
{
    int32_t *numbers = mr_consumer_numbers(set, out);
    int32_t *epochs = MR_COORD_NEW(out, int32_t, set->count);
    *topics = MR_COORD_NEW(
        out, struct mr_consumer_group_current_member_assignment_value_topic_partitions,
        mr_parts_topics(set));
    *count = 0;
    if (numbers == NULL || epochs == NULL || *topics == NULL) {
        return false;
    }
    for (uint32_t at = 0; at < set->count; at++) {
        epochs[at] = set->items[at].epoch;
    }
    for (uint32_t at = 0; at < set->count;) {
        uint32_t end = mr_parts_run(set, at);
        (*topics)[(*count)++] =
            (struct mr_consumer_group_current_member_assignment_value_topic_partitions){
                .topic_id = set->items[at].topic_id,
                .partitions = &numbers[at],
                .partitions_count = (int32_t)(end - at),
                .assignment_epochs = &epochs[at],
                .assignment_epochs_count = (int32_t)(end - at),
            };
        at = end;
    }
    return true;
}

bool mr_consumer_record_current(const struct mr_group *group, struct mr_str member_id,
                                const struct mr_consumer_current *current,
                                struct mr_coord_out *out)
{
    const struct mr_consumer_group_current_member_assignment_key key = {
        .group_id = group->id,
        .member_id = member_id,
    };
    struct mr_consumer_group_current_member_assignment_value value = {
        .member_epoch = current->epoch,
        .previous_member_epoch = current->previous_epoch,
        .state = (int8_t)current->state,
    };
    return current_parts(&current->assigned, out, &value.assigned_partitions,
                         &value.assigned_partitions_count) &&
           current_parts(&current->pending, out, &value.partitions_pending_revocation,
                         &value.partitions_pending_revocation_count) &&
           RECORD(out, group->shard->index, current_member_assignment, &key, &value);
}

static bool current_gone(const struct mr_group *group, struct mr_str member_id,
                         struct mr_coord_out *out)
{
    const struct mr_consumer_group_current_member_assignment_key key = {group->id, member_id};
    return TOMBSTONE(out, group->shard->index, current_member_assignment, &key);
}

static bool target_gone(const struct mr_group *group, struct mr_str member_id,
                        struct mr_coord_out *out)
{
    const struct mr_consumer_group_target_assignment_member_key key = {group->id, member_id};
    return TOMBSTONE(out, group->shard->index, target_assignment_member, &key);
}

static bool member_gone(const struct mr_group *group, struct mr_str member_id,
                        struct mr_coord_out *out)
{
    const struct mr_consumer_group_member_metadata_key key = {group->id, member_id};
    return TOMBSTONE(out, group->shard->index, member_metadata, &key);
}

bool mr_consumer_record_gone(const struct mr_group *group, struct mr_str member_id,
                             struct mr_coord_out *out)
{
    return current_gone(group, member_id, out) && target_gone(group, member_id, out) &&
           member_gone(group, member_id, out);
}

typedef bool gone_record(const struct mr_group *group, struct mr_str member_id,
                         struct mr_coord_out *out);

static bool all_gone(const struct mr_group *group, gone_record *record, struct mr_coord_out *out)
{
    MR_LIST_EACH(link, &group->consumer->members)
    {
        if (!record(group, MR_LIST_ENTRY(link, struct mr_consumer_member, link)->id, out)) {
            return false;
        }
    }
    return true;
}

static bool regexes_gone(const struct mr_group *group, struct mr_coord_out *out)
{
    MR_LIST_EACH(link, &group->consumer->regexes)
    {
        if (!mr_consumer_regex_gone(
                group, MR_LIST_ENTRY(link, struct mr_consumer_regex, link)->text, out)) {
            return false;
        }
    }
    return true;
}

bool mr_consumer_record_tombstone(const struct mr_group *group, struct mr_coord_out *out)
{
    uint32_t shard = group->shard->index;
    const struct mr_consumer_group_target_assignment_metadata_key target = {group->id};
    const struct mr_consumer_group_partition_metadata_key partitions = {group->id};
    const struct mr_consumer_group_metadata_key metadata = {group->id};
    return all_gone(group, current_gone, out) && all_gone(group, target_gone, out) &&
           TOMBSTONE(out, shard, target_assignment_metadata, &target) &&
           all_gone(group, member_gone, out) && regexes_gone(group, out) &&
           (!group->consumer->has_partition_metadata ||
            TOMBSTONE(out, shard, partition_metadata, &partitions)) &&
           TOMBSTONE(out, shard, metadata, &metadata);
}
