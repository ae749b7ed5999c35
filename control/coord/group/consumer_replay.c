/*
 * consumer_replay: records of groups of the new protocol to state. Nothing else changes what a
 * restart must bring back.
 *
 * Any order that compaction may leave is fine: a record of a member that is not known makes a
 * shell, and one that takes away what is not there does nothing.
 */
#include "coord/group/classic.h"
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

static enum mr_err decode(struct mr_arena *scratch, const struct mr_msg *msg,
                          const struct mr_blob *bytes, void *out)
{
    struct mr_reader reader;
    mr_reader_init_bytes(&reader, bytes->data + 2, (uint32_t)bytes->len - 2);
    return mr_msg_decode(msg, 0, &reader, scratch, out);
}

static bool set_str(struct mr_group *group, struct mr_str *at, struct mr_str value)
{
    return mr_classic_set_str(group, at, value);
}

/* ---- groups ---- */

/* The group with its consumer part; a tombstone does not make one. */
static enum mr_err group_of(struct mr_group_shard *shard, struct mr_str id, bool is_tombstone,
                            struct mr_group **group)
{
    *group = is_tombstone ? mr_group_find(shard, id) : mr_group_get_or_make(shard, id);
    if (is_tombstone) {
        if (*group != NULL && (*group)->consumer == NULL) {
            *group = NULL;
        }
        return MR_OK;
    }
    return *group == NULL || mr_consumer_make(*group) == NULL ? MR_ERR_NO_MEMORY : MR_OK;
}

static enum mr_err replay_metadata(struct mr_group *group,
                                   const struct mr_consumer_group_metadata_value *value)
{
    if (value == NULL) {
        mr_consumer_deinit(group);
        mr_group_forget_if_empty(group);
        return MR_OK;
    }
    group->consumer->epoch = value->epoch;
    group->consumer->metadata_hash = value->metadata_hash;
    return MR_OK;
}

static enum mr_err replay_assigned(
    struct mr_group *group, const struct mr_consumer_group_target_assignment_metadata_value *value)
{
    group->consumer->assignment_epoch = value == NULL ? 0 : value->assignment_epoch;
    group->consumer->assignment_ms = value == NULL ? 0 : value->assignment_timestamp;
    return MR_OK;
}

/* ---- members ---- */

static void member_done(struct mr_consumer_member *member)
{
    if (!member->is_member && !member->has_target && !member->has_current) {
        mr_consumer_member_free(member);
    }
}

static struct mr_classic_protocols *classic_of(
    struct mr_group *group,
    const struct mr_consumer_group_member_metadata_value_classic_member_metadata *from)
{
    struct mr_arena *scratch = &group->shard->env->decode;
    struct mr_join_group_request_protocol *protocols = MR_ARENA_TRY(
        scratch, struct mr_join_group_request_protocol, from->supported_protocols_count + 1);
    for (int32_t index = 0; protocols != NULL && index < from->supported_protocols_count; index++) {
        protocols[index].name = from->supported_protocols[index].name;
        protocols[index].metadata = from->supported_protocols[index].metadata;
    }
    return protocols == NULL ? NULL
                             : mr_classic_protocols_new(group->shard->env->heap,
                                                        from->supported_protocols_count, protocols);
}

static enum mr_err replay_member(struct mr_consumer_member *member,
                                 const struct mr_consumer_group_member_metadata_value *value)
{
    struct mr_group *group = member->group;
    struct mr_heap *heap = group->shard->env->heap;
    mr_consumer_set_member(member, false); /* its instance may change */
    if (value == NULL) {
        return MR_OK;
    }
    struct mr_consumer_names *names = mr_consumer_names_new(heap, value->subscribed_topic_names,
                                                            value->subscribed_topic_names_count);
    struct mr_classic_protocols *classic =
        value->classic_member_metadata == NULL
            ? NULL
            : classic_of(group, value->classic_member_metadata);
    if (names == NULL || (value->classic_member_metadata != NULL && classic == NULL)) {
        mr_consumer_names_free(heap, names);
        return MR_ERR_NO_MEMORY;
    }
    mr_consumer_names_free(heap, member->names);
    mr_classic_protocols_free(heap, member->classic);
    member->names = names;
    member->classic = classic;
    member->classic_session_ms =
        classic == NULL ? 0 : value->classic_member_metadata->session_timeout_ms;
    member->rebalance_ms = value->rebalance_timeout_ms;
    if (!set_str(group, &member->instance_id, value->instance_id) ||
        !set_str(group, &member->rack_id, value->rack_id) ||
        !set_str(group, &member->client_id, value->client_id) ||
        !set_str(group, &member->client_host, value->client_host) ||
        !set_str(group, &member->regex, value->subscribed_topic_regex) ||
        !set_str(group, &member->assignor, value->server_assignor)) {
        return MR_ERR_NO_MEMORY;
    }
    mr_consumer_set_member(member, true);
    return MR_OK;
}

static bool add_part(struct mr_parts *set, const struct mr_uuid *topic_id, int32_t partition,
                     int32_t epoch)
{
    set->items[set->count++] =
        (struct mr_part){.topic_id = *topic_id, .partition = partition, .epoch = epoch};
    return partition >= 0;
}

static enum mr_err replay_target(
    struct mr_consumer_member *member,
    const struct mr_consumer_group_target_assignment_member_value *value)
{
    struct mr_group_env *env = member->group->shard->env;
    struct mr_parts set = {0};
    uint32_t count = 0;
    member->has_target = value != NULL;
    for (int32_t at = 0; value != NULL && at < value->topic_partitions_count; at++) {
        count += (uint32_t)value->topic_partitions[at].partitions_count;
    }
    if (!mr_parts_begin(&set, count, &env->decode)) {
        return MR_ERR_NO_MEMORY;
    }
    for (int32_t at = 0; value != NULL && at < value->topic_partitions_count; at++) {
        const struct mr_consumer_group_target_assignment_member_value_topic_partition *topic =
            &value->topic_partitions[at];
        for (int32_t index = 0; index < topic->partitions_count; index++) {
            if (!add_part(&set, &topic->topic_id, topic->partitions[index], 0)) {
                return MR_ERR_MALFORMED;
            }
        }
    }
    mr_parts_settle(&set);
    return mr_parts_assign(env->heap, &member->target, &set) ? MR_OK : MR_ERR_NO_MEMORY;
}

/* Epochs that are not told (Kafka before 4.2) are the member's. */
static enum mr_err current_set(
    struct mr_arena *scratch,
    const struct mr_consumer_group_current_member_assignment_value_topic_partitions *topics,
    int32_t topic_count, int32_t member_epoch, struct mr_parts *set)
{
    uint32_t count = 0;
    for (int32_t at = 0; at < topic_count; at++) {
        count += (uint32_t)topics[at].partitions_count;
    }
    if (!mr_parts_begin(set, count, scratch)) {
        return MR_ERR_NO_MEMORY;
    }
    for (int32_t at = 0; at < topic_count; at++) {
        bool is_told = topics[at].assignment_epochs_count == topics[at].partitions_count;
        for (int32_t index = 0; index < topics[at].partitions_count; index++) {
            if (!add_part(set, &topics[at].topic_id, topics[at].partitions[index],
                          is_told ? topics[at].assignment_epochs[index] : member_epoch)) {
                return MR_ERR_MALFORMED;
            }
        }
    }
    mr_parts_settle(set);
    return MR_OK;
}

static enum mr_consumer_state state_of(int8_t state)
{
    return state == MR_CONSUMER_STABLE || state == MR_CONSUMER_UNREVOKED ||
                   state == MR_CONSUMER_UNRELEASED
               ? (enum mr_consumer_state)state
               : MR_CONSUMER_UNKNOWN;
}

static enum mr_err replay_current(
    struct mr_consumer_member *member,
    const struct mr_consumer_group_current_member_assignment_value *value)
{
    static const struct mr_consumer_group_current_member_assignment_value nothing;
    struct mr_group_env *env = member->group->shard->env;
    struct mr_parts assigned;
    struct mr_parts pending;
    member->has_current = value != NULL;
    value = value == NULL ? &nothing : value;
    enum mr_err err = current_set(&env->decode, value->assigned_partitions,
                                  value->assigned_partitions_count, value->member_epoch, &assigned);
    if (err == MR_OK) {
        err = current_set(&env->decode, value->partitions_pending_revocation,
                          value->partitions_pending_revocation_count, value->member_epoch,
                          &pending);
    }
    if (err != MR_OK) {
        return err;
    }
    mr_consumer_disown(member);
    pending.count = mr_bug("forget-pending") ? 0 : pending.count;
    if (!mr_parts_assign(env->heap, &member->assigned, &assigned) ||
        !mr_parts_assign(env->heap, &member->pending, &pending)) {
        return MR_ERR_NO_MEMORY;
    }
    member->epoch = mr_bug("forget-epochs") ? 0 : value->member_epoch;
    member->previous_epoch = value->previous_member_epoch;
    member->state = state_of(value->state);
    return mr_consumer_own(member) ? MR_OK : MR_ERR_NO_MEMORY;
}

/* ---- the switch ---- */

enum record_type {
    METADATA = 3,
    PARTITION_METADATA = 4,
    MEMBER = 5,
    ASSIGNED = 6,
    TARGET = 7,
    CURRENT = 8,
    REGEX = 16,
};

/* Room for the value of any type. */
union value {
    struct mr_consumer_group_metadata_value metadata;
    struct mr_consumer_group_partition_metadata_value partitions;
    struct mr_consumer_group_member_metadata_value member;
    struct mr_consumer_group_target_assignment_metadata_value assigned;
    struct mr_consumer_group_target_assignment_member_value target;
    struct mr_consumer_group_current_member_assignment_value current;
    struct mr_consumer_group_regular_expression_value regex;
};

static const struct {
    const struct mr_msg *key;
    const struct mr_msg *value;
    bool is_of_member;
} records[] = {
    [METADATA] = {&mr_msg_consumer_group_metadata_key, &mr_msg_consumer_group_metadata_value,
                  false},
    [PARTITION_METADATA] = {&mr_msg_consumer_group_partition_metadata_key,
                            &mr_msg_consumer_group_partition_metadata_value, false},
    [MEMBER] = {&mr_msg_consumer_group_member_metadata_key,
                &mr_msg_consumer_group_member_metadata_value, true},
    [ASSIGNED] = {&mr_msg_consumer_group_target_assignment_metadata_key,
                  &mr_msg_consumer_group_target_assignment_metadata_value, false},
    [TARGET] = {&mr_msg_consumer_group_target_assignment_member_key,
                &mr_msg_consumer_group_target_assignment_member_value, true},
    [CURRENT] = {&mr_msg_consumer_group_current_member_assignment_key,
                 &mr_msg_consumer_group_current_member_assignment_value, true},
    [REGEX] = {&mr_msg_consumer_group_regular_expression_key,
               &mr_msg_consumer_group_regular_expression_value, true},
};

static enum mr_err replay_of_group(struct mr_group *group, enum record_type type, const void *value)
{
    switch (type) {
    case METADATA:
        return replay_metadata(group, value);
    case PARTITION_METADATA:
        group->consumer->has_partition_metadata = value != NULL;
        return MR_OK;
    case ASSIGNED:
        return replay_assigned(group, value);
    case MEMBER:
    case TARGET:
    case CURRENT:
    case REGEX:
        break;
    }
    mr_unreachable("a record of a member");
}

static enum mr_err replay_of_member(struct mr_group *group, struct mr_str member_id,
                                    enum record_type type, const void *value)
{
    struct mr_consumer_member *member = value == NULL ? mr_consumer_find_any(group, member_id)
                                                      : mr_consumer_get_or_make(group, member_id);
    if (member == NULL) {
        return value == NULL ? MR_OK : MR_ERR_NO_MEMORY;
    }
    enum mr_err err = type == MEMBER   ? replay_member(member, value)
                      : type == TARGET ? replay_target(member, value)
                                       : replay_current(member, value);
    if (err == MR_OK) {
        member_done(member);
    }
    return err;
}

enum mr_err mr_consumer_replay(struct mr_group_shard *shard, int16_t type, struct mr_blob key_bytes,
                               struct mr_blob value_bytes)
{
    /* A key is the group, and perhaps the member or the pattern: in memory as in the widest. */
    struct mr_consumer_group_member_metadata_key key;
    union value value;
    struct mr_arena *scratch = &shard->env->decode;
    bool is_tombstone = value_bytes.len < 0;
    enum mr_err err = decode(scratch, records[type].key, &key_bytes, &key);
    if (err == MR_OK && !is_tombstone) {
        err = decode(scratch, records[type].value, &value_bytes, &value);
    }
    struct mr_group *group = NULL;
    if (err == MR_OK) {
        err = group_of(shard, key.group_id, is_tombstone, &group);
    }
    if (err != MR_OK || group == NULL) {
        return err;
    }
    const void *given = is_tombstone ? NULL : &value;
    if (type == REGEX) {
        return mr_consumer_regex_replay(group, key.member_id, given);
    }
    return records[type].is_of_member
               ? replay_of_member(group, key.member_id, (enum record_type)type, given)
               : replay_of_group(group, (enum record_type)type, given);
}
