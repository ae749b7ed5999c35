/*
 * group_records: the records of __consumer_offsets as a coordinator writes them.
 *
 * Versions as Apache Kafka 4.4 writes them: an offset commit is a version 4, or a version 1 when
 * the client asked for a retention of its own (only version 1 has a field for it); group metadata
 * is a version 3. A tombstone has a null value.
 */
#include "coord/group/group.h"

#define OFFSET_VALUE_VERSION         4
#define OFFSET_VALUE_VERSION_EXPIRES 1
#define METADATA_VALUE_VERSION       3

bool mr_group_record_settled(uint32_t shard, struct mr_str id,
                             const struct mr_group_metadata_value *value,
                             struct mr_coord_out *out)
{
    struct mr_group_metadata_key key = {.group = id};
    return mr_coord_out_record(out, shard, &mr_msg_group_metadata_key, &key,
                               &mr_msg_group_metadata_value, METADATA_VALUE_VERSION, value);
}

bool mr_group_record_metadata(const struct mr_group *group, int32_t generation,
                              struct mr_coord_out *out, bool is_given)
{
    const struct mr_classic *classic = mr_group_classic(group);
    struct mr_group_metadata_value value;
    MR_DEFAULTS(group_metadata_value, &value);
    value.protocol_type =
        mr_str_is_null(classic->protocol_type) ? MR_STR("") : classic->protocol_type;
    value.generation = generation;
    value.protocol = classic->protocol;
    value.leader = classic->leader;
    value.current_state_timestamp = classic->state_ms;
    value.members =
        MR_COORD_NEW(out, struct mr_group_metadata_value_member_metadata, classic->member_count);
    if (value.members == NULL) {
        return false;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        value.members[value.members_count++] = (struct mr_group_metadata_value_member_metadata){
            .member_id = member->id,
            .group_instance_id = member->instance_id,
            .client_id = member->client_id,
            .client_host = member->client_host,
            .rebalance_timeout = member->rebalance_ms,
            .session_timeout = member->session_ms,
            .subscription = mr_classic_metadata(member, classic->protocol),
            .assignment = is_given ? member->given : member->assignment,
        };
    }
    return mr_group_record_settled(group->shard->index, group->id, &value, out);
}

bool mr_group_record_created(const struct mr_group_shard *shard, struct mr_str id,
                             struct mr_coord_out *out)
{
    struct mr_group_metadata_value value;
    MR_DEFAULTS(group_metadata_value, &value);
    value.protocol = MR_STR_NULL;
    value.leader = MR_STR_NULL;
    value.current_state_timestamp = out->now.unix_ms;
    return mr_group_record_settled(shard->index, id, &value, out);
}

bool mr_group_record_empty(const struct mr_group *group, int32_t generation,
                           struct mr_coord_out *out)
{
    const struct mr_classic *classic = mr_group_classic(group);
    struct mr_group_metadata_value value;
    MR_DEFAULTS(group_metadata_value, &value);
    value.protocol_type =
        mr_str_is_null(classic->protocol_type) ? MR_STR("") : classic->protocol_type;
    value.generation = generation;
    value.protocol = MR_STR_NULL;
    value.leader = MR_STR_NULL;
    value.current_state_timestamp = out->now.unix_ms;
    return mr_group_record_settled(group->shard->index, group->id, &value, out);
}

bool mr_group_record_tombstone(const struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_group_metadata_key key = {.group = group->id};
    return mr_coord_out_record(out, group->shard->index, &mr_msg_group_metadata_key, &key, NULL, 0,
                               NULL);
}

bool mr_group_record_gone(const struct mr_group *group, struct mr_coord_out *out)
{
    return group->consumer != NULL ? mr_consumer_record_tombstone(group, out)
                                   : mr_group_record_tombstone(group, out);
}

bool mr_group_record_offset(const struct mr_group_shard *shard, struct mr_str group,
                            struct mr_str topic, const struct mr_group_offset *offset,
                            struct mr_coord_out *out)
{
    struct mr_offset_commit_key key = {
        .group = group,
        .topic = topic,
        .partition = offset->partition,
    };
    struct mr_offset_commit_value value = {
        .offset = offset->offset,
        .leader_epoch = offset->leader_epoch,
        .metadata = offset->metadata,
        .commit_timestamp = offset->commit_ms,
        .expire_timestamp = offset->expire_ms,
        .topic_id = offset->topic_id,
    };
    return mr_coord_out_record(
        out, shard->index, &mr_msg_offset_commit_key, &key, &mr_msg_offset_commit_value,
        offset->expire_ms >= 0 ? OFFSET_VALUE_VERSION_EXPIRES : OFFSET_VALUE_VERSION, &value);
}

bool mr_group_record_offset_tombstone(const struct mr_group *group, struct mr_str topic,
                                      int32_t partition, struct mr_coord_out *out)
{
    struct mr_offset_commit_key key = {.group = group->id, .topic = topic, .partition = partition};
    return mr_coord_out_record(out, group->shard->index, &mr_msg_offset_commit_key, &key, NULL, 0,
                               NULL);
}
