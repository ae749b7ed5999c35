/*
 * classic_sync: SyncGroup: the leader's assignment settles a generation.
 */
#include "coord/group/classic.h"
#include "millrace/base/bug.h"

static bool is_other(struct mr_str given, struct mr_str have)
{
    return !mr_str_is_null(given) && !mr_str_is_null(have) && !mr_str_equal(given, have);
}

static int16_t check_sync(const struct mr_group *group, const struct mr_request *request)
{
    const struct mr_sync_group_request *sync = request->message;
    if (request->forward->api_version >= 5 &&
        (mr_str_is_null(sync->protocol_type) || mr_str_is_null(sync->protocol_name))) {
        return MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    }
    if (sync->group_id.len <= 0) {
        return MR_KAFKA_INVALID_GROUP_ID;
    }
    if (group == NULL || mr_group_is_empty(group)) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    if (group->consumer != NULL) {
        return MR_KAFKA_NONE; /* its members are checked there */
    }
    const struct mr_classic *classic = &group->classic_part;
    int16_t error = mr_classic_check_member(group, sync->member_id, sync->group_instance_id);
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    if (sync->generation_id != classic->generation) {
        return MR_KAFKA_ILLEGAL_GENERATION;
    }
    if (is_other(sync->protocol_type, classic->protocol_type) ||
        is_other(sync->protocol_name, classic->protocol)) {
        return MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    }
    return classic->state == MR_CLASSIC_PREPARING ? MR_KAFKA_REBALANCE_IN_PROGRESS : MR_KAFKA_NONE;
}

static void sync_came(struct mr_group *group, struct mr_classic_member *member)
{
    member->is_sync_pending = false;
    MR_LIST_EACH(link, &group->classic_part.members)
    {
        if (MR_LIST_ENTRY(link, struct mr_classic_member, link)->is_sync_pending) {
            return;
        }
    }
    mr_classic_rebalance_timer_off(group);
}

/* What the leader says to each member: its last word counts; nothing when he forgot one. */
static void give(struct mr_group *group, const struct mr_sync_group_request *sync)
{
    MR_LIST_EACH(link, &group->classic_part.members)
    {
        MR_LIST_ENTRY(link, struct mr_classic_member, link)->given = mr_classic_no_assignment;
    }
    for (int32_t index = 0; index < sync->assignments_count; index++) {
        struct mr_classic_member *member =
            mr_classic_find(group, sync->assignments[index].member_id);
        if (member != NULL) {
            member->given = sync->assignments[mr_bug("same-assignment") ? 0 : index].assignment;
        }
    }
}

/* The leader's word: everybody who waits has an assignment as soon as it is durable. */
static void settle_assignment(struct mr_group *group, struct mr_request *request,
                              struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    const struct mr_sync_group_request *sync = request->message;
    give(group, sync);
    bool is_written = mr_group_record_metadata(group, classic->generation, out, true);
    if (!is_written || mr_coord_out_bytes(out) > mr_classic_env(group)->record_bytes_max) {
        /* Too large for the log: as Kafka, everybody hears of it and begins again. */
        mr_coord_out_forget_records(out);
        MR_LIST_EACH(link, &classic->members)
        {
            struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            if (member->sync != NULL) {
                mr_classic_answer_sync(out, group, member->sync, MR_KAFKA_UNKNOWN_SERVER_ERROR,
                                       mr_classic_no_assignment);
                member->sync = NULL;
                mr_classic_session_again(member, out->now);
            }
        }
        mr_classic_prepare_rebalance(group, out, "the assignment is too large");
        return;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (member->sync != NULL) {
            mr_classic_answer_sync(out, group, member->sync, MR_KAFKA_NONE, member->given);
            member->sync = NULL;
            mr_classic_session_again(member, out->now);
        }
    }
}

void mr_classic_sync(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out)
{
    const struct mr_sync_group_request *sync = request->message;
    struct mr_group *group = mr_group_find(shard, sync->group_id);
    int16_t error = check_sync(group, request);
    if (error == MR_KAFKA_NONE && group->consumer != NULL) {
        error = mr_consumer_classic_sync(group, request, out);
        if (error == MR_KAFKA_NONE) {
            return;
        }
    }
    if (error != MR_KAFKA_NONE) {
        struct mr_sync_group_response *response =
            MR_COORD_NEW(out, struct mr_sync_group_response, 1);
        if (response != NULL) {
            MR_DEFAULTS(sync_group_response, response);
            response->error_code = error;
        }
        mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
        return;
    }
    struct mr_classic_member *member = mr_classic_find(group, sync->member_id);
    sync_came(group, member);
    if (group->classic_part.state == MR_CLASSIC_STABLE) {
        mr_classic_answer_sync(out, group, request, MR_KAFKA_NONE, member->assignment);
        return;
    }
    mr_assert(group->classic_part.state == MR_CLASSIC_COMPLETING);
    if (member->sync != NULL) {
        mr_classic_answer_sync(out, group, member->sync, MR_KAFKA_REBALANCE_IN_PROGRESS,
                               mr_classic_no_assignment);
    }
    member->sync = request;
    if (mr_classic_leads(group, member)) {
        settle_assignment(group, request, out);
    }
}
