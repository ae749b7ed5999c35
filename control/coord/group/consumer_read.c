/*
 * consumer_read: what others may see and do: describing a group, committing and fetching offsets.
 */
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

/* ---- ConsumerGroupDescribe ---- */

static bool describe_parts(const struct mr_group *group, const struct mr_parts *set,
                           struct mr_coord_out *out,
                           struct mr_consumer_group_describe_response_assignment *assignment)
{
    const struct mr_image *image = group->shard->env->image;
    int32_t *numbers = mr_consumer_numbers(set, out);
    assignment->topic_partitions =
        MR_COORD_NEW(out, struct mr_consumer_group_describe_response_topic_partitions,
                     mr_parts_topics(set));
    assignment->topic_partitions_count = 0;
    if (numbers == NULL || assignment->topic_partitions == NULL) {
        return false;
    }
    for (uint32_t at = 0; at < set->count;) {
        uint32_t end = mr_parts_run(set, at);
        const struct mr_image_topic *topic =
            image == NULL ? NULL : mr_image_topic_by_id(image, &set->items[at].topic_id);
        if (topic != NULL) { /* a deleted topic has no name to show */
            assignment->topic_partitions[assignment->topic_partitions_count++] =
                (struct mr_consumer_group_describe_response_topic_partitions){
                    .topic_id = topic->id,
                    .topic_name = topic->name,
                    .partitions = &numbers[at],
                    .partitions_count = (int32_t)(end - at),
                };
        }
        at = end;
    }
    return true;
}

static bool describe_member(const struct mr_consumer_member *member, struct mr_coord_out *out,
                            struct mr_consumer_group_describe_response_member *described)
{
    MR_DEFAULTS(consumer_group_describe_response_member, described);
    described->member_id = member->id;
    described->instance_id = member->instance_id;
    described->rack_id = member->rack_id;
    described->member_epoch = member->epoch;
    described->client_id = member->client_id;
    described->client_host = member->client_host;
    described->subscribed_topic_regex = member->regex;
    described->member_type = member->classic != NULL ? 0 : 1;
    if (member->names != NULL) {
        described->subscribed_topic_names = member->names->items;
        described->subscribed_topic_names_count = (int32_t)member->names->count;
    }
    return describe_parts(member->group, &member->assigned, out, &described->assignment) &&
           describe_parts(member->group, &member->target, out, &described->target_assignment);
}

void mr_consumer_describe(const struct mr_group_shard *shard, struct mr_str id,
                          bool is_operations_wanted, struct mr_coord_out *out,
                          struct mr_consumer_group_describe_response_described_group *described)
{
    const struct mr_group *group = mr_group_find(shard, id);
    described->group_id = id;
    if (!mr_consumer_is_enabled(shard->env)) {
        described->error_code = MR_KAFKA_UNSUPPORTED_VERSION;
        return;
    }
    if (group == NULL || group->consumer == NULL) {
        described->error_code = MR_KAFKA_GROUP_ID_NOT_FOUND;
        described->error_message = group == NULL ? MR_STR("The group id does not exist.")
                                                 : MR_STR("The group is not a consumer group.");
        return;
    }
    const struct mr_consumer *consumer = group->consumer;
    described->group_state = mr_consumer_state_name(group);
    described->group_epoch = consumer->epoch;
    described->assignment_epoch = consumer->assignment_epoch;
    described->assignor_name = mr_consumer_assignor_name(group);
    described->authorized_operations = is_operations_wanted ? MR_GROUP_OPERATIONS : INT32_MIN;
    described->members = MR_COORD_NEW(out, struct mr_consumer_group_describe_response_member,
                                      consumer->member_count);
    if (described->members == NULL) {
        described->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
        return;
    }
    MR_LIST_EACH(link, &consumer->members)
    {
        const struct mr_consumer_member *member =
            MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        if (!describe_member(member, out, &described->members[described->members_count])) {
            described->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
            return;
        }
        described->members_count++;
    }
}

/* ---- offsets ---- */

/* Whether the member has all these partitions since before `epoch`: then an older epoch does no
 * harm (KIP-1251). */
static bool is_held_since(const struct mr_consumer_member *member,
                          const struct mr_request *request, int32_t epoch)
{
    const struct mr_offset_commit_request *commit = request->message;
    const struct mr_image *image = member->group->shard->env->image;
    for (int32_t at = 0; at < commit->topics_count; at++) {
        const struct mr_offset_commit_request_topic *topic = &commit->topics[at];
        const struct mr_image_topic *known =
            image == NULL                             ? NULL
            : request->forward->api_version >= 10 ? mr_image_topic_by_id(image, &topic->topic_id)
                                                      : mr_image_topic_by_name(image, topic->name);
        for (int32_t index = 0; index < topic->partitions_count; index++) {
            if (known == NULL) {
                return false;
            }
            struct mr_part part = {.topic_id = known->id,
                                   .partition = topic->partitions[index].partition_index};
            const struct mr_part *held = mr_parts_find(&member->assigned, &part);
            held = held == NULL ? mr_parts_find(&member->pending, &part) : held;
            if (held == NULL || held->epoch > epoch) {
                return false;
            }
        }
    }
    return true;
}

int16_t mr_consumer_check_commit(const struct mr_group *group, const struct mr_request *request)
{
    const struct mr_offset_commit_request *commit = request->message;
    int32_t epoch = commit->generation_id_or_member_epoch;
    if ((epoch < 0 && mr_consumer_is_empty(group)) || mr_bug("accept-any-commit")) {
        return MR_KAFKA_NONE;
    }
    const struct mr_consumer_member *member = mr_consumer_find(group, commit->member_id);
    if (member == NULL) {
        return mr_bug("unknown-member-commits") ? MR_KAFKA_NONE : MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    if (member->classic == NULL && request->forward->api_version < 9) {
        return MR_KAFKA_UNSUPPORTED_VERSION;
    }
    if (epoch == member->epoch || (epoch < member->epoch && is_held_since(member, request, epoch))) {
        return MR_KAFKA_NONE;
    }
    return member->classic != NULL ? MR_KAFKA_ILLEGAL_GENERATION : MR_KAFKA_STALE_MEMBER_EPOCH;
}

int16_t mr_consumer_check_fetch(const struct mr_group *group, struct mr_str member_id,
                                int32_t epoch)
{
    if (mr_str_is_null(member_id) && epoch < 0) {
        return MR_KAFKA_NONE; /* an administrator */
    }
    const struct mr_consumer_member *member = mr_consumer_find(group, member_id);
    if (member == NULL) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    return epoch == member->epoch ? MR_KAFKA_NONE : MR_KAFKA_STALE_MEMBER_EPOCH;
}
